"""A folder of one's own: its table and its feature files as the clips of a data set."""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..columns import SEQUENCES, UNIMODAL_LABELS
from ..mmsa import DataError, FeatureTable, Rules
from .files import read_frames
from .table import SPLITS, check_splits, find_table, read_table

# Of the sequences: the columns of the MMSA layout.
COLUMNS = {"audio": "audio", "vision": "vision", "word_vectors": "text"}


def read_folder(folder: str | Path, rules: Rules | None = None) -> dict[str, "FolderTable"]:
    """
    Opens a folder. The table is checked at once, and the feature files as samples are taken.

    Args:
        folder: It holds `table.csv` or `table.parquet`, with the columns `id`, `text`, `label`, `split`, and may be
            `label_text`, `label_audio`, `label_vision`; and for each clip `audio/ID.npy`, `vision/ID.npy`,
            `word_vectors/ID.npy`, (frames, width) without padding. A modality without folder is not in the data set; a
            clip without file lacks the modality.
        rules: What is asked of the values.

    Returns:
        The splits `train`, `validation` and `test`.

    Raises:
        DataError: Something is missing, wrong or damaged, or leads out of the folder.
    """
    clips, rules = Folder(Path(folder)), rules or Rules()
    path = find_table(clips.root)
    clips.path(path.name)
    columns = read_table(path)
    check_splits(path, columns)
    tables = {}
    for split in dict.fromkeys(SPLITS.values()):
        rows = [row for row, name in enumerate(columns["split"]) if SPLITS[name] == split]
        if not rows:
            raise DataError(f"{path}: split {split!r} is missing or empty; all of train, validation, test are needed")
        source = {name: [values[row] for row in rows] for name, values in columns.items()}
        where = f"{path}, split {split!r}"
        tables[split] = FolderTable(where, source, rules, clips.widths, folder=clips)
    clips.find_widths(list(tables.values()))
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
        for kind in SEQUENCES:
            first = next(
                ((table, row) for table in tables for row, have in enumerate(table.have) if kind in have), None
            )
            if first is not None:
                table, row = first
                self.widths[kind] = table.read(kind, row).shape[1]
                if not self.widths[kind]:
                    table._fail(kind, f"{table.have[row][kind]}: frames of no values", row)
            elif kind in self.folders:
                raise DataError(
                    f"{self.root / kind}: no file in this folder belongs to a clip; expected e.g. "
                    f"{tables[0].ids[0]}.npy, or no such folder"
                )
        if not self.widths:
            raise DataError(f"{self.root}: no features; expected a folder audio, vision or word_vectors")

    @property
    def folders(self) -> set[str]:
        """Which of the feature folders there are."""
        return {name for name in SEQUENCES if (self.root / name).is_dir()}

    def unused(self, tables: Collection["FolderTable"]) -> list[str]:
        """Sentences about feature files of no clip, by which a misspelt id is found."""
        used = {name for table in tables for have in table.have for name in have.values()}
        sentences = []
        for folder in sorted(self.folders):
            names = (name for name in self.files if name.startswith(f"{folder}/") and name not in used)
            if odd := sorted(name for name in names if not Path(name).name.startswith(".")):
                sentences.append(f"{self.root}: {len(odd)} files in {folder} belong to no id, first {odd[0]!r:.99}")
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
        self.columns = {"id": self.ids, "text": self._strings("text")}
        for name in ("label", *UNIMODAL_LABELS.values()):
            if name in self.source:
                for row, value in enumerate(self.source[name]):
                    if value is None or type(value) is str:
                        self._fail(name, f"expected a number, got {value!r:.40}", row)
                self.columns[name] = self._labels(name)
        self.have = [self._have(row) for row in range(len(self))]

    def samples(self) -> Iterator[dict[str, Any]]:
        self.counts = {}
        labels = [name for name in UNIMODAL_LABELS.values() if name in self.columns]
        for row in range(len(self)):
            source = {"id": [self.ids[row]], "raw_text": [self.columns["text"][row]]}
            source["regression_labels"] = [self.columns["label"][row]]
            for name, width in self.widths.items():
                frames = self.read(name, row) if name in self.have[row] else np.zeros((0, width), np.float32)
                source |= {COLUMNS[name]: frames[None], f"{COLUMNS[name]}_lengths": [len(frames)]}
            clip = _Clip(self.where, source, self.rules, self.widths, table=self, row=row)
            (sample,) = clip.samples()
            yield sample | {name: self.columns[name][row] for name in labels}

    def read(self, modality: str, row: int) -> NDArray:
        """One of the clip's files: (frames, width)."""
        name = self.have[row][modality]
        try:
            return read_frames(self.folder.path(name))
        except DataError as error:
            problem = str(error)
            self._fail(modality, problem if problem.startswith(str(self.folder.root)) else f"{name}: {problem}", row)

    def _have(self, row: int) -> dict[str, str]:
        """The clip's file by modality."""
        files = {modality: f"{modality}/{self.ids[row]}.npy" for modality in SEQUENCES}
        return {modality: name for modality, name in files.items() if name in self.folder.files}


@dataclass
class _Clip(FeatureTable):
    """One clip as a table in the MMSA layout, whose faults and counts are those of `row` of `table`."""

    table: FolderTable = field(kw_only=True)
    row: int = field(kw_only=True)

    def _fail(self, column: str, problem: str, row: int | None = None) -> NoReturn:
        have = self.table.have[self.row]
        kind = next((kind for kind in SEQUENCES if COLUMNS[kind] == column.removesuffix("_lengths")), column)
        name = have.get(kind)
        self.table._fail(kind, f"{name}: {problem}" if name else problem, self.row)

    def _count(self, kind: str, row: int, values: int = 0) -> None:
        self.table._count(kind, self.row, values)


def list_files(folder: Path) -> dict[str, tuple[int, int]]:
    """Sizes and times of change of all files, by their names relative to the folder."""
    found = {}
    for place, folders, names in os.walk(folder):
        for name in folders:
            path = Path(place, name)
            if path.is_symlink() and path.relative_to(folder).parts[0] in SEQUENCES:
                raise DataError(f"{path} is a link to a folder, which is not followed; put the folder itself there")
        for name in names:
            path = Path(place, name)
            if path.is_file():
                status = path.stat()
                found[path.relative_to(folder).as_posix()] = (status.st_size, status.st_mtime_ns)
    return found
