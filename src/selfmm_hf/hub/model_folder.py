"""Writes a complete model folder: weights, configuration, remote code, processor, card, recipe and licence."""

import json
import shutil
from pathlib import Path

from ..model.modeling_selfmm import SelfMMModel
from ..model.processing_selfmm import SelfMMProcessor
from ..resources import LICENCE
from ..storage.whole_files import whole
from . import handler
from .model_card import PICTURE, libraries, model_card, preset_name
from .saved_example import EXAMPLE_FILE, example_of


def save_model_folder(
    folder: Path, model: SelfMMModel, processor: SelfMMProcessor, facts: dict, picture: Path | None = None
) -> None:
    """
    Writes the model folder, which appears whole or not at all.

    Args:
        folder: Where to write, within the folder of the run; an earlier one is replaced.
        model: Its weights are saved as safetensors, with its code.
        processor: Prepares the inputs of the model.
        facts: Facts of the training run, for the model card: see `Run._facts`.
        picture: Picture of the run, if there is one.
    """
    with whole(folder) as part:
        save_loadable(part, model, processor)
        shutil.copy(LICENCE, part / "LICENSE")
        shutil.copy(handler.__file__, part / "handler.py")  # for Inference Endpoints, which install the requirements
        lines = ["transformers>=5.9", *libraries(processor)]
        (part / "requirements.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        for number, (_, text) in enumerate(facts["presets"]):
            (part / preset_name(number)).write_text(text, encoding="utf-8")
        if picture is not None and picture.is_file():
            shutil.copy(picture, part / PICTURE)
        model_card(model, processor, facts, picture=(part / PICTURE).is_file()).save(part / "README.md")
        for file in part.glob("*.safetensors"):
            shutil.copymode(part / "config.json", file)  # safetensors lets only the owner read it


def save_loadable(folder: Path, model: SelfMMModel, processor: SelfMMProcessor) -> None:
    """
    Saves what `AutoModel`, `AutoProcessor` and `pipeline` load with `trust_remote_code=True`, and an example by which
    the commands check that the model is still the same.

    Raises:
        ValueError: Model and processor do not belong together; nothing is written.
    """
    example = example_of(model, processor)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / EXAMPLE_FILE).write_text(json.dumps(example) + "\n", encoding="utf-8")
