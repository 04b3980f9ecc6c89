"""The default rule for classes: estimates a modality's label from its positions and from the labels of whole clips.

An emotion that a clip has or has not is two classes. Nothing here depends on the order of the classes.
"""

import torch

SHARP = (1.0, 0.3, 0.1, 0.03, 0.01)  # temperatures, one after the other
STEPS = 30  # of a temperature, and of the mixture
RIDGE = 1e-3  # of the variance within classes, in that of the positions
OPTIMISM = 8.0  # by how much the mixture underrates its errors at the most: positions are not normally distributed
TINY = 1e-12


def as_classes(position: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """
    Carries positions onto classes, as [`on_label_scale`] carries them onto scores: each clip to the class at which it
    lies farthest above a limit of the class' own. With these limits, each class has as many clips as by the labels.

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
    The probability that a modality says each class, given its position and the label, and how far to believe it.

    The label is a noisy one of what the modality says: with probability `rho` it has come from elsewhere, drawn by the
    shares of the classes. Positions are normally distributed about a mean for each class, with one covariance. Means,
    covariance, shares and `rho` are estimated by expectation and maximisation, beginning with the labels themselves.
    So a clip that lies amid another class than its label is believed to say that one, and a clip between classes keeps
    its label.

    Args:
        position: (samples, classes), finite.
        labels: `y_m`, probabilities of the classes, (samples, classes).

    Returns:
        (samples, classes), float64; and a share in [0, 1]: that of the differences between positions and labels which
        are no errors. By the mixture, a clip between classes is taken for the wrong one with some probability. Eight
        times their mean is taken for the share of errors, because the mixture is surer than it should be where
        positions have long tails. Classes that lie well apart are believed, then, and overlapping ones are not.
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
        fit = position @ axes - (means * axes.T).sum(-1) / 2 + weight.log()  # of a class, up to a constant
        elsewhere = rho * labels @ share
        likely = (1 - rho) * labels + elsewhere.unsqueeze(-1)  # the label, for each class that may be said
        alone = fit.softmax(-1)
        said = alone * likely
        said = said / said.sum(-1, keepdim=True).clamp(min=TINY)
        rho = (said * elsewhere.unsqueeze(-1) / likely.clamp(min=TINY)).sum(-1).mean().clamp(TINY, 1 - TINY)
    errors = 1 - alone.max(-1).values.mean()
    differences = 1 - labels.gather(-1, alone.argmax(-1, keepdim=True)).mean()
    return said, (1 - OPTIMISM * errors / differences.clamp(min=TINY)).clamp(0, 1)
