"""Estimates how much of the difference between a modality and the label is noise, and not disagreement.

`q_s` is the calibrated position of a modality, `y_m` the label, and `D_s` the mean square of `q_s - y_m`. There are two
estimates, from different evidence. Both are in [0, 1], and 1 means that all is noise. Neither depends on the unit of
the labels.
"""

import math
from collections.abc import Callable

import torch

from .label_scale import quantile_function

ERRORS = 2  # standard errors by which a weight is lowered, and a covariance raised: few clips prove little
HALF_ERROR = 2.5  # relative standard error of [`_lesser_half`] of n normally distributed differences, times sqrt(n)
ROUNDING = 1e-12  # a smaller weight, or a smaller error relative to the variance of the labels, is only rounding
LEVELS = 64  # quantiles that stand for the labels of a noisy copy, and as many for its noise


def noise_in_errors(covariance: torch.Tensor, clips: float = math.inf) -> torch.Tensor:
    """
    Returns the share of noise that shows in the errors of a prediction from all modalities, `n_s = N_s / D_s`.

    Let the label be the weighted mean of what the modalities say, `y_m = sum_s w_s t_s`, with weights that sum to 1,
    and let `q_s = t_s + e_s`, with independent noise `e_s`. The prediction `f = sum_s w_s q_s` then has the error
    `f - y_m = sum_s w_s e_s`. This error contains no disagreement, so `Cov(q_s - y_m, f - y_m) = w_s Var(e_s)`.

    Two predictions are available. The least-squares prediction has the weights `b_s`, and this covariance is its mean
    squared error `E`, the same for each modality. The model's own prediction is the calibrated position of the fusion.
    Least squares gives its weights `w_s`, too, and this covariance is `C_s`, at least 0. `b_s` is lowered by two
    standard errors. `w_s` counts at most as much as that, because a model may use a modality that predicts nothing.
    Together, `N_s = g (C_s + E) / (w_s + b_s)`.

    `g = E / E_0`, at most 1, is the share of the error that counts as noise. `E_0` is the error that would remain if
    all modalities were noisy copies of the label. Modalities that say different things leave less.

    The share is 1 for a modality whose lowered weight is not positive, because it predicts nothing, and for every
    modality in the first epochs, while `E` is large.

    Args:
        covariance: Covariance of the calibrated positions of the modalities, that of the fusion, and `y_m`, in this
            order, (modalities + 2, modalities + 2).
        clips: Number of clips from which the covariance was estimated. With `inf`, nothing is lowered or raised.

    Returns:
        (modalities,).
    """
    between, fusion, label = covariance[:-2, :-2], covariance[:-2, -2], covariance[:-2, -1]
    variance = covariance[-1, -1]
    inverse = _inverse(between)
    best = inverse @ label
    error = (variance - label @ best).maximum(ROUNDING * variance)
    deviation = (error * inverse.diagonal() / clips).clamp(min=0).sqrt()
    weights = best - ERRORS * deviation
    both = weights + (inverse @ fusion).minimum(weights)
    difference = (between.diagonal() - 2 * label + variance).clamp(min=0)
    of_fusion = (covariance[-2, -2] - 2 * covariance[-2, -1] + variance).clamp(min=0)
    shared = fusion - label - covariance[-2, -1] + variance
    shared = (shared + ERRORS * (difference * of_fusion / clips).sqrt()).clamp(min=0)
    explained = (label.square() / (between.diagonal() * variance)).clamp(max=1)
    copies = variance / (1 + (explained / (1 - explained)).nan_to_num(0.0).sum())
    noise = (error / copies).clamp(max=1) * (shared + error) / both
    share = (noise / difference).clamp(max=1).nan_to_num(1.0)
    return torch.where((weights > ROUNDING) & (both > 0), share, 1.0)


def noise_in_centre(calibrated: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """
    Returns the share of noise that shows in the half of the clips that differ least, `m_s = M_s / min(D_s, Var(y_m))`.

    Most clips agree, so their differences are noise. The few that disagree differ by much more, and noise alone has no
    such tail. So the modality is compared with noisy copies of the labels. A copy has a Gaussian copula with the
    labels, and is calibrated like the positions. The copy that fits has the same mean of the lesser half of the squared
    differences. `M_s` is the mean of all squared differences of this copy.

    The mean of the modality is raised by its standard error first. If the noise is as large as the variance of the
    labels, the share is 1: nothing can be seen through such noise.

    Args:
        calibrated: `q_s`, (samples,).
        labels: `y_m`, (samples,), float64, not all equal.

    Returns:
        A scalar.
    """
    square = (calibrated - labels).square()
    observed = _lesser_half(square) * (1 + HALF_ERROR / len(square) ** 0.5)
    of_copy = _squared_differences_of_copies(labels)
    low, high = 0.0, 1.0  # the correlation of the copy
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if _lesser_half(of_copy(middle)) < observed else (middle, high)
    noise = of_copy(low).mean()
    return (noise / square.mean().minimum(labels.var(correction=0))).clamp(max=1).nan_to_num(1.0)


def least_squares_weights(covariance: torch.Tensor) -> torch.Tensor:
    """Returns `b_s`, the weights with which the calibrated positions predict `y_m` best, (modalities,)."""
    return _inverse(covariance[:-2, :-2]) @ covariance[:-2, -1]


def _squared_differences_of_copies(labels: torch.Tensor) -> Callable[[float], torch.Tensor]:
    """Returns a function that maps the correlation of a noisy copy to its squared differences from the labels."""
    normal, label_at = torch.distributions.Normal(labels.new_zeros(()), labels.new_ones(())), quantile_function(labels)
    quantiles = (torch.arange(LEVELS, dtype=labels.dtype, device=labels.device) + 0.5) / LEVELS
    score, original = normal.icdf(quantiles), labels.sort().values[(quantiles * len(labels)).long()]

    def of_copy(correlation: float) -> torch.Tensor:
        copy = correlation * score.unsqueeze(1) + (1 - correlation**2) ** 0.5 * score
        return (label_at(normal.cdf(copy)) - original.unsqueeze(1)).square().flatten()

    return of_copy


def _lesser_half(square: torch.Tensor) -> torch.Tensor:
    """Returns the mean of the smaller half."""
    return square.sort().values[: (len(square) + 1) // 2].mean()


def _inverse(between: torch.Tensor) -> torch.Tensor:
    """Returns the pseudoinverse, which gives the smallest weights. There are several if modalities say the same."""
    return torch.linalg.pinv(between, hermitian=True)
