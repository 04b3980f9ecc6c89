"""The unimodal label generation module of Self-MM (paper, section "Unimodal Label Generation Module").

Notation as in the paper: `F*` representations, `C^p`, `C^n` centres of the positive and negative class, `D^p`, `D^n`
distances to them, `alpha` relative distance, `y_m` fused label, `y_s` generated label of a modality.
Labels have the shape (samples, targets); MOSI, MOSEI and SIMS have one target. Those of a classification are
probabilities, which the rules of the paper and of the official code take as scores from -1 to 1.
"""

from dataclasses import asdict

import torch

from ..model.task_selfmm import MULTI_LABEL, REGRESSION, SINGLE_LABEL, Task
from .conventions import DISTANCES, Convention
from .default_rule import axis_position, calibrated_labels, float64_device
from .loss_weights import loss_weights

EPS = 1e-8  # official `MIN`
LARGE = 50_000  # samples from which on representations are stored in half precision
BY_EPOCH = ("history", "confidence")
RULE = 4  # version of the default rule: raise it when its labels change, so that no resumed run mixes two rules
CHUNK = 65536  # samples whose stored representations are converted at a time


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


def shifted_label(fused: torch.Tensor, alpha_s: torch.Tensor, alpha_m: torch.Tensor, eps: float) -> torch.Tensor:
    """`y_s = y_m alpha_s / (2 alpha_m) + (y_m + alpha_s - alpha_m) / 2` (paper; the official code adds an eps)."""
    return 0.5 * fused * (alpha_s / (alpha_m + eps)) + 0.5 * (fused + alpha_s - alpha_m)


def momentum(previous: torch.Tensor, new: torch.Tensor, epoch: int, least_step: float = 0.0) -> torch.Tensor:
    """
    `y_s(i) = (i - 1)/(i + 1) y_s(i - 1) + 2/(i + 1) y_s^i` (paper), `i` being `epoch`, counted from 1. The new label
    counts at least `least_step`, see [`Convention`]; 0 in the paper.
    """
    step = max(2 / (epoch + 1), least_step)
    return (1 - step) * previous + step * new


class PseudoLabels:
    """
    The state of the label generation over a training set, updated batch by batch.

    Class centres are running sums: each sample's last representation is stored, so that a step subtracts what the
    sample added before and adds what it adds now. The cost is that of the batch, whatever the size of the set. The sums
    are float64, which keeps them equal to a full recomputation. The representations of large sets are stored as
    float16, which moves no label of the default convention by more than 1e-3. In small sets, where samples lie far from
    each other, it could move them more, and it does in the other conventions, whose relative distances have poles;
    these keep float32.

    Everything lies on the device of `labels`, or on the CPU if that device has no float64. Results for an `index` come
    on the device of `index`.

    Args:
        labels: Fused labels `y_m` of the training set, as [`Task.targets`] takes them, finite.
        dims: Width of the representation of `fusion` and of each modality.
        convention: See [`Convention`].
        task: The task that the labels are of.
    """

    def __init__(self, labels: torch.Tensor, dims: dict[str, int], convention: Convention, task: Task):
        self.device = float64_device(labels.device)
        if not torch.isfinite(labels).all():
            row = int((~torch.isfinite(labels.reshape(len(labels), -1))).any(-1).nonzero()[0])
            raise ValueError(f"Labels must be finite numbers, but that of training sample {row} is not.")
        fused = task.targets(labels).to(self.device)
        self.convention = convention
        self.task = task
        scales = torch.tensor(task.limits, device=self.device)  # (targets, 2)
        self._middle, self._half = scales.mean(-1), (scales[:, 1] - scales[:, 0]) / 2
        self._unit = 1.0 if task.problem_type == REGRESSION else 0.5  # a signed score is (label - middle) / unit
        self.modalities = [task for task in dims if task != "fusion"]
        self._last_epoch = torch.zeros(len(fused), dtype=torch.long, device=fused.device)  # in which each was last seen
        self.history: list[torch.Tensor] = []  # labels at the end of each epoch, (samples, modalities, targets)
        self.confidence: list[torch.Tensor] = []  # of the default rule, by epoch, (modalities, targets or 1)
        # All that a sample has lies side by side: in a large set, each look at another place waits for memory.
        stored = torch.float16 if convention.distance == "axis" and len(fused) >= LARGE else torch.float32
        labels = fused.unsqueeze(1).repeat(1, len(dims), 1)
        features = fused.new_zeros(len(fused), sum(dims.values()), dtype=stored)
        counted = torch.full_like(labels[..., 0], convention.unseen_in_centres, dtype=torch.bool)
        self.labels = dict(zip(dims, labels.unbind(1), strict=True))
        self._features = dict(zip(dims, features.split(list(dims.values()), dim=1), strict=True))
        self._counted = dict(zip(dims, counted.unbind(1), strict=True))
        self._sums: dict[str, torch.Tensor] = {}
        self._counts: dict[str, torch.Tensor] = {}
        for task in dims:
            self._recompute_centres(task)

    def centres(self, task: str) -> torch.Tensor:
        """Returns `C^p` and `C^n` of `task`, (2, targets, dim), float32; NaN for a class without samples."""
        return (self._sums[task] / self._counts[task].unsqueeze(-1)).float()

    def seen(self, index: torch.Tensor, epoch: int) -> torch.Tensor:
        """Checks which of the samples `index` were already taken in during `epoch`, (batch,)."""
        return (self._last_epoch[index.to(self.device)] == epoch).to(index.device)

    def targets(self, index: torch.Tensor) -> dict[str, torch.Tensor]:
        """Returns `y_s` of each modality for the samples `index`, (batch, targets)."""
        rows = index.to(self.device)
        return {task: self.labels[task][rows].to(index.device) for task in self.modalities}

    def weights(self, index: torch.Tensor) -> dict[str, torch.Tensor]:
        """Returns `W_s` of each modality for the samples `index`, (batch, targets); (batch, 1) for a single label."""
        rows, floor = index.to(self.device), self.convention.agreement_weight
        unit = self._half / 3 if self.convention.relative_weights else self._unit
        weights, fused = {}, self.labels["fusion"][rows] / unit
        for task in self.modalities:
            difference = self.labels[task][rows] / unit - fused
            if self.task.problem_type == SINGLE_LABEL:  # what one class gains, another loses
                difference = difference.abs().sum(-1, keepdim=True) / 2
            weights[task] = loss_weights(difference, floor).to(index.device)
        return weights

    def update(
        self,
        index: torch.Tensor,
        features: dict[str, torch.Tensor],
        present: dict[str, torch.Tensor],
        epoch: int,
    ) -> None:
        """
        Takes in one batch, in the order of the official code: first labels from the current centres (from the second
        epoch on), then the representations, then the centres.

        Args:
            index: Positions of the samples in the training set, (batch,), each once.
            features: `F*` of `fusion` and each modality, (batch, dim).
            present: Whether each sample has the modality, (batch,). A sample without it keeps its label.
            epoch: Counted from 1.
        """
        index = index.to(self.device)
        features = {task: values.detach().float().to(self.device) for task, values in features.items()}
        present = {task: values.to(self.device) for task, values in present.items()}
        self._last_epoch[index] = epoch
        new_labels = {}
        if epoch > 1 and self.convention.distance != "axis":
            new_labels = self._shifted_labels(index, features)
        everywhere = torch.ones_like(index, dtype=torch.bool)
        for task, values in features.items():
            # One clip that is not finite must not spoil the centres for good.
            here = present.get(task, everywhere) & values.isfinite().all(-1)
            store, counted, labels = self._features[task], self._counted[task], self.labels[task]
            old_sums, old_counts = self._contribution(labels[index], counted[index], store[index])
            if task in new_labels:
                self._change_labels(task, index, new_labels[task], here, epoch)
            values = torch.where(here.unsqueeze(-1), values, torch.zeros_like(values))
            values = values.clamp(max=torch.finfo(torch.float16).max).to(store.dtype)
            store[index], counted[index] = values, here
            new_sums, new_counts = self._contribution(labels[index], here, values)
            self._sums[task] += new_sums - old_sums
            self._counts[task] += new_counts - old_counts

    def end_epoch(self, epoch: int) -> None:
        """
        Closes an epoch. The default rule generates its labels here, once for the whole set, because it needs the
        distribution of all positions, and appends its confidence in them to `confidence`. The current labels are
        appended to `history`.
        """
        if self.convention.distance == "axis":
            untouched = torch.zeros(len(self.modalities), self.task.columns)
            self.confidence.append(self._calibrate(epoch).cpu() if epoch > 1 else untouched)
        self.history.append(torch.stack([self.labels[task] for task in self.modalities], dim=1).cpu())

    def _shifted_labels(self, index: torch.Tensor, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        squared = self.convention.distance == "squared"
        alpha = {task: relative_distance(features[task], self.centres(task), squared) for task in features}
        signed, eps = (self.labels["fusion"][index] - self._middle) / self._unit, 0.0 if squared else EPS
        return {
            task: shifted_label(signed, alpha[task], alpha["fusion"], eps) * self._unit + self._middle
            for task in self.modalities
        }

    def _positions(self, task: str) -> torch.Tensor:
        """Returns [`axis_position`] of all samples, (samples, targets)."""
        chunks = self._features[task].split(CHUNK)
        return torch.cat([axis_position(chunk.float(), self.centres(task)) for chunk in chunks])

    def _calibrate(self, epoch: int) -> torch.Tensor:
        """Generates the labels of the default rule; returns the confidence, (modalities, targets)."""
        positions = {task: self._positions(task) for task in self.labels}
        fused, fusion = self.labels["fusion"], positions.pop("fusion")
        of_modalities = torch.stack(list(positions.values()), dim=1)  # (samples, modalities, targets)
        absent = ~torch.stack([self._counted[task] for task in self.modalities], dim=1)
        of_modalities[absent] = torch.nan
        new, confidence = fused.unsqueeze(1).repeat(1, len(self.modalities), 1), []
        for columns in self._together():
            each, whole, known = (values[..., columns] for values in (of_modalities, fusion, fused))
            if self.task.problem_type == MULTI_LABEL:  # absence and presence are two classes
                each, whole = (torch.cat([-values, values], dim=-1) for values in (each, whole))
                known = torch.cat([1 - known, known], dim=-1)
            labels, trust = calibrated_labels(each, whole, known)
            new[..., columns] = labels[..., -len(columns) :]
            confidence.append(trust)
        everything = torch.arange(len(fused), device=fused.device)
        for task, labels in zip(self.modalities, new.unbind(1), strict=True):
            self._change_labels(task, everything, labels, self._counted[task], epoch)
            self._recompute_centres(task)
        return torch.stack(confidence, dim=-1)

    def _together(self) -> list[list[int]]:
        """Returns the columns of labels that are calibrated together: each by itself, or all classes that occur."""
        fused = self.labels["fusion"]
        if self.task.problem_type != SINGLE_LABEL:
            return [[column] for column in range(fused.shape[1])]
        return [fused.any(0).nonzero().flatten().tolist()]

    def _change_labels(self, task, index, new, here, epoch) -> None:
        if self.convention.clamp or self.task.problem_type != REGRESSION:
            new = new.clamp(self._middle - self._half, self._middle + self._half)
        if self.task.problem_type == SINGLE_LABEL:
            new = new / new.sum(-1, keepdim=True)  # NaN if no class is left
        previous = self.labels[task][index]
        # Without centres, at alpha_m = 0, or without the modality, nothing can be learned: the label stays.
        finite = new.isfinite()
        if self.task.problem_type == SINGLE_LABEL:
            finite = finite.all(-1, keepdim=True)
        valid = finite & here.unsqueeze(-1)
        moved = momentum(previous, new, epoch, self.convention.least_step) if self.convention.momentum else new
        self.labels[task][index] = torch.where(valid, moved, previous)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Returns all that a resumed run needs, by names that safetensors can store."""
        state = {
            f"{name}.{task}": value.contiguous()
            for name, values in self._tensors().items()
            for task, value in values.items()
        }
        by_epoch = zip(BY_EPOCH, (self.history, self.confidence), strict=True)
        state |= {name: torch.stack(one) if one else torch.zeros(0) for name, one in by_epoch}
        state |= self._choices()
        return state | ({"rule": torch.tensor(RULE)} if self.convention.distance == "axis" else {})

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """
        Raises:
            ValueError: The state is of another training set, model, convention or rule.
        """
        choices, axis = self._choices(), self.convention.distance == "axis"  # states before December 2026 have none
        differ = [name for name, choice in choices.items() if not torch.equal(state.get(name, choice), choice)]
        if differ or ("rule" in state and not axis):
            of = ", ".join(name.partition(".")[2] for name in differ) or "distance"
            raise ValueError(f"These pseudo-labels are from another convention ({of}): resume with that of their run.")
        mine = self.state_dict()
        if wrong := [
            name
            for name in mine
            if name not in (*BY_EPOCH, *choices, "rule")
            and (name not in state or state[name].shape != mine[name].shape)
        ]:
            raise ValueError(f"These pseudo-labels are from another training set, model or convention: {wrong} differ.")
        if axis and int(state.get("rule", 0)) != RULE:
            raise ValueError(
                "These pseudo-labels were made by another rule than that of this version of selfmm-hf. Train from the "
                "beginning, or resume with the version that began the run."
            )
        if not torch.equal(state["labels.fusion"].to(self.labels["fusion"].device), self.labels["fusion"]):
            raise ValueError("These pseudo-labels are from another training set: its fused labels differ.")
        for name, values in self._tensors().items():
            for task, value in values.items():
                value.copy_(state[f"{name}.{task}"])
        self.history, self.confidence = list(state["history"]), list(state.get("confidence", []))

    def _tensors(self) -> dict[str, dict[str, torch.Tensor]]:
        return {
            "labels": self.labels,
            "features": self._features,
            "counted": self._counted,
            "sums": self._sums,
            "counts": self._counts,
            "last_epoch": {"all": self._last_epoch},
        }

    def _choices(self) -> dict[str, torch.Tensor]:
        """Returns the choices of the convention as numbers."""
        choices = asdict(self.convention) | {"distance": DISTANCES.index(self.convention.distance)}
        return {f"convention.{name}": torch.tensor(float(choice)) for name, choice in choices.items()}

    def _recompute_centres(self, task: str) -> None:
        """Recomputes the centres from all samples."""
        stored = (self.labels[task], self._counted[task], self._features[task])
        chunks = zip(*(values.split(CHUNK) for values in stored), strict=True)
        sums, counts = zip(*(self._contribution(*chunk) for chunk in chunks), strict=True)
        self._sums[task], self._counts[task] = sum(sums), sum(counts)

    def _contribution(
        self, labels: torch.Tensor, counted: torch.Tensor, features: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns what samples add to the sums (2, targets, dim) and counts (2, targets) of their task."""
        if self.task.problem_type == REGRESSION:
            signed = labels - self._middle
            positive = signed >= 0 if self.convention.zero_is_positive else signed > 0
            member = torch.stack([positive, signed < 0], dim=1)  # (batch, 2, targets)
        else:
            member = torch.stack([labels, 1 - labels], dim=1)
        member = torch.where(counted[:, None, None], member, 0).double()
        return torch.einsum("bct,bd->ctd", member, features.double()), member.sum(0)
