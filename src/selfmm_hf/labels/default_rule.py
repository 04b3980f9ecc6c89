"""Turns positions between class centres into labels: the label generation of the default convention.

The paper's rule shifts `y_m` by the difference of two relative distances. These ratios have a scale of their own, are
unbounded near a centre, and mean nothing before the representations do. Measured against known unimodal sentiments,
its labels are worse than `y_m` for many epochs, and on the wrong scale to the end (docs/method.md).
Here the labels take their scale from `y_m`. A modality is trusted to the extent that its difference from `y_m` is more
than noise (noise.py). Nothing here depends on the unit of the labels.
"""

from collections.abc import Callable

import torch

from .class_rule import as_classes, class_said
from .label_scale import on_label_scale
from .noise import least_squares_weights, noise_in_centre, noise_in_errors

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


def spread(covariance: torch.Tensor) -> torch.Tensor:
    """
    Returns how much wider the modalities' own scale is than that of `y_m`: the sum of the positive least-squares
    weights, at least 1; `covariance` as in [`noise_in_errors`].

    `y_m`, the mean of modalities that disagree, has a smaller variance than each of them. The calibrated positions have
    the variance of `y_m`, so they are too narrow. Then the weights sum to more than 1.
    """
    return least_squares_weights(covariance).clamp(min=0).sum().clamp(min=1)


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
        (samples, modalities, 1 or classes), NaN where the position is, and for a modality with the same position for
        all clips; and the confidence, (modalities,). It is 0 for such a modality, and for one without clips. In a
        regression, it is also 0 for a modality that too few clips have together with the others.
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
    Returns `y_s = y_m + c_s d d^2 / (d^2 + 3 (1 - c_s) D_s)`. `d` is the difference of the calibrated position from
    `y_m`, and `D_s` is its mean square, both after the positions are spread about their mean by the factor [`spread`].
    The confidence is `c_s = 1 - n_s m_s`: `n_s` is the noise in the errors of a prediction ([`noise_in_errors`]), and
    `m_s` the noise in the centre ([`noise_in_centre`]), both before the spread.

    `(1 - c_s) D_s` is the noise. Most clips agree, and their small differences are noise; a difference that exceeds the
    noise is what a modality says. So at the same confidence, a clip with a larger difference moves by a larger share.
    """
    calibrated, told, complete, covariance = _calibrated(positions, fusion, labels, on_label_scale)
    trust, wider = calibrated.new_zeros(calibrated.shape[1]), 1.0
    if covariance is not None:
        in_errors, wider = noise_in_errors(covariance, int(complete.sum())), spread(covariance)
        each = calibrated[:, told, 0].unbind(1)
        in_centre = [noise_in_centre(one[one.isfinite()], labels[one.isfinite(), 0]) for one in each]
        trust[told] = 1 - in_errors * torch.stack(in_centre)
    middle, fused = calibrated.nanmean(0), labels.unsqueeze(1)
    return fused + believed(middle + wider * (calibrated - middle) - fused, trust), trust


def _moved_classes(
    positions: torch.Tensor, fusion: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Returns `y_s = y_m + c_s (p_s - y_m)`, where `p_s` are the probabilities of [`class_said`]. `c_s` is the larger of
    its trust in them and `2 (1 - n_s)`, at most 1, with `n_s` from [`noise_in_errors`].
    """
    calibrated, told, _, covariance = _calibrated(positions, fusion, labels, as_classes)
    trust = calibrated.new_zeros(calibrated.shape[1])
    if covariance is not None:
        trust[told] = 1 - noise_in_errors(covariance)
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
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """
    Returns the calibrated positions `q_s`, which `carry` makes of the positions and labels of the clips that have a
    modality; the modalities and clips of [`enough_together`]; and their covariance for [`noise_in_errors`], summed over
    classes, or `None` if fewer than two modalities are left or all labels are equal.
    """
    calibrated = torch.full(positions.shape, torch.nan, dtype=torch.float64, device=positions.device)
    for column, here in enumerate(positions.isfinite().all(-1).T):
        position = positions[here, column]
        if here.any() and (position.amin(0) < position.amax(0)).all():
            calibrated[here, column] = carry(position, labels[here])
    told, complete = enough_together(calibrated.isfinite().all(-1) & fusion.isfinite().all(-1, keepdim=True))
    if told.sum() < 2 or not (labels[complete].std(0) > 0).any():
        return calibrated, told, complete, None
    whole = carry(fusion[complete], labels[complete])
    together = torch.cat([calibrated[complete][:, told], whole.unsqueeze(1), labels[complete].unsqueeze(1)], dim=1)
    return calibrated, told, complete, sum(one.T.cov() for one in together.unbind(-1))


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
