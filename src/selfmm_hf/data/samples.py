"""The rows of an Arrow file as the samples of a training set."""

import hashlib
import mmap
from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Array2D, Dataset, Features
from datasets.utils import tqdm
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from ..model.feature_extraction_selfmm import SelfMMFeatureExtractor
from ..model.processing_selfmm import SelfMMProcessor
from ..model.task_selfmm import Task
from ..model.text_selfmm import length, tokenize
from .columns import ORDER, known_columns
from .context import places_of, utterances_before
from .safe_pickle import DataError
from .targets import label_fault, task_of_type

# Sequences read before their pages are given back; a page may be one of 2 MB, whatever was wanted of it.
READS_KEPT = 64
# Values looked at before their pages are given back: 16 MB.
VALUES_AT_ONCE = 2**22
TEXTS_AT_ONCE = 1000


class Samples:
    """
    The clips of one split, a data set for torch that holds only what was just read in memory.

    `samples[5]` is a dict as [`SelfMMCollator`] takes it: `audio`, `vision`, `word_vectors` (as `text`) and sequences
    of any other name where there are any, float32 (frames, width), views of the file, or normalised where an
    `extractor` is set; `label`, float32, a number (of a class, its own) or (targets,); and `input_ids` after
    [`tokenize`].
    `samples["id"]` is a column as a list.

    Args:
        dataset: Columns as [`features`] describes them. A file that `datasets` has mapped is mapped once more, by this
            class, which gives back the pages that were read: an epoch touches each row, and would in the end hold the
            whole file.
        leave_out: Columns not to be read.
        task: What the labels are; by default one score in [-3, 3], or the classes that the column names.

    Attributes:
        labels: float32 (clips,), of several targets (clips, targets); of classes their numbers, or probabilities.

    Raises:
        DataError: A value is null, or a frame is not as wide as its column says; with column, row and id.
    """

    def __init__(self, dataset: Dataset, leave_out: Collection[str] = (), task: Task | None = None):
        # The type of another one may say that a value is to be fetched from a URL.
        if others := set(dataset.column_names) - set(known_columns(dataset.features)):
            dataset = dataset.remove_columns(sorted(others))
        self.task = task or task_of_type(dataset.features.get("label")) or Task()
        self.dataset = dataset if dataset._indices is None else dataset.flatten_indices()
        self.leave_out = set(leave_out)
        self.tokens: dict[str, _Ragged] = {}
        self.extractor: SelfMMFeatureExtractor | None = None
        self._open()

    def _open(self) -> None:
        self._maps, table = [], self.dataset.data
        if self.dataset.cache_files and hasattr(mmap, "MADV_DONTNEED"):
            for file in self.dataset.cache_files:
                with open(file["filename"], "rb") as content:
                    self._maps.append(mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_READ))
            # Not by `Dataset.from_buffer`, which reads everything to make a fingerprint.
            mapped = pa.concat_tables([pa.ipc.open_stream(pa.py_buffer(part)).read_all() for part in self._maps])
            # `select` and the like leave the files as they are, of which the data set is then another view.
            same = Features.from_arrow_schema(mapped.schema) == self.dataset.features
            if same and mapped.column("id") == table.column("id"):
                table = mapped
            else:
                self._maps = []
        self._reads = 0
        for name in ("id", "text", *ORDER, "input_ids"):
            if name in table.column_names and table.column(name).null_count:
                row = pc.index(table.column(name).is_null(), True).as_py()
                raise DataError(self._at(name, row, "the value is null"))
        self.labels = np.array(self["label"], dtype=np.float32)
        self._sequences = {}
        for name, width in self.widths.items():
            frames = _Ragged([chunk.storage for chunk in table.column(name).chunks], width)
            if frames.fault is not None:
                raise DataError(self._at(name, *frames.fault))
            self._sequences[name] = frames

    def __getstate__(self) -> dict[str, Any]:  # for worker processes: the file is opened there, not copied
        return {name: getattr(self, name) for name in ("dataset", "leave_out", "task", "tokens", "extractor")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __len__(self) -> int:
        return len(self.labels)

    def without(self, columns: Collection[str]) -> "Samples":
        """The same clips and task, but for these columns, and neither tokens nor an extractor."""
        return Samples(self.dataset, columns, self.task)

    @property
    def column_names(self) -> list[str]:
        return [name for name in self.dataset.column_names if name not in self.leave_out]

    @property
    def widths(self) -> dict[str, int]:
        """Of the sequences."""
        types = self.dataset.features
        return {name: types[name].shape[1] for name in self.column_names if isinstance(types[name], Array2D)}

    def lengths(self, modality: str) -> NDArray[np.int64]:
        """Frames or tokens of each clip; 0 where it lacks the modality."""
        if modality == "text":
            return (self.tokens.get("input_ids") or self._sequences["word_vectors"]).lengths
        return self._sequences[modality].lengths

    def frames(self, name: str, row: int) -> NDArray[np.float32]:
        """One sequence of one clip, (frames, width)."""
        self._reads += 1
        if self._reads % READS_KEPT == 0:
            self._give_back()
        return self._sequences[name][row]

    def faults(self, not_finite: bool = True, labels: Collection[str] = ("label",)) -> Iterator[str]:
        """
        Yields what is wrong with the values, with column, row and id: the first label that the task has not, the first
        id that occurs twice, and each clip with frames that are not finite. Reads every frame once, and keeps none.

        Args:
            not_finite: Whether the frames are looked at.
            labels: The columns of labels that are looked at.
        """
        for column in labels:
            for row, label in enumerate(self[column]):
                if fault := label_fault(self.task, label):
                    yield self._at(column, row, fault)
                    break
        seen: dict[str, int] = {}
        for row, one in enumerate(self["id"]):
            if (first := seen.setdefault(one, row)) != row:
                yield f"column 'id': ids occur twice, {one!r:.80} in rows {first} and {row}"
                break
        for name, frames in self._sequences.items() if not_finite else ():
            for row, frame in frames.not_finite(self._give_back):
                yield self._at(name, row, f"values that are not finite, first in frame {frame}")

    def _at(self, column: str, row: int, problem: str) -> str:
        name = self.dataset.data.column("id")[row].as_py()
        return f"column {column!r}, row {row} (id {name!r:.80}): {problem}"

    def _give_back(self) -> None:
        for part in self._maps:
            part.madvise(mmap.MADV_DONTNEED)

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, str):
            return self.dataset.data.column(key).to_pylist()
        if not -len(self) <= key < len(self):
            raise IndexError(f"There is no clip {key}, there are {len(self)}.")
        key %= len(self)
        sample = {name: self.frames(name, key) for name in self._sequences}
        if self.extractor is not None:
            sample = {name: self.extractor.normalize(name, frames) for name, frames in sample.items()}
        if "word_vectors" in sample:
            sample["text"] = sample.pop("word_vectors")
        return sample | {name: rows[key] for name, rows in self.tokens.items()} | {"label": self.labels[key]}

    def fingerprint(self) -> str:
        """
        A hash of all labels, ids, texts and places in videos, and of the number of frames and the first, the middle and
        the last frame of each clip, whatever is left out.
        """
        digest = hashlib.sha256(self.labels.tobytes())
        for name in ("id", "text", *ORDER):
            if name in self.dataset.column_names:
                digest.update("\0".join(map(str, self[name])).encode())
        whole = Samples(self.dataset) if self.leave_out else self
        for name in whole.widths:
            digest.update(whole.lengths(name).tobytes())
            for row in range(len(whole)):
                if len(frames := whole.frames(name, row)):
                    digest.update(frames[[0, len(frames) // 2, -1]])
        return digest.hexdigest()

    def tokenize(self, tokenizer: PreTrainedTokenizerBase, max_tokens: int, context: int = 0) -> int:
        """
        Gives each clip what `tokenizer` makes of its text, cut to `max_tokens`. Without tokens the text is absent: it
        is blank, or of no word that the encoder knows.

        Args:
            context: How many utterances of the same video and split, before its own, a text has with it at most.

        Returns:
            How many texts are cut.

        Raises:
            DataError: Neither `video` and `position` nor the ids tell what comes before what.
        """
        before = []
        if context:
            told = set(ORDER) <= set(self.column_names)
            places = list(zip(*(self[name] for name in ORDER), strict=True)) if told else places_of(self["id"])
            before = utterances_before(places, self["text"], context)

        texts = self["text"]
        chunks: dict[str, list[pa.ListArray]] = {}
        for start in tqdm(range(0, len(self), TEXTS_AT_ONCE), desc="Tokenizing", delay=2, leave=False):
            some = slice(start, start + TEXTS_AT_ONCE)
            found = tokenize(tokenizer, texts[some], max_tokens, before[some] if context else None)
            for name, rows in found.items():
                chunks.setdefault(name, []).append(pa.array(rows, pa.list_(pa.int64())))
        self.tokens = {name: _Ragged(rows) for name, rows in chunks.items()}
        full = self.lengths("text") >= max_tokens
        return sum(length(tokenizer, texts[row]) > max_tokens for row in np.flatnonzero(full))


def as_trained(samples: Samples, processor: SelfMMProcessor) -> Samples:
    """Gives the samples tokens and normalised features, as the model that `processor` is of had them in training."""
    if processor.tokenizer is not None:
        samples.tokenize(processor.tokenizer, processor.max_text_tokens, processor.context_utterances)
    samples.extractor = processor.feature_extractor
    return samples


class _Ragged:
    """
    A column of lists, or of lists of lists of one width, row by row without copies.

    Attributes:
        fault: The first row that is not so, and what is wrong with it.
    """

    def __init__(self, chunks: list[pa.ListArray], width: int | None = None):
        self._chunks: list[tuple[NDArray, NDArray]] = []
        self.fault: tuple[int, str] | None = None
        self._starts = np.cumsum([0, *map(len, chunks)])
        for start, chunk in zip(self._starts, chunks, strict=False):
            offsets, values = chunk.offsets.to_numpy(), chunk.values
            if width is not None:
                frames = values.slice(offsets[0], offsets[-1] - offsets[0])
                offsets = offsets - offsets[0]
                if odd := _odd_frame(chunk, offsets, frames, width):
                    self.fault = (int(start) + odd[0], odd[1])
                    return
                values = frames.values.slice(frames.offsets[0].as_py(), len(frames) * width)
            values = values.to_numpy()
            self._chunks.append((offsets, values if width is None else values.reshape(-1, width)))

    def __getitem__(self, row: int) -> NDArray:
        number = int(np.searchsorted(self._starts, row, "right")) - 1
        offsets, values = self._chunks[number]
        row -= self._starts[number]
        return values[offsets[row] : offsets[row + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.concatenate([np.diff(offsets) for offsets, _ in self._chunks]).astype(np.int64)

    def not_finite(self, give_back: Callable[[], None]) -> Iterator[tuple[int, int]]:
        """The rows with values that are not finite, and the first such frame of each; `give_back` is called often."""
        for start, (offsets, values) in zip(self._starts, self._chunks, strict=False):
            seen = -1
            step = max(1, VALUES_AT_ONCE // values.shape[1])
            for first in range(0, len(values), step):
                block = values[first : first + step]
                with np.errstate(over="ignore", invalid="ignore"):
                    suspect = not np.isfinite(block.sum())  # much faster than to look at each value
                for frame in first + np.flatnonzero(~np.isfinite(block).all(1)) if suspect else ():
                    row = int(np.searchsorted(offsets, frame, "right")) - 1
                    if row != seen:
                        yield int(start) + row, int(frame - offsets[row])
                    seen = row
                del block
                give_back()


def _odd_frame(chunk: pa.ListArray, offsets: NDArray, frames: pa.ListArray, width: int) -> tuple[int, str] | None:
    """The first row of `chunk` with something else than frames of `width` values, and what is wrong with it."""
    if chunk.null_count:
        return pc.index(chunk.is_null(), True).as_py(), "null instead of frames; a clip that has none has an empty list"
    if frames.null_count:
        frame, problem = pc.index(frames.is_null(), True).as_py(), "is null"
    elif (odd := np.diff(frames.offsets.to_numpy()) != width).any():
        frame = int(odd.argmax())
        problem = f"has {len(frames[frame])} values, expected {width} as in the type of the column"
    elif (values := frames.flatten()).null_count:
        frame, problem = pc.index(values.is_null(), True).as_py() // width, "holds a null"
    else:
        return None
    row = int(np.searchsorted(offsets, frame, "right")) - 1
    return row, f"frame {frame - offsets[row]} {problem}"
