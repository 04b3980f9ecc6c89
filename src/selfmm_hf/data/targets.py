"""The labels of a data set, by its task: the type of their column, what they may be, and how a file tells the task."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, List, Value

from ..model.task_selfmm import MULTI_LABEL, REGRESSION, SINGLE_LABEL, TOLERANCE, Task
from .safe_pickle import DataError

SENTIMENT = "sentiment"
SENTIMENTS = ("negative", "neutral", "positive")
MOST_NAMES, MOST_LETTERS = 1000, 100  # of what a file says of a task
ROUNDING = 1e-6  # of float32, by the size of a scale

LabelType = Value | List | ClassLabel
Label = float | int | Sequence[float]


def score(label_range: float, name: str = SENTIMENT) -> Task:
    """The task of one score in [-label_range, label_range]."""
    return Task((name,), REGRESSION, ((-float(label_range), float(label_range)),))


def label_type(task: Task, probabilities: bool = False) -> LabelType:
    """
    The type of the column `label`, and of `label_text`, ...: one float32, one for each name, or the number of a class.

    Args:
        probabilities: Of a single-label classification: whether a label is the probability of each class.
    """
    if task.problem_type == SINGLE_LABEL and not probabilities:
        return ClassLabel(names=list(task.names))
    if task.problem_type == REGRESSION and len(task.names) == 1:
        return Value("float32")
    return List(Value("float32"), length=len(task.names))


def task_of_type(kind: Any) -> Task | None:
    """What the type of the column `label` alone says: the classes, if it is of classes."""
    return Task(tuple(kind.names), SINGLE_LABEL) if isinstance(kind, ClassLabel) and len(kind.names) > 1 else None


def label_fault(task: Task, label: Label | None) -> str | None:
    """Says what is wrong with a label of `task`; `None` if nothing is."""
    numbers = [label] if isinstance(label, int | float) else list(label or [None])
    if task.problem_type == SINGLE_LABEL and len(numbers) == 1:
        if numbers[0] not in range(len(task.names)):
            return f"the class is {label}, but they are numbered from 0 to {len(task.names) - 1}"
        return None
    if len(numbers) != len(task.names):
        return f"{len(numbers)} values, expected one for each of {', '.join(task.names)}"
    for name, number, (low, high) in zip(task.names, numbers, task.limits, strict=True):
        margin = ROUNDING * max(1.0, abs(low), abs(high))
        if number is None or not low - margin <= number <= high + margin:
            said = number if number is None else f"{number:g}"
            if task.label_range is not None:
                mend = "" if number is None or np.isnan(number) else f", or {_remedy(abs(number), high)}"
                return f"the label is {said}, expected a number in [{low:g}, {high:g}]; correct it{mend}"
            return f"{name} is {said}, but its labels lie in [{low:g}, {high:g}]"
    if task.problem_type == SINGLE_LABEL and abs(sum(numbers) - 1) > TOLERANCE:
        return f"the probabilities of {', '.join(task.names)} add up to {sum(numbers):g}, not to 1"
    return None


def _remedy(reach: float, limit: float, own: bool = False) -> str:
    """What to do about scores that reach another number than `limit`; of the user's `own`, which option to add."""
    known = {1: "sims or simsv2", 3: "mosi or mosei"}
    fits = next((end for end in known if end / 3 < reach <= end * (1 + ROUNDING)), limit)
    if fits == limit:
        return f"scale the labels to [-{limit:g}, {limit:g}]"
    option = f"--label_range {fits}"
    return f"add {option}" if own else f"take the data as {known[fits]}, or as custom with {option}"


def check_reach(task: Task, splits: Iterable[Sequence[Label]], where: str | Path, own: bool = False) -> None:
    """
    Refuses labels from which nothing can be learned, or that are of another scale: those of CH-SIMS would pass for
    timid ones of CMU-MOSI.

    Args:
        splits: The labels of each split.
        own: Whether the data are the user's own, who may leave out a target, such as an emotion that nobody shows.
    """
    if task.problem_type == SINGLE_LABEL or (task.problem_type == MULTI_LABEL and not own):
        return
    labels = [label for split in splits for label in split]
    if (limit := task.label_range) is not None:
        if (largest := float(np.abs(labels).max())) <= limit / 3:
            raise DataError(
                f"{where}: no label is beyond {largest:g}, expected labels that reach {limit:g}; "
                f"{_remedy(largest, limit, own)}"
            )
        if not own:
            return
    for name, values in zip(task.names, np.reshape(labels, (len(labels), -1)).T, strict=True):
        if np.ptp(values) == 0:
            raise DataError(f"{where}: {name} is {values[0]:g} in every clip; there is nothing to learn, leave it out")


def task_to_json(task: Task) -> dict[str, Any]:
    """As `origin.json` has it."""
    return {"problem_type": task.problem_type, "names": list(task.names), "scales": [list(one) for one in task.scales]}


def task_from_json(value: Any) -> Task:
    """
    The task that [`task_to_json`] wrote, which anybody may have changed.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(value, dict) or not isinstance(value.get("problem_type"), str):
        raise ValueError(f"expected problem_type, names and scales, got {value!r:.99}")
    names, scales = value.get("names"), value.get("scales")
    few = isinstance(names, list) and 0 < len(names) <= MOST_NAMES and len(set(map(str, names))) == len(names)
    if not few or not all(isinstance(name, str) and 0 < len(name) <= MOST_LETTERS for name in names):
        raise ValueError(f"names: expected 1 to {MOST_NAMES} different ones, of text, got {names!r:.99}")
    pairs = isinstance(scales, list) and all(isinstance(one, list) and len(one) == 2 for one in scales)
    if not pairs or not all(type(end) in (int, float) and abs(end) < 1e6 for one in scales for end in one):
        raise ValueError(f"scales: expected the lowest and the highest label of each name, got {scales!r:.99}")
    return Task(tuple(names), value["problem_type"], tuple((float(low), float(high)) for low, high in scales))


def describe(task: Task) -> str:
    """What a label of the task is, in words."""
    if task.problem_type == SINGLE_LABEL:
        return f"one of the classes {', '.join(task.names)}"
    if task.problem_type == MULTI_LABEL:
        return f"float32 of each of {', '.join(task.names)}: 1 where it is so, 0 where it is not"
    scales = [f"[{low:g}, {high:g}]" for low, high in task.scales]
    if len(task.names) == 1:
        meaning = f", negative to positive {SENTIMENT}" if task.names == (SENTIMENT,) else f", {task.names[0]}"
        return f"float32 in {scales[0]}{meaning}"
    return "float32 of " + ", ".join(f"{name} in {scale}" for name, scale in zip(task.names, scales, strict=True))
