"""A picture of a training run."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from .data import Samples, Splits
from .data.columns import UNIMODAL_LABELS

# Okabe and Ito's colours, which colour-blind people can tell apart.
COLOURS = {"fusion": "#000000", "text": "#0072B2", "audio": "#D55E00", "vision": "#009E73"}


def plot_run(folder: Path, log_history: list[dict], best_epoch: int, splits: Splits) -> Path:
    """
    Draws learning curves, predictions against labels, and the generated labels over the epochs.

    Args:
        folder: Of the run: `predictions.parquet` and `pseudo_labels.parquet` are read there, `run.png` is written.
        log_history: Of the trainer's state.
        best_epoch: The epoch that validation chose.
        splits: The data. Where they know the unimodal labels, the generated ones are held against them.

    Returns:
        The picture's file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), layout="constrained")
    FigureCanvasAgg(figure)
    curves, scatter, quality, spread = figure.subplots(2, 2).flat
    generated = _generated(folder)
    modalities = list(generated)
    _plot_curves(curves, log_history, best_epoch)
    _plot_predictions(scatter, folder)
    if UNIMODAL_LABELS["text"] in splits["train"].column_names:
        _plot_quality(quality, generated, splits["train"])
    else:
        _plot_shift(quality, generated, splits["train"])
    _plot_spread(spread, generated, splits["train"])
    for axes in (curves, quality):
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.suptitle(f"Self-MM on {len(splits['train'])} training clips; modalities: {', '.join(modalities)}")
    file = folder / "run.png"
    figure.savefig(file, dpi=110)
    return file


def _generated(folder: Path) -> dict[str, np.ndarray]:
    """Generated labels by modality, (epochs, training samples)."""
    table = pq.read_table(folder / "pseudo_labels.parquet")
    epochs = int(np.max(table["epoch"].to_numpy()))
    names = [name for name in table.column_names if name not in ("id", "epoch")]
    return {name: table[name].to_numpy().reshape(epochs, -1) for name in names}


def _plot_curves(axes, log_history: list[dict], best_epoch: int) -> None:
    validation = [entry["eval_selection_loss"] for entry in log_history if "eval_selection_loss" in entry]
    training = [entry["loss"] for entry in log_history if "loss" in entry]
    axes.plot(range(1, len(training) + 1), training, "--", color="#777777", label="training, all tasks")
    axes.plot(range(1, len(validation) + 1), validation, color=COLOURS["fusion"], label="validation, fusion")
    if validation:
        axes.plot(
            best_epoch, validation[best_epoch - 1], "o", color=COLOURS["fusion"], label=f"chosen: epoch {best_epoch}"
        )
    axes.set(title="Learning curves", xlabel="epoch", ylabel="L1 loss", ylim=(0, None))
    axes.legend(frameon=False)


def _plot_predictions(axes, folder: Path) -> None:
    table = pq.read_table(folder / "predictions.parquet").to_pydict()
    rows = [row for row, split in enumerate(table["split"]) if split == "test"]
    labels, predictions = (np.array(table[name])[rows] for name in ("label", "fusion"))
    limit = max(np.abs(labels).max(), np.abs(predictions).max()) * 1.05
    axes.plot([-limit, limit], [-limit, limit], color="#999999", linewidth=1)
    axes.scatter(labels, predictions, s=9, alpha=0.5, color=COLOURS["fusion"], linewidths=0)
    error = np.abs(labels - predictions).mean()
    axes.set(title=f"Test split: mean absolute error {error:.3f}", xlabel="label", ylabel="prediction")
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")


def _plot_quality(axes, generated: dict[str, np.ndarray], samples: Samples) -> None:
    fused = np.array(samples["label"])
    for modality, labels in generated.items():
        truth = np.array(samples[UNIMODAL_LABELS[modality]])
        correlations = [np.corrcoef(epoch, truth)[0, 1] for epoch in labels]
        colour = COLOURS.get(modality)
        axes.plot(range(1, len(correlations) + 1), correlations, color=colour, label=modality)
        axes.axhline(np.corrcoef(fused, truth)[0, 1], color=colour, linestyle=":")
    axes.plot([], [], ":", color="#777777", label="the fused label instead")
    axes.set(title="Generated unimodal labels against the true ones", xlabel="epoch", ylabel="correlation")
    axes.legend(frameon=False)


def _plot_shift(axes, generated: dict[str, np.ndarray], samples: Samples) -> None:
    fused = np.array(samples["label"])
    for modality, labels in generated.items():
        axes.plot(
            range(1, len(labels) + 1), np.abs(labels - fused).mean(1), color=COLOURS.get(modality), label=modality
        )
    axes.set(title="How far the generated labels are from the fused one", xlabel="epoch", ylabel="mean difference")
    axes.legend(frameon=False)


def _plot_spread(axes, generated: dict[str, np.ndarray], samples: Samples) -> None:
    fused = np.array(samples["label"])
    limit = max(np.abs(fused).max(), max(np.abs(labels[-1]).max() for labels in generated.values()))
    bins = np.linspace(-limit * 31 / 30, limit * 31 / 30, 32)  # labels, steps of 0.2, lie in the middle of bins
    axes.hist(fused, bins, color="#cccccc", label="fused")
    for modality, labels in generated.items():
        axes.hist(labels[-1], bins, histtype="step", linewidth=1.5, color=COLOURS.get(modality), label=modality)
    axes.set(title="Labels of the training split, last epoch", xlabel="label", ylabel="clips")
    axes.legend(frameon=False)
