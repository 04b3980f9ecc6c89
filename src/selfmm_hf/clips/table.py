"""Reads the table of the clips to extract, and finds the media file of each row."""

import os
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from ..data.custom.folder import Folder, split_table
from ..data.custom.table import check_splits, read_table, stays_within
from ..data.mmsa import DataError, Rules
from ..data.targets import score
from .media import MEDIA

REQUIRED = ["id", "label", "split"]
OPTIONAL = ["text", "clip", "video", "position", "subject", "fold"]


def read_clips(table: Path, out: Path) -> dict[str, list[Any]]:
    """
    Reads the rows of the table, and checks them as if the data set were loaded, so that nothing is computed in vain.

    Args:
        table: `.csv` or `.parquet` with the columns `id`, `label`, `split`, and optionally `text`, `clip`, `video` and
            `position`, `subject`, `fold`, `label_text`, `label_audio`, `label_vision`; for labels of other kinds see
            [`table_task`].
        out: The folder that becomes the data set.

    Returns:
        The columns, which always include `text`.

    Raises:
        DataError: The table is missing or damaged, or something in it is wrong; column, row and id are named.
    """
    if not table.is_file() or table.suffix not in (".csv", ".parquet"):
        problem = "is neither .csv nor .parquet" if table.is_file() else "is no file"
        raise DataError(f"{table} {problem}; expected the table of the clips, with the columns {', '.join(REQUIRED)}")
    columns = read_table(table, REQUIRED, OPTIONAL)
    check_splits(table, columns)
    for row, clip in enumerate(columns["id"]):
        if PurePosixPath(clip).as_posix() != clip or "\0" in clip or max(map(len, os.fsencode(clip).split(b"/"))) > 240:
            raise DataError(
                f"{table}, column 'id', row {row} (id {clip!r:.80}): it cannot be the name of feature files; leave out "
                "'.' and empty parts between '/', and keep each part below 240 bytes"
            )
    split_table(table, columns, Rules(task=score(3.0)), Folder(out))
    return columns


def find_clips(table: Path, columns: dict[str, list[Any]], folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """
    Finds the media file of each row: the one that the column `clip` names, else one named as the id, with a media
    ending.

    Links in the folder are followed: its owner has put them there.

    Returns:
        The path of each id, relative to `folder`; and for each id without a file, what was looked for.

    Raises:
        DataError: There is no such folder; a path leads out of it; or two files fit one row.
    """
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}; expected the folder of the clips")

    @lru_cache(None)
    def endings(place: str) -> dict[str, list[str]]:
        """Returns the media files in a folder by their names without the ending."""
        found: dict[str, list[str]] = {}
        try:
            names = os.listdir(folder / place)
        except OSError:
            return found
        for name in sorted(names):
            stem, ending = os.path.splitext(name)
            if ending.lower() in MEDIA and os.path.isfile(folder / place / name):
                found.setdefault(stem, []).append(name)
        return found

    files: dict[str, str] = {}
    missing: dict[str, str] = {}
    for row, clip in enumerate(columns["id"]):
        where = f"{table}, column 'clip', row {row} (id {clip!r:.80})"
        named = columns["clip"][row] if "clip" in columns else None
        if named:
            if type(named) is not str or not stays_within(named) or "\0" in named:
                raise DataError(f"{where}: expected a path within {folder}, relative to it, got {named!r:.80}")
            if os.path.lexists(folder / named):
                files[clip] = PurePosixPath(named).as_posix()
            else:
                missing[clip] = f"there is no file {named!r:.200}"
            continue
        place, _, stem = clip.rpartition("/")
        fitting = endings(place).get(stem, [])
        if len(fitting) > 1:
            raise DataError(f"{where}: {' and '.join(map(repr, fitting))} both fit; name the one that is meant")
        if fitting:
            files[clip] = f"{place}/{fitting[0]}" if place else fitting[0]
        else:
            missing[clip] = f"there is no media file {clip + '.*'!r:.200}"
    return files, missing
