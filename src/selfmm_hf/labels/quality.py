"""Measures how close generated unimodal labels are to the true ones, for data that have true ones."""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from ..data import Samples, Splits
from ..data.columns import unimodal_labels
from ..model.task_selfmm import REGRESSION, SINGLE_LABEL, Task


def generated_label_quality(splits: Splits, labels: np.ndarray, modalities: list[str]) -> dict[str, float]:
    """
    Returns correlation (for a classification, accuracy) and mean absolute error of generated unimodal labels against
    the true ones, and those of `y_m`, if the data have true ones (the demo corpus, SIMS).

    Args:
        labels: (training samples, modalities, targets).
    """
    train, found = splits["train"], {}
    fused = as_targets(train.task, train.labels)
    for modality, truth in true_labels(train, modalities).items():
        generated = labels[:, modalities.index(modality)]
        for name, measure in measures(train.task).items():
            values = quality(np.array([generated, fused]), as_targets(train.task, truth), measure)
            found |= {
                f"{kind}_label_{modality}_{name}": v for kind, v in zip(("generated", "fused"), values, strict=True)
            }
    return found


def true_labels(samples: Samples, modalities: Iterable[str]) -> dict[str, NDArray[np.float64]]:
    """
    Returns the true labels of each of `modalities` for which the data have any, in the shape of `label`; NaN for a clip
    without one.
    """
    columns = unimodal_labels(samples.widths)
    there = [name for name in modalities if columns.get(name) in samples.column_names]
    return {name: np.array(samples[columns[name]], dtype=float) for name in there}


def as_targets(task: Task, labels: NDArray) -> NDArray[np.float64]:
    """Converts labels to the form of generated ones, (clips, targets): a class becomes a probability of 1."""
    labels = np.asarray(labels, dtype=float)
    if task.problem_type == SINGLE_LABEL and labels.ndim == 1:
        rows = np.eye(len(task.names))[np.nan_to_num(labels).astype(int)]
        return np.where(np.isfinite(labels)[:, None], rows, np.nan)
    return labels.reshape(len(labels), -1)


def correlation(one: NDArray, other: NDArray) -> float:
    """Returns Pearson's correlation, (clips,); the mean over targets of (clips, targets); NaN if any is constant."""
    pairs = zip(one.reshape(len(one), -1).T, other.reshape(len(other), -1).T, strict=True)
    return float(np.mean([np.corrcoef(a, b)[0, 1] if np.ptp(a) and np.ptp(b) else np.nan for a, b in pairs]))


def mean_error(one: NDArray, other: NDArray) -> float:
    """Returns the mean absolute difference."""
    return float(np.abs(one - other).mean())


def same_class(one: NDArray, other: NDArray) -> float:
    """Returns how often the same class is the most likely, (clips, classes)."""
    return float((one.argmax(-1) == other.argmax(-1)).mean())


def same_emotions(one: NDArray, other: NDArray) -> float:
    """Returns how often an emotion is present in both or in neither, (clips, emotions)."""
    return float(((one > 0.5) == (other > 0.5)).mean())


def measures(task: Task) -> dict[str, Callable[[NDArray, NDArray], float]]:
    """Returns the measures of how close labels come to the true ones, by their names in results."""
    first = {REGRESSION: ("corr", correlation), SINGLE_LABEL: ("acc", same_class)}
    return dict([first.get(task.problem_type, ("acc", same_emotions)), ("mae", mean_error)])


def quality(labels: NDArray, truth: NDArray, measure) -> list[float]:
    """Applies `measure`, such as [`correlation`], to one modality's generated labels, epoch by epoch."""
    known = np.isfinite(truth).reshape(len(truth), -1).all(-1)
    return [measure(epoch[known], truth[known]) for epoch in labels]
