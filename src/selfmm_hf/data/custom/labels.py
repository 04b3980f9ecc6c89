"""The label columns of a table, and the task that they make: with `task.yaml` beside the table where they need one."""

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ...model.task_selfmm import MULTI_LABEL, PROBLEM_TYPES, REGRESSION, SINGLE_LABEL, Task
from ..card import CardError, parse_yaml
from ..safe_pickle import DataError
from ..targets import MOST_LETTERS, MOST_NAMES, SENTIMENT, task_from_json, task_to_json
from .table import SPLITS

TASK_FILE = "task.yaml"


def table_task(table: Path, columns: dict[str, list[Any]], problem_type: str | None = None) -> Task | None:
    """
    Finds the task of a table's labels:

    - a column `label` of numbers: one score; of text: classes, those of the training split;
    - columns `label:NAME`: several scores, with the scale of each in `task.yaml`; or, with `problem_type:
      multi_label_classification` there, 0 or 1 of each; or, with `single_label_classification`, probabilities.

    Args:
        columns: Of the table, as [`read_table`] gives them.
        problem_type: What the user says of it.

    Returns:
        `None` for one score of which nothing here says the scale.

    Raises:
        DataError: It cannot be told, or `task.yaml` does not fit the table.
    """
    file = table.parent / TASK_FILE
    said, scales = _task_file(file)
    if problem_type and said not in (None, problem_type):
        raise DataError(f"{file} says problem_type: {said}, but {problem_type} is asked for; change one of them")
    kind, names = problem_type or said, [name.partition(":")[2] for name in columns if name.startswith("label:")]
    if names and "label" in columns:
        raise DataError(f"{table}: has both label and label:{names[0]}; leave one of them out")
    if kind is None and scales:
        kind = REGRESSION
    if kind is None and names:
        raise DataError(
            f"{table}: {' and '.join(f'label:{name}' for name in names)} may be scores, emotions or "
            f"probabilities of classes; write {file.name} beside it, with the line `{_scales_line(columns, names)}`, "
            f"`problem_type: {MULTI_LABEL}`, or `problem_type: {SINGLE_LABEL}`"
        )
    if kind == MULTI_LABEL and not names:
        raise DataError(
            f"{table}: {kind} needs a column of 0 or 1 for each label, such as label:happy; got label alone"
        )
    if kind != REGRESSION and scales:
        raise DataError(f"{file}: a {kind} has no scales; leave them out")
    if names:
        kind = kind or REGRESSION
    elif kind == SINGLE_LABEL or (kind is None and _are_classes(table, columns)):
        kind, names = SINGLE_LABEL, _classes(table, columns)
    elif not scales:
        return None
    else:
        kind, names = REGRESSION, [SENTIMENT]
    if kind == REGRESSION and set(scales) != set(names):
        got = ", ".join(map(str, scales)) or "none"
        raise DataError(
            f"{file}: expected the lowest and the highest label of each of {', '.join(names)}, such as "
            f"`{_scales_line(columns, names)}`; got {got}"
        )
    try:
        task = Task(tuple(names), kind, tuple(scales[name] for name in names) if kind == REGRESSION else ())
        return task_from_json(task_to_json(task))  # as a run writes it, and must be able to read it
    except ValueError as error:
        raise DataError(f"{table}: {error}") from None


def _task_file(file: Path) -> tuple[str | None, dict[str, tuple[float, float]]]:
    """Its `problem_type` and `scales`."""
    if not file.is_file():
        return None, {}
    try:
        said = parse_yaml(file)
    except CardError as error:
        raise DataError(str(error)) from None
    if odd := set(said) - {"problem_type", "scales"}:
        raise DataError(f"{file}: unknown {min(map(str, odd))!r:.40}; expected problem_type and scales")
    kind, scales = said.get("problem_type"), said.get("scales") or {}
    if kind is not None and kind not in PROBLEM_TYPES:
        raise DataError(f"{file}: problem_type must be one of {', '.join(PROBLEM_TYPES)}; got {kind!r:.40}")
    if not isinstance(scales, dict):
        raise DataError(f"{file}: expected scales as in `scales: {{valence: [-1, 1]}}`, got {scales!r:.40}")
    for name, ends in scales.items():
        numbers = isinstance(ends, list) and [end for end in ends if type(end) in (int, float) and abs(end) < 1e6]
        if not numbers or len(ends) != 2 or len(numbers) != 2 or not numbers[0] < numbers[1]:
            raise DataError(f"{file}: expected the lowest and the highest label of {name}, [-1, 1], got {ends!r:.40}")
    return kind, {str(name): (float(low), float(high)) for name, (low, high) in scales.items()}


def _scales_line(columns: dict[str, list[Any]], names: Sequence[str]) -> str:
    """What `task.yaml` may say, by the labels that there are."""
    parts = []
    for name in names:
        values = [as_number(value) for value in columns.get(f"label:{name}", columns.get("label", []))]
        found = [value for value in values if value is not None and np.isfinite(value)] or [0, 1]
        plain = name.isidentifier() and yaml.safe_load(name) == name  # `yes` would be true
        key = name if plain else json.dumps(name, ensure_ascii=False)
        parts.append(f"{key}: [{np.floor(min(found)):g}, {np.ceil(max(found)):g}]")
    return f"scales: {{{', '.join(parts)}}}"


def as_number(cell: Any) -> float | None:
    """The number that a cell holds, if it does."""
    if isinstance(cell, int | float):
        return float(cell)
    try:
        return float(cell)
    except (TypeError, ValueError):
        return None


def class_name(cell: Any) -> str:
    """The name of a class, as text; that of a number is its shortest form, and nothing of NaN."""
    if isinstance(cell, float):
        return "" if np.isnan(cell) else f"{cell:.0f}" if cell.is_integer() else f"{cell:g}"
    return "" if cell is None else unicodedata.normalize("NFC", str(cell).strip())


def _are_classes(table: Path, columns: dict[str, list[Any]]) -> bool:
    """
    Whether the labels are names; a number with a comma is one that is misspelt.

    Raises:
        DataError: Some are names and some are numbers.
    """
    labels = columns["label"]
    texts = [row for row, label in enumerate(labels) if type(label) is str and label.strip()]
    names = [row for row in texts if as_number(labels[row].replace(",", ".")) is None]
    number = next((row for row, label in enumerate(labels) if as_number(label) is not None), None)
    if names and number is not None:
        both = (f"{labels[row]!r:.40} in row {row} (id {columns['id'][row]!r:.80})" for row in (names[0], number))
        raise DataError(
            f"{table}, column 'label': expected numbers alone, or names of classes alone, got {' and '.join(both)}; "
            f"correct one of them or, if both are classes, write {TASK_FILE} beside the table, with the line "
            f"`problem_type: {SINGLE_LABEL}`"
        )
    return bool(texts) and names == texts


def _classes(table: Path, columns: dict[str, list[Any]]) -> list[str]:
    """Those of the training split, in the order of numbers or of the alphabet."""
    rows = zip(columns["label"], columns["split"], strict=True)
    names = {class_name(label) for label, split in rows if SPLITS[split] == "train"} - {""}
    if len(names) > MOST_NAMES or any(len(name) > MOST_LETTERS for name in names):
        raise DataError(
            f"{table}: the training split has {len(names)} classes, such as {min(names)!r:.40}; expected {MOST_NAMES} "
            f"at most, of {MOST_LETTERS} letters at most"
        )
    alike: dict[str, str] = {}
    for name in sorted(names):
        if (other := alike.setdefault(name.casefold(), name)) != name:
            raise DataError(f"{table}: the classes {other!r} and {name!r} differ in upper and lower case; write one")
    numbers = {name: as_number(name) for name in names}
    if all(number is not None for number in numbers.values()):
        return sorted(names, key=lambda name: (numbers[name], name))
    return sorted(names)
