"""Turns positions between class centres into labels: the label generation of the default convention.

The paper's rule shifts `y_m` by the difference of two relative distances. These ratios have a scale of their own, are
unbounded near a centre, and mean nothing before the representations do. Measured against known unimodal sentiments,
its labels are worse than `y_m` for many epochs, and on the wrong scale to the end (docs/method.md).
Here the labels take their scale from `y_m`, and a modality is trusted as far as its difference from `y_m` is more than
noise. Nothing here depends on the unit of the labels.
"""

from collections.abc import Callable

import torch

from .class_rule import as_classes, class_said

SMALL = 3.0  # squared difference, relative to the noise, of which half is kept


def float64_device(device: torch.device) -> torch.device:
    """Returns `device`, or the CPU if that device has no float64, like Apple's MPS."""
    try:
        torch.ones(2, dtype=torch.float64, device=device).sum()
        return device
    except (TypeError, RuntimeError):
        return torch.device("cpu")


def axis_position(features: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """
    Returns `(||F* - C^n||^2 - ||F* - C^p||^2) / ||C^p - C^n||^2`: 1 at the positive centre, -1 at the negative one.

    The paper's relative distance divides by the distance to one of the centres, this one by the distance between
    them: it is linear in `F*`, symmetric in the classes and without a pole.

    Args:
        features: `F*`, (batch, dim).
        centres: `C^p` and `C^n`, (2, targets, dim).

    Returns:
        (batch, targets); NaN if a class is empty or the centres coincide.
    """
    positive, negative = centres  # (targets, dim)
    axis = positive - negative
    middle = (positive + negative) / 2
    return 2 * (features @ axis.T - (middle * axis).sum(-1)) / axis.square().sum(-1)


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
    values, value_counts = labels.double().unique(return_counts=True)
    return _interpolate(_levels(counts), _levels(value_counts), values)[index]


def confidence(covariance: torch.Tensor) -> torch.Tensor:
    """
    Returns how far to trust the calibrated position `q_s` of each modality in place of `y_m`: the share of their mean
    squared difference `D_s` that is not noise, `c_s = 1 - N_s / D_s`, in [0, 1].

    A modality's noise shows in the errors of a prediction from all modalities. Let the label be the weighted mean of
    what the modalities say, `y_m = sum_s w_s t_s`, with weights that sum to 1, and let `q_s = t_s + e_s`, with
    independent noise `e_s`. A prediction `f = sum_s w_s q_s` then has the error `f - y_m = sum_s w_s e_s`, and
    `Cov(q_s - y_m, f - y_m) = w_s Var(e_s)`: disagreement between modalities drops out. Two predictions are available.
    The least-squares one has the weights `b_s`, and this covariance is its mean squared error `E` for each modality.
    The model's own prediction, the calibrated position of the fusion, has the weights `w_s` (by least squares, too; at
    most `b_s`, because a model may listen to what predicts nothing) and the covariance `C_s`. Together,
    `N_s = g (C_s + E) / (w_s + b_s)`.

    `g = E / E_0`, at most 1, is the share of the error that must be noise. `E_0` is the error that would remain if all
    modalities were noisy copies of the label. Modalities that say different things leave less.

    A modality that predicts nothing has no weight and gets no confidence. Nor does any modality in the first epochs,
    while `E` is large.

    Args:
        covariance: Covariance of the calibrated positions of the modalities, that of the fusion, and `y_m`, in this
            order, (modalities + 2, modalities + 2).

    Returns:
        (modalities,).
    """
    between, fusion, label = covariance[:-2, :-2], covariance[:-2, -2], covariance[:-2, -1]
    variance = covariance[-1, -1]
    weights = least_squares_weights(covariance)
    error = (variance - label @ weights).clamp(min=0)
    both = weights + _solve(between, fusion).minimum(weights)
    shared = (fusion - label - covariance[-2, -1] + variance).clamp(min=0)
    difference = between.diagonal() - 2 * label + variance
    explained = label.square() / (between.diagonal() * variance)
    copies = variance / (1 + (explained / (1 - explained)).nan_to_num(0.0).sum())
    noise = (error / copies).clamp(max=1) * (shared + error) / both
    believed = (1 - noise / difference).clamp(0, 1).nan_to_num(0.0)
    return torch.where((weights > 0) & (both > 0), believed, 0.0)


def spread(covariance: torch.Tensor) -> torch.Tensor:
    """
    Returns how much wider the modalities' own scale is than that of `y_m`, at least 1; `covariance` as in
    [`confidence`].

    The mean of modalities that disagree has a smaller variance than each of them. So do positions with the quantiles of
    `y_m`. This shows in weights that sum to more than 1.
    """
    return least_squares_weights(covariance).clamp(min=0).sum().clamp(min=1)


def least_squares_weights(covariance: torch.Tensor) -> torch.Tensor:
    """Returns `b_s`, the weights with which the calibrated positions predict `y_m` best, (modalities,)."""
    return _solve(covariance[:-2, :-2], covariance[:-2, -1])


def calibrated_labels(
    positions: torch.Tensor, fusion: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Returns the labels of all modalities: `y_m`, moved towards what each modality says, by [`_moved_scores`] or
    [`_moved_classes`].

    Args:
        positions: [`axis_position`] of each modality, (samples, modalities, 1 or classes); NaN where a clip lacks it.
        fusion: That of the fusion, (samples, 1 or classes).
        labels: `y_m`, (samples, 1 or classes): one target of a regression, or the probabilities of all classes.

    Returns:
        (samples, modalities, 1 or classes), NaN where the position is; and the confidence, (modalities,). It is 0 for a
        modality without clips, for one with the same position for all, and for one that too few clips have together
        with the others.
    """
    home, device = labels.device, float64_device(labels.device)
    positions, fusion, labels = positions.to(device), fusion.to(device), labels.to(device).double()
    moved = _moved_scores if labels.shape[-1] == 1 else _moved_classes
    new, trust = moved(positions, fusion, labels)
    return new.float().to(home), trust.float().to(home)


def _moved_scores(
    positions: torch.Tensor, fusion: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Returns `y_s = y_m + c_s d d^2 / (d^2 + 3 (1 - c_s) D_s)`, with `d = q_s - y_m` for the calibrated position `q_s`,
    its mean square `D_s`, and the [`confidence`] `c_s`.

    `(1 - c_s) D_s` is the noise. Most clips agree, and their small differences are noise; a difference that exceeds the
    noise is what a modality says. So at the same confidence, a clip moves the farther, the more it differs.

    Before that, the positions are spread about their mean, see [`spread`].
    """
    calibrated, trust, covariance = _calibrated(positions, fusion, labels, on_label_scale)
    wider = 1.0 if covariance is None else spread(covariance)
    middle, fused = calibrated.nanmean(0), labels.unsqueeze(1)
    return fused + believed(middle + wider * (calibrated - middle) - fused, trust), trust


def _moved_classes(
    positions: torch.Tensor, fusion: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Returns `y_s = y_m + c_s (p_s - y_m)`, where `p_s` are the probabilities of [`class_said`], and `c_s` is its trust
    in them or twice the [`confidence`], whichever is larger.
    """
    calibrated, trust, _ = _calibrated(positions, fusion, labels, as_classes)
    known = calibrated.isfinite().all(-1)  # (samples, modalities)
    new = torch.where(known.unsqueeze(-1), labels.unsqueeze(1), torch.nan)
    for column, here in enumerate(known.T):
        if here.any():
            said, apart = class_said(positions[here, column], labels[here])
            trust[column] = (2 * trust[column]).clamp(max=1).maximum(apart)
            new[here, column] += trust[column] * (said - labels[here])
    return new, trust


def _calibrated(
    positions: torch.Tensor,
    fusion: torch.Tensor,
    labels: torch.Tensor,
    carry: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """
    Returns the calibrated positions `q_s`, which `carry` makes of the positions and labels of the clips that have a
    modality; their [`confidence`]; and the covariance behind it, summed over classes, or `None` if there is none.
    """
    calibrated = torch.full(positions.shape, torch.nan, dtype=torch.float64, device=positions.device)
    for column, here in enumerate(positions.isfinite().all(-1).T):
        position = positions[here, column]
        if here.any() and (position.amin(0) < position.amax(0)).all():
            calibrated[here, column] = carry(position, labels[here])
    trust = torch.zeros(positions.shape[1], dtype=torch.float64, device=positions.device)
    told, complete = enough_together(calibrated.isfinite().all(-1) & fusion.isfinite().all(-1, keepdim=True))
    if not told.any() or not (labels[complete].std(0) > 0).any():
        return calibrated, trust, None
    whole = carry(fusion[complete], labels[complete])
    together = torch.cat([calibrated[complete][:, told], whole.unsqueeze(1), labels[complete].unsqueeze(1)], dim=1)
    covariance = sum(one.T.cov() for one in together.unbind(-1))
    trust[told] = confidence(covariance)
    return calibrated, trust, covariance


def believed(difference: torch.Tensor, confidence: torch.Tensor) -> torch.Tensor:
    """
    Takes noise out of the differences between positions and `y_m`, see [`_moved_scores`].

    Args:
        difference: (samples, modalities, classes or 1), NaN where a clip lacks the modality.
        confidence: (modalities,).
    """
    square = difference.square().sum(-1)
    noise = (1 - confidence) * square.nanmean(0)
    share = confidence * square / (square + SMALL * noise).clamp(min=torch.finfo(square.dtype).tiny)
    return share.unsqueeze(-1) * difference


def enough_together(present: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Finds the modalities that enough clips have together to estimate a covariance: more clips than it has numbers.
    Leaves out the rarest modality until there are enough.

    Args:
        present: (samples, modalities).

    Returns:
        The modalities that are kept, (modalities,), and the clips that have all of them, (samples,).
    """
    counts = present.sum(0)
    told = counts > 0
    while told.any():
        complete, size = present[:, told].all(1), int(told.sum()) + 2
        if complete.sum() > size * (size + 1) // 2:
            return told, complete
        told = told & (counts > counts[told].min())
    return told, present.all(1)


def _solve(matrix: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    """Returns the smallest solution; there are many if modalities say the same."""
    return torch.linalg.pinv(matrix, hermitian=True) @ vector


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
