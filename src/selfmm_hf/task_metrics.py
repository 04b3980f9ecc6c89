"""The metrics of a task, whatever its kind."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .metrics import (
    METRICS,
    absolute_errors,
    class_metrics,
    emotion_metrics,
    kind_and_target,
    metric_of,
    regression_metrics,
    weighted_accuracy_thresholds,
)
from .model.task_selfmm import MULTI_LABEL, REGRESSION, SINGLE_LABEL, Task


def metrics_of(task: Task, predictions: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """
    Returns what the field reports for the task: for one score in [-3, 3] the metrics of CMU-MOSI, in [-1, 1] those of
    CH-SIMS; for other tasks see [`regression_metrics`], [`emotion_metrics`] and [`class_metrics`].

    Args:
        predictions: As [`Task.predictions`] makes them, (clips, targets).
        labels: As a data set holds them; classes as numbers, (clips,), or as probabilities.
    """
    if task.label_range in METRICS:
        return METRICS[task.label_range](predictions, labels)
    kinds = {REGRESSION: regression_metrics, MULTI_LABEL: emotion_metrics, SINGLE_LABEL: class_metrics}
    return kinds[task.problem_type](predictions, labels, task.names)


def thresholds_of(task: Task, predictions: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """
    Returns the [`weighted_accuracy_thresholds`] of emotions by name; nothing for another task.

    Args:
        predictions, labels: Those of the validation split, as in [`metrics_of`].
    """
    if task.problem_type != MULTI_LABEL:
        return {}
    return dict(zip(task.names, weighted_accuracy_thresholds(predictions, labels).tolist(), strict=True))


def metrics_at(task: Task, thresholds: dict[str, float], predictions: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """Returns `wa_chosen`, `f1_chosen_NAME`, ...: `wa` and `f1` if emotions count as present above these thresholds."""
    if not thresholds:
        return {}
    limits = np.array([thresholds[name] for name in task.names], np.float32)
    found = emotion_metrics((np.asarray(predictions, np.float32) > limits).astype(float), labels, task.names)
    kinds = {name: kind_and_target(name) for name in found}
    return {
        metric_of(f"{kind}_chosen", emotion) if emotion else f"{kind}_chosen": found[name]
        for name, (kind, emotion) in kinds.items()
        if kind in ("wa", "f1")
    }


def main_metric(task: Task) -> str:
    """Returns the metric that runs are compared by: the mean of the clips' [`errors_of`], or 1 minus it."""
    return "mae" if task.problem_type == REGRESSION else "acc"


def errors_of(task: Task, predictions: ArrayLike, labels: ArrayLike) -> NDArray[np.float32]:
    """Returns each clip's error, (clips,): absolute, or the share of emotions that are wrong, or 0 or 1 for a class."""
    if task.label_range in METRICS:
        return absolute_errors(predictions, labels, task.label_range)
    predicted, true = (np.asarray(one, dtype=np.float32).reshape(len(one), -1) for one in (predictions, labels))
    if task.problem_type == REGRESSION:
        return np.abs(predicted - true).mean(-1)
    if task.problem_type == MULTI_LABEL:
        return ((predicted > 0.5) != (true > 0.5)).mean(-1, dtype=np.float32)
    classes = true[:, 0] if true.shape[1] == 1 else true.argmax(-1)
    return (predicted.argmax(-1) != classes).astype(np.float32)


def constant_predictions(task: Task, labels: NDArray, clips: int) -> NDArray[np.float64]:
    """
    Predicts the same for each clip, (clips, targets): the median of the training labels, the most frequent class, or
    the emotions that most clips have.

    Args:
        labels: Labels of the training split, as a data set holds them.
        clips: How many clips to predict.
    """
    rows = np.asarray(labels, dtype=np.float64).reshape(len(labels), -1)
    if task.problem_type == REGRESSION:
        one = np.median(rows, axis=0)
    elif task.problem_type == MULTI_LABEL:
        one = (rows.mean(0) > 0.5).astype(np.float64)
    else:
        shares = rows.mean(0) if rows.shape[1] > 1 else np.bincount(rows[:, 0].astype(int), minlength=len(task.names))
        one = np.eye(len(task.names))[shares.argmax()]
    return np.tile(one, (clips, 1))
