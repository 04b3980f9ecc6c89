"""The counts behind an inspection, collected clip by clip and summarised for each split."""

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...model.task_selfmm import SINGLE_LABEL, Task
from ..columns import SEQUENCES, unimodal_labels
from .overlap import Seen, digest

# Chinese and Japanese characters, which are not written in words with spaces between them.
CHARACTERS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
WORD = re.compile(rf"[{CHARACTERS}]|[^\W{CHARACTERS}][^\s{CHARACTERS}]*")


@dataclass
class Lengths:
    """Words, tokens or frames, over the clips that have any."""

    mean: float
    median: float
    p95: float
    max: int


@dataclass
class Labels:
    """
    The labels of a split, or what they say of one target, a class as 1 where it is that of the clip: range, quartiles,
    signs, of a score how many lie between each two edges of bins, and the correlation (Pearson) of each unimodal label
    with the label, `None` where one of them never changes.
    """

    min: float
    q1: float
    median: float
    q3: float
    max: float
    mean: float
    negative: int
    zero: int
    positive: int
    histogram: list[int]
    correlations: dict[str, float | None]


@dataclass
class Text:
    """
    Words are what stands between spaces and has a letter or a digit; each Chinese or Japanese character is one. Tokens
    are those that came with the data, [CLS] and [SEP] included.
    """

    words: Lengths | None
    tokens: Lengths | None
    blank: int


@dataclass
class Frames:
    """
    A sequence in one split.

    Args:
        missing: Clips without a frame.
        steps: In the file, padding included; `None` where it is not padded.
        padding: Share of the steps that are padding.
        zero_frames: Share of the frames, without padding, in which all values are 0.
        zero_clips: Clips that have frames, all of zeros.
        not_finite_values, not_finite_clips: Values that are NaN or infinite, and clips with any.
        farthest: How far a finite value lies from the mean of its column, in standard deviations, both of the training
            split; `None` where no column of that changes.
        farthest_column: Which that is.
    """

    lengths: Lengths | None
    missing: int
    steps: int | None
    padding: float | None
    zero_frames: float | None
    zero_clips: int
    not_finite_values: int
    not_finite_clips: int
    farthest: float | None
    farthest_column: int | None


@dataclass
class Split:
    """
    `videos` are counted where ids are `video$_$clip` or `video/clip`. `labels` are those of one score; other labels are
    told for each of the `targets`, by name.
    """

    clips: int
    videos: int | None
    labels: Labels | None
    targets: dict[str, Labels]
    text: Text
    sequences: dict[str, Frames]

    @property
    def by_target(self) -> dict[str, Labels]:
        """The labels by the name of their target, "" for one score."""
        return {"": self.labels} if self.labels else self.targets


class Pass:
    """What is kept of a split while its clips go by."""

    def __init__(self, split: str, seen: Mapping[str, Seen], task: Task):
        self.split, self.seen, self.task = split, seen, task
        self.numbers: dict[str, list[float]] = {}  # of each clip
        self.sequences: dict[str, ColumnCounts] = {}
        self.videos: set[str] = set()
        self.clips = self.blank = 0

    def add(self, sample: dict[str, Any]) -> None:
        self.clips += 1
        clip, text = sample["id"], sample["text"] or ""
        self.seen["ids"].add(clip.encode(), self.split, clip)
        video = clip.rpartition("$_$")[0] or clip.rpartition("/")[0]
        if video and video not in self.videos:
            self.videos.add(video)
            self.seen["videos"].add(video.encode(), self.split, video)
        if normal := " ".join(unicodedata.normalize("NFKC", text).casefold().split()):
            self.seen["texts"].add(normal.encode(), self.split, text[:80])
        else:
            self.blank += 1
        counts = {"words": len(WORD.findall(text))}
        if "input_ids" in sample:
            counts["tokens"] = len(sample["input_ids"])
        frames_of = {name: value for name, value in sample.items() if getattr(value, "ndim", 0) == 2}
        labels = {name: sample[name] for name in ("label", *unimodal_labels(frames_of).values()) if name in sample}
        for name, value in (counts | _by_target(labels, self.task)).items():
            self.numbers.setdefault(name, []).append(math.nan if value is None else value)
        content, something = b"", False
        for name in sorted(frames_of, key=lambda name: (name not in SEQUENCES, name)):
            frames = frames_of[name]
            there = self.sequences.setdefault(name, ColumnCounts(frames.shape[1])).add(frames)
            if name != "word_vectors":
                something |= there
                content += digest(f"{name} {frames.shape}".encode(), np.ascontiguousarray(frames).reshape(-1))
        if something:
            self.seen["features"].add(content, self.split, clip)

    def values(self, training: dict[str, "ColumnCounts"]) -> dict[str, NDArray]:
        """By clip, and by column."""
        far = {f"far {name}": counts.distances(training[name]) for name, counts in self.sequences.items()}
        lengths = {name: counts.lengths for name, counts in self.sequences.items()}
        return {name: np.array(values) for name, values in (self.numbers | lengths | far).items()}

    def labels(self, target: str = "") -> NDArray:
        """By clip, those of a target, or the only ones."""
        return np.array(self.numbers[f"label{target and ':' + target}"])

    def report(self, edges: Sequence[float], training: dict[str, "ColumnCounts"], padded: Mapping[str, int]) -> Split:
        several = is_several(self.task)
        return Split(
            clips=self.clips,
            videos=len(self.videos) or None,
            labels=None if several else self._labels(edges),
            targets={name: self._labels([], name) for name in self.task.names} if several else {},
            text=Text(_lengths(self.numbers["words"]), _lengths(self.numbers.get("tokens", [])), self.blank),
            sequences={
                name: counts.report(training[name], padded.get(name)) for name, counts in self.sequences.items()
            },
        )

    def _labels(self, edges: Sequence[float], target: str = "") -> Labels:
        labels = self.labels(target)
        smallest, q1, median, q3, largest = np.percentile(labels, [0, 25, 50, 75, 100]).tolist()
        own = {name: f"{column}{target and ':' + target}" for name, column in unimodal_labels(self.sequences).items()}
        return Labels(
            min=smallest,
            q1=q1,
            median=median,
            q3=q3,
            max=largest,
            mean=float(labels.mean()),
            negative=int((labels < 0).sum()),
            zero=int((labels == 0).sum()),
            positive=int((labels > 0).sum()),
            histogram=np.histogram(labels, edges)[0].tolist() if len(edges) else [],
            correlations={
                modality: _correlation(np.array(self.numbers[name]), labels)
                for modality, name in own.items()
                if name in self.numbers
            },
        )


def is_several(task: Task) -> bool:
    """Whether a label is more than one number: of several targets, or of classes."""
    return task.columns > 1 or task.problem_type == SINGLE_LABEL


def _by_target(labels: dict[str, Any], task: Task) -> dict[str, float | None]:
    """Labels as numbers, a class as 1 and the others as 0; `None` where a clip has no class."""
    if not is_several(task):
        return {name: label[0] if isinstance(label, list) else label for name, label in labels.items()}
    found = {}
    for column, label in labels.items():
        if not isinstance(label, list):
            known = label in range(len(task.names))  # -1, or null: no class
            label = [float(number == label) if known else None for number in range(len(task.names))]
        found |= {f"{column}:{name}": number for name, number in zip(task.names, label, strict=True)}
    return found


class ColumnCounts:
    """What is kept of a sequence in one split; of the columns number, mean, sum of squares, least and most."""

    def __init__(self, width: int):
        self.width = width
        self.lengths: list[int] = []
        self.zero_frames = self.zero_clips = self.not_finite_values = self.not_finite_clips = 0
        self.number, self.mean, self.squares = np.zeros((3, width))
        self.least, self.most = np.full(width, np.inf), np.full(width, -np.inf)

    def add(self, frames: NDArray[np.float32]) -> bool:
        """Takes one clip in; whether it has a value other than 0."""
        self.lengths.append(len(frames))
        if not len(frames):
            return False
        zero = len(frames) - int(np.count_nonzero(frames.any(1)))
        self.zero_frames += zero
        self.zero_clips += zero == len(frames)
        values = frames.astype(np.float64)
        finite = np.isfinite(values)
        if bad := finite.size - int(np.count_nonzero(finite)):
            self.not_finite_values += bad
            self.not_finite_clips += 1
        where, number = (finite, finite.sum(0)) if bad else (True, len(values))
        self.least = np.minimum(self.least, values.min(0, where=where, initial=np.inf))
        self.most = np.maximum(self.most, values.max(0, where=where, initial=-np.inf))
        # Two sets of numbers made one (Chan, Golub and LeVeque 1979): no difference of large sums.
        mean = values.sum(0, where=where) / np.maximum(number, 1)
        squares = np.square(values - mean).sum(0, where=where)
        weight = number / np.maximum(self.number + number, 1)
        self.squares += squares + np.square(mean - self.mean) * self.number * weight
        self.mean += (mean - self.mean) * weight
        self.number += number
        return zero < len(frames)

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Columns that never change, or have no finite value."""
        return self.most <= self.least

    def distances(self, training: "ColumnCounts") -> NDArray:
        """The largest distance of a value from the mean in each column; NaN where the training split never changes."""
        far = np.maximum(self.most - training.mean, training.mean - self.least)
        known = ~training.constant & (self.number > 0)
        deviations = np.sqrt(training.squares / np.maximum(training.number, 1))
        return np.divide(far, deviations, out=np.full(self.width, np.nan), where=known & (deviations > 0))

    def report(self, training: "ColumnCounts", steps: int | None) -> Frames:
        distances, frames = self.distances(training), sum(self.lengths)
        column = None if np.isnan(distances).all() else int(np.nanargmax(distances))
        return Frames(
            lengths=_lengths(self.lengths),
            missing=self.lengths.count(0),
            steps=steps,
            padding=1 - frames / (steps * len(self.lengths)) if steps else None,
            zero_frames=self.zero_frames / frames if frames else None,
            zero_clips=self.zero_clips,
            not_finite_values=self.not_finite_values,
            not_finite_clips=self.not_finite_clips,
            farthest=None if column is None else float(distances[column]),
            farthest_column=column,
        )


def _lengths(values: Sequence[int]) -> Lengths | None:
    some = [value for value in values if value]
    if not some:
        return None
    median, p95 = np.percentile(some, [50, 95]).tolist()
    return Lengths(sum(some) / len(some), median, p95, max(some))


def bin_edges(labels: NDArray) -> NDArray:
    """Bins in whose middle the labels lie if they are even steps, 40 at most; 31 bins otherwise."""
    least, most = labels.min(), labels.max()
    if least == most:
        return np.array([least - 0.5, most + 0.5])
    distinct = np.unique(labels.round(3))
    bins = 31
    if len(distinct) > 1 and (steps := round((most - least) / np.diff(distinct).min())) <= 40:
        bins = steps + 1
    margin = (most - least) / (bins - 1) / 2
    return np.linspace(least - margin, most + margin, bins + 1)


def _correlation(one: NDArray, other: NDArray) -> float | None:
    both = np.isfinite(one) & np.isfinite(other)
    one, other = one[both], other[both]
    if not both.any() or not np.ptp(one) or not np.ptp(other):
        return None
    return float(np.corrcoef(one, other)[0, 1])
