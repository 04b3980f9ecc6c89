"""CMU-MOSEI's emotions, which the usual feature files lack: from a table or the SDK's labels, joined by id."""

import csv
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ..model.task_selfmm import MULTI_LABEL, REGRESSION, Task
from .custom.files import check_size
from .mmsa import DataError, FeatureTable

EMOTIONS = ("happy", "sad", "anger", "surprise", "disgust", "fear")  # in the order of CMU_MOSEI_Labels.csd
MOST = 3.0  # some old files reach 4.33
SAME = 1e-3  # by which the sentiment of two files may differ


class Rated(NamedTuple):
    """Intensities from 0 to 3 in the order of `EMOTIONS`, and the sentiment of the same clip, if the file has it."""

    emotions: list[float]
    sentiment: float | None


def emotion_task(problem_type: str | None) -> Task:
    """Each there or not; or, as a regression, its intensity."""
    if problem_type == REGRESSION:
        return Task(EMOTIONS, REGRESSION, ((0.0, MOST),) * len(EMOTIONS))
    if problem_type in (None, MULTI_LABEL):
        return Task(EMOTIONS, MULTI_LABEL)
    raise DataError(f"Emotions of CMU-MOSEI come together: {MULTI_LABEL}, or their intensities by {REGRESSION}.")


def read_emotions(file: Path) -> dict[str, Rated]:
    """
    Reads the emotions of clips from a file, by id.

    Args:
        file: `.csv` with the columns `id` and `EMOTIONS`, in any order, and perhaps `sentiment`; or the SDK's
            `CMU_MOSEI_Labels.csd`, whose segments are called `video$_$number` from 0 on, as MMSA calls its clips.

    Raises:
        DataError: It cannot be read, or an intensity is missing or negative.
    """
    if not file.is_file():
        raise DataError(f"{file} is no file; expected a .csv with the columns id, {', '.join(EMOTIONS)}, or a .csd")
    rows = _of_csd(file) if file.suffix == ".csd" else _of_csv(file)
    found: dict[str, Rated] = {}
    for number, (clip, sentiment, *emotions) in enumerate(rows):
        where = f"{file}, row {number} (id {clip!r:.80})"
        if clip in found:
            raise DataError(f"{where}: the same id occurs twice")
        values = list(map(_number, emotions))
        if odd := next((name for name, value in zip(EMOTIONS, values, strict=True) if not 0 <= value < math.inf), None):
            got = emotions[EMOTIONS.index(odd)]
            raise DataError(f"{where}, {odd}: expected an intensity from 0 to {MOST:g}, got {got!r:.40}")
        found[clip] = Rated([min(value, MOST) for value in values], None if sentiment is None else _number(sentiment))
    return found


def _number(cell: str | float) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _of_csv(file: Path) -> list[Sequence]:
    try:
        check_size(file.stat().st_size)
        with file.open(encoding="utf-8-sig", newline="") as content:
            reader = csv.DictReader(content, strict=True)
            names = reader.fieldnames or []
            if missing := [name for name in ("id", *EMOTIONS) if name not in names]:
                raise DataError(
                    f"column {missing[0]!r} is missing; expected id, {', '.join(EMOTIONS)}, got {', '.join(names):.200}"
                )
            return [[row["id"] or "", row.get("sentiment"), *(row[name] or "" for name in EMOTIONS)] for row in reader]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{file}: {error}") from None


def _of_csd(file: Path) -> list[Sequence]:
    try:
        import h5py
    except ImportError:
        raise DataError(f"{file} is HDF5, which needs h5py: pip install h5py; or give a .csv") from None
    rows = []
    try:
        with h5py.File(file) as content:
            (root,) = content.values()
            for video, entry in root["data"].items():
                for number, values in enumerate(entry["features"][:]):
                    if len(values) != 1 + len(EMOTIONS):
                        problem = f"{video} has {len(values)} values a segment"
                        raise ValueError(f"{problem}, expected sentiment and six emotions")
                    rows.append([f"{video}$_${number}", *values.tolist()])
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        problem = " ".join(str(error).split())
        raise DataError(f"{file} is not like the SDK's CMU_MOSEI_Labels.csd ({problem:.200})") from None
    return rows


def join_emotions(tables: dict[str, FeatureTable], file: Path, task: Task) -> list[str]:
    """
    Puts the emotions of each clip in the place of its sentiment.

    Returns:
        What a user should know, in sentences.

    Raises:
        DataError: A clip is not in the file, or has another sentiment there: the ids mean other clips.
    """
    found, used = read_emotions(file), 0
    for table in tables.values():
        missing = [row for row, clip in enumerate(table.ids) if clip not in found]
        if missing:
            others = f"nor those of {len(missing) - 1} other clips of the split"
            problem = f"{file.name} has no such id, {others}; it has e.g. {next(iter(found), 'nothing')!r:.80}"
            table._fail("id", problem, missing[0])
        rated = [found[clip] for clip in table.ids]
        for row, (one, sentiment) in enumerate(zip(rated, table.columns["label"], strict=True)):
            if one.sentiment is not None and not abs(one.sentiment - sentiment) <= SAME:
                problem = f"the sentiment is {sentiment:g}, but {one.sentiment:g} in {file.name}"
                table._fail("label", f"{problem}: the id means another clip there; give a .csv with the right ids", row)
        table.rules = replace(table.rules, task=task)
        present = task.problem_type == MULTI_LABEL
        table.columns["label"] = [[float(v > 0) if present else v for v in one.emotions] for one in rated]
        used += len(rated)
    sentence = f"the emotions are those of {file.name}, joined by id"
    return [sentence + (f"; {len(found) - used} of its clips are not in the data" if len(found) > used else "")]
