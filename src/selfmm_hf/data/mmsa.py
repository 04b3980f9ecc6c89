"""Feature files in the MMSA layout (MOSI, MOSEI, SIMS as published) as samples."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from .safe_pickle import Array, DataError, load_pickle

__all__ = ["DataError", "read_mmsa"]

logger = logging.getLogger(__name__)

SPLITS = {"train": "train", "validation": "valid", "test": "test"}  # ours: the file's
UNIMODAL = {"text": "regression_labels_T", "audio": "regression_labels_A", "vision": "regression_labels_V"}


def read_mmsa(path: str | Path) -> dict[str, list[dict[str, Any]]]:
    """Read one MMSA feature file.

    Args:
        path: a pickle (protocol 2 to 5) of the splits `train`, `valid`, `test`, each a dict of columns: `id`,
            `raw_text`, `audio` and `vision` (rows, frames, dim), `regression_labels`, and where the file has
            them `text_bert` (rows, 3, tokens), `text` (rows, frames, dim), `audio_lengths`, `vision_lengths`,
            `text_lengths`, `regression_labels_T/A/V`. Other columns are ignored.

    Returns:
        The samples of `train`, `validation` and `test`, each a dict of

        - `id`, `raw_text`: str;
        - `audio`, `vision`: float32 `(frames, dim)`, own memory, no padding; `(0, dim)` where the modality is
          absent. In a file without lengths (aligned) there is one frame per token of `text_bert`;
        - `label`: float, the sentiment, in the range of the dataset;
        - `input_ids`: list of int, the real tokens of `text_bert`, [CLS] and [SEP] included, may be empty;
        - `text`, only where the file has no `text_bert`: float32 word vectors `(frames, dim)`, cut by
          `text_lengths`, or by the audio lengths if both have the same number of steps, or whole;
        - `unimodal_labels`, where the file has them (SIMS): float for `text`, `audio` and `vision`.

        NaN and infinite frame values become 0, which a logging warning reports.

    Raises:
        DataError: the file is missing, damaged, hostile, or not in this layout.
    """
    path = Path(path)
    data = load_pickle(path)
    for split in SPLITS.values():
        if type(data) is not dict or type(data.get(split)) is not dict:
            raise DataError(f"{path}: split {split!r} is missing; expected a dict of train, valid and test")
    with_bert = any("text_bert" in data[split] for split in SPLITS.values())
    widths: dict[str, int] = {}
    return {name: _Split(path, split, data.pop(split), widths).samples(with_bert) for name, split in SPLITS.items()}


class _Split:
    """The columns of one split; each error names both. `widths` is shared by the splits of a file."""

    def __init__(self, path: Path, name: str, columns: dict[str, Any], widths: dict[str, int]):
        self.path, self.name, self.columns, self.widths = path, name, columns, widths
        self.ids: list[str] = []
        self.ids = self.strings("id")
        seen: set[str] = set()
        for row, sample in enumerate(self.ids):
            if sample in seen:
                self.fail("id", "the same id occurs twice; ids must differ within a split", row)
            seen.add(sample)

    def fail(self, column: str, problem: str, row: int | None = None) -> NoReturn:
        where = "" if row is None else f", row {row}"
        if where and self.ids:
            where += f" (id {self.ids[row]!r:.80})"
        raise DataError(f"{self.path}, split {self.name!r}, column {column!r}{where}: {problem}")

    def samples(self, with_bert: bool) -> list[dict[str, Any]]:
        columns: dict[str, Sequence[Any]] = {"id": self.ids, "raw_text": self.strings("raw_text")}
        tokens = self.tokens() if with_bert else None
        audio_lengths = self.lengths("audio", tokens)
        columns["audio"] = self.frames("audio", audio_lengths)
        columns["vision"] = self.frames("vision", self.lengths("vision", tokens))
        if tokens is not None:
            columns["input_ids"] = tokens
        elif "text_lengths" in self.columns:
            columns["text"] = self.frames("text", self.lengths("text"))
        else:
            steps = self.array("text").shape[1]
            aligned = steps == self.array("audio").shape[1]
            columns["text"] = self.frames("text", audio_lengths if aligned else [steps] * len(self.ids))
        if "regression_labels" not in self.columns and "classification_labels" in self.columns:
            self.fail("regression_labels", "missing, and classification_labels do not give a sentiment score")
        columns["label"] = self.numbers("regression_labels")
        if any(column in self.columns for column in UNIMODAL.values()):
            labels = zip(*map(self.numbers, UNIMODAL.values()), strict=True)
            columns["unimodal_labels"] = [dict(zip(UNIMODAL, row, strict=True)) for row in labels]
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def column(self, name: str) -> list[Any] | NDArray:
        if name not in self.columns:
            self.fail(name, "missing; an MMSA feature file has this column in each split")
        values = self.columns[name]
        if isinstance(values, Array):
            values = values.value
            if values is None:
                self.fail(name, "an array of Python objects, which is never read; save plain numbers or text")
        if type(values) is not list and not (isinstance(values, np.ndarray) and values.ndim):
            self.fail(name, "expected a list or an array with one entry per sample")
        if name != "id" and len(values) != len(self.ids):
            self.fail(name, f"has {len(values)} rows, but column 'id' has {len(self.ids)}")
        return values

    def flat(self, name: str, kinds: tuple[type, ...], expected: str) -> list[Any]:
        """One plain value per row."""
        values = self.column(name)
        if isinstance(values, np.ndarray):
            if values.shape not in ((len(values),), (len(values), 1)):
                self.fail(name, f"expected one value per sample, got an array of shape {values.shape}")
            values = values.reshape(-1).tolist()
        for row, value in enumerate(values):
            if type(value) not in kinds:
                self.fail(name, f"expected {expected}, got {type(value).__name__}", row)
        return values

    def strings(self, name: str) -> list[str]:
        return self.flat(name, (str,), "text")

    def numbers(self, name: str) -> list[float]:
        values = self.flat(name, (int, float, bool), "a number")
        for row, value in enumerate(values):
            if not abs(value) < 3e38:
                self.fail(name, "expected a finite number, got NaN, infinity or one beyond float32", row)
        return [float(value) for value in values]

    def array(self, name: str) -> NDArray:
        values = self.column(name)
        if not isinstance(values, np.ndarray) or values.ndim != 3 or values.dtype.kind not in "biuf":
            got = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else "a list"
            self.fail(name, f"expected an array of numbers of shape (rows, steps, width), got {got}")
        return values

    def lengths(self, modality: str, tokens: list[list[int]] | None = None) -> list[int]:
        """Real frames per row: the file's own column; where there is none, the number of tokens."""
        column, steps = f"{modality}_lengths", self.array(modality).shape[1]
        if column not in self.columns and tokens is not None:
            column, lengths = "text_bert", [float(len(row)) for row in tokens]
        else:
            lengths = self.numbers(column)
        for row, length in enumerate(lengths):
            if not 0 <= length <= steps or not length.is_integer():
                self.fail(column, f"{modality} length {length:g} is not a whole number in 0..{steps}", row)
        return [int(length) for length in lengths]

    def frames(self, name: str, lengths: Sequence[int]) -> list[NDArray[np.float32]]:
        """The rows cut to their lengths; copies, so that the padded array, mostly zeros, can be freed."""
        array = self.array(name)
        width = self.widths.setdefault(name, array.shape[2])
        if not 0 < width == array.shape[2]:
            self.fail(name, f"{array.shape[2]} values wide, expected {width or 'at least one'} in each split")
        rows, replaced = [], 0
        for row, length in zip(array, lengths, strict=True):
            with np.errstate(over="ignore"):  # beyond float32 becomes inf, which the next lines count
                frames = row[:length].astype(np.float32, order="C")
            wrong = ~np.isfinite(frames)
            frames[wrong] = 0
            replaced += int(wrong.sum())
            rows.append(frames)
        if replaced:
            message = "%s, split %r, column %r: %d values that are NaN or infinite were set to 0"
            logger.warning(message, self.path, self.name, name, replaced)
        return rows

    def tokens(self) -> list[list[int]]:
        """The token ids of `text_bert` (per row: ids, attention mask, token types) under its mask."""
        array = self.array("text_bert")
        if array.shape[1] != 3:
            self.fail("text_bert", f"expected shape (rows, 3, tokens): ids, mask, types; got {array.shape}")
        ids, mask = array[:, 0].astype(np.float64), array[:, 1].astype(np.float64)
        usable = (ids >= 0) & (ids < 2**31) & (ids == np.floor(ids))
        mixed = ~np.isin(mask, (0, 1)).all(1) | (np.diff(mask, axis=1) > 0).any(1)
        for wrong, problem in (
            (mixed, "the attention mask must be ones, then zeros"),
            (((mask == 1) & ~usable).any(1), "token ids must be whole numbers from 0 on"),
        ):
            if wrong.any():
                self.fail("text_bert", problem, int(wrong.argmax()))
        return [row[:n].astype(int).tolist() for row, n in zip(ids, mask.sum(1).astype(int), strict=True)]
