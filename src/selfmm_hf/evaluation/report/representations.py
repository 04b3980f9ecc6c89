"""Draws the representations of the training clips in two dimensions, with the class centres."""

import numpy as np
import torch
from numpy.typing import NDArray

from ...data import Samples, Splits
from ...data.samples import as_trained
from ...hub.saved_model import load_model
from ...labels.conventions import CONVENTIONS
from ...runs.plot import COLOURS, GREY, legend
from ...runs.stored import RunError, StoredRun
from ...training.collator import SelfMMCollator
from .data import Data, Group
from .drawing import PAPER, Figure, Panel, Table

CLIPS = 1000
BATCH = 32
# The looks of negative, neutral and positive clips.
SIGNS = [("negative", COLOURS["audio"], "v"), ("neutral", GREY, "o"), ("positive", COLOURS["text"], "^")]


def representations(groups: list[Group], data: Data) -> Figure:
    """
    Draws the representations `F*` from which labels are generated, of one run of each group: the first seed.

    Raises:
        RunError: A model cannot be loaded.
    """
    panels, rows, notes = [], [], []
    for number, group in enumerate(groups, start=1):
        run = group.finished[0]
        splits = data.of(run)
        if isinstance(splits, str):
            notes.append(f"{splits} So the representations are left out.")
            continue
        chosen = np.unique(np.linspace(0, len(run.train_ids) - 1, min(CLIPS, len(run.train_ids))).round().astype(int))
        features = compute(run, splits, chosen)
        epoch = run.results["best_epoch"] - 1
        for task in ["fusion", *run.tasks]:
            labels = run.fused if task == "fusion" else run.generated[task][epoch]
            here = np.isfinite(features[task]).all(1)
            if not here.any():  # no clip has the modality
                continue
            centres = class_centres(features[task][here], labels[chosen][here], run)
            points, middles, shares = project(features[task][here], centres)
            across = np.linalg.norm(centres[0] - centres[1])
            alt = (
                f"Representations of {here.sum()} training clips by {task}, on their two main axes, which hold "
                f"{shares[0]:.0%} and {shares[1]:.0%} of the variance. The centres of the positive and of the negative "
                f"class are {across:.2f} apart."
            )
            draw = _draw(points, labels[chosen][here], middles, shares)
            panels.append(Panel(group.picture("space", task), group.titled(task), alt, draw, number))
            named = [*[group.name] * bool(groups[0].name), task, int(here.sum())]
            rows.append((*named, f"{shares[0]:.1%}", f"{shares[1]:.1%}", across, *middles.ravel()))
    text = (
        f"The representations F* from which labels are generated: those of up to {CLIPS} evenly spaced training clips, "
        "computed by the saved model, on the two main axes of their variance (principal component analysis). The class "
        "centres are those of each task's own labels in the chosen epoch. Distances along other axes do not show: each "
        "axis says how much of the variance it holds."
    )
    if any(len(group.finished) > 1 for group in groups):
        text += " Only the first seed is shown, because the axes of different seeds have nothing in common."
    text = " ".join([text] * bool(panels) + sorted(set(notes)))
    head = [*["runs"] * bool(groups[0].name), "task", "clips", "axis 1", "axis 2", "centres apart"]
    tables = [Table([*head, "C+ axis 1", "C+ axis 2", "C\N{MINUS SIGN} axis 1", "C\N{MINUS SIGN} axis 2"], rows)]
    return Figure("space", "Representations and class centres", text, panels, tables if rows else [])


def compute(run: StoredRun, splits: Splits, chosen: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Computes F* of the training clips `chosen` by task, (clips, dim), NaN where a clip lacks the modality."""
    folder = run.folder / "model"
    try:
        model, processor = load_model(folder)
    except ValueError as error:
        raise RunError(str(error)) from error
    config = model.config
    columns = {"audio", "vision", "word_vectors"} - {
        "word_vectors" if name == "text" else name for name in config.sequences
    }
    samples = as_trained(Samples(splits["train"].dataset, columns), processor)
    pad = 0 if processor.tokenizer is None else processor.tokenizer.pad_token_id
    collate = SelfMMCollator(tuple(config.sequences), pad)
    parts: dict[str, list[torch.Tensor]] = {}
    for begin in range(0, len(chosen), BATCH):
        batch = collate([samples[int(row)] for row in chosen[begin : begin + BATCH]])
        batch.pop("labels")
        with torch.no_grad():
            output = model(**batch)
        for task, values in output.representations.items():
            present = output.present.get(task, torch.ones(len(values), dtype=torch.bool))
            parts.setdefault(task, []).append(values.masked_fill(~present.unsqueeze(-1), torch.nan))
    return {task: torch.cat(values).double().numpy() for task, values in parts.items()}


def class_centres(features: NDArray, labels: NDArray, run: StoredRun) -> NDArray[np.float64]:
    """Returns the means of the positive and of the negative class, (2, dim), NaN without clips."""
    zero_is_positive = CONVENTIONS[run.results.get("convention", "default")].zero_is_positive
    positive = labels >= 0 if zero_is_positive else labels > 0
    return np.array([
        features[of].mean(0) if of.any() else np.full(features.shape[1], np.nan) for of in (positive, labels < 0)
    ])  # fmt: skip


def project(features: NDArray, centres: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """
    Projects clips and centres onto the two main axes of the clips' variance (principal component analysis).

    Returns:
        The places of clips and of centres, (clips, 2) and (2, 2), and each axis' share of the variance, (2,).
    """
    mean = features.mean(0)
    _, sizes, axes = np.linalg.svd(features - mean, full_matrices=False)
    axes = axes[:2]
    axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])[:, None]  # fixes the signs
    total = (sizes**2).sum()
    variance = sizes**2 / total if total > 1e-12 * (features**2).sum() else 0 * sizes
    missing = 2 - len(axes)
    shares = np.pad(variance[:2], (0, missing))
    return *(np.pad((of - mean) @ axes.T, ((0, 0), (0, missing))) for of in (features, centres)), shares


def _draw(points: NDArray, labels: NDArray, centres: NDArray, shares: NDArray):
    def draw(axes) -> None:
        for sign, (name, colour, mark) in zip((-1, 0, 1), SIGNS, strict=True):
            of = points[np.sign(labels) == sign]
            if len(of):
                axes.scatter(*of.T, s=26, marker=mark, color=colour, alpha=0.45, linewidths=0, label=name)
        for centre, name in zip(centres, ("C+", "C\N{MINUS SIGN}"), strict=True):
            if np.isfinite(centre).all():
                style = {"markersize": 11, "markerfacecolor": PAPER, "markeredgewidth": 2, "linewidth": 0}
                axes.plot(*centre, "D", color=COLOURS["fusion"], zorder=5, **style)
                axes.annotate(name, centre, xytext=(9, 7), textcoords="offset points", weight="bold", size=12, zorder=6)
        axes.plot([], [], "D", color=COLOURS["fusion"], markerfacecolor=PAPER, label="class centre")
        axes.set(xlabel=f"axis 1: {shares[0]:.0%} of the variance", ylabel=f"axis 2: {shares[1]:.0%}")
        if not shares.any():
            axes.text(0.5, 0.25, "all clips are the same", ha="center", transform=axes.transAxes)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.margins(0.08)
        legend(axes, 2)

    return draw
