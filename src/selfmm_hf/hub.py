"""A complete model folder, ready for the Hub: weights, configuration, remote code, processor and model card."""

import shutil
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData
from transformers.dynamic_module_utils import get_relative_import_files

from .data import BUILDERS
from .modeling_selfmm import SelfMMModel
from .processing_selfmm import SelfMMProcessor

# What `pipeline` looks up in the configuration.
PIPELINE_FILE = "pipeline_selfmm.py"
CUSTOM_PIPELINES = {
    "multimodal-sentiment": {"impl": "pipeline_selfmm.MultimodalSentimentPipeline", "pt": ["AutoModel"]}
}

DEMO = (
    "the corpus that selfmm-hf generates itself: English sentences from a small vocabulary, synthesised voices and "
    "parametric faces"
)

CARD = """---
{{ card_data }}
---

# Self-MM, trained on {{ dataset }}

Multimodal sentiment analysis with self-supervised unimodal labels
([Self-MM, AAAI 2021](https://arxiv.org/abs/2102.04830)), made with `selfmm-hf`.

```python
from transformers import pipeline

pipe = pipeline("multimodal-sentiment", model="THIS_REPOSITORY", trust_remote_code=True)
{% for call in calls -%}
{{ call }}
{% endfor -%}
```

The result has the `score` in [{{ -label_range }}, {{ label_range }}], negative to positive, its `label`, what each
modality says on its own (`unimodal`), which were there (`present`), and why others were not (`absent`).
{%- if computed %} Clips need
`pip install {{ libraries }}`.{% endif %} `trust_remote_code` runs the Python files of this repository: read them
first, and pin a `revision`.

`AutoModel` and `AutoProcessor` load the parts. Inputs of the model: {{ inputs }}.

## Features

{% for line in recipe -%}
- {{ line }}
{% endfor %}
## Training

Data: {{ data }}. {{ sizes.train }} / {{ sizes.validation }} / {{ sizes.test }} clips for training, validation and test.
Text encoder: {{ text_encoder }}. Convention of the label generation: `{{ convention }}`. Seed {{ seed }},
epoch {{ best_epoch }} of {{ epochs }}, chosen by the validation loss alone; the test split was read once.

| | MAE | Corr |{% for name in other_metrics %} {{ name }} |{% endfor %}
|---|---|---|{% for name in other_metrics %}---|{% endfor %}
{% for split in ["validation", "test"] -%}
| {{ split }} | {{ "%.3f"|format(results[split + "_mae"]) }} | {{ "%.3f"|format(results[split + "_corr"]) }} |
{%- for name in other_metrics %} {{ "%.1f"|format(100 * results[split + "_" + name]) }} |{% endfor %}
{% endfor %}
## Limits

{% if demo -%}
**It has never seen a person.** Its voices are synthesised, its faces are a drawn mesh, its sentences come from a small
vocabulary; pitch, loudness, pauses, smiles and frowns follow the sentiment as the literature says they do. It shows how
Self-MM works, from a clip to a prediction, and what it says of generated clips can be trusted as far as the table
goes. What it says of a real clip is an extrapolation that nobody has validated: a toy to play with.

{% endif -%}
Trained for research. It judges what was said and shown in clips like those it was trained on, not what a person
feels; do not use it to decide about people.
"""

LIBRARIES = {
    "librosa33": ("av", "librosa", "soxr"),
    "face": ("ai-edge-litert", "av"),
    "encoder": ("ai-edge-litert", "av", "pillow", "soxr"),
}


def save_model_folder(folder: Path, model: SelfMMModel, processor: SelfMMProcessor, facts: dict) -> None:
    """
    Writes the folder beside `folder` and moves it there when it is whole.

    Args:
        folder: Where to; an earlier one is replaced.
        model: Its weights are saved as safetensors, its code with it.
        processor: Of what the model takes.
        facts: Of the training run, for the model card: see `Run._facts`.
    """
    beside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    save_loadable(beside, model, processor)
    model_card(model, processor, facts).save(beside / "README.md")
    for file in beside.glob("*.safetensors"):
        shutil.copymode(beside / "config.json", file)  # safetensors lets nobody else read it
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)


def save_loadable(folder: Path, model: SelfMMModel, processor: SelfMMProcessor) -> None:
    """Saves what `AutoModel`, `AutoProcessor` and `pipeline` load with `trust_remote_code=True`."""
    model.config.custom_pipelines = CUSTOM_PIPELINES
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    pipeline = Path(__file__).with_name(PIPELINE_FILE)
    for file in (pipeline, *get_relative_import_files(pipeline)):
        shutil.copy(file, folder)


def model_card(model: SelfMMModel, processor: SelfMMProcessor, facts: dict) -> ModelCard:
    """The card, with the results of the run as a table."""
    config, builder = model.config, BUILDERS.get(facts["dataset"])
    research = builder is not None and builder.CITATION
    data = ModelCardData(
        library_name="transformers",
        license="mit" if facts["dataset"] == "demo" else "other",  # that of the data holds for what is learned of it
        language="en" if builder is None else builder.LANGUAGE,
        tags=["multimodal-sentiment-analysis", "self-mm", "selfmm"],
        base_model=facts["text_encoder"] if _is_repository(facts["text_encoder"]) else None,
    )
    shapes = [f"`{name}` (clips, frames, {config.sequence_options(name)['input_dim']})" for name in config.sequences]
    tokens = ["`input_ids` and `attention_mask` from the tokenizer"] if processor.tokenizer is not None else []
    recipe = processor.feature_extractor.recipe
    computed = [one["kind"] for one in recipe.values() if one["kind"] != "features"]
    return ModelCard.from_template(
        data,
        template_str=CARD,
        **{key: facts[key] for key in ("dataset", "sizes", "convention", "seed", "epochs", "best_epoch")},
        data=DEMO if builder is None else f"{builder.TITLE}{' (research use)' if research else ''}",
        text_encoder=_encoder_name(facts["text_encoder"]),
        calls=_calls(processor),
        computed=computed,
        libraries=" ".join(sorted({name for kind in computed for name in LIBRARIES[kind]})),
        recipe=[_recipe_line(name, one) for name, one in recipe.items()],
        demo=facts["dataset"] == "demo",
        label_range=config.label_range,
        inputs=", ".join([*tokens, *shapes]),
        other_metrics=[
            name[5:] for name in facts if name.startswith("test_") and name not in ("test_mae", "test_corr")
        ],
        results=facts,
    )


def _calls(processor: SelfMMProcessor) -> list[str]:
    """Examples of the use of the pipeline."""
    recipe = processor.feature_extractor.recipe
    given = {name: one["dim"] for name, one in recipe.items() if one["kind"] == "features"}
    parts = {name: "FRAMES" for name in given}
    if processor.tokenizer is not None:
        parts = {"text": '"the movie was lovely"', **parts}
    calls = (
        [] if given else ['pipe("clip.mp4", text="the movie was lovely")' if "text" in parts else 'pipe("clip.mp4")']
    )
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


def _encoder_name(name: str | None) -> str:
    if name is None:
        return "a small BERT trained with the rest"
    # The name of a folder is enough; where it lay on somebody's machine is nobody's business.
    return f"`{name}`" if _is_repository(name) else f"`{Path(name).resolve().name}` (a local folder)"
