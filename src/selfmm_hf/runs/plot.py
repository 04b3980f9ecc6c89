"""Drawings that the picture of a run and the report share; each function fills one axes."""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..data import Splits
from ..labels.quality import as_targets, mean_error, measures, quality, true_labels
from ..metrics import metric_of
from ..model.picture_parts_selfmm import COLOURS as OF_MODALITIES
from ..model.task_selfmm import REGRESSION, SINGLE_LABEL, Task
from ..storage.whole_files import write_figure
from ..task_metrics import errors_of, main_metric, metrics_of
from .stored import losses_by_epoch, read_generated, read_predictions

COLOURS = {"fusion": "#000000", **OF_MODALITIES}
# Styles of runs, or of groups of runs, in one drawing.
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


class Look(NamedTuple):
    """How a modality is drawn, in matplotlib's terms."""

    colour: str
    line: str | tuple
    mark: str


LOOKS = {"fusion": Look(COLOURS["fusion"], "-", "D")} | {
    name: Look(*style) for name, style in zip(("text", "audio", "vision"), STYLES, strict=False)
}

Labels = dict[str, NDArray[np.float64]]
"""Generated labels by modality, (epochs, training clips)."""


def looks_of(names: Iterable[str]) -> dict[str, Look]:
    """Returns the look of the fusion and of each modality; other names get looks of their own, in order."""
    others = itertools.cycle(STYLES[len(LOOKS) - 1 :])
    return {name: LOOKS[name] if name in LOOKS else Look(*next(others)) for name in names}


def plot_run(folder: Path, log_history: list[dict], best_epoch: int, splits: Splits) -> Path:
    """
    Draws learning curves, predictions against labels, and the generated labels over the epochs.

    Args:
        folder: Folder of the run. Holds `predictions.parquet` and `pseudo_labels.parquet`; `run.png` is written there.
        log_history: Log history of the trainer's state.
        best_epoch: The epoch that validation chose.
        splits: The data. If they have true unimodal labels, the generated ones are compared with them.

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
    task = splits["train"].task
    draw_losses(curves, *losses, [best_epoch], task)
    draw_outcome(scatter, task, predictions["label"][test], predictions["fusion"][test])
    if truth := true_labels(splits["train"], generated):
        name, measure = next(iter(measures(task).items()))
        truth = {name: as_targets(task, values) for name, values in truth.items()}
        curves_of = {
            name: [quality(generated[name].reshape(len(generated[name]), len(of), -1), of, measure)]
            for name, of in truth.items()
        }
        draw_by_modality(labels, curves_of, dotted=True)
        title = {"corr": "correlation", "acc": "accuracy"}[name]
        labels.set(title="Generated unimodal labels against the true ones", ylabel=title)
    else:
        curves_of = {name: [quality(of, of[0], mean_error)] for name, of in generated.items()}
        draw_by_modality(labels, curves_of)
        labels.set(title="How far the generated labels are from the fused one", ylabel="mean difference")
    draw_labels(spread, task, generated)
    curves.set(title="Learning curves")
    error = errors_of(task, predictions["fusion"][test], predictions["label"][test]).mean()
    said = f"mean absolute error {error:.3f}" if main_metric(task) == "mae" else f"accuracy {100 * (1 - error):.1f} %"
    scatter.set(title=f"Test split: {said}")
    spread.set(title="Labels of the training split, last epoch")
    figure.suptitle(f"Self-MM on {len(splits['train'])} training clips; modalities: {', '.join(generated)}")
    file = folder / "run.png"
    write_figure(file, figure)
    return file


def draw_losses(
    axes, training: Sequence[list[float]], validation: Sequence[list[float]], chosen: Sequence[int | None], task: Task
) -> None:
    """
    Draws losses over the epochs.

    Args:
        training, validation: Losses of each seed, epoch by epoch.
        chosen: The epoch of each seed that validation chose; `None` if it has not chosen yet.
        task: What is learned.
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
    axes.set(xlabel="epoch", ylabel="L1 loss" if task.problem_type == REGRESSION else "cross-entropy", ylim=(0, None))
    legend(axes, 2)


def draw_over_epochs(axes, seeds: Sequence[ArrayLike], **style) -> None:
    """
    Draws one value per epoch. For several seeds, draws the mean and a band from the lowest to the highest, as far as
    all seeds went, and then a thin line for each seed that went further.
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
    """Draws predictions against labels, and the line on which both are the same."""
    limit = max(np.abs(labels).max(), np.abs(predictions).max(), 1e-3) * 1.05
    axes.plot([-limit, limit], [-limit, limit], color=GREY, linewidth=1)
    axes.scatter(labels, predictions, s=14, alpha=0.5, color=COLOURS["text"], linewidths=0)
    axes.set(xlabel="label", ylabel="prediction", xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")


def draw_outcome(axes, task: Task, labels: NDArray, predictions: NDArray) -> None:
    """Draws predictions against labels: scores as points, classes as a table of counts, emotions by their F1."""
    if task.label_range is not None:
        draw_predictions(axes, labels, predictions)
    elif task.problem_type == REGRESSION:
        both = (values.reshape(len(values), -1).T for values in (labels, predictions))
        columns = zip(task.names, task.scales, *both, strict=True)
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1)
        for (colour, _, mark), (name, (low, high), true, predicted) in zip(STYLES, columns, strict=False):
            shares = ((values - low) / (high - low) for values in (true, predicted))
            axes.scatter(*shares, s=14, alpha=0.5, color=colour, marker=mark, linewidths=0, label=name)
        axes.set(xlabel="label, share of the scale", ylabel="prediction, share of the scale", aspect="equal")
        legend(axes)
    elif task.problem_type == SINGLE_LABEL:
        true, predicted = as_targets(task, labels).argmax(-1), predictions.argmax(-1)
        counts = np.zeros((len(task.names),) * 2, dtype=int)
        np.add.at(counts, (true, predicted), 1)
        shares = counts / counts.sum(1, keepdims=True).clip(1)
        axes.pcolormesh(shares, cmap="Blues", vmin=0, vmax=1)  # the report would not show a picture of `imshow`
        for row, column in np.ndindex(*counts.shape):
            dark = counts[row, column] > counts[row].sum() / 2
            axes.text(
                column + 0.5, row + 0.5, str(counts[row, column]), ha="center", va="center", color="w" if dark else "k"
            )
        ticks = {"labels": task.names, "rotation": 30}
        middles = np.arange(len(task.names)) + 0.5
        axes.set_xticks(middles, **ticks, ha="right")
        axes.set_yticks(middles, task.names)
        axes.set(xlabel="prediction", ylabel="label", aspect="equal")
        axes.invert_yaxis()
    else:
        metrics, never = (metrics_of(task, one, labels) for one in (predictions, np.zeros_like(predictions)))
        rows = np.arange(len(task.names))[::-1]
        axes.barh(
            rows + 0.2,
            [metrics[metric_of("f1", name)] for name in task.names],
            0.4,
            color=COLOURS["text"],
            label="model",
        )
        axes.barh(
            rows - 0.2, [never[metric_of("f1", name)] for name in task.names], 0.4, color=FAINT, label="never present"
        )
        axes.set_yticks(rows, task.names)
        axes.set(xlabel="F1, weighted", xlim=(0, 1))
        legend(axes)


def draw_labels(axes, task: Task, generated: Labels) -> None:
    """Draws the labels of the last epoch: a histogram of one score, otherwise means by emotion, class or target."""
    if task.label_range is not None:
        draw_spread(axes, generated)
        return
    fused, rows = next(iter(generated.values()))[0], np.arange(len(task.names))[::-1]
    scales = np.array(task.limits)
    axes.barh(rows, (fused.mean(0) - scales[:, 0]) / np.ptp(scales, axis=1), 0.7, color=FAINT, label="fused")
    looks = looks_of(generated)
    for modality, labels in generated.items():
        share = (labels[-1].mean(0) - scales[:, 0]) / np.ptp(scales, axis=1)
        look = looks[modality]
        axes.plot(share, rows, look.mark, color=look.colour, label=modality)
    axes.set_yticks(rows, task.names)
    axes.set(xlabel="mean, share of the scale", xlim=(0, None))
    legend(axes)


def draw_by_modality(axes, curves: dict[str, Sequence[ArrayLike]], dotted: bool = False) -> None:
    """
    Draws a measure of the generated labels over the epochs.

    Args:
        curves: Values by modality and seed, epoch by epoch.
        dotted: Whether a dotted line continues the first value, which is that of the fused label.
    """
    looks = looks_of(curves)
    for modality, seeds in curves.items():
        look = looks[modality]
        draw_over_epochs(axes, seeds, color=look.colour, linestyle=look.line, label=modality)
        if dotted:
            axes.axhline(seeds[0][0], color=look.colour, linestyle=":", linewidth=1.2)
    if dotted:
        axes.plot([], [], ":", color=GREY, label="fused label")
    axes.set(xlabel="epoch")
    legend(axes)


def draw_spread(axes, generated: Labels) -> None:
    """Draws a histogram of the last epoch's labels over one of the fused labels, which are those of the first epoch."""
    fused = next(iter(generated.values()))[0]
    limit = max(np.abs(fused).max(), max(np.abs(labels[-1]).max() for labels in generated.values()), 1e-3)
    bins = np.linspace(-limit * 31 / 30, limit * 31 / 30, 32)  # so that labels, steps of 0.2, lie in the middle of bins
    axes.hist(fused, bins, color=FAINT, label="fused")
    looks = looks_of(generated)
    for modality, labels in generated.items():
        style = {"color": looks[modality].colour, "linestyle": looks[modality].line}
        axes.hist(labels[-1], bins, histtype="step", linewidth=1.5, **style, label=modality)
    axes.set(xlabel="label", ylabel="clips")
    legend(axes)


def legend(axes, columns: int = 4) -> None:
    """Puts a legend below the axes, where nothing is drawn."""
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.17)}
    drawn = axes.legend(
        frameon=False, ncols=columns, fontsize=9, columnspacing=1.3, handlelength=2.2, markerscale=1.2, **place
    )
    for handle in drawn.legend_handles:
        handle.set_alpha(1)
