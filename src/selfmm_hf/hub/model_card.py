"""The model card: what the model is, how it was made, what it scores, and how far it can be trusted."""

import math
import platform
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
import transformers
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Template

from ..data import BUILDERS
from ..labels.conflict import conflict_in_words
from ..labels.trust import chosen_confidence, trust_in_words
from ..metrics import METRIC_NAMES, few_clips, metric_text
from ..model.configuration_selfmm import SelfMMConfig
from ..model.modeling_selfmm import SelfMMModel
from ..model.processing_selfmm import SelfMMProcessor
from ..model.task_selfmm import MULTI_LABEL, REGRESSION, SINGLE_LABEL, Task
from ..published import PublishedFigures, as_printed, published_figures, published_in_words
from ..resources import CONFIGS
from ..version import __version__

TEMPLATE = CONFIGS / "cards" / "model.md"
PICTURE = "run.png"
SPLITS = ("validation", "test")
TASK_NAMES = {
    REGRESSION: "Multimodal regression",
    MULTI_LABEL: "Multimodal multi-label classification",
    SINGLE_LABEL: "Multimodal classification",
}

TEXT_POOLINGS = {
    "cls": "the hidden state of its first token",
    "mean": "the mean of the hidden states of its tokens",
    "last": "the hidden state of its last token",
}

DEMO = (
    "the corpus that selfmm-hf generates itself: English sentences from a small vocabulary, synthesised voices and "
    "parametric faces"
)

LIBRARIES = {
    "librosa33": ("av", "librosa", "soxr"),
    "face": ("ai-edge-litert", "av"),
    "encoder": ("ai-edge-litert", "av", "pillow", "soxr"),
}


def model_card(model: SelfMMModel, processor: SelfMMProcessor, facts: dict, picture: bool = False) -> ModelCard:
    """
    Makes the card, with the results of the run as a table and as metadata (`model-index`).

    Args:
        facts: Facts of the run, see `Run._facts`.
        picture: Whether the folder holds `run.png`.
    """
    config, builder = model.config, BUILDERS.get(facts["dataset"])
    recipe = processor.feature_extractor.recipe
    published = published_figures(facts["dataset"], config.modalities, config.task, _reported(facts))
    shapes = [f"`{name}` (clips, frames, {config.sequence_options(name)['input_dim']})" for name in config.sequences]
    made = [f"`{name}`" for name in processor.model_input_names if name.removesuffix("_lengths") not in recipe]
    tokens = [f"{', '.join(made)} from the processor"] if made else []
    computed = [one["kind"] for one in recipe.values() if one["kind"] != "features"]
    title = "a generated corpus" if builder is None else builder.TITLE
    content = _template().render(
        card_data=_metadata(facts, title, config.task, pipeline_tag(processor, config.task)).to_yaml(),
        **{key: facts[key] for key in ("dataset", "sizes", "convention", "hardware")},
        chosen=_chosen(facts),
        members=len(facts.get("seeds", [1])),
        best_epoch=facts.get("best_epoch"),
        title=title,
        data=DEMO if builder is None else f"{title}{_published(facts['data'], facts['data_revision'])}",
        research=builder is not None and bool(builder.CITATION),
        homepage=builder and builder.HOMEPAGE,
        text_encoder=_encoder_name(config, facts["text_encoder"], facts.get("text_encoder_revision")),
        text_pooling=config.text_pooling if config.text_config is not None else None,
        text_read=TEXT_POOLINGS,
        text_layer=config.text_layer,
        context=processor.context_utterances,
        lora=_lora(facts),
        calls=_calls(processor),
        computed=computed,
        libraries=" ".join(libraries(processor)),
        face_models="face" in computed or any(one.get("face_only") for one in recipe.values()),
        recipe=[_recipe_line(name, one) for name, one in recipe.items()],
        demo=facts["dataset"] == "demo",
        label_range=config.task.label_range,
        predicts=_predicts(config.task),
        result=_result(config.task),
        units=", ".join(_scales(config.task)),
        modalities=", ".join(config.modalities),
        several=len(config.modalities) > 1,
        inputs=", ".join([*tokens, *shapes]),
        rows=list(_rows(facts, published)),
        published=list(published_in_words(published)),
        conflict=conflict_in_words([facts], config.task.label_range) if config.task.label_range else None,
        trust=list(trust_in_words(chosen_confidence(facts))),
        few=[
            said
            for split in SPLITS
            if (said := few_clips(split, facts["sizes"][split], config.task.problem_type == REGRESSION))
        ],
        picture=PICTURE if picture else None,
        presets=[(preset_name(number), name) for number, (name, _) in enumerate(facts["presets"])],
        command=_command(facts),
        versions={
            "selfmm-hf": __version__,
            "transformers": transformers.__version__,
            "torch": torch.__version__,
            "Python": platform.python_version(),
        },
    )
    return ModelCard(content)


def libraries(processor: SelfMMProcessor) -> list[str]:
    """Returns the libraries, besides transformers and torch, that compute the features of the recipe."""
    kinds = {one["kind"] for one in processor.feature_extractor.recipe.values()} - {"features"}
    return sorted({name for kind in kinds for name in LIBRARIES[kind]})


@cache
def _template() -> Template:
    return Template(TEMPLATE.read_text("utf-8"))


def _chosen(facts: dict) -> str:
    """Says which of the trained models this is."""
    if "seeds" not in facts:
        return (
            f"Seed {facts['seed']}, epoch {facts['best_epoch']} of {facts['epochs']}, selected by the validation loss "
            "alone. The test split was read once."
        )
    seeds = facts["seeds"]
    return (
        f"This is an ensemble: its prediction is the mean of those of {len(seeds)} models, trained with the seeds "
        f"{', '.join(map(str, seeds))}, all that were trained. The validation loss alone selected the epoch of each. "
        f"It takes {len(seeds)} times the memory and the time of one."
    )


def _lora(facts: dict) -> str | None:
    """Says how the text encoder was trained, if by LoRA."""
    if "lora_rank" not in facts:
        return None
    return (
        f"LoRA of rank {facts['lora_rank']} (alpha {facts['lora_alpha']:g}): {facts['lora_parameters']:,} parameters, "
        f"beside {facts['text_encoder_parameters']:,} that stayed as they were; they are merged into the weights"
    )


def preset_name(number: int) -> str:
    """Returns the name of the file that holds the `number`th preset, from 0."""
    return "preset.yaml" if number == 0 else f"preset_{number + 1}.yaml"


def _predicts(task: Task) -> str:
    """Says what the model predicts, for "This model predicts ..."."""
    if task.problem_type == SINGLE_LABEL:
        return f"which one of these classes a clip is of: {', '.join(task.names)}"
    if task.problem_type == MULTI_LABEL:
        return f"which of these a clip shows, any number of them at once: {', '.join(task.names)}"
    return f"the scores of a clip: {', '.join(_scales(task))}"


def _result(task: Task) -> str:
    """Says what the pipeline returns for a clip, besides its modalities."""
    if task.problem_type == SINGLE_LABEL:
        return "the probabilities of all classes (`scores`), the most probable one (`label`)"
    if task.problem_type == MULTI_LABEL:
        return "the probability of each (`scores`), those above 50 % (`label`)"
    return "the `scores` by name, their `scales`"


def _scales(task: Task) -> list[str]:
    return [f"{name} in [{low:g}, {high:g}]" for name, (low, high) in zip(task.names, task.scales, strict=False)]


def pipeline_tag(processor: SelfMMProcessor, task: Task) -> str | None:
    """Returns the task by which the Hub lists the model; it has none for scores, or for features of another program."""
    kinds = {name: one["kind"] for name, one in processor.feature_extractor.recipe.items()}
    if task.problem_type == REGRESSION or "features" in kinds.values():
        return None
    return "video-classification" if "vision" in kinds else "audio-classification" if kinds else "text-classification"


def _metadata(facts: dict, title: str, task: Task, tag: str | None) -> ModelCardData:
    builder = BUILDERS.get(facts["dataset"])
    # A model is no freer than the data from which it learned.
    licence = {"license": "mit"} if builder is None else {"license": "unknown"}
    if builder is not None and builder.CITATION:
        licence = {"license": "other", "license_name": "research-use", "license_link": builder.HOMEPAGE}
    repository = facts["data"] if _is_repository(facts["data"]) else None
    results = [
        EvalResult(
            task_type="other",  # the Hub has no type for it
            task_name=TASK_NAMES[task.problem_type] if task.label_range is None else "Multimodal sentiment analysis",
            dataset_type=repository or facts["dataset"],
            dataset_name=title,
            dataset_config=facts["data_config"],
            dataset_revision=facts["data_revision"],
            dataset_split=split,
            metric_type=kind,
            metric_name=name,
            metric_value=facts[f"{split}_{metric}"],
        )
        for split in SPLITS
        for metric, (kind, name) in METRIC_NAMES.items()
        if math.isfinite(facts.get(f"{split}_{metric}", math.nan))
    ]
    return ModelCardData(
        library_name="transformers",
        pipeline_tag=tag,
        **licence,
        language="en" if builder is None else builder.LANGUAGE,
        tags=["multimodal-sentiment-analysis", "self-mm", "selfmm"],
        base_model=facts["text_encoder"] if _is_repository(facts["text_encoder"]) else None,
        datasets=repository,
        model_name=f"Self-MM, {facts['dataset']}",
        eval_results=results or None,
    )


def _reported(facts: dict) -> list[str]:
    return [name for name in METRIC_NAMES if f"test_{name}" in facts]


def _rows(facts: dict, published: list[PublishedFigures]) -> Iterator[list[str]]:
    """Yields the table of results: a head, a row for each split, and the published results for the test split."""
    names = _reported(facts)
    yield ["", *(METRIC_NAMES[name][1] for name in names)]
    for split in SPLITS:
        values = {name: facts.get(f"{split}_{name}", math.nan) for name in names}
        yield [split, *("" if math.isnan(value) else metric_text(name, value) for name, value in values.items())]
    for one in published:
        cells = [as_printed(name, one.metrics[name]) if name in one.metrics else "" for name in names]
        yield [f"published: {one.name}", *cells]


def _command(facts: dict) -> str:
    presets = [part for number in range(len(facts["presets"])) for part in ("--config", preset_name(number))]
    if "seeds" in facts:
        run = shlex.join(["selfmm", "benchmark", "run", *presets, "--seeds", str(len(facts["seeds"]))])
        return f"{run} --output_dir SWEEP\nselfmm benchmark ensemble SWEEP --output_dir MODEL"
    count = facts.get("processes", 1)
    processes = ["--multi_gpu", "--num_processes", str(count)] if count > 1 else []  # the batch size is that of each
    return shlex.join(["accelerate", "launch", *processes, "train.py", *presets, *facts["overrides"]])


def _calls(processor: SelfMMProcessor) -> list[str]:
    """Returns examples of calls of the pipeline."""
    recipe = processor.feature_extractor.recipe
    given = {name: one["dim"] for name, one in recipe.items() if one["kind"] == "features"}
    parts = {name: "FRAMES" for name in given}
    if processor.tokenizer is not None:
        parts = {"text": '"the movie was lovely"', **parts}
    calls = []
    if recipe and not given:
        calls.append('pipe("clip.mp4", text="the movie was lovely")' if "text" in parts else 'pipe("clip.mp4")')
    if parts:
        shapes = ", ".join(f"{name}: (frames, {dim})" for name, dim in given.items())
        inside = ", ".join(f'"{name}": {value}' for name, value in parts.items())
        calls.append(f"pipe({{{inside}}})" + (f"  # {shapes}; leave out what a clip lacks" if shapes else ""))
    return calls


def _recipe_line(name: str, recipe: dict) -> str:
    if recipe["kind"] == "features":
        return f"{name}: computed by another program, {recipe['dim']} columns, taken as they are"
    options = ", ".join(f"{key} {value}" for key, value in recipe.items() if key != "kind" and "checksum" not in key)
    return f"{name}: `{recipe['kind']}`{', ' if options else ''}{options}; computed and normalised by the processor"


def _is_repository(name: str | None) -> bool:
    return name is not None and not Path(name).exists()


def _published(data: str | None, revision: str | None) -> str:
    if not _is_repository(data):
        return ""
    return f", the repository `{data}`" + (f" at `{revision}`" if revision else "")


def _encoder_name(config: SelfMMConfig, name: str | None, revision: str | None) -> str:
    if config.text_config is None:
        return "none, words come as vectors" if "text" in config.modalities else "none, the model reads no words"
    if name is None:
        return "a small BERT trained with the rest"
    # The name of a folder is enough; its place on somebody's machine is private.
    if _is_repository(name):
        return f"`{name}`" + (f" at `{revision}`" if revision else "")
    return f"`{Path(name).resolve().name}` (a local folder)"
