"""A folder of one's own: its table and its feature files as the clips of a data set."""

import mmap
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import numpy as np

from ..columns import SEQUENCES, UNIMODAL_LABELS
from ..mmsa import DataError, FeatureTable, Rules
from ..safe_pickle import load_pickle
from .files import FET_COLUMNS, READERS, extracted, read_frames
from .table import SPLITS, check_splits, find_table, read_table, stays_within

EXTRACTED = "mmsa_fet"  # the folder of MMSA-FET's files of single clips
PICKLES_OPEN = 16
# Of the sequences: the columns of the MMSA layout.
COLUMNS = {"audio": "audio", "vision": "vision", "word_vectors": "text"}


def read_folder(folder: str | Path, rules: Rules | None = None) -> dict[str, "FolderTable"]:
    """
    Opens a folder. The table is checked at once, and the feature files as samples are taken.

    Args:
        folder: It holds `table.csv` or `table.parquet`, with the columns `id`, `text`, `label`, `split`, and may be
            `label_text`, `label_audio`, `label_vision`; and for each clip `audio/ID`, `vision/ID`, `word_vectors/ID`
            with `.npy`, `.npz` (of one array) or `.parquet` (one row a frame), (frames, width) without padding. Or
            files of MMSA-FET: `mmsa_fet/ID.pkl` of single clips, or any file named in the column `file` of the
            table, with the clip's row in it in the column `row` if it is a batch. A modality without folder is not in
            the data set; a clip without file lacks the modality.
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
        self.extracted: set[str] | None = None  # columns of the MMSA-FET files
        self.load = lru_cache(PICKLES_OPEN)(load_pickle)

    def path(self, name: str) -> Path:
        path = self.root / name
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise DataError(f"{path} is a link that leads out of the folder; put the file itself there")
        return path

    def find_widths(self, tables: Collection["FolderTable"]) -> None:
        """Takes widths and columns from the first clip that has each."""
        for kind in (*SEQUENCES, EXTRACTED):
            first = next(
                ((table, row) for table in tables for row, have in enumerate(table.have) if kind in have), None
            )
            if first is not None:
                table, row = first
                columns, _ = table.read(kind, row)
                self.extracted = set(columns) & set(FET_COLUMNS) if kind == EXTRACTED else self.extracted
                for name, column in COLUMNS.items():
                    if column in columns and not self.widths.setdefault(name, columns[column].shape[2]):
                        table._fail(name, f"{table.have[row][kind]}: frames of no values", row)
            elif kind in self.folders:
                raise DataError(
                    f"{self.root / kind}: no file in this folder belongs to a clip; expected e.g. "
                    f"{tables[0].ids[0]}{'.pkl' if kind == EXTRACTED else '.npy'}, or no such folder"
                )
        if "text_bert" in (self.extracted or ()) and "word_vectors" in self.widths:
            raise DataError(f"{self.root}: has both word_vectors and MMSA-FET files with tokens; leave one of them out")
        if not self.widths:
            raise DataError(f"{self.root}: no features; expected a folder audio, vision, word_vectors or {EXTRACTED}")
        if "text_bert" in (self.extracted or ()):
            for table in tables:
                table.columns["input_ids"] = None  # read with the samples

    @property
    def folders(self) -> set[str]:
        """Which of the feature folders there are."""
        return {name for name in (*SEQUENCES, EXTRACTED) if (self.root / name).is_dir()}

    def unused(self, tables: Collection["FolderTable"]) -> list[str]:
        """Sentences about feature files of no clip, by which a misspelt id is found."""
        used = {name for table in tables for have in table.have for name in have.values()}
        sentences = []
        for folder in sorted(self.folders):
            suffixes = (".pkl",) if folder == EXTRACTED else tuple(READERS)
            names = [name for name in self.files if name.startswith(f"{folder}/") and name.endswith(suffixes)]
            if odd := sorted(set(names) - used):
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
        self.rows = [self._row_in_file(row) for row in range(len(self))]
        self.have = [self._have(row) for row in range(len(self))]

    def samples(self) -> Iterator[dict[str, Any]]:
        self.counts = {}
        labels = [name for name in UNIMODAL_LABELS.values() if name in self.columns]
        for row in range(len(self)):
            values = {"id": self.ids[row], "raw_text": self.columns["text"][row]}
            values["regression_labels"] = self.columns["label"][row]
            columns, mapped = {}, None
            for kind in self.have[row]:
                more, mapped_more = self.read(kind, row)
                if twice := sorted(set(columns) & set(more)):
                    both = [name for one, name in self.have[row].items() if COLUMNS.get(one, twice[0]) == twice[0]]
                    self._fail(twice[0], f"in both {both[0]} and {both[-1]}; leave one of them out", row)
                columns, mapped = columns | more, mapped_more or mapped
            for name, width in self.widths.items():
                column = COLUMNS[name]
                if column not in columns:
                    columns |= {column: np.zeros((1, 0, width), np.float32), f"{column}_lengths": [0]}
            source = {name: [value] for name, value in values.items()} | columns
            clip = _Clip(self.where, source, self.rules, self.widths, mapped, table=self, row=row)
            (sample,) = clip.samples()
            if "input_ids" in self.columns and "input_ids" not in sample:
                sample["input_ids"] = np.zeros(0, np.int32)
                if sample["text"].strip():
                    self._count("no tokens, though there is text,", row)
            yield sample | {name: self.columns[name][row] for name in labels}

    def read(self, kind: str, row: int) -> tuple[dict[str, Any], mmap.mmap | None]:
        """One of the clip's files, as columns of one row in the MMSA layout, and the map that they are views of."""
        name = self.have[row][kind]
        try:
            path = self.folder.path(name)
            if kind == EXTRACTED:
                data, mapped = self.folder.load(path)
                columns = extracted(data, self.rows[row])
                found, expected = set(columns) & set(FET_COLUMNS), self.folder.extracted
                if expected is not None and found != expected:
                    raise DataError(f"it has {', '.join(sorted(found))}, the first had {', '.join(sorted(expected))}")
                return columns, mapped
            frames = read_frames(path)
        except DataError as error:
            problem = str(error)
            self._fail(kind, problem if problem.startswith(str(self.folder.root)) else f"{name}: {problem}", row)
        column = COLUMNS[kind]
        return {column: frames[None], f"{column}_lengths": [len(frames)]}, None

    def _have(self, row: int) -> dict[str, str]:
        """The clip's files, by the folders that they belong in."""
        clip, have = self.ids[row], {}
        for kind in (*SEQUENCES, EXTRACTED):
            suffixes = [".pkl"] if kind == EXTRACTED else READERS
            found = [name for suffix in suffixes if (name := f"{kind}/{clip}{suffix}") in self.folder.files]
            if kind == EXTRACTED and "file" in self.source and self.source["file"][row]:
                found.append(self._named(row))
            if len(found) > 1:
                self._fail(kind, f"two files for one clip, {' and '.join(found)}; leave one of them out", row)
            if found:
                have[kind] = found[0]
        return have

    def _named(self, row: int) -> str:
        """The file that the table names."""
        name = self.source["file"][row]
        if type(name) is not str or not stays_within(name):
            self._fail("file", f"expected a path within the folder, relative to it, got {name!r:.80}", row)
        name = PurePosixPath(name).as_posix()
        if name not in self.folder.files:
            self._fail("file", f"there is no file {name!r:.80} in the folder", row)
        return name

    def _row_in_file(self, row: int) -> int | None:
        value = self.source["row"][row] if "row" in self.source else None
        if value is None or value == "" or value != value:  # not a number: how pandas leaves a cell empty
            return None
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = -1.0
        if not 0 <= number < 2**40 or not number.is_integer():
            self._fail("row", f"expected a whole number from 0 on, or nothing, got {value!r:.40}", row)
        return int(number)


@dataclass
class _Clip(FeatureTable):
    """One clip as a table in the MMSA layout, whose faults and counts are those of `row` of `table`."""

    table: FolderTable = field(kw_only=True)
    row: int = field(kw_only=True)

    def _fail(self, column: str, problem: str, row: int | None = None) -> NoReturn:
        have = self.table.have[self.row]
        kind = next((kind for kind in SEQUENCES if COLUMNS[kind] == column.removesuffix("_lengths")), column)
        name = have.get(kind) or have.get(EXTRACTED)
        self.table._fail(kind, f"{name}: {problem}" if name else problem, self.row)

    def _count(self, kind: str, row: int, values: int = 0) -> None:
        self.table._count(kind, self.row, values)


def list_files(folder: Path) -> dict[str, tuple[int, int]]:
    """Sizes and times of change of all files, by their names relative to the folder."""
    found = {}
    for place, folders, names in os.walk(folder):
        for name in folders:
            path = Path(place, name)
            if path.is_symlink() and path.relative_to(folder).parts[0] in (*SEQUENCES, EXTRACTED):
                raise DataError(f"{path} is a link to a folder, which is not followed; put the folder itself there")
        for name in names:
            path = Path(place, name)
            if path.is_file():
                status = path.stat()
                found[path.relative_to(folder).as_posix()] = (status.st_size, status.st_mtime_ns)
    return found
