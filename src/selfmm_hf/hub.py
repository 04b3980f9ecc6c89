"""A complete model folder, ready for the Hub: weights, configuration, remote code, tokenizer and model card."""

import shutil
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData
from transformers import PreTrainedTokenizerBase

from .data import BUILDERS
from .modeling_selfmm import SelfMMModel

DEMO = (
    "the corpus that selfmm-hf generates itself: English sentences from a small vocabulary, with drawn voice "
    "and face contours; a model of it shows how Self-MM works and can judge no real clip"
)

CARD = """---
{{ card_data }}
---

# Self-MM, trained on {{ dataset }}

Multimodal sentiment analysis with self-supervised unimodal labels
([Self-MM, AAAI 2021](https://arxiv.org/abs/2102.04830)), made with `selfmm-hf`.

```python
from transformers import AutoModel{% if tokenizer %}, AutoTokenizer{% endif %}

model = AutoModel.from_pretrained("THIS_REPOSITORY", trust_remote_code=True)
{%- if tokenizer %}
tokenizer = AutoTokenizer.from_pretrained("THIS_REPOSITORY", trust_remote_code=True)
output = model(**tokenizer("the movie was lovely", return_tensors="pt"))  # audio=..., vision=... where you have them
print(output.logits, output.unimodal_logits, output.present)
{%- endif %}
```

`output.logits` is the sentiment in [{{ -label_range }}, {{ label_range }}], negative to positive;
`output.unimodal_logits` is what each modality says on its own, and `output.present` which modalities were there.
Inputs: {{ inputs }}.

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

Trained for research. It judges what was said and shown in clips like those it was trained on, not what a person
feels; do not use it to decide about people.
"""


def save_model_folder(folder: Path, model: SelfMMModel, tokenizer: PreTrainedTokenizerBase | None, facts: dict) -> None:
    """
    Writes the folder beside `folder` and moves it there when it is whole.

    Args:
        folder: Where to; an earlier one is replaced.
        model: Its weights are saved as safetensors, its code with it.
        tokenizer: Of the text encoder, if there is one.
        facts: Of the training run, for the model card: see `Run._facts`.
    """
    beside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    model.save_pretrained(beside)
    if tokenizer is not None:
        tokenizer.save_pretrained(beside)
    model_card(model, tokenizer, facts).save(beside / "README.md")
    for file in beside.glob("*.safetensors"):
        shutil.copymode(beside / "config.json", file)  # safetensors lets nobody else read it
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)


def model_card(model: SelfMMModel, tokenizer: PreTrainedTokenizerBase | None, facts: dict) -> ModelCard:
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
    tokens = ["`input_ids` and `attention_mask` from the tokenizer"] if tokenizer is not None else []
    return ModelCard.from_template(
        data,
        template_str=CARD,
        **{key: facts[key] for key in ("dataset", "sizes", "convention", "seed", "epochs", "best_epoch")},
        data=DEMO if builder is None else f"{builder.TITLE}{' (research use)' if research else ''}",
        text_encoder=_encoder_name(facts["text_encoder"]),
        tokenizer=tokenizer is not None,
        label_range=config.label_range,
        inputs=", ".join([*tokens, *shapes]),
        other_metrics=[
            name[5:] for name in facts if name.startswith("test_") and name not in ("test_mae", "test_corr")
        ],
        results=facts,
    )


def _is_repository(name: str | None) -> bool:
    return name is not None and not Path(name).exists()


def _encoder_name(name: str | None) -> str:
    if name is None:
        return "a small BERT trained with the rest"
    # The name of a folder is enough; where it lay on somebody's machine is nobody's business.
    return f"`{name}`" if _is_repository(name) else f"`{Path(name).resolve().name}` (a local folder)"
