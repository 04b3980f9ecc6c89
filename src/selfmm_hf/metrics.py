"""The numbers that the field reports for CMU-MOSI, CMU-MOSEI and CH-SIMS, from sentiment scores, and those of emotions,
of classes and of several scores.

Source of the former: the protocol of Self-MM (AAAI 2021, arXiv 2102.04830) and of MMSA, by the same authors. Scores and
class limits are compared as float32: a score on a limit would otherwise fall into another class than in the
published numbers.

`hub_configs/metrics/multimodal_sentiment/metrics.py` is a copy of this file: copy it again after a change.
"""

from collections.abc import Callable, Collection, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "METRICS",
    "METRIC_NAMES",
    "absolute_errors",
    "class_metrics",
    "emotion_metrics",
    "kind_and_target",
    "metric_name",
    "metric_of",
    "mosi_metrics",
    "regression_metrics",
    "reported",
    "sims_metrics",
    "weighted_accuracy_thresholds",
]

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


def regression_metrics(predictions: ArrayLike, labels: ArrayLike, names: Sequence[str]) -> dict[str, float]:
    """Metrics of scores on scales of their own, such as valence and arousal.

    Args:
        predictions, labels: `(n, targets)`.
        names: Of the targets.

    Returns:
        `mae`, mean absolute error, `rmse`, root mean squared error, and `corr`, Pearson correlation (NaN where either
        is constant), each the mean over the targets; with several targets also `mae_NAME`, ... of each.

    Raises:
        ValueError: empty input, another shape, something that is no finite number.
    """
    columns = [_scores(*pair) for pair in zip(*_columns(predictions, labels, names), strict=True)]
    found = {}
    for name, (predicted, true) in zip(names, columns, strict=True):
        rmse = float(np.sqrt(np.mean(np.square(predicted.astype(np.float64) - true))))
        found |= {metric_of(kind, name): one for kind, one in {**_distances(predicted, true), "rmse": rmse}.items()}
    means = {kind: float(np.mean([found[metric_of(kind, name)] for name in names])) for kind in ("mae", "rmse", "corr")}
    return means if len(names) == 1 else means | found


def emotion_metrics(probabilities: ArrayLike, labels: ArrayLike, names: Sequence[str]) -> dict[str, float]:
    """Metrics of emotions that may come together, each one against its absence, as MulT (ACL 2019) reports IEMOCAP.

    Args:
        probabilities: `(n, emotions)`, above 0.5 for present.
        labels: likewise; present where above 0.5.
        names: Of the emotions.

    Returns:
        For each emotion `acc_NAME`, accuracy; `f1_NAME`, the F1 of presence and absence, weighted by support; and
        `wa_NAME`, weighted accuracy, the mean of the recalls of presence and absence, and `auc_NAME`, the area under
        the curve of one against the other, as for CMU-MOSEI; NaN where either never occurs. `acc`, `f1`, `wa` and
        `auc` are the means over the emotions.

    Raises:
        ValueError: as `regression_metrics`.
    """
    found = {}
    for name, predicted, true in zip(names, *_columns(probabilities, labels, names), strict=True):
        probability, true = _scores(predicted, true)
        predicted, true = probability > 0.5, true > 0.5
        values = {
            "acc": _accuracy(predicted, true),
            "f1": _weighted_f1(predicted, true),
            "wa": float(np.mean([_recall(predicted, true, one) for one in (False, True)])),
            "auc": _auc(probability, true),
        }
        found |= {metric_of(kind, name): value for kind, value in values.items()}
    means = {kind: float(np.mean([found[metric_of(kind, name)] for name in names])) for kind in values}
    return means | found


def weighted_accuracy_thresholds(probabilities: ArrayLike, labels: ArrayLike) -> NDArray[np.float32]:
    """For each emotion the threshold above which it counts as present, so that its weighted accuracy is the highest.

    Args:
        probabilities, labels: `(n, emotions)`, of the validation split.

    Returns:
        `(emotions,)`, midway between two probabilities; 0.5 of an emotion that all samples show, or none.
    """
    found = []
    for column, labelled in zip(np.asarray(probabilities, np.float32).T, np.asarray(labels).T, strict=True):
        present = labelled > 0.5
        values, place = np.unique(column, return_inverse=True)
        if len(values) < 2 or present.all() or not present.any():
            found.append(0.5)
            continue
        # Of those at or below each value, of which the threshold makes absence.
        right, wrong = (np.bincount(place, of, len(values)).cumsum()[:-1] / of.sum() for of in (~present, present))
        best = int(np.argmax(right - wrong))
        found.append((values[best] + values[best + 1]) / 2)
    return np.array(found, np.float32)


def class_metrics(probabilities: ArrayLike, labels: ArrayLike, names: Sequence[str]) -> dict[str, float]:
    """Metrics of classes, of which each sample is one.

    Args:
        probabilities: `(n, classes)`; the largest counts.
        labels: the numbers of the classes, `(n,)`, or probabilities, of which the largest counts.
        names: Of the classes.

    Returns:
        `acc`, accuracy; `f1`, weighted by class support; `f1_macro` and `uar`, the mean F1 and recall of the classes
        that occur; and for each class against the others `acc_NAME` and `f1_NAME` as in `emotion_metrics`.

    Raises:
        ValueError: as `regression_metrics`.
    """
    given = np.asarray(labels)
    if given.ndim < 2:
        true = _scores(given, given)[0].astype(int)
        if not np.isin(true, range(len(names))).all():
            raise ValueError(f"labels must be numbers of classes, 0 to {len(names) - 1}")
        given = np.eye(len(names))[true]
    columns = [_scores(*pair) for pair in zip(*_columns(probabilities, given, names), strict=True)]
    predicted, true = (np.argmax(of, axis=0) for of in zip(*columns, strict=True))
    found = {"acc": _accuracy(predicted, true), "f1": _weighted_f1(predicted, true)}
    occurs = [number for number in range(len(names)) if (true == number).any()]
    found["f1_macro"] = float(np.mean([_f1(predicted, true, number) for number in occurs]))
    found["uar"] = float(np.mean([_recall(predicted, true, number) for number in occurs]))
    for number, name in enumerate(names):
        one = predicted == number, true == number
        found |= {metric_of("acc", name): _accuracy(*one), metric_of("f1", name): _weighted_f1(*one)}
    return found


def metric_of(kind: str, target: str) -> str:
    """What a metric of one target or class is called: `f1_happy`; of the class 2 `acc_target 2`, which is no Acc-2."""
    name = f"{kind}_{target}"
    return f"{kind}_target {target}" if target.isdigit() or kind_and_target(name) != (kind, target) else name


def kind_and_target(metric: str) -> tuple[str, str]:
    """What [`metric_of`] made the name of: `f1`, `happy`; and `acc_2`, `""` of a metric that is not of one target."""
    if metric in METRIC_NAMES:
        return metric, ""
    kind = max((one for one in METRIC_NAMES if metric.startswith(f"{one}_")), key=len, default=metric)
    return kind, metric.removeprefix(kind).removeprefix("_")


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
    "rmse": ("mse", "RMSE"),
    "acc": ("accuracy", "Accuracy"),
    "wa": ("accuracy", "Weighted accuracy"),
    "auc": ("roc_auc", "AUC"),
    "wa_chosen": ("accuracy", "Weighted accuracy, thresholds of validation"),
    "f1_chosen": ("f1", "F1, thresholds of validation"),
    "f1_macro": ("f1", "F1, macro"),
    "uar": ("recall", "UAR"),
}
"""By name, its kind among the Hub's metrics, and what it is called; see also labels/conflict.py."""


def metric_name(name: str) -> tuple[str, str]:
    """As `METRIC_NAMES` has it, of the metrics of one target or class, `f1_happy`, too."""
    kind, target = kind_and_target(name)
    of, title = METRIC_NAMES[kind]
    return of, f"{title}, {target}" if target else title


def reported(results: Collection[str], split: str) -> list[str]:
    """The names of the metrics of `split` among the keys of `all_results.json`, in the order of tables."""
    names = [name.removeprefix(f"{split}_") for name in results if name.startswith(f"{split}_")]
    order = list(METRIC_NAMES)
    known = [name for name in names if name in METRIC_NAMES]
    others = [name for name in names if name not in METRIC_NAMES and kind_and_target(name)[0] in METRIC_NAMES]
    return [*sorted(known, key=order.index), *others]


def metric_text(name: str, value: float, signed: bool = False) -> str:
    """An error or a correlation with three decimals; a share in percent, with one."""
    sign = "+" if signed else ""
    return f"{100 * value:{sign}.1f}" if is_share(name) else f"{value:{sign}.3f}"


def is_share(name: str) -> bool:
    """Whether a metric is shown in percent: all but errors and correlations."""
    return metric_name(name)[0] not in ("mae", "mse", "pearsonr")


# Fewer clips than these say little: by chance alone a correlation of 30 is beyond .36 in one of twenty cases.
FEW_CLIPS = 30


def few_clips(split: str, clips: int, scores: bool = True) -> str | None:
    """What is to be said of metrics over so few clips, of scores or of classes; `None` where they are enough."""
    if clips >= FEW_CLIPS:
        return None
    if not scores:
        chance = f"one clip more or less that is right changes the accuracy by {1 / clips:.0%}"
    elif clips < 4:
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


def _columns(predictions: ArrayLike, labels: ArrayLike, names: Sequence[str]) -> list[NDArray]:
    """Predictions and labels, column by column."""
    both = [np.asarray(one) for one in (predictions, labels)]
    for name, values in zip(("predictions", "labels"), both, strict=True):
        if values.ndim == 1 and len(names) == 1:
            continue
        if values.ndim != 2 or values.shape[1] != len(names):
            raise ValueError(f"{name} must have shape (n, {len(names)}), for {', '.join(names)}; got {values.shape}")
    return [values.reshape(len(values), -1).T for values in both]


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
    return float(np.average([_f1(predicted, true, one) for one in classes], weights=support))


def _f1(predicted: NDArray, true: NDArray, one: int) -> float:
    return 2 * np.sum((predicted == one) & (true == one)) / (np.sum(predicted == one) + np.sum(true == one))


def _auc(scores: NDArray, true: NDArray) -> float:
    """How often a true one has the higher score of a pair of a true and a false one; equal scores are a half."""
    if true.all() or not true.any():
        return float("nan")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks, positive = (counts.cumsum() - (counts - 1) / 2)[place], int(true.sum())
    return float((ranks[true].sum() - positive * (positive + 1) / 2) / (positive * (len(true) - positive)))


def _recall(predicted: NDArray, true: NDArray, one: int) -> float:
    return float(np.mean(predicted[true == one] == one)) if (true == one).any() else float("nan")
