"""How the losses and the generated labels went, epoch by epoch."""

import numpy as np

from ..data.columns import UNIMODAL_LABELS
from ..plots import COLOURS, FAINT, correlation, draw_losses, draw_quality, draw_shift, mean_error, quality
from .data import Data, Group
from .drawing import Figure, Panel, Table

LOSSES = ("loss", "eval_selection_loss")
MEASURES = [("corr", correlation, "Correlation", "with"), ("error", mean_error, "Mean error", "against")]
SEEDS = " Of several seeds: the mean, a band from the lowest to the highest, and thin lines where some went on alone."


def learning_curves(groups: list[Group]) -> Figure:
    """Losses of training and validation, one panel for each group."""
    groups = [group for group in groups if any(run.log_history for run in group.runs)]
    text = (
        "The loss of all tasks in training, and the error of the fused prediction on the validation split, which alone "
        "chose the epoch." + SEEDS
    )
    if not groups:
        return Figure("learning", "Learning curves", "No run has come to the end of its first epoch.")
    top = 1.05 * max(max(run.losses(name), default=0) for group in groups for run in group.runs for name in LOSSES)

    def panel(number: int, group: Group) -> Panel:
        runs = [run for run in group.runs if run.log_history]

        def draw(axes) -> None:
            losses = [[run.losses(name) for run in runs] for name in LOSSES]
            draw_losses(axes, *losses, [run.results.get("best_epoch") for run in runs])
            axes.set(ylim=(0, top))

        said = "; ".join(
            f"seed {run.seed}: validation error {losses[0]:.3f} after the first epoch, lowest {min(losses):.3f} after "
            f"epoch {int(np.argmin(losses)) + 1} of {len(losses)}"
            for run in runs
            if (losses := run.losses("eval_selection_loss"))
        )
        return Panel(f"learning-{number}", group.name or "Losses by epoch", f"Losses by epoch. {said}.", draw)

    rows = [
        (f"{group.name} seed {run.seed}".strip(), epoch, *losses)
        for group in groups
        for run in group.runs
        for epoch, losses in enumerate(zip(*(run.losses(name) for name in LOSSES), strict=False), start=1)
    ]
    table = Table(["run", "epoch", "training, all tasks", "validation, fusion"], rows)
    panels = [panel(number, group) for number, group in enumerate(groups, start=1)]
    return Figure("learning", "Learning curves", text, panels, [table])


def label_distributions(groups: list[Group]) -> Figure:
    """The distribution of the generated labels over the epochs, as the paper shows it (its figure of the u-labels)."""
    text = (
        "How the labels generated for each modality are distributed over the training clips, from epoch to epoch, "
        "upwards. In the first one they are the fused labels, which stand in grey behind each of the later ones. "
        "Vertical strokes mark the medians. Of several seeds: all labels together."
    )
    panels, rows = [], []
    for number, group in enumerate(groups, start=1):
        for modality in group.finished[0].tasks:
            epochs = min(len(run.generated[modality]) for run in group.finished)
            labels = np.concatenate([run.generated[modality][:epochs] for run in group.finished], axis=1)
            shown = _some_epochs(epochs)
            title = ", ".join(filter(None, (modality, group.name)))
            first, last = labels[0], labels[-1]
            alt = (
                f"Distributions of the generated {modality} labels. Fused labels: mean {first.mean():+.2f}, standard "
                f"deviation {first.std():.2f}; labels after epoch {epochs}: mean {last.mean():+.2f}, standard "
                f"deviation {last.std():.2f}."
            )
            panels.append(
                Panel(f"labels-{number}-{modality}", title, alt, _ridges(labels, shown, modality), (4.0, 3.9))
            )
            for epoch in shown:
                quartiles = np.percentile(labels[epoch - 1], [25, 50, 75])
                moved = np.abs(labels[epoch - 1] - first).mean()
                rows.append((group.name or modality, *[modality] * bool(group.name), epoch, *quartiles, moved))
    head = [
        *["runs"] * bool(groups[0].name),
        "modality",
        "epoch",
        "lower quartile",
        "median",
        "upper quartile",
        "mean distance from the fused label",
    ]
    table = Table(head, rows)
    return Figure("labels", "Generated labels over the epochs", text, panels, [table])


def _some_epochs(count: int) -> list[int]:
    """The first, the last, and at most five others, ever farther apart."""
    return sorted({round(epoch) for epoch in np.geomspace(1, count, min(7, count))})


def _ridges(labels: np.ndarray, shown: list[int], modality: str):
    limit = max(np.abs(labels).max(), 1e-3)
    edges = np.linspace(-limit * 31 / 30, limit * 31 / 30, 32)  # labels, steps of 0.2, lie in the middle of bins
    counts = {epoch: np.histogram(labels[epoch - 1], edges)[0] for epoch in shown}
    height = 0.95 / max(1, max(of.max() for of in counts.values()))

    def draw(axes) -> None:
        for place, epoch in reversed(list(enumerate(shown))):
            depth = 3 * (len(shown) - place)
            before, now = (place + counts[of] * height for of in (shown[0], epoch))
            axes.stairs(before, edges, baseline=place, fill=True, color=FAINT, zorder=depth)
            colour = COLOURS["fusion"] if epoch == 1 else COLOURS[modality]
            axes.stairs(now, edges, baseline=place, color=colour, linewidth=1.4, zorder=depth + 1)
            median = np.median(labels[epoch - 1])
            axes.plot([median] * 2, [place, place + 0.22], color=colour, linewidth=2, zorder=depth + 1)
        axes.set_yticks(range(len(shown)), [f"epoch {epoch}" for epoch in shown])
        axes.set(xlabel=f"generated {modality} label", xlim=(edges[0], edges[-1]), ylim=(-0.05, None))
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)

    return draw


def label_quality(groups: list[Group], data: Data) -> Figure:
    """How far the labels have moved, and, where the truth is known, how near they have come to it."""
    panels, rows = [], []
    known = False
    for number, group in enumerate(groups, start=1):
        seeds = [{name: run.generated[name] for name in run.tasks} for run in group.finished]
        splits = data.of(group.finished[0])
        ending = f": {group.name}" if group.name else ""

        def shift(axes, seeds=seeds) -> None:
            draw_shift(axes, seeds)

        far = {
            name: np.mean([np.abs(labels[name][-1] - labels[name][0]).mean() for labels in seeds]) for name in seeds[0]
        }
        alt = "Mean distance of the generated labels from the fused one after the last epoch: "
        alt += ", ".join(f"{name} {value:.2f}" for name, value in far.items()) + "."
        panels.append(Panel(f"moved-{number}", f"Distance from the fused label{ending}", alt, shift))
        if isinstance(splits, str) or not set(UNIMODAL_LABELS.values()) & set(splits["train"].column_names):
            continue
        known = True
        there = [name for name in seeds[0] if UNIMODAL_LABELS[name] in splits["train"].column_names]
        truth = {name: np.array(splits["train"][UNIMODAL_LABELS[name]], dtype=float) for name in there}
        for slug, measure, title, against in MEASURES:

            def draw(axes, seeds=seeds, truth=truth, measure=measure, title=title) -> None:
                draw_quality(axes, seeds, truth, measure)
                axes.set(ylabel=title.lower())

            ends = {
                name: np.mean([quality(labels[name], truth[name], measure) for labels in _cut(seeds)], axis=0)
                for name in truth
            }
            alt = f"{title} of the generated labels with the true ones, after the last epoch (of the fused label): "
            alt += ", ".join(f"{name} {curve[-1]:.3f} ({curve[0]:.3f})" for name, curve in ends.items()) + "."
            panels.append(Panel(f"quality-{number}-{slug}", f"{title} {against} the truth{ending}", alt, draw))
            rows += [
                (group.name or name, *[name] * bool(group.name), title.lower(), curve[0], *_at(curve), curve[-1])
                for name, curve in ends.items()
            ]
    text = "How far the labels of each modality move away from the fused label, on average." + SEEDS
    if known:
        text += (
            " These data know what each modality says on its own: a generated label is worth something where it is "
            "nearer to that than the fused label, which the dotted lines show."
        )
    head = [*["runs"] * bool(groups[0].name), "modality", "measure", "fused label", "epoch 2", "half-way", "last epoch"]
    return Figure("quality", "Do the labels mean anything?", text, panels, [Table(head, rows)] if rows else [])


def _cut(seeds: list[dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """As far as all of them went."""
    epochs = min(len(labels) for one in seeds for labels in one.values())
    return [{name: labels[:epochs] for name, labels in one.items()} for one in seeds]


def _at(curve: np.ndarray) -> tuple[float, float]:
    return curve[min(1, len(curve) - 1)], curve[(len(curve) - 1) // 2]
