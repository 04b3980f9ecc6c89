"""The output folder of an extraction. The table is written last, and makes it a data set."""

import csv
import io
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from ..data.columns import ORDER, SEQUENCES
from ..data.custom.labels import TASK_FILE, as_number
from ..data.custom.table import stays_within
from ..data.recipe import RECIPE_FILE
from ..model.feature_extraction_selfmm import SelfMMFeatureExtractor
from ..storage.tables import plain_cell
from ..storage.whole_files import move, scratch, writing
from .job import WorkError

JOURNAL = "extraction.jsonl"
TABLE = "table.csv"
FAILURES = "failures.csv"
PART = ".part"  # folder of the lock, and of what is being written


class ExtractionError(WorkError):
    """An extraction cannot continue; the message says how to mend it."""


@dataclass
class Extracted:
    """
    The result for one clip: a line of the journal.

    Args:
        id: Id of the row, which names its feature files.
        clip: The media file, relative to the folder of the clips.
        size: Size of the media file, bytes.
        mtime_ns: When it was last changed.
        seconds: How long it lasts, if the file states it.
        frames: Number of frames by modality; 0 means that there is no feature file.
        absent: By modality, why it is absent.
        face_share: The share of the pictures that show a face, if faces were looked for and there are pictures.
        warnings: What was damaged.
        transcriber: The model that wrote `transcript`.
        transcript: What it heard.
    """

    id: str
    clip: str
    size: int
    mtime_ns: int
    seconds: float | None = None
    frames: dict[str, int] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    face_share: float | None = None
    warnings: list[str] = field(default_factory=list)
    transcriber: str | None = None
    transcript: str | None = None

    def is_of(self, clip: str, path: Path) -> bool:
        """Checks that this is the result for a file as it is now."""
        with suppress(OSError):
            status = path.stat()
            return (self.clip, self.size, self.mtime_ns) == (clip, status.st_size, status.st_mtime_ns)
        return False


class ExtractionFolder:
    """
    Feature files, the journal of finished clips, the recipe, and at the end the table.

    Every file but the journal is moved to its place when it is whole and on the disk. A clip is in
    the journal once its feature files are in place, and leaves it before others are written.
    """

    def __init__(self, root: Path):
        self.root = root

    @contextmanager
    def locked(self) -> Iterator[None]:
        """
        Keeps the folder for one process at a time. Deletes at the end what was half written.

        Raises:
            ExtractionError: The folder holds something else.
            CannotWrite: The folder cannot be written, or another process is at work.
        """
        if self.root.exists() and not self.root.is_dir():
            raise ExtractionError(f"{self.root} is a file; name a new folder.")
        is_new = not self.root.exists()
        there = set() if is_new else {path.name for path in self.root.iterdir()} - {PART}
        if there and JOURNAL not in there:
            raise ExtractionError(
                f"{self.root} was not made by `selfmm extract`: it holds {min(there)!r}, and no {JOURNAL}. Name a new "
                "folder."
            )
        try:
            with ExitStack() as alone:
                with writing(self.root):
                    alone.enter_context(scratch(self.root / PART))
                yield
        finally:
            if is_new:
                with suppress(OSError):
                    self.root.rmdir()  # if nothing was written

    def records(self) -> dict[str, Extracted]:
        """
        Reads the journal, by id. A line that a sudden end cut off does not count as a finished clip.

        Raises:
            ExtractionError: An id names files outside the folder.
        """
        found: dict[str, Extracted] = {}
        if (self.root / JOURNAL).exists():
            for line in (self.root / JOURNAL).read_bytes().splitlines():
                with suppress(ValueError, TypeError):
                    record = Extracted(**json.loads(line))
                    found[record.id] = record
        for clip in found:
            self.feature_file(SEQUENCES[0], clip)
        return found

    def check_recipe(self, extractor: SelfMMFeatureExtractor) -> None:
        """
        Refuses to mix features.

        Raises:
            ExtractionError, ValueError: There are features of another recipe, or of an unknown one.
        """
        if not self.records() and not any((self.root / name).exists() for name in SEQUENCES):
            return
        try:
            theirs = type(extractor).from_json_file(str(self.root / RECIPE_FILE))
        except (OSError, TypeError, ValueError) as error:
            raise ExtractionError(
                f"{self.root}: {RECIPE_FILE}, the recipe of the features there, cannot be read ({error}). Put it back, "
                "or name a new folder."
            ) from error
        try:
            extractor.check_recipe(theirs.recipe)
        except ValueError as error:
            raise ExtractionError(f"{self.root}: {error} Or name another folder.") from None

    def has_features(self, record: Extracted) -> bool:
        """Checks that all of the clip's feature files are there, and whole."""
        for name, frames in record.frames.items():
            path = self.feature_file(name, record.id)
            try:
                if frames and len(np.load(path, mmap_mode="r")) != frames:
                    return False
            except (OSError, ValueError, EOFError):
                return False
            if not frames and path.exists():
                return False
        return True

    def feature_file(self, modality: str, clip: str) -> Path:
        """
        Returns where the features of a clip lie.

        Raises:
            ExtractionError: That would be outside the folder.
        """
        file = f"{modality}/{clip}.npy"
        if not stays_within(file):
            raise ExtractionError(
                f"{self.root}: {file!r:.100} would lie outside the folder. Somebody has changed {JOURNAL}: delete that "
                "line, or name a new folder."
            )
        return self.root / file

    def begin(self, extractor: SelfMMFeatureExtractor, kept: Mapping[str, Extracted], again: Collection[str]) -> None:
        """
        Deletes the features of all clips that are not kept, and writes the journal of those that are, and the recipe.

        Args:
            extractor: Extractor of the recipe.
            kept: Records of the journal, in the order of the table.
            again: Ids of clips to compute. While there are any, there is no table.
        """
        others = [*(self.records().keys() - kept.keys()), *(clip for clip in again if clip not in kept)]
        if again or others:
            self.remove_table()
        for clip in others:
            self.remove(extractor.recipe, clip)
        self.write_journal(kept.values())  # last: it names the files of clips that left the table
        self._replace(RECIPE_FILE, extractor.to_json_string().encode())

    def write_journal(self, records: Iterable[Extracted]) -> None:
        self._replace(JOURNAL, b"".join(map(_line, records)))

    def append(self, record: Extracted) -> None:
        """Adds a finished clip to the journal."""
        with writing(self.root / JOURNAL), (self.root / JOURNAL).open("ab") as journal:
            journal.write(_line(record))

    def save_features(self, modality: str, clip: str, frames: np.ndarray) -> None:
        """Writes a feature file, or deletes it if there are no frames."""
        path = self.feature_file(modality, clip)
        if len(frames):
            part = self.root / PART / f"{os.getpid()}.npy"
            with writing(path):
                np.save(part, frames)
                path.parent.mkdir(parents=True, exist_ok=True)
                move(part, path)
        else:
            path.unlink(missing_ok=True)

    def remove(self, modalities: Iterable[str], clip: str) -> None:
        """Deletes a clip's feature files, and folders that are then empty, which a data set may not have."""
        for name in modalities:
            path = self.feature_file(name, clip)
            with suppress(FileNotFoundError, NotADirectoryError):
                path.unlink()
            with suppress(OSError):
                for folder in path.relative_to(self.root).parents[:-1]:
                    (self.root / folder).rmdir()

    def write_failures(self, failures: Iterable[tuple[str, str, str]]) -> None:
        """Writes `failures.csv`, if there are any: id, clip, reason. No spreadsheet takes a cell for a formula."""
        rows = io.StringIO()
        writer = csv.writer(rows, lineterminator="\n")
        writer.writerow(["id", "clip", "reason"])
        writer.writerows(map(plain_cell, row) for row in failures)
        if rows.getvalue().count("\n") > 1:
            self._replace(FAILURES, rows.getvalue().encode())
        else:
            (self.root / FAILURES).unlink(missing_ok=True)

    def write_table(self, columns: dict[str, list[Any]]) -> None:
        """Writes the table of the clips, which makes the folder a data set."""
        labels = [name for name in columns if name.startswith("label")]
        names = ["id", "text", *labels, "split"]
        names += [name for name in (*ORDER, "subject", "fold", "face_share") if name in columns]
        source = {name: columns[name] for name in names}
        for name in labels:
            if None not in (numbers := [as_number(cell) for cell in columns[name]]):
                source[name] = numbers
        content = io.BytesIO()
        pa.csv.write_csv(pa.table(source), content)
        self._replace(TABLE, content.getvalue())

    def copy_task(self, table: Path) -> None:
        """Copies the description of the labels that lies beside the table of the clips, if there is one."""
        if (file := table.parent / TASK_FILE).is_file():
            self._replace(TASK_FILE, file.read_bytes())
        else:
            (self.root / TASK_FILE).unlink(missing_ok=True)

    def remove_table(self) -> None:
        (self.root / TABLE).unlink(missing_ok=True)

    def _replace(self, name: str, content: bytes) -> None:
        path, part = self.root / name, self.root / PART / f"{name}.new"
        if path.exists() and path.read_bytes() == content:
            return
        with writing(path):
            part.write_bytes(content)
            move(part, path)


def _line(record: Extracted) -> bytes:
    return json.dumps(asdict(record)).encode() + b"\n"
