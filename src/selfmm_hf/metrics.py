"""The numbers that the field reports for CMU-MOSI, CMU-MOSEI and CH-SIMS, from sentiment scores.

Source: the protocol of Self-MM (AAAI 2021, arXiv 2102.04830) and of MMSA, by the same authors. Scores and
class limits are compared as float32: a score on a limit would otherwise fall into another class than in the
published numbers.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["METRICS", "METRIC_NAMES", "absolute_errors", "mosi_metrics", "sims_metrics"]

# Upper limits of all classes but the last, over [-1, 1]; a limit belongs to the class below it.
SIMS_LIMITS = {2: (0.0,), 3: (-0.1, 0.1), 5: (-0.7, -0.1, 0.1, 0.7)}


def mosi_metrics(predictions: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """Metrics of CMU-MOSI and CMU-MOSEI.

    Args:
        predictions: scores, shape `(n,)` or `(n, 1)`, any range.
        labels: true scores, same length, in [-3, 3].

    Returns:
        Unrounded values. Accuracies (`acc_*`) and F1, weighted by class support, are fractions in [0, 1]:

        - `mae`: mean absolute error, in label units; `corr`: Pearson correlation, NaN where predictions or
          labels are constant.
        - `acc_7`, `acc_5`: both sides clipped to [-3, 3] and [-2, 2], then rounded half to even.
        - `acc_2_non_negative`, `f1_non_negative`: negative against `>= 0`, all samples.
        - `acc_2_negative_positive`, `f1_negative_positive`: negative against positive, over the samples whose
          label is not 0; NaN where every label is 0.

    Raises:
        ValueError: empty input, different lengths, more than one column, something that is no finite number.
    """
    predictions, labels = _scores(predictions, labels)
    signed = labels != 0
    return {
        **_distances(predictions, labels),
        "acc_7": _accuracy(np.round(np.clip(predictions, -3, 3)), np.round(np.clip(labels, -3, 3))),
        "acc_5": _accuracy(np.round(np.clip(predictions, -2, 2)), np.round(np.clip(labels, -2, 2))),
        "acc_2_non_negative": _accuracy(predictions >= 0, labels >= 0),
        "f1_non_negative": _weighted_f1(predictions >= 0, labels >= 0),
        "acc_2_negative_positive": _accuracy(predictions[signed] > 0, labels[signed] > 0),
        "f1_negative_positive": _weighted_f1(predictions[signed] > 0, labels[signed] > 0),
    }


def sims_metrics(predictions: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """Metrics of CH-SIMS and CH-SIMS v2, all of them after clipping both sides to [-1, 1].

    Args:
        predictions: scores, shape `(n,)` or `(n, 1)`, any range.
        labels: true scores, same length, in [-1, 1].

    Returns:
        Unrounded values: `mae` and `corr` as in `mosi_metrics`; `acc_2` with the classes [-1, 0] and (0, 1];
        `acc_3` with limits at -0.1 and 0.1; `acc_5` with limits at -0.7, -0.1, 0.1 and 0.7; `f1` of the two
        classes, weighted by class support.

    Raises:
        ValueError: as `mosi_metrics`.
    """
    predictions, labels = _sims_scores(predictions, labels)
    classes = {
        count: [np.digitize(scores, np.float32(limits), right=True) for scores in (predictions, labels)]
        for count, limits in SIMS_LIMITS.items()
    }
    return {
        **_distances(predictions, labels),
        **{f"acc_{count}": _accuracy(*pair) for count, pair in classes.items()},
        "f1": _weighted_f1(*classes[2]),
    }


METRICS: dict[float, Callable[[ArrayLike, ArrayLike], dict[str, float]]] = {3.0: mosi_metrics, 1.0: sims_metrics}
"""By the range of the labels, [-range, range], the metrics that the field reports."""

METRIC_NAMES = {
    "mae": ("mae", "MAE"),
    "corr": ("pearsonr", "Corr"),
    "acc_7": ("accuracy", "Acc-7"),
    "acc_5": ("accuracy", "Acc-5"),
    "acc_3": ("accuracy", "Acc-3"),
    "acc_2": ("accuracy", "Acc-2"),
    "acc_2_non_negative": ("accuracy", "Acc-2, negative / non-negative"),
    "acc_2_negative_positive": ("accuracy", "Acc-2, negative / positive"),
    "f1": ("f1", "F1"),
    "f1_non_negative": ("f1", "F1, negative / non-negative"),
    "f1_negative_positive": ("f1", "F1, negative / positive"),
    "mae_agreement": ("mae", "MAE, agreement"),
    "mae_conflict": ("mae", "MAE, conflict"),
}
"""By name, its kind among the Hub's metrics, and what it is called; of the last two, see labels/conflict.py."""

NOT_PERCENT = ("mae", "pearsonr")
"""The kinds that are shown as they are; all others are shares."""


# Fewer clips than these say little: by chance alone a correlation of 30 is beyond .36 in one of twenty cases.
FEW_CLIPS = 30


def few_clips(split: str, clips: int) -> str | None:
    """What is to be said of metrics over so few clips, in a sentence; `None` where they are enough."""
    if clips >= FEW_CLIPS:
        return None
    if clips < 4:
        chance = "a correlation means nothing (of two clips it is always 1 or -1)"
    else:  # the limit of a test of level .05, by Fisher's transformation
        chance = (
            f"by chance alone a correlation is beyond {np.tanh(1.96 / np.sqrt(clips - 3)):.2f} in one of twenty cases"
        )
    return f"The {split} split has {clips} clip{'s' * (clips != 1)}, too few for its metrics: {chance}."


def absolute_errors(predictions: ArrayLike, labels: ArrayLike, label_range: float) -> NDArray[np.float32]:
    """Of each sample, `(n,)`; their mean is the `mae` of the metrics of this range."""
    predictions, labels = (_sims_scores if label_range == 1 else _scores)(predictions, labels)
    return np.abs(predictions - labels)


def _sims_scores(*pair: ArrayLike) -> list[NDArray[np.float32]]:
    return [np.clip(scores, -1, 1) for scores in _scores(*pair)]


def _scores(*pair: ArrayLike) -> list[NDArray[np.float32]]:
    """Predictions and labels as two float32 arrays `(n,)`, or a ValueError."""
    checked = []
    for name, values in zip(("predictions", "labels"), pair, strict=True):
        raw = np.asarray(values)
        if raw.dtype.kind not in "fiub":
            raise ValueError(f"{name} must be real numbers, got dtype {raw.dtype}")
        if raw.ndim != 1 and not (raw.ndim == 2 and raw.shape[1] == 1):
            raise ValueError(f"{name} must have shape (n,) or (n, 1), got {raw.shape}; give one score per sample")
        if raw.size == 0:
            raise ValueError(f"{name} are empty; metrics need at least one sample")
        with np.errstate(over="ignore"):  # beyond float32 becomes inf, which the next check reports
            scores = raw.reshape(-1).astype(np.float32)
        wrong = np.flatnonzero(~np.isfinite(scores))
        if wrong.size:
            raise ValueError(
                f"{name} hold {wrong.size} values that are NaN or infinite as float32, the first at position "
                f"{wrong[0]}; give finite numbers (a NaN prediction mostly means that training diverged)"
            )
        checked.append(scores)
    if len(checked[0]) != len(checked[1]):
        raise ValueError(f"got {len(checked[0])} predictions but {len(checked[1])} labels; give one of each per sample")
    return checked


def _distances(predictions: NDArray[np.float32], labels: NDArray[np.float32]) -> dict[str, float]:
    """Mean absolute error (in float32, as published) and Pearson correlation (in float64)."""
    with np.errstate(over="ignore"):  # scores near the end of float32 give an infinite error
        mae = float(np.mean(np.abs(predictions - labels)))
    constant = np.ptp(predictions.astype(np.float64)) == 0 or np.ptp(labels.astype(np.float64)) == 0
    return {"mae": mae, "corr": float("nan") if constant else float(np.corrcoef(predictions, labels)[0, 1])}


def _accuracy(predicted: NDArray, true: NDArray) -> float:
    return float(np.mean(predicted == true)) if true.size else float("nan")


def _weighted_f1(predicted: NDArray, true: NDArray) -> float:
    """Mean of the classes' F1 = 2 TP / (predicted + true), weighted by how often each class is true.

    A class that is never predicted has F1 = 0; one that is never true has weight 0 and is left out.
    """
    if not true.size:
        return float("nan")
    classes, support = np.unique(true, return_counts=True)
    f1 = [2 * np.sum((predicted == c) & (true == c)) / (np.sum(predicted == c) + np.sum(true == c)) for c in classes]
    return float(np.average(f1, weights=support))
