"""Calibrates the positions between class centres: maps them to the scale of the labels."""

from collections.abc import Callable
from functools import partial

import torch


def on_label_scale(position: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """
    Maps each position to the label at the same quantile.

    Args:
        position: (samples, 1), finite, on any scale; a higher position stands for a higher label.
        labels: `y_m`, (samples, 1).

    Returns:
        (samples, 1), float64: a non-decreasing function of `position` within the range of `labels`.
    """
    _, index, counts = position.unique(return_inverse=True, return_counts=True)
    return quantile_function(labels)(_levels(counts))[index]


def quantile_function(labels: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """Returns a function that maps quantiles in (0, 1) to labels, interpolated between the values that occur."""
    values, counts = labels.double().unique(return_counts=True)
    return partial(_interpolate, levels=_levels(counts), values=values)


def _levels(counts: torch.Tensor) -> torch.Tensor:
    """Returns the quantile in (0, 1) of each distinct value, in ascending order: the middle of its share."""
    below = counts.cumsum(0) - counts  # integers, because a GPU has no deterministic cumulative sum of floats
    return (below.double() + counts.double() / 2) / counts.sum()


def _interpolate(at: torch.Tensor, levels: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Evaluates the piecewise linear function through (levels, values), constant beyond its ends."""
    right = torch.searchsorted(levels, at).clamp(1, max(len(levels) - 1, 1))
    left, right = right - 1, right.clamp(max=len(levels) - 1)
    width = (levels[right] - levels[left]).clamp(min=torch.finfo(levels.dtype).tiny)
    share = ((at - levels[left]) / width).clamp(0, 1)
    return values[left] + share * (values[right] - values[left])
