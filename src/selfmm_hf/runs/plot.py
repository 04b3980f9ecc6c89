"""The drawings that the picture of a run and the report have in common; each fills one axes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..data import Splits
from ..labels.quality import correlation, mean_error, quality, true_labels
from ..metrics import absolute_errors
from ..storage.whole_files import whole
from .stored import losses_by_epoch, read_generated, read_predictions

# Okabe and Ito's colours, which colour-blind people can tell apart; lines and marks differ, too.
COLOURS = {"fusion": "#000000", "text": "#0072B2", "audio": "#D55E00", "vision": "#009E73"}
LINES = {"fusion": "-", "text": "-", "audio": "--", "vision": "-."}
MARKS = {"fusion": "D", "text": "o", "audio": "s", "vision": "^"}
# Of runs or groups of them, in one drawing.
STYLES = [
    ("#0072B2", "-", "o"),
    ("#D55E00", "--", "s"),
    ("#009E73", "-.", "^"),
    ("#CC79A7", ":", "v"),
    ("#E69F00", (0, (5, 1, 1, 1, 1, 1)), "P"),
    ("#56B4E9", (0, (8, 2)), "X"),
]
PUBLISHED = ("#000000", (0, (1, 1)), "D")
GREY, FAINT = "#767676", "#CCCCCC"

Labels = dict[str, NDArray[np.float64]]
"""Generated labels by modality, (epochs, training clips)."""


def plot_run(folder: Path, log_history: list[dict], best_epoch: int, splits: Splits, label_range: float) -> Path:
    """
    Draws learning curves, predictions against labels, and the generated labels over the epochs.

    Args:
        folder: Of the run: `predictions.parquet` and `pseudo_labels.parquet` are read there, `run.png` is written.
        log_history: Of the trainer's state.
        best_epoch: The epoch that validation chose.
        splits: The data. Where they know the unimodal labels, the generated ones are held against them.
        label_range: Of the labels.

    Returns:
        The picture's file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), layout="constrained")
    FigureCanvasAgg(figure)
    curves, scatter, labels, spread = figure.subplots(2, 2).flat
    _, generated = read_generated(folder)
    predictions = read_predictions(folder)
    test = predictions["split"] == "test"
    losses = [[losses_by_epoch(log_history, name)] for name in ("loss", "eval_selection_loss")]
    draw_losses(curves, *losses, [best_epoch])
    draw_predictions(scatter, predictions["label"][test], predictions["fusion"][test])
    error = absolute_errors(predictions["fusion"][test], predictions["label"][test], label_range).mean()
    if truth := true_labels(splits["train"], generated):
        curves_of = {name: [quality(generated[name], truth[name], correlation)] for name in truth}
        draw_by_modality(labels, curves_of, dotted=True)
        labels.set(title="Generated unimodal labels against the true ones", ylabel="correlation")
    else:
        curves_of = {name: [quality(of, of[0], mean_error)] for name, of in generated.items()}
        draw_by_modality(labels, curves_of)
        labels.set(title="How far the generated labels are from the fused one", ylabel="mean difference")
    draw_spread(spread, generated)
    curves.set(title="Learning curves")
    scatter.set(title=f"Test split: mean absolute error {error:.3f}")
    spread.set(title="Labels of the training split, last epoch")
    figure.suptitle(f"Self-MM on {len(splits['train'])} training clips; modalities: {', '.join(generated)}")
    file = folder / "run.png"
    with whole(file) as part:
        figure.savefig(part, dpi=110)
    return file


def draw_losses(
    axes, training: Sequence[list[float]], validation: Sequence[list[float]], chosen: Sequence[int | None]
) -> None:
    """
    Losses over the epochs.

    Args:
        training, validation: Of each seed, epoch by epoch.
        chosen: The epoch that validation chose, of each seed; none where it has not come to that.
    """
    draw_over_epochs(axes, training, color=GREY, linestyle="--", label="training, all tasks")
    draw_over_epochs(axes, validation, color=COLOURS["fusion"], label="validation, fusion")
    points = [
        (best, losses[best - 1])
        for best, losses in zip(chosen, validation, strict=True)
        if best is not None and best <= len(losses)
    ]
    if points:
        label = f"chosen: epoch {points[0][0]}" if len(points) == 1 else "chosen epochs"
        axes.plot(*zip(*points, strict=True), "o", color=COLOURS["fusion"], label=label)
    axes.set(xlabel="epoch", ylabel="L1 loss", ylim=(0, None))
    legend(axes, 2)


def draw_over_epochs(axes, seeds: Sequence[ArrayLike], **style) -> None:
    """
    One value per epoch: of several seeds the mean, and a band from the lowest to the highest, as far as all of them
    went; beyond that, those that went further as thin lines.
    """
    seeds = [np.asarray(values, dtype=float) for values in seeds if len(values)]
    if not seeds:
        return
    common = min(map(len, seeds))
    together = np.array([values[:common] for values in seeds])
    epochs = np.arange(1, max(map(len, seeds)) + 1)
    if len(seeds) > 1:
        axes.fill_between(
            epochs[:common], together.min(0), together.max(0), color=style["color"], alpha=0.2, linewidth=0
        )
    axes.plot(epochs[:common], together.mean(0), **style, marker="." if common == 1 else None)
    for values in seeds:
        if len(values) > common:
            beyond = slice(common - 1, len(values))
            axes.plot(epochs[beyond], values[beyond], **{**style, "label": None}, linewidth=0.6)
    axes.xaxis.get_major_locator().set_params(integer=True)


def draw_predictions(axes, labels: NDArray, predictions: NDArray) -> None:
    """Predictions against labels, and the line on which both are the same."""
    limit = max(np.abs(labels).max(), np.abs(predictions).max(), 1e-3) * 1.05
    axes.plot([-limit, limit], [-limit, limit], color=GREY, linewidth=1)
    axes.scatter(labels, predictions, s=14, alpha=0.5, color=COLOURS["text"], linewidths=0)
    axes.set(xlabel="label", ylabel="prediction", xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")


def draw_by_modality(axes, curves: dict[str, Sequence[ArrayLike]], dotted: bool = False) -> None:
    """
    Something of the generated labels over the epochs.

    Args:
        curves: Of each modality and seed, epoch by epoch.
        dotted: Whether a dotted line carries on the first value, that of the fused label.
    """
    for modality, seeds in curves.items():
        draw_over_epochs(axes, seeds, color=COLOURS[modality], linestyle=LINES[modality], label=modality)
        if dotted:
            axes.axhline(seeds[0][0], color=COLOURS[modality], linestyle=":", linewidth=1.2)
    if dotted:
        axes.plot([], [], ":", color=GREY, label="fused label")
    axes.set(xlabel="epoch")
    legend(axes)


def draw_spread(axes, generated: Labels) -> None:
    """How the labels of the last epoch are distributed, before the fused ones, which are those of the first epoch."""
    fused = next(iter(generated.values()))[0]
    limit = max(np.abs(fused).max(), max(np.abs(labels[-1]).max() for labels in generated.values()), 1e-3)
    bins = np.linspace(-limit * 31 / 30, limit * 31 / 30, 32)  # labels, steps of 0.2, lie in the middle of bins
    axes.hist(fused, bins, color=FAINT, label="fused")
    for modality, labels in generated.items():
        style = {"color": COLOURS[modality], "linestyle": LINES[modality]}
        axes.hist(labels[-1], bins, histtype="step", linewidth=1.5, **style, label=modality)
    axes.set(xlabel="label", ylabel="clips")
    legend(axes)


def legend(axes, columns: int = 4) -> None:
    """Below the axes, where nothing is drawn."""
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.17)}
    drawn = axes.legend(
        frameon=False, ncols=columns, fontsize=9, columnspacing=1.3, handlelength=2.2, markerscale=1.2, **place
    )
    for handle in drawn.legend_handles:
        handle.set_alpha(1)
