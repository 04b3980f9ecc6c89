"""Reads checkpoints of the official code (thuiar/Self-MM) and of MMSA, without running anything in them."""

import re
import warnings
from pathlib import Path

import torch
from transformers import AutoConfig, AutoTokenizer, BertConfig, PreTrainedConfig

from ..hub.model_folder import save_loadable
from ..model.configuration_selfmm import SelfMMConfig
from ..model.feature_extraction_selfmm import SelfMMFeatureExtractor
from ..model.loading_selfmm import load
from ..model.modeling_selfmm import SelfMMModel
from ..model.processing_selfmm import SelfMMProcessor
from ..storage.hub_names import take_from_hub
from ..storage.whole_files import whole

# Official names, after the wrapper's "Model.", and ours. The pooler is never used, the position ids are no weights.
RENAMED = [
    (r"text_model\.model\.(?:pooler\..*|embeddings\.position_ids)$", None),
    (r"text_model\.model\.(.*)$", r"encoders.text.\1"),
    (r"(audio|vision)_model\.rnn\.(.*)$", r"encoders.\1.lstm.\2"),
    (r"(audio|vision)_model\.linear_1\.(.*)$", r"encoders.\1.projection.\2"),
    (r"post_(fusion|text|audio|vision)_layer_1\.(.*)$", r"heads.\1.dense_1.\2"),
    (r"post_(fusion|text|audio|vision)_layer_2\.(.*)$", r"heads.\1.dense_2.\2"),
    (r"post_(fusion|text|audio|vision)_layer_3\.(.*)$", r"heads.\1.out.\2"),
]


def convert(file: Path, folder: Path, text_encoder: str | None = None, label_range: float = 3.0) -> SelfMMModel:
    """
    Writes the model folder of a checkpoint, whole or not at all.

    Args:
        file: The `.pth` of the official code or of MMSA.
        folder: New.
        text_encoder: Repository or folder of the text encoder, for its configuration and tokenizer.
        label_range: 3 for MOSI and MOSEI, 1 for SIMS.

    Returns:
        The model.

    Raises:
        ValueError: The folder exists, or the file is no such checkpoint.
    """
    if folder.exists():
        raise ValueError(f"{folder} exists already; name a new folder.")
    model = load_official_checkpoint(file, text_encoder, label_range=label_range)
    widths = {name: model.config.sequence_options(name)["input_dim"] for name in model.config.sequences}
    given = {name: {"kind": "features", "dim": width} for name, width in widths.items()}
    tokenizer = load(AutoTokenizer.from_pretrained, text_encoder) if text_encoder else None
    processor = SelfMMProcessor(SelfMMFeatureExtractor(**{"audio": None, "vision": None, **given}), tokenizer)
    with whole(folder) as part:
        save_loadable(part, model, processor)
    return model


def rename(name: str) -> str | None:
    """Our name of an official parameter, or `None` for one that the model does not use."""
    bare = re.sub(r"^(?:module\.)?(?:Model\.)?", "", name).replace("video_model", "vision_model")
    bare = bare.replace("post_video_layer", "post_vision_layer")
    for pattern, replacement in RENAMED:
        if re.match(pattern, bare):
            return None if replacement is None else re.sub(pattern, replacement, bare)
    raise ValueError(
        f"{name!r} is not a parameter of the official Self-MM: the checkpoint is of another model. Take one of Self-MM."
    )


def convert_state_dict(official: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights under our names."""
    renamed = {rename(name): value for name, value in official.items()}
    renamed.pop(None, None)
    return renamed


def model_from_official(
    official: dict[str, torch.Tensor], text_config: PreTrainedConfig | None = None, **options
) -> SelfMMModel:
    """
    A model with the weights of an official `state_dict`, all sizes read off the tensors.

    Args:
        official: As loaded by `torch.load(..., weights_only=True)`.
        text_config: Of the text encoder. Without it, a BERT is built from the sizes, with heads 64 wide.
        options: Options of [`SelfMMConfig`] that no tensor shows: dropouts, `label_range`, ...

    Raises:
        ValueError: The tensors are not those of a Self-MM model, or do not fit the text encoder.
    """
    weights, built = convert_state_dict(official), text_config is None
    try:
        sizes, text_config = _sizes(weights), _bert_config(weights) if built else text_config
    except KeyError as error:
        raise ValueError(f"The checkpoint lacks {error}: it is not a complete Self-MM model.") from error
    except (IndexError, TypeError, ValueError) as error:
        raise ValueError(f"The checkpoint's tensors have not the shapes of a Self-MM model: {error}.") from error
    if built and text_config.type_vocab_size == 1:  # the names of all parameters are those of BERT
        raise ValueError(
            "The checkpoint's text encoder has one type of token, as RoBERTa has, not two, as BERT: name the encoder "
            "that it was trained with, as --text_encoder FacebookAI/roberta-base."
        )
    config = SelfMMConfig(**{"text_config": text_config, "text_pooling": "cls", **sizes, **options})
    model = SelfMMModel(config)
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    if expected != found:
        wrong = sorted({name for name, shape in expected.items() ^ found.items()})
        raise ValueError(
            f"The checkpoint does not fit the text encoder in {len(wrong)} parameters, such as {wrong[:3]}: "
            "name the encoder it was trained with."
        )
    model.load_state_dict(weights)
    return model


def load_official_checkpoint(path: str | Path, text_encoder: str | None = None, **options) -> SelfMMModel:
    """
    [`model_from_official`] from a `.pth` file.

    Args:
        path: The file. Only tensors are read from it (`weights_only=True`); anything else is refused.
        text_encoder: Repository or folder of the text encoder's configuration; needed where it is no BERT.
        options: As in [`model_from_official`].
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"There is no checkpoint {path}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            official = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises anything: AssertionError, struct.error, OSError, ...
        # Without torch's own words, which advise to open the file with full trust.
        raise ValueError(
            f"{path} cannot be read as a file of tensors alone, and is not opened otherwise: it is damaged, or holds "
            f"something that could run code ({type(error).__name__})."
        ) from error
    if not isinstance(official, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in official.items()
    ):
        raise ValueError(f"{path} must hold a state_dict, names and tensors, got {type(official).__name__}.")
    if text_encoder is not None:
        take_from_hub(text_encoder, "the text encoder", owner=False)
    text_config = None if text_encoder is None else load(AutoConfig.from_pretrained, text_encoder)
    return model_from_official(official, text_config, **options)


def _sizes(weights: dict[str, torch.Tensor]) -> dict[str, int]:
    sizes = {
        f"{task}_head_dim": len(weights[f"heads.{task}.dense_1.bias"]) for task in ("fusion", "text", "audio", "vision")
    }
    for modality in ("audio", "vision"):
        recurrent = weights[f"encoders.{modality}.lstm.weight_hh_l0"]
        layers = [name for name in weights if re.match(rf"encoders\.{modality}\.lstm\.weight_ih_l\d+$", name)]
        sizes[f"{modality}_dim"] = weights[f"encoders.{modality}.lstm.weight_ih_l0"].shape[1]
        sizes[f"{modality}_hidden_size"] = recurrent.shape[1]
        sizes[f"{modality}_num_layers"] = len(layers)
        sizes[f"{modality}_output_dim"] = len(weights[f"encoders.{modality}.projection.bias"])
    return sizes


def _bert_config(weights: dict[str, torch.Tensor]) -> BertConfig:
    vocab_size, hidden_size = weights["encoders.text.embeddings.word_embeddings.weight"].shape
    layers = {match[1] for name in weights if (match := re.match(r"encoders\.text\.encoder\.layer\.(\d+)\.", name))}
    return BertConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_hidden_layers=len(layers),
        num_attention_heads=max(1, hidden_size // 64),
        intermediate_size=len(weights["encoders.text.encoder.layer.0.intermediate.dense.bias"]),
        max_position_embeddings=len(weights["encoders.text.embeddings.position_embeddings.weight"]),
        type_vocab_size=len(weights["encoders.text.embeddings.token_type_embeddings.weight"]),
    )
