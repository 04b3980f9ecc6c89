"""Builds the network of a run from its options and its data."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..data.synthetic import demo_text_config
from ..model.configuration_selfmm import SelfMMConfig
from ..model.layers_selfmm import WEIGHTED
from ..model.modeling_selfmm import SelfMMModel
from ..model.task_selfmm import Task
from ..model.text_encoder_selfmm import check_context, check_tokens, readable_tokens
from ..training.lora import add_lora
from .inputs import Inputs
from .options import RunOptions


def build_model(
    options: RunOptions, model_options: dict[str, Any], inputs: Inputs, tell: Callable[[str], None]
) -> SelfMMModel:
    """
    Builds the model of a run.

    Args:
        model_options: Options of [`SelfMMConfig`]. Feature widths, the task and the modalities come from the data.
        tell: Called with what the user should know.

    Raises:
        ValueError: The options do not fit the data, or the text encoder cannot be loaded.
    """
    if options.context_utterances and model_options.get("text_pooling") == "cls":
        raise ValueError(
            "--text_pooling cls reads the first token of all, and with --context_utterances the text's own tokens are "
            "read: take mean or last."
        )
    train = inputs.splits["train"]
    model_options = {**task_options(train.task), **model_options, "modalities": inputs.modalities}
    for column, width in train.widths.items():
        modality = "text" if column == "word_vectors" else column
        if model_options.setdefault(f"{modality}_dim", width) != width:
            source = options.data or options.dataset
            raise ValueError(
                f"The {modality} features of {source} are {width} wide, but "
                f"{modality}_dim is {model_options[f'{modality}_dim']}: leave it out, or take the right file."
            )
    for modality, recipe in inputs.extractor.recipe.items():
        if recipe.get("layer") == WEIGHTED:
            model_options[f"{modality}_states"] = recipe["states"]
    if inputs.tokenizer is not None and options.text_encoder is not None:
        name, revision = options.text_encoder, options.text_encoder_revision
        model = SelfMMModel.from_text_encoder(name, revision=revision, **model_options)
        pooling = model.config.text_pooling
        if "text_pooling" not in model_options and pooling != "cls":
            tell(f"{name} is made for --text_pooling {pooling}, so that is used. The paper's model uses cls.")
    else:
        text_config = None if inputs.tokenizer is None else demo_text_config()
        model = SelfMMModel(SelfMMConfig(text_config=text_config, **model_options))
    if options.context_utterances and model.config.text_pooling == "cls":
        model.config.text_pooling = "mean"
        tell("With --context_utterances, text_pooling is mean, of the text's own tokens.")
    if options.lora_rank:
        if not model.pretrained_text:
            raise ValueError("--lora_rank is for a pretrained text encoder: name --text_encoder, or leave it out.")
        add_lora(model, options.lora_rank, options.lora_alpha)
    return model


def task_options(task: Task) -> dict[str, Any]:
    """Returns the options of [`SelfMMConfig`] that say what is predicted."""
    names = {"id2label": dict(enumerate(task.names))}
    if task.label_range is not None:
        return {"label_range": task.label_range, **({} if task.names == Task().names else names)}
    scales = {"label_scales": [list(scale) for scale in task.scales]} if task.scales else {}
    return {"problem_type": task.problem_type, **names, **scales}


def tokens_at_once(model: SelfMMModel, options: RunOptions, inputs: Inputs) -> int:
    """
    Returns how many tokens of a text the model reads at once.

    Raises:
        ValueError: The text encoder does not know all tokens of its tokenizer, or cannot read texts of this length.
    """
    if inputs.tokenizer is None:
        return options.max_text_tokens
    encoder = model.encoders["text"]
    check_tokens(encoder, inputs.tokenizer)
    if options.context_utterances:
        check_context(encoder, inputs.tokenizer, options.max_text_tokens, options.context_utterances)
        return options.max_text_tokens
    readable = readable_tokens(encoder, options.max_text_tokens)
    lengths = np.concatenate([samples.lengths("text") for samples in inputs.splits.values()])
    if longer := int((lengths > readable).sum()):
        raise ValueError(
            f"The text encoder reads {readable} tokens at most, and {longer} texts have more, up to "
            f"{lengths.max()}: cut them with --max_text_tokens {readable}, or name another text encoder."
        )
    return readable
