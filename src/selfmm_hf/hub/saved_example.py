"""
An example that is saved with a model: some words and frames, and the model's output for them. It detects a folder in
which somebody replaced a valid value by another valid one, such as the ids of the words.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..model.configuration_selfmm import SelfMMConfig
from ..model.modeling_selfmm import SelfMMModel
from ..model.processing_selfmm import SelfMMProcessor
from ..model.text_selfmm import some_words, tokenize

EXAMPLE_FILE = "example.json"

WORDS = 64
MOST_TOKENS = 512  # compared at most
READ = 12  # tokens that the model reads
FRAMES = 5
STATES = 32  # numbers of the text's state, which show what a score hardly does
TOLERANCE = 1e-4  # of the largest number; rounding is far below
OTHERWISE = f"something was changed after that. If it was meant to be, delete {EXAMPLE_FILE} from the folder"


def example_of(model: SelfMMModel, processor: SelfMMProcessor) -> dict[str, Any]:
    """
    Computes the output that `model`, on any device and in any mode, will give once it has been saved and loaded.

    Raises:
        ValueError: Model and processor do not belong together.
    """
    loaded = SelfMMModel(SelfMMConfig.from_dict(model.config.to_dict()))
    loaded.load_state_dict(model.state_dict())
    processor.fit(loaded.eval())
    text = None if processor.tokenizer is None else some_words(processor.tokenizer, WORDS)
    return {
        "text": text,
        "tokens": _tokens(processor, text),
        "numbers": _numbers(loaded, processor, text),
        "task": _task(model),
    }


def check_example(file: Path, model: SelfMMModel, processor: SelfMMProcessor) -> None:
    """
    Compares a model, on the CPU and in eval mode, with its example; in another precision than float32, only the tokens.

    Raises:
        ValueError: Its output differs, or the file is no example.
    """
    saved = json.loads(file.read_text("utf-8"))
    text, expected = saved["text"], saved["numbers"]
    if _tokens(processor, text) != saved["tokens"]:
        raise ValueError(f"the tokenizer is not the one that the model was saved with: {OTHERWISE}")
    if "task" not in saved and model.config.label_range != saved["label_range"]:  # earlier versions
        raise ValueError(f"label_range is not the one that the model was saved with: {OTHERWISE}")
    if saved.get("task", _task(model)) != _task(model):
        raise ValueError(
            f"the names, kind or scales of the targets are not those that the model was saved with: {OTHERWISE}"
        )
    if model.dtype == torch.float32:
        found = np.array(_numbers(model, processor, text))
        if found.shape != np.shape(expected) or not np.allclose(found, expected, 0, TOLERANCE * np.abs(found).max()):
            raise ValueError(f"its output differs from its output when it was saved: {OTHERWISE}")


def _task(model: SelfMMModel) -> dict[str, Any]:
    """Returns the task as JSON holds it."""
    return json.loads(json.dumps(asdict(model.config.task)))


def _tokens(processor: SelfMMProcessor, text: str | None, most: int = MOST_TOKENS) -> dict[str, list[int]]:
    if text is None or processor.tokenizer is None:
        return {}
    return {name: rows[0] for name, rows in tokenize(processor.tokenizer, [text], most).items()}


@torch.no_grad()
def _numbers(model: SelfMMModel, processor: SelfMMProcessor, text: str | None) -> list[float]:
    """Returns the model's output for some words and frames: scores, and a part of the state of the text."""
    tokens = {name: torch.tensor([row]) for name, row in _tokens(processor, text, READ).items()}
    batch = dict(tokens)
    for name in model.config.sequences:
        width = model.config.sequence_options(name)["input_dim"]
        frames = np.sin(np.arange(FRAMES * width, dtype=np.float32)).reshape(FRAMES, width)
        batch[name] = torch.from_numpy(processor.feature_extractor.normalize(name, frames))[None]
    output = model(**batch)
    numbers = torch.cat([output.logits, *output.unimodal_logits.values()], dim=-1)[0]
    if tokens:
        numbers = torch.cat([numbers, model.encode_text(**tokens)[0, ..., :STATES].flatten().float()])
    return numbers.tolist()
