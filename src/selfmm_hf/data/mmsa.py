"""
Reads feature files in the MMSA layout (MOSI, MOSEI, SIMS as published, the output of MMSA-FET) as samples. `layouts.py`
converts other layouts to this one.
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..model.task_selfmm import MULTI_LABEL, REGRESSION, SINGLE_LABEL, Task
from .columns import UNIMODAL_LABELS
from .layouts import EMOTION_LABELS, EMOTIONS, Columns, as_mmsa, not_plain
from .safe_pickle import Array, DataError, Source, load_pickle, read_array
from .targets import SENTIMENTS, LabelType, describe, label_fault, label_type

__all__ = ["EMOTIONS", "DataError", "FeatureTable", "Rules", "read_mmsa"]

SPLITS = {"train": "train", "validation": "valid", "test": "test"}  # ours: the file's
UNIMODAL = dict(zip(UNIMODAL_LABELS.values(), (f"regression_labels_{letter}" for letter in "TAV"), strict=True))
NOT_FINITE = ("zero", "keep", "refuse")
ROWS_AT_ONCE = 256
# Characters by which the texts of a column may exceed the bytes of the file.
SPARE = 2**20
MOST = 3e38  # of float32


@dataclass(frozen=True)
class Rules:
    """
    The requirements for the values in a file.

    Args:
        not_finite: What becomes of frame values that are NaN, infinite or beyond float32: `zero` sets them to 0 (the
            official code does so with -inf in the audio), `keep` leaves them, `refuse` is an error.
        task: What labels are; `None`: one number, anywhere, or the emotions that the file has.
        vocabulary: Token ids are less than this; `None`: any.
    """

    not_finite: str = "zero"
    task: Task | None = None
    vocabulary: int | None = None

    def __post_init__(self):
        if self.not_finite not in NOT_FINITE:
            raise DataError(f"not_finite must be one of {', '.join(NOT_FINITE)}; got {self.not_finite!r}.")


def read_mmsa(path: str | Path, rules: Rules | None = None) -> dict[str, "FeatureTable"]:
    """
    Opens one MMSA feature file. The splits check their columns at once, and their frames as samples are taken.

    Args:
        path: A pickle (protocol 2 to 5) of the splits `train`, `valid`, `test`, each a dict of columns: see
            [`FeatureTable`]; or one of the layouts that [`as_mmsa`] knows.
        rules: What is asked of the values.

    Returns:
        The splits `train`, `validation` and `test`.

    Raises:
        DataError: The file is missing, damaged, hostile, or not in this layout.
    """
    path, rules = Path(path), rules or Rules()
    try:
        data, source = load_pickle(path)
    except DataError as error:
        raise DataError(f"{error}{not_plain(str(error))}") from None
    try:
        splits = as_mmsa(data)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    tables = {}
    widths: dict[str, int] = {}
    for name, split in SPLITS.items():
        tables[name] = FeatureTable(f"{path}, split {split!r}", splits[split], rules, widths, source)
        if not len(tables[name]):
            raise DataError(f"{path}: split {split!r} is empty; all of train, valid and test are needed")
        if set(tables[name].columns) != set(tables["train"].columns):
            odd = sorted(set(tables[name].columns) ^ set(tables["train"].columns))
            raise DataError(f"{path}: the splits 'train' and {split!r} differ in their columns, by {', '.join(odd)}")
    return tables


@dataclass
class Count:
    """How many rows something was seen in, and the first of them."""

    rows: int = 0
    first: str = ""
    values: int = 0


@dataclass
class FeatureTable:
    """
    The clips of one split.

    Args:
        where: File and split, for messages.
        source: The columns as MMSA names them: `id`, `raw_text`, `audio` and `vision` (rows, frames, dim), of which
            one may be missing, `regression_labels`, and where the file has them `text_bert` (rows, 3, tokens), `text`
            (rows, frames, dim), `audio_lengths`, `vision_lengths`, `text_lengths`, `regression_labels_T/A/V`. Others
            are ignored. Where a file has tokens but no lengths (aligned), there is one frame per token. Word vectors
            are taken where there are no tokens, cut by `text_lengths`, or by the audio lengths if both have the same
            number of steps, or whole. Instead of an array there may be a list of arrays (frames, dim), one a row.
        rules: What is asked of the values.
        widths: Of the sequences, shared by the splits of a file, which must agree.
        mapped: The map of the file, whose pages are given back as the rows are read.

    Raises:
        DataError: Something is missing or wrong. It names the column, and the row with its id.
    """

    where: str
    source: dict[str, Any]
    rules: Rules
    widths: dict[str, int]
    mapped: Source | None = None
    columns: dict[str, Any] = field(default_factory=dict, init=False)
    arrays: dict[str, NDArray | list[NDArray]] = field(default_factory=dict, init=False)
    lengths: dict[str, NDArray] = field(default_factory=dict, init=False)
    counts: dict[str, Count] = field(default_factory=dict, init=False)

    def __post_init__(self):
        self.ids: list[str] = []
        self.ids = self._strings("id")
        self._check_ids()
        self.columns = {"id": self.ids, "text": self._strings("raw_text")}
        tokens = self._tokens() if "text_bert" in self.source else None
        for name in ("audio", "vision"):
            if name in self.source:
                self._sequence(name, name, self._lengths(name, tokens))
        if tokens is None and "text" in self.source:
            self._sequence("word_vectors", "text", self._text_lengths())
        if not self.arrays and tokens is None:
            self._fail("audio", "missing, as are vision, text and text_bert; there is nothing to learn from")
        if EMOTION_LABELS in self.source:
            self.columns["label"] = self._emotions()
        elif self.task.problem_type == SINGLE_LABEL and self.task.names == SENTIMENTS:
            self.columns["label"] = self._classes()
        else:
            self.columns["label"] = self._scores()
        if any(column in self.source for column in UNIMODAL.values()):
            self.columns |= {name: self._labels(column) for name, column in UNIMODAL.items()}
        if tokens is not None:
            self.columns["input_ids"] = tokens

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def task(self) -> Task:
        """What the labels are."""
        if self.rules.task is not None:
            return self.rules.task
        return Task(EMOTIONS, MULTI_LABEL) if EMOTION_LABELS in self.source else Task()

    @property
    def label_type(self) -> LabelType:
        """Of the column `label`."""
        return label_type(self.task)

    @property
    def padded(self) -> dict[str, int]:
        """Steps of the padded sequences in the file."""
        return {name: array.shape[1] for name, array in self.arrays.items() if isinstance(array, np.ndarray)}

    @property
    def aligned(self) -> bool:
        """Whether there is a frame for each token, rather than frames of each modality's own."""
        if self._trims:
            return len(set(self.padded.values())) == 1
        return not any(name.endswith("_lengths") for name in self.source)

    @property
    def _trims(self) -> bool:
        """Whether frames of zeros before the first and after the last other one are padding."""
        return isinstance(self.source, Columns) and self.source.trims

    def samples(self) -> Iterator[dict[str, Any]]:
        """
        The clips in order, one value of each column: see [`features`]. Frames are float32 copies. What was seen on
        the way is then found in `counts`.
        """
        self.counts = {}
        for row in range(len(self)):
            if row % ROWS_AT_ONCE == 0:
                self._give_back()
            sample = {name: values[row] for name, values in self.columns.items() if name not in self.arrays}
            sample |= {name: self._frames(name, row) for name in self.arrays}
            self._count_absent(sample, row)
            yield sample
        self._give_back()

    def _count_absent(self, sample: dict[str, Any], row: int) -> None:
        for name in self.widths:
            if name != "word_vectors" and not len(sample[name]):
                self._count(f"no {name}", row)
        if not sample["text"].strip():
            self._count("no words", row)
        elif "input_ids" in sample and not len(sample["input_ids"]):
            self._count("an attention mask of zeros, though there is text,", row)

    def notices(self) -> list[str]:
        """What `samples` saw and a user should know, in sentences."""
        remarks = self.source.remarks if isinstance(self.source, Columns) else ()
        return [f"{self.where}: {remark}" for remark in remarks] + [
            f"{self.where}: {kind} in {count.rows} of {len(self)} rows"
            + (f" ({count.values} values)" if count.values else "")
            + f", first in {count.first}"
            for kind, count in self.counts.items()
        ]

    def _give_back(self) -> None:
        if self.mapped is not None and hasattr(self.mapped, "madvise"):  # not on Windows
            self.mapped.madvise(mmap.MADV_DONTNEED)

    def _count(self, kind: str, row: int, values: int = 0) -> None:
        count = self.counts.setdefault(kind, Count(first=f"row {row} (id {self.ids[row]!r:.80})"))
        count.rows += 1
        count.values += values

    def _fail(self, column: str, problem: str, row: int | None = None) -> NoReturn:
        at = "" if row is None else f", row {row}"
        if at and self.ids:
            at += f" (id {self.ids[row]!r:.80})"
        raise DataError(f"{self.where}, column {column!r}{at}: {problem}")

    def _check_ids(self) -> None:
        seen: set[str] = set()
        for row, sample in enumerate(self.ids):
            if sample in seen:
                self._fail("id", "the same id occurs twice; ids must differ within a split", row)
            seen.add(sample)

    def _column(self, name: str) -> list[Any] | NDArray:
        if name not in self.source:
            self._fail(name, "missing; an MMSA feature file has this column in each split")
        values = self.source[name]
        if isinstance(values, Array):
            values = values.value
            if values is None:
                self._fail(name, "an array of Python objects, which is never read; save plain numbers or text")
        if type(values) is not list and not (isinstance(values, np.ndarray) and values.ndim):
            self._fail(name, "expected a list or an array with one entry per sample")
        if name != "id" and len(values) != len(self.ids):
            self._fail(name, f"has {len(values)} rows, but column 'id' has {len(self.ids)}")
        return values

    def _flat(self, name: str, kinds: tuple[type, ...], expected: str) -> list[Any]:
        """One plain value per row."""
        values = self._column(name)
        if isinstance(values, np.ndarray):
            if values.shape not in ((len(values),), (len(values), 1)):
                self._fail(name, f"expected one value per sample, got an array of shape {values.shape}")
            values = read_array(values).reshape(-1).tolist()
        for row, value in enumerate(values):
            if type(value) not in kinds:
                self._fail(name, f"expected {expected}, got {type(value).__name__}", row)
        return values

    def _strings(self, name: str) -> list[str]:
        values = self._flat(name, (str,), "text")
        if self.mapped is not None and sum(map(len, values)) > len(self.mapped) + SPARE:
            self._fail(name, "one text is repeated so often that there is more of it than of the file")
        for row, value in enumerate(values):
            if not value.isascii():
                try:
                    value.encode()
                except UnicodeEncodeError:
                    self._fail(name, "text that is no Unicode (a lone surrogate)", row)
        return values

    def _numbers(self, name: str) -> list[float]:
        values = self._flat(name, (int, float, bool), "a number")
        for row, value in enumerate(values):
            if not abs(value) < MOST:
                self._fail(name, "expected a finite number, got NaN, infinity or one beyond float32", row)
        return [float(value) for value in values]

    def _scores(self) -> list[float]:
        if self.task.problem_type != REGRESSION:
            names, known = ", ".join(self.task.names), "mosi, mosei, sims, simsv2 or custom"
            self._fail("labels", f"expected {names}, got scores; take the data as {known}")
        if "regression_labels" not in self.source and "classification_labels" in self.source:
            hint = f"; for their classes take problem_type {SINGLE_LABEL}"
            self._fail("regression_labels", f"missing, and classification_labels do not give a sentiment score{hint}")
        return self._labels("regression_labels")

    def _emotions(self) -> list[list[float]] | list[int]:
        """Those of IEMOCAP, each there or not; or the one that there is."""
        if self.task.names != EMOTIONS:
            self._fail("labels", f"the emotions {', '.join(EMOTIONS)}, not {describe(self.task)}; take it as iemocap")
        labels = self.source[EMOTION_LABELS]
        if self.task.problem_type == MULTI_LABEL:
            return labels
        for row, label in enumerate(labels):
            if sum(label) != 1:
                found = ", ".join(name for name, there in zip(EMOTIONS, label, strict=True) if there) or "none"
                self._fail("labels", f"one of {', '.join(EMOTIONS)} is the class, but there are: {found}", row)
        return [label.index(1) for label in labels]

    def _classes(self) -> list[int]:
        """Negative, neutral or positive, by `classification_labels`, or by the words of `annotations`."""
        if "classification_labels" not in self.source and "annotations" in self.source:
            words = [word.lower() for word in self._strings("annotations")]
            for row, word in enumerate(words):
                if word not in SENTIMENTS:
                    self._fail("annotations", f"expected one of {', '.join(SENTIMENTS)}, got {word!r:.40}", row)
            return [SENTIMENTS.index(word) for word in words]
        numbers = self._numbers("classification_labels")
        for row, number in enumerate(numbers):
            if fault := label_fault(self.task, number):
                self._fail("classification_labels", fault, row)
        return list(map(int, numbers))

    def _labels(self, name: str) -> list[float] | list[int]:
        """The scores of a column, or their signs as classes."""
        labels = self._numbers(name)
        if self.task.problem_type == SINGLE_LABEL:
            return [int(np.sign(label)) + 1 for label in labels]
        for row, label in enumerate(labels if self.rules.task else ()):
            if fault := label_fault(self.rules.task, label):
                self._fail(name, fault, row)
        return labels

    def _array(self, name: str) -> NDArray:
        values = self._column(name)
        if not isinstance(values, np.ndarray) or values.ndim != 3 or values.dtype.kind not in "biuf":
            got = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else "a list"
            self._fail(name, f"expected an array of numbers of shape (rows, steps, width), got {got}")
        return values

    def _ragged(self, name: str) -> list[NDArray] | None:
        """A column that is a list of arrays, one a row."""
        values = self._column(name)
        if type(values) is not list or not values or not isinstance(values[0], Array | np.ndarray):
            return None
        arrays = [one.value if isinstance(one, Array) else one for one in values]
        for row, array in enumerate(arrays):
            if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "biuf":
                got = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "something else"
                self._fail(name, f"expected an array of numbers of shape (frames, width), got {got}", row)
        return arrays

    def _sequence(self, name: str, column: str, lengths: NDArray) -> None:
        arrays = self._ragged(column)
        array = self._array(column) if arrays is None else arrays
        for row, found in enumerate([array.shape[2]] if arrays is None else [one.shape[1] for one in arrays]):
            width = self.widths.setdefault(name, found)
            if not 0 < width == found:
                problem = f"{found} values wide, expected {width or 'at least one'} in each split"
                self._fail(column, problem, None if arrays is None else row)
        self.arrays[name], self.lengths[name], self.columns[name] = array, lengths, array

    def _lengths(self, modality: str, tokens: list[NDArray] | None = None) -> NDArray:
        """Real frames per row: the file's own column; where there is none, the number of tokens."""
        if (arrays := self._ragged(modality)) is not None:
            return np.array([len(one) for one in arrays], dtype=np.int64)
        column, steps = f"{modality}_lengths", self._array(modality).shape[1]
        if self._trims:
            return np.full(len(self), steps)
        if column not in self.source and tokens is not None:
            column, lengths = "text_bert", [float(len(row)) for row in tokens]
        else:
            lengths = self._numbers(column)
        for row, length in enumerate(lengths):
            if not 0 <= length <= steps or not length.is_integer():
                self._fail(column, f"{modality} length {length:g} is not a whole number in 0..{steps}", row)
        return np.array(lengths, dtype=np.int64)

    def _text_lengths(self) -> NDArray:
        if "text_lengths" in self.source or self._trims or self._ragged("text") is not None:
            return self._lengths("text")
        steps = self._array("text").shape[1]
        if self.padded.get("audio") == steps:  # aligned
            return self.lengths["audio"]
        return np.full(len(self), steps)

    @np.errstate(over="ignore", invalid="ignore")  # what is beyond float32 becomes infinite; signaling NaN
    def _frames(self, name: str, row: int) -> NDArray[np.float32]:
        """The frames of a row without padding; a copy, so that the file's pages can be given back."""
        padded, length = read_array(self.arrays[name][row]), int(self.lengths[name][row])
        if self._trims:
            real = np.flatnonzero(padded.any(1))
            padded = padded[real[0] : real[-1] + 1] if len(real) else padded[:0]
        frames = self._finite(name, padded[:length], row)
        if padded[length:].any():
            self._count(f"frames of {name} beyond the stated length (left out)", row)
        return frames

    @np.errstate(over="ignore", invalid="ignore")  # likewise
    def _finite(self, name: str, frames: NDArray, row: int) -> NDArray[np.float32]:
        """A copy of frames, as the rules want them."""
        frames = frames.astype(np.float32, order="C")
        finite = np.isfinite(frames)
        if not finite.all():
            number = frames.size - int(finite.sum())
            if self.rules.not_finite == "refuse":
                frame = int((~finite).any(1).argmax())
                problem = f"{number} values are not finite, the first in frame {frame}; not_finite=zero"
                self._fail_frames(name, problem, row)
            done = "kept" if self.rules.not_finite == "keep" else "set to 0"
            self._count(f"values of {name} that are not finite ({done})", row, number)
            if self.rules.not_finite == "zero":
                frames[~finite] = 0
        return frames

    def _fail_frames(self, name: str, problem: str, row: int) -> NoReturn:
        self._fail("text" if name == "word_vectors" else name, problem, row)

    @np.errstate(invalid="ignore")  # not-finite values, which are refused
    def _tokens(self) -> list[NDArray[np.int32]]:
        """The token ids of `text_bert` (per row: ids, attention mask, token types) under its mask."""
        array = self._array("text_bert")
        if array.shape[1] != 3:
            self._fail("text_bert", f"expected shape (rows, 3, tokens): ids, mask, types; got {array.shape}")
        array = read_array(array)
        ids, mask = array[:, 0].astype(np.float64), array[:, 1].astype(np.float64)
        usable = (ids >= 0) & (ids < 2**31) & (ids == np.floor(ids))
        known = ids < (self.rules.vocabulary or 2**31)
        for wrong, problem in (
            (~np.isin(mask, (0, 1)).all(1), "the attention mask must be of ones and zeros"),
            ((np.diff(mask, axis=1) > 0).any(1), "the attention mask must be ones, then zeros"),
            (((mask == 1) & ~usable).any(1), "token ids must be whole numbers from 0 on"),
            (
                ((mask == 1) & ~known).any(1),
                f"a token id is outside the vocabulary of {self.rules.vocabulary}; the tokens are of another encoder",
            ),
        ):
            if wrong.any():
                self._fail("text_bert", problem, int(wrong.argmax()))
        return [row[:n].astype(np.int32) for row, n in zip(ids, mask.sum(1).astype(int), strict=True)]
