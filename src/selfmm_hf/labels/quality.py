"""How near generated unimodal labels come to the true ones, where the data know these."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ..data import Samples, Splits
from ..data.columns import UNIMODAL_LABELS


def generated_label_quality(splits: Splits, labels: np.ndarray, modalities: list[str]) -> dict[str, float]:
    """
    Correlation and mean absolute error of generated unimodal labels against the true ones, beside those of `y_m`,
    where the data have true ones (the demo corpus, SIMS).

    Args:
        labels: (training samples, modalities, targets).
    """
    fused, found = np.array(splits["train"]["label"]), {}
    for modality, truth in true_labels(splits["train"], modalities).items():
        generated = labels[:, modalities.index(modality), 0]
        for name, measure in (("corr", correlation), ("mae", mean_error)):
            values = quality(np.array([generated, fused]), truth, measure)
            found |= {
                f"{kind}_label_{modality}_{name}": v for kind, v in zip(("generated", "fused"), values, strict=True)
            }
    return found


def true_labels(samples: Samples, modalities: Iterable[str]) -> dict[str, NDArray[np.float64]]:
    """What each of `modalities` truly says, (clips,), of those of which the data know it; NaN where of a clip not."""
    there = [name for name in modalities if UNIMODAL_LABELS[name] in samples.column_names]
    return {name: np.array(samples[UNIMODAL_LABELS[name]], dtype=float) for name in there}


def correlation(one: NDArray, other: NDArray) -> float:
    """Pearson's; NaN where either is constant."""
    return float(np.corrcoef(one, other)[0, 1]) if np.ptp(one) and np.ptp(other) else float("nan")


def mean_error(one: NDArray, other: NDArray) -> float:
    """Mean absolute difference."""
    return float(np.abs(one - other).mean())


def quality(labels: NDArray, truth: NDArray, measure) -> list[float]:
    """`measure`, [`correlation`] or [`mean_error`], of one modality's generated labels, epoch by epoch."""
    known = np.isfinite(truth)
    return [measure(epoch[known], truth[known]) for epoch in labels]
