"""What a model predicts: the names of its targets, their kind and their scale. This file travels to the Hub."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

REGRESSION, MULTI_LABEL, SINGLE_LABEL = "regression", "multi_label_classification", "single_label_classification"
PROBLEM_TYPES = (REGRESSION, MULTI_LABEL, SINGLE_LABEL)  # as transformers names them
TOLERANCE = 1e-3  # by which probabilities may miss 1 in their sum


@dataclass(frozen=True)
class Task:
    """
    Args:
        names: Of the targets: `("sentiment",)`, `("valence", "arousal")`, emotions, or the classes.
        problem_type: `regression`: a number for each target. `multi_label_classification`: any of the names are true at
            once. `single_label_classification`: exactly one is.
        scales: Of a regression, the lowest and the highest label of each target; [-3, 3] where they are not given.
            Nothing for a classification.

    Raises:
        ValueError: The kind is unknown, a scale is empty or missing, or there is one class alone.
    """

    names: tuple[str, ...] = ("sentiment",)
    problem_type: str = REGRESSION
    scales: tuple[tuple[float, float], ...] = ()

    def __post_init__(self):
        if self.problem_type not in PROBLEM_TYPES:
            raise ValueError(f"problem_type must be one of {', '.join(PROBLEM_TYPES)}; got {self.problem_type!r}.")
        if self.problem_type == SINGLE_LABEL and len(self.names) < 2:
            raise ValueError(f"A classification needs two classes or more, got {', '.join(self.names) or 'none'}.")
        if self.problem_type != REGRESSION and self.scales:
            raise ValueError(f"A {self.problem_type} has no scales, got {self.scales}.")
        if self.problem_type == REGRESSION and not self.scales:
            object.__setattr__(self, "scales", ((-3.0, 3.0),) * len(self.names))
        if self.problem_type == REGRESSION and len(self.scales) != len(self.names):
            raise ValueError(f"There must be a scale for each of {', '.join(self.names)}; got {self.scales}.")
        for name, (low, high) in zip(self.names, self.scales, strict=False):
            if not low < high:
                raise ValueError(f"The scale of {name} must go from a low to a higher number, got {low:g} to {high:g}.")

    @property
    def columns(self) -> int:
        """How many numbers the label of a clip is, as data hold it: a class is one."""
        return 1 if self.problem_type == SINGLE_LABEL else len(self.names)

    @property
    def limits(self) -> tuple[tuple[float, float], ...]:
        """The lowest and the highest label of each target: its scale, or 0 and 1."""
        return self.scales or ((0.0, 1.0),) * len(self.names)

    @property
    def label_range(self) -> float | None:
        """Of one score of sentiment in [-3, 3] or [-1, 1], as the field's data sets have it: 3 or 1; else `None`."""
        unnamed = ("LABEL_0",)  # as transformers calls a target without a name
        if self.problem_type != REGRESSION or self.names not in (("sentiment",), unnamed):
            return None
        return {(-3.0, 3.0): 3.0, (-1.0, 1.0): 1.0}.get(self.scales[0])

    def targets(self, labels: torch.Tensor) -> torch.Tensor:
        """
        Labels as the losses and the label generation take them, (clips, targets): numbers on their scale, or
        probabilities.

        Args:
            labels: (clips,) or (clips, targets); of a single-label classification, the numbers of the classes,
                (clips,), or probabilities, (clips, classes).

        Raises:
            ValueError: They are of another shape, or name a class that there is not.
        """
        if self.problem_type == SINGLE_LABEL and labels.ndim == 1:
            if len(labels) and not (labels.min() >= 0 and labels.max() < len(self.names)):
                raise ValueError(
                    f"Labels must be numbers of classes, 0 to {len(self.names) - 1}, got {labels.tolist()}."
                )
            return F.one_hot(labels.long(), len(self.names)).to(torch.float32)
        expected = (len(labels), len(self.names))
        if labels.numel() != expected[0] * expected[1]:
            raise ValueError(f"labels must be one per clip and target, {expected}, got {tuple(labels.shape)}.")
        return labels.reshape(expected).float()

    def losses(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """
        The absolute error of a regression, the cross-entropy of a classification, with probabilities as targets too.

        Args:
            logits, targets: (clips, targets); targets as [`targets`] makes them.

        Returns:
            (clips, targets), or (clips, 1) of a single-label classification.
        """
        if self.problem_type == REGRESSION:
            return (logits - targets).abs()
        if self.problem_type == MULTI_LABEL:
            return F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return F.cross_entropy(logits, targets, reduction="none").unsqueeze(-1)

    def mean_logits(self, logits: torch.Tensor) -> torch.Tensor:
        """Of several models, (models, clips, targets), the logits of which the mean of their predictions is made."""
        if self.problem_type == REGRESSION:
            return logits.mean(0)
        if self.problem_type == MULTI_LABEL:
            return F.logsigmoid(logits).logsumexp(0) - F.logsigmoid(-logits).logsumexp(0)
        return logits.log_softmax(-1).logsumexp(0) - math.log(len(logits))

    def predictions(self, logits: torch.Tensor) -> torch.Tensor:
        """What a user sees, (clips, targets): numbers on the scale of the labels, not clipped, or probabilities."""
        if self.problem_type == REGRESSION:
            return logits
        return logits.sigmoid() if self.problem_type == MULTI_LABEL else logits.softmax(-1)
