"""How much of the difference between what a modality seems to say and the label is noise, rather than disagreement?

Two estimates, from different evidence. Both are shares of `D_s`, the mean squared difference of the calibrated position
`q_s` of a modality and the label `y_m`, in [0, 1]. Neither depends on the unit of the labels.
"""

import math
from collections.abc import Callable

import torch

from .label_scale import quantile_function

ERRORS = 2  # standard errors by which a weight is lowered: few clips prove little
HALF_ERROR = 2.5  # standard error of the logarithm of [`_lesser_half`], of one normally distributed difference
LEVELS = 64  # quantiles that stand for the labels, and for the noise, of a noisy copy


def noise_in_errors(covariance: torch.Tensor, clips: float = math.inf) -> torch.Tensor:
    """
    Returns the share of noise that shows in the errors of a prediction from all modalities, `N_s / D_s`.

    Let the label be the weighted mean of what the modalities say, `y_m = sum_s w_s t_s`, with weights that sum to 1,
    and let `q_s = t_s + e_s`, with independent noise `e_s`. A prediction `f = sum_s w_s q_s` then has the error
    `f - y_m = sum_s w_s e_s`, and `Cov(q_s - y_m, f - y_m) = w_s Var(e_s)`: disagreement between modalities drops out.
    Two predictions are available. The least-squares one has the weights `b_s`, and this covariance is its mean squared
    error `E` for each modality. The model's own prediction, the calibrated position of the fusion, has the weights
    `w_s` (by least squares, too; at most `b_s`, because a model may listen to what predicts nothing) and the covariance
    `C_s`. Together, `N_s = g (C_s + E) / (w_s + b_s)`, with `b_s` lowered by two standard errors.

    `g = E / E_0`, at most 1, is the share of the error that must be noise. `E_0` is the error that would remain if all
    modalities were noisy copies of the label. Modalities that say different things leave less.

    All is noise of a modality that predicts nothing, and of every modality in the first epochs, while `E` is large.

    Args:
        covariance: Covariance of the calibrated positions of the modalities, that of the fusion, and `y_m`, in this
            order, (modalities + 2, modalities + 2).
        clips: Number of clips that it was estimated from; with `inf`, no weight is lowered.

    Returns:
        (modalities,).
    """
    between, fusion, label = covariance[:-2, :-2], covariance[:-2, -2], covariance[:-2, -1]
    variance = covariance[-1, -1]
    best = least_squares_weights(covariance)
    error = (variance - label @ best).clamp(min=0)
    deviation = (error * torch.linalg.pinv(between, hermitian=True).diagonal() / clips).clamp(min=0).sqrt()
    weights = best - ERRORS * deviation
    both = weights + _solve(between, fusion).minimum(weights)
    shared = (fusion - label - covariance[-2, -1] + variance).clamp(min=0)
    difference = between.diagonal() - 2 * label + variance
    explained = label.square() / (between.diagonal() * variance)
    copies = variance / (1 + (explained / (1 - explained)).nan_to_num(0.0).sum())
    noise = (error / copies).clamp(max=1) * (shared + error) / both
    share = (noise / difference).clamp(max=1).nan_to_num(1.0)
    return torch.where((weights > 0) & (both > 0), share, 1.0)


def noise_in_centre(calibrated: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """
    Returns the share of noise that shows in the half of the clips that differ least, `N_s / min(D_s, Var(y_m))`.

    Most clips agree, so their differences are noise, and the few that disagree differ by much more. Noise alone has no
    such tail. `N_s` is the noise of the noisy copy of the labels of which the lesser half of the squared differences
    has the same mean. Its labels and positions have a Gaussian copula, and it is calibrated like the positions.
    The mean is raised by its standard error first. Noise that exceeds the variance of the labels hides everything.

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
    return _solve(covariance[:-2, :-2], covariance[:-2, -1])


def _squared_differences_of_copies(labels: torch.Tensor) -> Callable[[float], torch.Tensor]:
    """Returns a function of the correlation of a noisy copy: its squared differences from the labels."""
    normal, label_at = torch.distributions.Normal(labels.new_zeros(()), labels.new_ones(())), quantile_function(labels)
    quantiles = (torch.arange(LEVELS, dtype=labels.dtype, device=labels.device) + 0.5) / LEVELS
    score, original = normal.icdf(quantiles), labels.sort().values[(quantiles * len(labels)).long()]

    def of_copy(correlation: float) -> torch.Tensor:
        copy = correlation * score.unsqueeze(1) + (1 - correlation**2) ** 0.5 * score
        return (label_at(normal.cdf(copy)) - original.unsqueeze(1)).square().flatten()

    return of_copy


def _lesser_half(square: torch.Tensor) -> torch.Tensor:
    return square.sort().values[: (len(square) + 1) // 2].mean()


def _solve(matrix: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    """Returns the smallest solution; there are many if modalities say the same."""
    return torch.linalg.pinv(matrix, hermitian=True) @ vector
