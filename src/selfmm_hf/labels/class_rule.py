"""The default rule for classes: estimates a modality's label from its positions and from the labels of whole clips.

The presence of an emotion is two classes, absent and present. Nothing here depends on the order of the classes.
"""

import torch

SHARP = (1.0, 0.3, 0.1, 0.03, 0.01)  # temperatures, one after the other
STEPS = 30  # iterations at each temperature, and of the mixture
RIDGE = 1e-3  # added to the variance within classes, relative to that of the positions
OPTIMISM = 8.0  # the mixture underrates its errors by this factor at most: positions are not normally distributed
TINY = 1e-12


def as_classes(position: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """
    Turns positions into classes, as [`on_label_scale`] turns them into scores: each clip gets the class whose limit its
    position exceeds most. The limits are such that each class gets as many clips as it has by the labels.

    Args:
        position: (samples, classes), finite.
        labels: `y_m`, probabilities of the classes, (samples, classes).

    Returns:
        (samples, classes), float64, 1 for the class and 0 for the others.
    """
    share = labels.double().mean(0).clamp(min=TINY).log()
    position = position.double() / position.double().std(0).mean().clamp(min=TINY)
    limits = torch.zeros_like(share)
    for temperature in SHARP:
        for _ in range(STEPS):
            found = ((position - limits) / temperature).softmax(-1).mean(0)
            limits = limits + temperature * (found.clamp(min=TINY).log() - share)
    return torch.nn.functional.one_hot((position - limits).argmax(-1), len(share)).double()


def class_said(position: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Estimates the probability that a modality says each class, given its position and the label, and how far to
    trust it.

    The label is taken for a noisy copy of what the modality says: with probability `rho` it comes from elsewhere, drawn
    by the shares of the classes. Positions are normally distributed about a mean for each class, with one covariance.
    Means, covariance, shares and `rho` are estimated by expectation and maximisation, which starts with the labels
    themselves. So a clip that lies amid another class than its label is taken to say that class, and a clip between
    classes keeps its label.

    Args:
        position: (samples, classes), finite.
        labels: `y_m`, probabilities of the classes, (samples, classes).

    Returns:
        (samples, classes), float64; and the trust, in [0, 1]: the share of the differences between positions and labels
        that are no errors. The mixture gives each clip a probability of being put into the wrong class. Eight times
        their mean counts as the share of errors, because the mixture is too sure where positions have long tails. So
        classes that lie well apart are trusted, and overlapping ones are not.
    """
    labels = labels.double()
    position = position.double() - position.double().mean(0)
    position = position / position.std().clamp(min=TINY)
    classes, share = labels.shape[1], labels.mean(0)
    said, rho = labels, position.new_tensor(0.1)
    for _ in range(STEPS):
        weight = said.sum(0).clamp(min=TINY)
        means = said.T @ position / weight.unsqueeze(-1)
        within = (position.T @ position - means.T @ (weight.unsqueeze(-1) * means)) / len(position)
        axes = torch.linalg.pinv(within + RIDGE * torch.eye(classes).to(within), hermitian=True) @ means.T
        fit = position @ axes - (means * axes.T).sum(-1) / 2 + weight.log()  # of each class, up to a constant
        elsewhere = rho * labels @ share
        likely = (1 - rho) * labels + elsewhere.unsqueeze(-1)  # of the label, for each class that may be said
        alone = fit.softmax(-1)
        said = alone * likely
        said = said / said.sum(-1, keepdim=True).clamp(min=TINY)
        rho = (said * elsewhere.unsqueeze(-1) / likely.clamp(min=TINY)).sum(-1).mean().clamp(TINY, 1 - TINY)
    errors = 1 - alone.max(-1).values.mean()
    differences = 1 - labels.gather(-1, alone.argmax(-1, keepdim=True)).mean()
    return said, (1 - OPTIMISM * errors / differences.clamp(min=TINY)).clamp(0, 1)
