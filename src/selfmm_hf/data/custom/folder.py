"""A folder of one's own: its table and its feature files as the clips of a data set."""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ...model.task_selfmm import REGRESSION, SINGLE_LABEL, Task
from ..columns import ORDER, RESERVED, SEQUENCES, is_sequence_name, unimodal_labels
from ..mmsa import MOST, DataError, FeatureTable, Rules
from ..targets import Label, LabelType, label_fault, label_type
from .files import read_frames
from .labels import as_number, class_name, table_task
from .table import SPLITS, check_splits, find_table, read_splits

MEND_CELL = "correct the cell, or leave out its row or the column"


def read_folder(
    folder: str | Path, rules: Rules | None = None, problem_type: str | None = None, config: str | None = None
) -> dict[str, "FolderTable"]:
    """
    Opens a folder. The table is checked at once, and the feature files as samples are taken.

    Args:
        folder: It holds `table.csv` or `table.parquet`, with the columns `id`, `label`, `split`, and may be `text`,
            `video` and `position`, `label_text`, `label_audio`, `label_vision`; and for each clip `audio/ID.npy`,
            `vision/ID.npy`, `word_vectors/ID.npy`, or files in folders of other names, (frames, width) without padding.
            A modality without folder is not in the data set; a clip without file lacks the modality. For labels of
            other kinds than a score see [`table_task`].
        rules: What is asked of the values. Its task is that of a table which does not tell its own.
        problem_type: As in [`table_task`].
        config: A fold, where the splits are to be folds across subjects: see [`read_splits`].

    Returns:
        The splits `train`, `validation` and `test`.

    Raises:
        DataError: Something is missing, wrong or damaged, or leads out of the folder.
    """
    clips, rules = Folder(Path(folder)), rules or Rules()
    path = find_table(clips.root)
    clips.path(path.name)
    columns = read_splits(path, config)
    tables = split_table(path, columns, rules, clips, problem_type)
    clips.find_widths(list(tables.values()))
    return tables


def split_table(
    path: Path, columns: dict[str, list[Any]], rules: Rules, clips: "Folder", problem_type: str | None = None
) -> dict[str, "FolderTable"]:
    """The splits of a table whose columns [`read_table`] has read; no feature file is read yet."""
    check_splits(path, columns)
    splits = {split: [] for split in SPLITS.values()}
    for row, name in enumerate(columns["split"]):
        splits[SPLITS[name]].append(row)
    if missing := next((split for split, rows in splits.items() if not rows), None):
        raise DataError(f"{path}: split {missing!r} is missing or empty; all of train, validation, test are needed")
    rules = replace(rules, task=table_task(path, columns, problem_type) or rules.task)
    tables = {}
    for split, rows in splits.items():
        source = {name: [values[row] for row in rows] for name, values in columns.items()}
        tables[split] = FolderTable(f"{path}, split {split!r}", source, rules, clips.widths, folder=clips)
    return tables


class Folder:
    """The feature files of a folder, by their names relative to it: no other file is ever opened."""

    def __init__(self, root: Path):
        self.root = root
        self.files = list_files(root)
        self.widths: dict[str, int] = {}

    def path(self, name: str) -> Path:
        path = self.root / name
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise DataError(f"{path} is a link that leads out of the folder; put the file itself there")
        return path

    def find_widths(self, tables: Collection["FolderTable"]) -> None:
        """Takes the width of each modality from the first clip that has it."""
        for kind in self.folders:
            first = next(
                ((table, row) for table in tables for row, have in enumerate(table.have) if kind in have), None
            )
            if first is not None:
                table, row = first
                self.widths[kind] = table.read(kind, row).shape[1]
                if not self.widths[kind]:
                    table._fail(kind, f"{table.have[row][kind]}: frames without values", row)
            elif kind in SEQUENCES:
                raise DataError(
                    f"{self.root / kind}: no file in this folder belongs to a clip; expected e.g. "
                    f"{tables[0].ids[0]}.npy, or no such folder"
                )
        if not self.widths and not any(table.speaks for table in tables):
            raise DataError(
                f"{self.root}: neither words nor features; expected text, a folder audio, vision or word_vectors, or "
                "one of another name with files ID.npy"
            )

    @property
    def places(self) -> set[str]:
        """The folders that hold arrays."""
        return {name.partition("/")[0] for name in self.files if "/" in name and name.endswith(".npy")}

    @property
    def folders(self) -> list[str]:
        """The feature folders that there are, and others that hold arrays, the usual ones first."""
        own = {name for name in self.places if is_sequence_name(name)} - set(SEQUENCES)
        return [name for name in SEQUENCES if (self.root / name).is_dir()] + sorted(own)

    def unused(self, tables: Collection["FolderTable"]) -> list[str]:
        """Sentences about files of no clip, and folders and labels of no modality, by which a wrong name is found."""
        used = {name for table in tables for have in table.have for name in have.values()}
        sentences = []
        for folder in self.folders:
            names = (name for name in self.files if name.startswith(f"{folder}/") and name not in used)
            if odd := sorted(name for name in names if not Path(name).name.startswith(".")):
                sentences.append(f"{self.root}: {len(odd)} files in {folder} belong to no id, first {odd[0]!r:.99}")
        for name in sorted(self.places & RESERVED):
            sentences.append(f"{self.root / name} is not read: no modality is called {name}; rename the folder")
        known = {"label", *unimodal_labels(self.folders).values()}
        columns = {name.partition(":")[0] for table in tables for name in table.source if name.startswith("label_")}
        modalities = ", ".join(["text", *self.folders])
        for name in sorted(columns - known):
            sentences.append(f"{self.root}: {name} is not read; the modalities of the folder are {modalities}")
        return sentences


@dataclass
class FolderTable(FeatureTable):
    """
    The clips of one split of a folder, with the interface of [`FeatureTable`].

    Args:
        source: The columns of the table.
        folder: Where the frames are.
    """

    folder: Folder = field(kw_only=True)

    def __post_init__(self):
        self.ids = self._strings("id")
        self.columns = {"id": self.ids, "text": self._strings("text"), **self._order()}
        for name in ("label", *unimodal_labels(self.folder.folders).values()):
            if name == "label" or name in self.source or any(one.startswith(f"{name}:") for one in self.source):
                self.columns[name] = self._labels(name)
        self.have = [self._have(row) for row in range(len(self))]
        self.speaks = any(text.strip() for text in self.columns["text"])

    @property
    def label_type(self) -> LabelType:
        return label_type(self.task, "label" not in self.source)

    def samples(self) -> Iterator[dict[str, Any]]:
        self.counts = {}
        there = {"id", "text", *ORDER, "label", *unimodal_labels(self.widths).values()}
        for row in range(len(self)):
            sample = {name: values[row] for name, values in self.columns.items() if name in there}
            for name, width in self.widths.items():
                frames = self.read(name, row) if name in self.have[row] else np.zeros((0, width), np.float32)
                if frames.shape[1] != width:
                    problem = f"{frames.shape[1]} values wide, expected {width} in each split"
                    self._fail_frames(name, problem, row)
                sample[name] = self._finite(name, frames, row)
            self._count_absent(sample, row)
            yield sample

    def _order(self) -> dict[str, list[Any]]:
        """Where each clip stands in which video, if the table says so."""
        missing = [name for name in ORDER if name not in self.source]
        if len(missing) == len(ORDER):
            return {}
        if missing:
            self._fail(missing[0], "missing; video and position belong together; give both, or neither")
        videos, positions = self._strings("video"), self._cells("position")
        seen: dict[tuple[str, float], int] = {}
        for row, place in enumerate(zip(videos, positions, strict=True)):
            if not place[0].strip():
                self._fail("video", "expected the video that the clip belongs to, got nothing", row)
            if (first := seen.setdefault(place, row)) != row:
                where = f"{self.source['position'][row]} of the video {place[0]!r:.80}"
                self._fail("position", f"{self.ids[first]!r:.80} is at {where}, too; positions must differ", row)
        return {"video": videos, "position": positions}

    def _labels(self, name: str) -> list[Label]:
        """Of a column, or of several that begin with its name and a colon, where those of `label` do."""
        task, parts = self.rules.task, [name]
        if "label" not in self.source and task is not None:
            parts = [f"{name}:{target}" for target in task.names]
        if missing := [part for part in parts if part not in self.source]:
            self._fail(missing[0], f"missing; {name} needs {', '.join(parts)}")
        kind = REGRESSION if task is None else task.problem_type
        if kind == SINGLE_LABEL and parts == [name]:
            labels = self._classes(name, task)
        elif kind == REGRESSION and len(parts) == 1:
            labels = self._cells(parts[0])
        else:
            labels = [list(row) for row in zip(*map(self._cells, parts), strict=True)]
        for row, label in enumerate(labels if task else ()):
            if fault := label_fault(task, label):
                self._fail(name, fault, row)
        return labels

    def _cells(self, name: str) -> list[float]:
        """The numbers of a column."""
        numbers = []
        for row, cell in enumerate(self.source[name]):
            if (number := as_number(cell)) is None:
                self._fail(name, f"expected a number, got {cell!r:.40}; {MEND_CELL}", row)
            if not abs(number) < MOST:
                self._fail(name, f"expected a finite number, got NaN, infinity or one beyond float32; {MEND_CELL}", row)
            numbers.append(number)
        return numbers

    def _classes(self, name: str, task: Task) -> list[int]:
        """The numbers of the classes of a column."""
        numbers = {known: number for number, known in enumerate(task.names)}
        for row, cell in enumerate(self.source[name]):
            if class_name(cell) not in numbers:
                known = f"expected one of {', '.join(task.names):.200}, the classes of the training split"
                self._fail(name, f"{known}; got {cell!r:.40}", row)
        return [numbers[class_name(cell)] for cell in self.source[name]]

    def read(self, modality: str, row: int) -> NDArray:
        """One of the clip's files: (frames, width)."""
        name = self.have[row][modality]
        try:
            return read_frames(self.folder.path(name))
        except DataError as error:
            problem = str(error)
            self._fail(modality, problem if problem.startswith(str(self.folder.root)) else f"{name}: {problem}", row)

    def _count(self, kind: str, row: int, values: int = 0) -> None:
        if self.speaks or kind != "no words":  # nothing to notice where there is no text at all
            super()._count(kind, row, values)

    def _fail_frames(self, name: str, problem: str, row: int) -> NoReturn:
        self._fail(name, f"{self.have[row][name]}: {problem}", row)

    def _have(self, row: int) -> dict[str, str]:
        """The clip's file by modality."""
        files = {modality: f"{modality}/{self.ids[row]}.npy" for modality in self.folder.folders}
        return {modality: name for modality, name in files.items() if name in self.folder.files}


def list_files(folder: Path) -> dict[str, tuple[int, int]]:
    """Sizes and times of change of all files, by their names relative to the folder."""
    found = {}
    for place, folders, names in os.walk(folder):
        for name in folders:
            path = Path(place, name)
            kind = path.relative_to(folder).parts[0]
            if path.is_symlink() and (kind in SEQUENCES or (is_sequence_name(kind) and any(path.glob("*.npy")))):
                raise DataError(f"{path} is a link to a folder, which is not followed; put the folder itself there")
        for name in names:
            path = Path(place, name)
            if path.is_file():
                status = path.stat()
                found[path.relative_to(folder).as_posix()] = (status.st_size, status.st_mtime_ns)
    return found
