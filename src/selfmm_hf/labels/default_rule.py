"""From positions between class centres to labels: the default convention's label generation.

The paper's rule shifts `y_m` by the difference of two relative distances. These are ratios with a scale of their own,
unbounded near a centre, and mean nothing before the representations do; measured against known unimodal sentiments,
its labels are worse than `y_m` for many epochs, and on the wrong scale to the end (docs/method.md).
Here the labels borrow their scale from `y_m`, and are believed only as far as the data support them.
"""

import torch


def float64_device(device: torch.device) -> torch.device:
    """Where float64 is computed for `device`: there, or on the CPU where it has none, as Apple's MPS has not."""
    try:
        torch.ones(2, dtype=torch.float64, device=device).sum()
        return device
    except (TypeError, RuntimeError):
        return torch.device("cpu")


def axis_position(features: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """
    `(||F* - C^n||^2 - ||F* - C^p||^2) / ||C^p - C^n||^2`: 1 at the positive centre, -1 at the negative one.

    The paper's relative distance divides by the distance to one of the centres, this one by the distance between
    them: it is linear in `F*`, symmetric in the classes and without a pole.

    Args:
        features: `F*`, (batch, dim).
        centres: `C^p` and `C^n`, (2, targets, dim).

    Returns:
        (batch, targets); not a number where a class is empty or the centres coincide.
    """
    positive, negative = centres  # (targets, dim)
    axis = positive - negative
    middle = (positive + negative) / 2
    return 2 * (features @ axis.T - (middle * axis).sum(-1)) / axis.square().sum(-1)


def on_label_scale(position: torch.Tensor, labels: torch.Tensor, rounds: int = 5) -> torch.Tensor:
    """
    Carries positions onto the scale of the labels: the same quantile, counted where both agree.

    Modalities agree in most clips, and there a modality's sentiment is the fused label. So the distribution of
    the positions is matched to that of the labels over the clips in agreement, each weighted by `1 - W_s =
    1 - tanh(|y_s - y_m|)`, which a few rounds of matching and weighting find.

    Args:
        position: (samples,), finite, any scale, in the direction of the labels.
        labels: `y_m`, (samples,).

    Returns:
        (samples,), a non-decreasing function of `position` within the range of `labels`.
    """
    home, device = position.device, float64_device(position.device)
    position, labels = position.to(device), labels.to(device)
    weights = torch.ones_like(labels, dtype=torch.float64)
    positions, position_index = position.unique(return_inverse=True)
    values, value_index = labels.double().unique(return_inverse=True)
    for _ in range(rounds):
        levels = _levels(position_index, len(positions), weights)
        calibrated = _interpolate(levels, _levels(value_index, len(values), weights), values)[position_index]
        weights = 1 - (calibrated - labels).abs().tanh()
    return calibrated.float().to(home)


def confidence(calibrated: torch.Tensor, fusion: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """
    How far to believe a modality where it contradicts the fusion, in [0, 1]: `R_s^2 R_m^2 (1 - E_m / E_s)`.

    `R^2`, the squared correlation of calibrated positions with the labels, is how much the modality and the fusion say
    about sentiment at all. `E`, the mean squared difference from the labels, is disagreement and noise for a modality,
    but noise alone for the fusion, whose label is given: the share `1 - E_m / E_s` of a modality's difference is more
    than the model's own error. All are near 0 in the first epochs, so that labels stay `y_m` until there is something
    to learn from.

    Args:
        calibrated: Positions of the modality on the label scale, (samples,).
        fusion: Those of the fusion, (samples,).
        labels: `y_m`, (samples,).
    """
    explained = _correlation(calibrated, labels).square() * _correlation(fusion, labels).square()
    noise = (fusion - labels).square().mean() / (calibrated - labels).square().mean()
    return (explained * (1 - noise).clamp(0, 1)).nan_to_num(0.0)


def calibrated_labels(position: torch.Tensor, fusion: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """
    The labels of one modality, `y_s = y_m + confidence (calibrated position - that of the fusion)`.

    As in the paper, the modality is held against the fusion, not against the label: what the model has got wrong of a
    clip as a whole is in both, and drops out.

    Args:
        position: [`axis_position`] of the modality, (samples,).
        fusion: That of the fusion, (samples,).
        labels: `y_m`, (samples,).
    """
    calibrated, fusion = on_label_scale(position, labels), on_label_scale(fusion, labels)
    return labels + confidence(calibrated, fusion, labels) * (calibrated - fusion)


def _correlation(values: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """At least 0; not a number for constants."""
    centred, target = values - values.mean(), labels - labels.mean()
    return ((centred * target).mean() / (centred.square().mean() * target.square().mean()).sqrt()).clamp(0, 1)


def _levels(index: torch.Tensor, count: int, weights: torch.Tensor) -> torch.Tensor:
    """The quantile in (0, 1) at which each of `count` ascending values lies in the middle of its own weight."""
    mass = torch.zeros(count, dtype=weights.dtype, device=weights.device).index_add(0, index, weights)
    return (mass.cumsum(0) - mass / 2) / mass.sum()


def _interpolate(at: torch.Tensor, levels: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """The piecewise linear function through (levels, values), constant beyond its ends."""
    right = torch.searchsorted(levels, at).clamp(1, max(len(levels) - 1, 1))
    left, right = right - 1, right.clamp(max=len(levels) - 1)
    width = (levels[right] - levels[left]).clamp(min=torch.finfo(levels.dtype).tiny)
    share = ((at - levels[left]) / width).clamp(0, 1)
    return values[left] + share * (values[right] - values[left])
