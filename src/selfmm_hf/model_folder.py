"""One complete model folder: weights, configuration, remote code, processor, card, recipe and licence."""

import shutil
from pathlib import Path

from .model_card import PICTURE, model_card, preset_name
from .modeling_selfmm import SelfMMModel
from .processing_selfmm import SelfMMProcessor

LICENCE = Path(__file__).with_name("LICENSE")  # of the code that travels


def save_model_folder(folder: Path, model: SelfMMModel, processor: SelfMMProcessor, facts: dict) -> None:
    """
    Writes the folder beside `folder` and moves it there when it is whole.

    Args:
        folder: Where to, within that of the run; an earlier one is replaced.
        model: Its weights are saved as safetensors, its code with it.
        processor: Of what the model takes.
        facts: Of the training run, for the model card: see `Run._facts`.
    """
    beside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    save_loadable(beside, model, processor)
    shutil.copy(LICENCE, beside / "LICENSE")
    for number, (_, text) in enumerate(facts["presets"]):
        (beside / preset_name(number)).write_text(text, encoding="utf-8")
    if (folder.parent / PICTURE).is_file():
        shutil.copy(folder.parent / PICTURE, beside)
    model_card(model, processor, facts, picture=(beside / PICTURE).is_file()).save(beside / "README.md")
    for file in beside.glob("*.safetensors"):
        shutil.copymode(beside / "config.json", file)  # safetensors lets nobody else read it
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)


def save_loadable(folder: Path, model: SelfMMModel, processor: SelfMMProcessor) -> None:
    """Saves what `AutoModel`, `AutoProcessor` and `pipeline` load with `trust_remote_code=True`."""
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
