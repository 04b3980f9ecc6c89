"""Calibrates positions between class centres: carries them to the scale of the labels."""

from collections.abc import Callable
from functools import partial

import torch


def on_label_scale(position: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """
    Maps positions to the scale of the labels: to the same quantile.

    Args:
        position: (samples, 1), finite, any scale, in the direction of the labels.
        labels: `y_m`, (samples, 1).

    Returns:
        (samples, 1), float64: a non-decreasing function of `position` within the range of `labels`.
    """
    _, index, counts = position.unique(return_inverse=True, return_counts=True)
    return quantile_function(labels)(_levels(counts))[index]


def quantile_function(labels: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """Returns a function of quantiles in (0, 1): the labels there, interpolated between the values that occur."""
    values, counts = labels.double().unique(return_counts=True)
    return partial(_interpolate, levels=_levels(counts), values=values)


def _levels(counts: torch.Tensor) -> torch.Tensor:
    """Returns the quantile in (0, 1) of each of some ascending values: the middle of its own weight."""
    counts = counts.double()
    return (counts.cumsum(0) - counts / 2) / counts.sum()


def _interpolate(at: torch.Tensor, levels: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Evaluates the piecewise linear function through (levels, values), constant beyond its ends."""
    right = torch.searchsorted(levels, at).clamp(1, max(len(levels) - 1, 1))
    left, right = right - 1, right.clamp(max=len(levels) - 1)
    width = (levels[right] - levels[left]).clamp(min=torch.finfo(levels.dtype).tiny)
    share = ((at - levels[left]) / width).clamp(0, 1)
    return values[left] + share * (values[right] - values[left])
