"""Makes batches of samples."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass
class SelfMMCollator:
    """
    Pads samples to the longest of the batch.

    A sample is a dict with any of `input_ids`, `attention_mask`, `token_type_ids`, `context_mask` (lists of int),
    sequences such as `audio` and `vision` (float arrays (frames, dim)), `label` (float or floats) and `index`. A
    sequence that a sample lacks, or that is `None` or empty, is absent: its length is 0. Where all samples have
    `text_embeds`, one array each, these stand for the tokens. Other keys are left out.

    Args:
        sequences: Names of the sequences, the modalities that are not tokens.
        pad_token_id: The tokenizer's id of padding.
    """

    sequences: tuple[str, ...] = ("audio", "vision")
    pad_token_id: int = 0

    def __call__(self, samples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = {}
        if "text_embeds" in samples[0]:
            embeds = np.array([sample["text_embeds"] for sample in samples], dtype=np.float32)
            batch["text_embeds"] = torch.from_numpy(embeds)  # (batch, *model.text_shape)
        elif any(sample.get("input_ids") is not None for sample in samples):
            batch.update(self._tokens(samples))
        for name in self.sequences:
            rows = [() if sample.get(name) is None else sample[name] for sample in samples]
            lengths = [len(frames) for frames in rows]
            if any(lengths):
                width = len(rows[np.argmax(lengths)][0])  # ty: ignore[index-out-of-bounds]
                batch[name] = _padded(rows, np.float32, 0, width)  # (batch, frames, dim)
                batch[f"{name}_lengths"] = torch.tensor(lengths)
        if "label" in samples[0]:
            batch["labels"] = torch.tensor(np.array([sample["label"] for sample in samples], dtype=np.float32))
        if "index" in samples[0]:
            batch["index"] = torch.tensor([sample["index"] for sample in samples])
        return batch

    def _tokens(self, samples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        lengths = [0 if sample.get("input_ids") is None else len(sample["input_ids"]) for sample in samples]
        # For each column, its padding, and the value for samples that have tokens but not this column.
        columns = {"input_ids": (self.pad_token_id, 0), "attention_mask": (0, 1)}
        for name in ("token_type_ids", "context_mask"):
            if any(sample.get(name) is not None for sample in samples):
                columns[name] = (0, 0)
        batch = {}
        for name, (padding, otherwise) in columns.items():
            given = [sample.get(name) for sample in samples]
            rows = [[otherwise] * n if one is None else one for one, n in zip(given, lengths, strict=True)]
            if (found := [len(row) for row in rows]) != lengths:
                raise ValueError(f"{name} must have a value for each of the input_ids, {lengths}, got {found}.")
            batch[name] = _padded(rows, np.int64, padding)
        return batch


def _padded(rows: list, dtype: type, padding: int, *width: int) -> torch.Tensor:
    """Stacks sequences, padded to the longest, (rows, length, *width)."""
    padded = np.full((len(rows), max(map(len, rows)), *width), padding, dtype)
    for line, row in zip(padded, rows, strict=True):
        if len(row):
            values = np.asarray(row, dtype)
            if values.shape[1:] != width:
                raise ValueError(
                    f"Frames of one sequence must have one width, got {[*width]} and {[*values.shape[1:]]}."
                )
            line[: len(row)] = values
    return torch.from_numpy(padded)
