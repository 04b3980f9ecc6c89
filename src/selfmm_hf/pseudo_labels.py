"""The unimodal label generation module of Self-MM (paper, section "Unimodal Label Generation Module").

Notation as in the paper: `F*` representations, `C^p`, `C^n` centres of the positive and negative class, `D^p`, `D^n`
distances to them, `alpha` relative distance, `y_m` fused label, `y_s` generated label of a modality.
Labels have the shape (samples, targets); MOSI, MOSEI and SIMS have one target.
"""

from dataclasses import dataclass

import torch

EPS = 1e-8  # official `MIN`


@dataclass(frozen=True)
class Convention:
    """
    Every choice in which the paper, the official code and this project differ.

    Args:
        distance: `"euclidean"` (official), `"squared"`, which is squared and divided by sqrt(dim) (paper), or
            `"axis"`, the position between the class centres (this project), see [`axis_position`].
        zero_is_positive: Whether a label of exactly 0 belongs to the positive class.
        unseen_in_centres: Whether samples not yet seen count as zero vectors in the centres.
        clamp: Whether generated labels are clamped to the label range.
        initial_weight: `W_s` before labels are generated. The paper's formula makes it 0, so that the unimodal heads
            learn nothing in the first two epochs.
        sum_accumulated: Whether the mean losses of accumulated batches are summed, and an incomplete last group of an
            epoch is dropped, rather than each sample counting once.
        mean_of_batch_means: Whether the validation loss is the mean of the batches' means, rather than of the samples.
    """

    distance: str = "axis"
    zero_is_positive: bool = False
    unseen_in_centres: bool = False
    clamp: bool = True
    initial_weight: float = 1.0
    sum_accumulated: bool = False
    mean_of_batch_means: bool = False


CONVENTIONS = {
    "default": Convention(),
    "paper": Convention(distance="squared", clamp=False, initial_weight=0.0),
    "official": Convention(
        distance="euclidean",
        zero_is_positive=True,
        unseen_in_centres=True,
        initial_weight=0.0,
        sum_accumulated=True,
        mean_of_batch_means=True,
    ),
}


def relative_distance(features: torch.Tensor, centres: torch.Tensor, squared: bool) -> torch.Tensor:
    """
    `alpha = (D^n - D^p) / (D^p + eps)`, of shape (batch, targets).

    Args:
        features: `F*`, (batch, dim).
        centres: `C^p` and `C^n`, (2, targets, dim).
        squared: `D = ||F* - C||_2^2 / sqrt(dim)` (paper), rather than `||F* - C||_2` (official).
    """
    difference = features.unsqueeze(1).unsqueeze(1) - centres.transpose(0, 1)  # (batch, targets, 2, dim)
    distance = difference.norm(dim=-1)
    if squared:
        distance = distance.square() / features.shape[-1] ** 0.5
    positive, negative = distance.unbind(-1)
    return (negative - positive) / (positive + EPS)


def axis_position(features: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """
    `(||F* - C^n||^2 - ||F* - C^p||^2) / ||C^p - C^n||^2`: 1 at the positive centre, -1 at the negative one.

    The paper's relative distance divides by the distance to one of the centres, this one by the distance between
    them: it is linear in `F*`, symmetric in the classes and bounded where `alpha` is not. Shapes as above.
    """
    positive, negative = centres  # (targets, dim)
    axis = positive - negative
    middle = (positive + negative) / 2
    return 2 * (features @ axis.T - (middle * axis).sum(-1)) / axis.square().sum(-1)


def shifted_label(
    fused: torch.Tensor, alpha_s: torch.Tensor, alpha_m: torch.Tensor, eps: float
) -> torch.Tensor:
    """`y_s = y_m alpha_s / (2 alpha_m) + (y_m + alpha_s - alpha_m) / 2` (paper; the official code adds an eps)."""
    return 0.5 * fused * (alpha_s / (alpha_m + eps)) + 0.5 * (fused + alpha_s - alpha_m)


def momentum(previous: torch.Tensor, new: torch.Tensor, epoch: int) -> torch.Tensor:
    """`y_s(i) = (i - 1)/(i + 1) y_s(i - 1) + 2/(i + 1) y_s^i`, `epoch` counted from 1."""
    return (epoch - 1) / (epoch + 1) * previous + 2 / (epoch + 1) * new


def loss_weights(unimodal: torch.Tensor, fused: torch.Tensor) -> torch.Tensor:
    """`W_s = tanh(|y_s - y_m|)`: the subtasks look at the samples where the modalities disagree."""
    return (unimodal - fused).abs().tanh()


class PseudoLabels:
    """
    The state of the label generation over a training set, updated batch by batch.

    Class centres are running sums: each sample's last representation is stored, so that a step takes out what the
    sample added before and adds what it adds now. The cost is that of the batch, whatever the size of the set. The
    sums are float64, which keeps them equal to a full recomputation.

    Args:
        labels: Fused labels `y_m` of the training set, (samples,) or (samples, targets), finite.
        dims: Width of the representation of `fusion` and of each modality.
        convention: See [`Convention`].
        label_range: Labels lie in [-label_range, label_range].
    """

    def __init__(
        self, labels: torch.Tensor, dims: dict[str, int], convention: Convention, label_range: float
    ):
        fused = labels.float().reshape(len(labels), -1)
        if not torch.isfinite(fused).all():
            row = int((~torch.isfinite(fused)).any(-1).nonzero()[0])
            raise ValueError(f"Labels must be finite numbers, but that of training sample {row} is not.")
        self.convention = convention
        self.label_range = label_range
        self.modalities = [task for task in dims if task != "fusion"]
        self.labels = {task: fused.clone() for task in dims}
        self.history: list[torch.Tensor] = []  # at the end of each epoch, (samples, modalities, targets)
        everything = torch.arange(len(fused), device=fused.device)
        self._features = {task: fused.new_zeros(len(fused), dim) for task, dim in dims.items()}
        self._counted = {
            task: torch.full_like(everything, convention.unseen_in_centres, dtype=torch.bool) for task in dims
        }
        self._moments = {task: _Moments(*fused.shape, fused.device) for task in self.modalities}
        self._sums, self._counts = {}, {}
        for task in dims:
            self._sums[task], self._counts[task] = self._contribution(task, everything)

    def centres(self, task: str) -> torch.Tensor:
        """`C^p` and `C^n` of `task`, (2, targets, dim), float32; not a number for a class without samples."""
        return (self._sums[task] / self._counts[task].unsqueeze(-1)).float()

    def weights(self, index: torch.Tensor, epoch: int) -> dict[str, torch.Tensor]:
        """`W_s` of each modality for the samples `index`, (batch, targets). `epoch` counts from 1."""
        fused = self.labels["fusion"][index]
        if epoch == 1:
            return {task: torch.full_like(fused, self.convention.initial_weight) for task in self.modalities}
        return {task: loss_weights(self.labels[task][index], fused) for task in self.modalities}

    def update(
        self,
        index: torch.Tensor,
        features: dict[str, torch.Tensor],
        present: dict[str, torch.Tensor],
        epoch: int,
    ) -> None:
        """
        Takes in one batch, in the order of the official code: labels from the centres as they stand (from the second
        epoch on), then the representations, then the centres.

        Args:
            index: Positions of the samples in the training set, (batch,), each once.
            features: `F*` of `fusion` and each modality, (batch, dim), detached.
            present: Whether each sample has the modality, (batch,). A sample without it keeps its label.
            epoch: Counted from 1.
        """
        features = {task: values.detach().float() for task, values in features.items()}
        new_labels = self._new_labels(index, features, epoch) if epoch > 1 else {}
        for task in self.labels:
            old_sums, old_counts = self._contribution(task, index)
            here = present.get(task, torch.ones_like(index, dtype=torch.bool))
            if task in new_labels:
                new = new_labels[task]
                if self.convention.clamp:
                    new = new.clamp(-self.label_range, self.label_range)
                previous = self.labels[task][index]
                # Without centres, at alpha_m = 0 or without the modality there is nothing to learn: keep the label.
                valid = torch.isfinite(new) & here.unsqueeze(-1)
                self.labels[task][index] = torch.where(valid, momentum(previous, new, epoch), previous)
            self._features[task][index] = features[task]
            self._counted[task][index] = here
            new_sums, new_counts = self._contribution(task, index)
            self._sums[task] += new_sums - old_sums
            self._counts[task] += new_counts - old_counts
        if self.convention.distance == "axis":
            for task in self.modalities:
                position = axis_position(features[task], self.centres(task))
                self._moments[task].replace(index, position, self.labels["fusion"][index], present[task])

    def _new_labels(self, index, features, epoch) -> dict[str, torch.Tensor]:
        fused = self.labels["fusion"][index]
        if self.convention.distance == "axis":
            out = {}
            for task in self.modalities:
                position = axis_position(features[task], self.centres(task))
                calibrated, confidence = self._moments[task].calibrate(position)
                out[task] = fused + confidence * (calibrated - fused)
            return out
        squared = self.convention.distance == "squared"
        eps = 0.0 if squared else EPS
        alpha = {task: relative_distance(features[task], self.centres(task), squared) for task in features}
        return {task: shifted_label(fused, alpha[task], alpha["fusion"], eps) for task in self.modalities}

    def end_epoch(self) -> None:
        """Adds the labels as they stand to `history`."""
        self.history.append(torch.stack([self.labels[task] for task in self.modalities], dim=1).cpu())

    def state_dict(self) -> dict[str, torch.Tensor]:
        """All that a resumed run needs, by names that safetensors can store."""
        state = {
            f"{name}.{task}": value
            for name, values in self._tensors().items()
            for task, value in values.items()
        }
        return {**state, "history": torch.stack(self.history) if self.history else torch.zeros(0)}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """
        Raises:
            ValueError: The state is of another training set or model.
        """
        mine = self.state_dict()
        if wrong := [
            name
            for name in mine
            if name != "history" and (name not in state or state[name].shape != mine[name].shape)
        ]:
            raise ValueError(
                f"These pseudo-labels are of another training set, model or convention: {wrong} differ."
            )
        for name, values in self._tensors().items():
            for task, value in values.items():
                value.copy_(state[f"{name}.{task}"])
        self.history = list(state["history"])

    def _tensors(self) -> dict[str, dict[str, torch.Tensor]]:
        return {
            "labels": self.labels,
            "features": self._features,
            "counted": self._counted,
            "sums": self._sums,
            "counts": self._counts,
            "moment_terms": {task: moments.terms for task, moments in self._moments.items()},
            "moment_sums": {task: moments.sums for task, moments in self._moments.items()},
        }

    def _contribution(self, task: str, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the samples `index` add to the sums (2, targets, dim) and counts (2, targets) of `task`."""
        labels = self.labels[task][index]
        positive = labels >= 0 if self.convention.zero_is_positive else labels > 0
        member = torch.stack([positive, labels < 0], dim=1)  # (batch, 2, targets)
        member = (member & self._counted[task][index, None, None]).double()
        return torch.einsum("bct,bd->ctd", member, self._features[task][index].double()), member.sum(0)


class _Moments:
    """Running moments of axis positions `z` and fused labels `y` over the samples seen, per target."""

    def __init__(self, samples: int, targets: int, device: torch.device):
        self.terms = torch.zeros(samples, targets, 6, dtype=torch.float32, device=device)
        self.sums = torch.zeros(targets, 6, dtype=torch.float64, device=device)

    def replace(self, index, position, fused, present) -> None:
        valid = (torch.isfinite(position) & present.unsqueeze(-1)).unsqueeze(-1)
        z, y = position.nan_to_num(0.0), fused
        new = torch.stack([torch.ones_like(z), z, y, z * z, y * y, z * y], dim=-1) * valid
        self.sums += (new.double() - self.terms[index].double()).sum(0)
        self.terms[index] = new

    def calibrate(self, position: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        n, z, y, zz, yy, zy = self.sums.unbind(-1)
        mean_z, mean_y = z / n, y / n
        std_z = (zz / n - mean_z.square()).clamp(min=0).sqrt()
        std_y = (yy / n - mean_y.square()).clamp(min=0).sqrt()
        correlation = (zy / n - mean_z * mean_y) / (std_z * std_y)
        calibrated = mean_y + (position - mean_z) * std_y / std_z
        return calibrated.float(), correlation.clamp(0, 1).float()
