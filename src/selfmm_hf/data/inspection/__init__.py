"""Describes a data set: labels, words, frames, overlaps between splits, and warnings."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from datasets import Dataset
from datasets.utils import tqdm
from numpy.typing import NDArray

from ...model.task_selfmm import REGRESSION, Task
from .. import open_splits
from ..builder import layout
from ..columns import SPLITS
from ..custom import is_custom
from ..custom.folder import FolderTable, read_folder
from ..mmsa import DataError, FeatureTable, Rules, read_mmsa
from ..prepared import find_prepared
from ..samples import Samples
from ..synthetic import demo_corpus
from .counts import Labels, Pass, Split, bin_edges, is_several
from .overlap import Overlap, Seen

__all__ = ["Clips", "DatasetClips", "Inspection", "inspect", "open_clips", "plural"]

# From here on frames of zeros (a share) and far values (in standard deviations) deserve attention.
MANY_ZEROS = 0.05
FAR = 20.0
THINGS = {
    "ids": ("id", "ids"),
    "texts": ("text", "texts"),
    "features": ("set of features (audio and vision)", "sets of features (audio and vision)"),
    "videos": ("video", "videos"),
}


def open_clips(name: str, data_config: str | None = None) -> dict[str, "Clips"]:
    """
    The splits of a feature file, a folder, a repository on the Hub or, by the name `demo`, the synthetic corpus, with
    the values as they are.

    Raises:
        DataError: There is no such data set, or it is damaged.
    """
    if name == "demo":
        return {split: DatasetClips(rows) for split, rows in demo_corpus().items()}
    if Path(name).is_file():
        tables = read_mmsa(name, Rules("keep"))
        if data_config not in (None, found := layout(tables["train"])):
            raise DataError(f"{name} is {found}, not {data_config}: ask for the configuration {found}.")
        return tables
    if is_custom(Path(name)):
        return read_folder(name, Rules("keep"), config=data_config)
    prepared = find_prepared(name, data_config)
    splits = prepared.load()
    opened = open_splits(splits, name, [split for split in SPLITS if split in splits], prepared.task)
    return {split: DatasetClips(samples) for split, samples in opened.items()}


class Clips(Protocol):
    """
    A split: a [`FeatureTable`], [`DatasetClips`], or the like. It may have `padded`, the steps of the sequences that
    the file pads.
    """

    @property
    def task(self) -> Task: ...

    def __len__(self) -> int: ...

    def samples(self) -> Iterator[dict[str, Any]]: ...


class DatasetClips:
    """A split with the columns of [`features`], clip by clip, as a [`FeatureTable`] hands out its own."""

    padded: Mapping[str, int] = {}

    def __init__(self, rows: Dataset | Samples):
        self._rows = rows if isinstance(rows, Samples) else Samples(rows)

    @property
    def task(self) -> Task:
        return self._rows.task

    def __len__(self) -> int:
        return len(self._rows)

    def samples(self) -> Iterator[dict[str, Any]]:
        widths = self._rows.widths
        names = [name for name in self._rows.dataset.column_names if name not in widths]
        for row, columns in enumerate(self._rows.dataset.select_columns(names)):
            frames = self._rows[row]
            if "word_vectors" in widths:
                frames["word_vectors"] = frames["text"]
            yield columns | {name: frames[name] for name in widths}


@dataclass
class Inspection:
    """
    What [`inspect`] found.

    Args:
        training: The split that constant columns and far values were measured by.
        task: What the labels are.
        label_edges: Of the bins of each split's histogram, where the labels are one score.
        widths: Of the sequences.
        constant_columns: Columns of each sequence that never change over the training split.
        overlaps: Of `ids`; `texts`, whatever their case, their spaces and the width of their characters, without blank
            ones; `features`, audio and vision bit by bit, without clips that have neither or zeros alone; `videos`.
        attention: What deserves attention, in words.
        values: By split, what a picture is drawn from: by clip `label`, `label_text`, ..., `words`, `tokens` and the
            lengths of the sequences; by column `far audio`, ..., see `farthest` of [`Frames`].
    """

    training: str
    task: Task
    splits: dict[str, Split]
    label_edges: list[float]
    widths: dict[str, int]
    constant_columns: dict[str, int]
    overlaps: dict[str, Overlap]
    attention: list[str] = field(default_factory=list)
    values: dict[str, dict[str, NDArray]] = field(default_factory=dict, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """All but `values` and scales, for JSON: dicts, lists, text, finite numbers and `None`."""
        task = {"problem_type": self.task.problem_type, "names": list(self.task.names)}
        return {name: value for name, value in asdict(self).items() if name != "values"} | {"task": task}


def inspect(splits: Mapping[str, Clips]) -> Inspection:
    """
    Looks at every clip once, and keeps none of their frames.

    Args:
        splits: By name. The training split is `train`, or the first where none has this name. A [`FeatureTable`] must
            have been opened with `Rules(not_finite="keep")`.

    Raises:
        DataError: There are no clips, the splits differ in their sequences, or a table hides what is not finite.
    """
    for split, clips in splits.items():
        if isinstance(clips, FeatureTable) and clips.rules.not_finite != "keep":
            raise DataError(f"{split}: to inspect a file, open it with Rules('keep'), not {clips.rules.not_finite!r}.")
        if not len(clips):
            raise DataError(f"{split}: there are no clips to inspect.")
    if not splits:
        raise DataError("There are no splits to inspect.")
    seen = {kind: Seen(list(splits)) for kind in THINGS}
    task = next(iter(splits.values())).task
    passes = {split: Pass(split, seen, task) for split in splits}
    with tqdm(total=sum(map(len, splits.values())), unit="clip", desc="Inspecting") as bar:
        for split, clips in splits.items():
            for sample in clips.samples():
                passes[split].add(sample)
                bar.update()
    training = "train" if "train" in splits else next(iter(splits))
    sequences = passes[training].sequences
    widths = {name: counts.width for name, counts in sequences.items()}
    for split, one in passes.items():
        if not all(np.isfinite(one.labels(name)).all() for name in (task.names if is_several(task) else [""])):
            raise DataError(f"{split}: a clip has no label, or one that is not finite.")
        if (other := {name: counts.width for name, counts in one.sequences.items()}) != widths:
            raise DataError(f"{split} has sequences of the widths {other}, but {training} of {widths}.")
    edges = [] if is_several(task) else bin_edges(np.concatenate([one.labels() for one in passes.values()])).tolist()
    padded = {split: getattr(clips, "padded", {}) for split, clips in splits.items()}
    inspection = Inspection(
        training=training,
        task=task,
        splits={split: one.report(edges, sequences, padded[split]) for split, one in passes.items()},
        label_edges=edges,
        widths=widths,
        constant_columns={name: int(counts.constant.sum()) for name, counts in sequences.items()},
        overlaps={kind: things.overlap() for kind, things in seen.items()},
        values={split: one.values(sequences) for split, one in passes.items()},
    )
    inspection.attention = [*_of_clips(inspection), *_of_overlaps(inspection.overlaps), *_of_files(splits)]
    return inspection


def _of_clips(inspection: Inspection) -> Iterator[str]:
    reports = inspection.splits

    def clips(what: str, number: Callable[[Split], int]) -> Iterator[str]:
        """Says of how many clips something is true."""
        numbers = {split: (number(report), report.clips) for split, report in reports.items()}
        if all(some == of for some, of in numbers.values()):
            yield f"{what} in every clip"
        elif total := sum(some for some, _ in numbers.values()):
            parts = [f"{split} {some}{': all' * (some == of)}" for split, (some, of) in numbers.items() if some]
            yield f"{what} in {plural(total, 'clip')} ({', '.join(parts)})"

    for split, report in reports.items():
        labels = {name or "label": of for name, of in report.by_target.items()}
        for name, of in labels.items():
            if of.min == of.max:
                yield f"{name}: {_constant(of, inspection.task)} in every clip of {split}"
        for (name, of), (low, high) in zip(labels.items(), inspection.task.scales, strict=False):  # classes have none
            if not low <= of.min <= of.max <= high:
                reach = f"from {of.min:g} to {of.max:g} in {split}"
                yield f"{name}: {reach}, beyond its scale [{low:g}, {high:g}]; training refuses such labels"
    for name, (low, high) in zip(labels, inspection.task.scales, strict=False):
        column = name if name == "label" else f"label:{name}"
        found = np.unique(np.concatenate([values[column] for values in inspection.values.values()]))
        if len(found) == 2:
            seen, scale = f"only {found[0]:g} and {found[1]:g}", f"a score in [{low:g}, {high:g}]"
            yield f"{name}: {seen}, read as {scale}; if they are classes, say so by problem_type"
    yield from clips("text: blank", lambda report: report.text.blank)
    for name, width in inspection.widths.items():
        frames = {split: report.sequences[name] for split, report in reports.items()}
        yield from clips(f"{name}: missing", lambda report, name=name: report.sequences[name].missing)
        yield from clips(f"{name}: all zeros", lambda report, name=name: report.sequences[name].zero_clips)
        many = {split: of.zero_frames for split, of in frames.items() if MANY_ZEROS <= (of.zero_frames or 0) < 1}
        if shares := ", ".join(f"{share:.0%} in {split}" for split, share in many.items()):
            yield f"{name}: frames that are all zeros, {shares}"
        for split, of in frames.items():
            if of.not_finite_values:
                where = f"{plural(of.not_finite_clips, 'clip')} of {split}"
                yield f"{name}: {plural(of.not_finite_values, 'not-finite value')} in {where}"
        constant = inspection.constant_columns[name]
        if constant and any((1 if of.zero_frames is None else of.zero_frames) < 1 for of in frames.values()):
            yield f"{name}: {constant} of {plural(width, 'column')} constant in {inspection.training}"
        split, of = max(frames.items(), key=lambda item: item[1].farthest or 0)
        if of.farthest and of.farthest >= FAR:
            where = f"{split}, column {of.farthest_column} of 0 to {width - 1}"
            yield f"{name}: values up to {of.farthest:.0f} standard deviations from the mean ({where})"


def _constant(labels: Labels, task: Task) -> str:
    return f"{labels.min:g}" if task.problem_type == REGRESSION else "absent" if labels.min == 0 else "present"


def _of_overlaps(overlaps: Mapping[str, Overlap]) -> Iterator[str]:
    for kind, overlap in overlaps.items():
        if overlap.across:
            pairs = ", ".join(f"{pair} {number}" for pair, number in overlap.pairs.items() if number)
            yield f"{plural(overlap.across, *THINGS[kind], verb='occur')} in more than one split ({pairs})"
        if kind in ("ids", "features") and any(overlap.within.values()):
            counts = ", ".join(f"{split} {number}" for split, number in overlap.within.items() if number)
            total = sum(overlap.within.values())
            yield f"{plural(total, *THINGS[kind], verb='occur')} more than once within a split ({counts})"


def _of_files(splits: Mapping[str, Clips]) -> Iterator[str]:
    """What the reader noticed and is not said yet."""
    noticed: dict[str, dict[str, Any]] = {}
    for split, clips in splits.items():
        for kind, count in getattr(clips, "counts", {}).items():
            if not kind.startswith(("no ", "values of ")):
                noticed.setdefault(kind, {})[split] = count
    for kind, counts in noticed.items():
        total = sum(count.rows for count in counts.values())
        where = ", ".join(f"{split} {count.rows}" for split, count in counts.items())
        split, count = next(iter(counts.items()))
        yield f"{kind} in {plural(total, 'clip')} ({where}), first in {split}, {count.first}"
    if tables := [clips for clips in splits.values() if isinstance(clips, FolderTable)]:
        yield from tables[0].folder.unused(tables)


def plural(number: int, one: str, many: str = "", verb: str = "") -> str:
    """`1 clip`, `2 clips`; with a verb `1 clip occurs`."""
    if number == 1:
        return f"1 {one} {verb}s" if verb else f"1 {one}"
    return f"{number} {many or one + 's'} {verb}".rstrip()
