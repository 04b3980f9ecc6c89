"""Shows how the losses and the generated labels develop, epoch by epoch."""

from collections.abc import Iterator

import numpy as np

from ...labels.quality import as_targets, mean_error, measures, quality, true_labels
from ...labels.trust import by_target, chosen_confidence, trust_in_words
from ...runs.plot import COLOURS, FAINT, draw_by_modality, draw_losses, looks_of
from .data import Data, Group
from .drawing import FLATTENING, Figure, Panel, Table, axis_ends

LOSSES = ("loss", "eval_selection_loss")
MOVED = ("moved", "Distance from the fused label", "mean difference", mean_error)
TITLES = {
    "corr": ("corr", "Correlation with the truth", "correlation"),
    "acc": ("acc", "Accuracy against the truth", "accuracy"),
    "mae": ("error", "Mean error against the truth", "mean error"),
}
TRUST = "Confidence in the labels"
NO_TASKS = "No modality has a task of its own in these runs, so nothing learns from generated labels."
SEEDS = (
    " Several seeds are drawn as their mean and a band from the lowest to the highest; thin lines are seeds that "
    "trained longer than others."
)


def learning_curves(groups: list[Group]) -> Figure:
    """Draws the losses of training and validation, one panel for each group."""
    groups = [group for group in groups if any(run.log_history for run in group.runs)]
    text = (
        "The training loss of all tasks, and the error of the fused prediction on the validation split. This error "
        "alone chose the epoch." + SEEDS
    )
    if not groups:
        return Figure("learning", "Learning curves", "No run has finished its first epoch.")
    tops = axis_ends(
        [1.05 * max(np.nanmax([0, *run.losses(name)]) for run in group.runs for name in LOSSES) for group in groups]
    )

    def panel(group: Group, top: float) -> Panel:
        runs = [run for run in group.runs if run.log_history]

        def draw(axes) -> None:
            losses = [[run.losses(name) for run in runs] for name in LOSSES]
            draw_losses(axes, *losses, [run.results.get("best_epoch") for run in runs], runs[0].task)
            axes.set(ylim=(0, top))

        said = "; ".join(
            f"seed {run.seed}: validation error {losses[0]:.3f} after the first epoch, lowest {np.nanmin(losses):.3f} "
            f"after epoch {int(np.nanargmin(losses)) + 1} of {len(losses)}"
            for run in runs
            if np.isfinite(losses := run.losses("eval_selection_loss")).any()
        )
        return Panel(group.picture("learning"), group.titled("Losses"), f"Losses by epoch. {said}.", draw)

    rows = [
        (f"{group.name} seed {run.seed}".strip(), epoch, *losses)
        for group in groups
        for run in group.runs
        for epoch, losses in enumerate(zip(*(run.losses(name) for name in LOSSES), strict=False), start=1)
    ]
    table = Table(["run", "epoch", "training, all tasks", "validation, fusion"], rows)
    panels = list(map(panel, groups, tops))
    return Figure("learning", "Learning curves", text, panels, [table])


def label_distributions(groups: list[Group]) -> Figure:
    """Draws the distribution of the generated labels over the epochs, as in the paper's figure of the u-labels."""
    text = (
        "The distribution of the labels generated for each modality over the training clips; later epochs are drawn "
        "above earlier ones. In the first epoch, all labels are the fused labels, which are drawn in grey behind each "
        "later epoch. Vertical strokes mark the medians. The labels of several seeds are counted together."
    )
    panels, rows = [], []
    for number, group in enumerate(groups, start=1):
        for modality, look in looks_of(group.finished[0].tasks).items():
            epochs = min(len(run.generated[modality]) for run in group.finished)
            labels = np.concatenate([run.generated[modality][:epochs] for run in group.finished], axis=1)
            shown = _some_epochs(epochs)
            first, last = labels[0], labels[-1]
            alt = (
                f"Distributions of the generated {modality} labels. Fused labels: mean {first.mean():+.2f}, standard "
                f"deviation {first.std():.2f}; labels after epoch {epochs}: mean {last.mean():+.2f}, standard "
                f"deviation {last.std():.2f}."
            )
            panels.append(
                Panel(
                    group.picture("labels", modality),
                    group.titled(modality),
                    alt,
                    _ridges(labels, shown, modality, look.colour),
                    number,
                    (4.0, 3.9),
                )
            )
            for epoch in shown:
                quartiles = np.percentile(labels[epoch - 1], [25, 50, 75])
                moved = np.abs(labels[epoch - 1] - first).mean()
                rows.append((group.name or modality, *[modality] * bool(group.name), epoch, *quartiles, moved))
    if not rows:
        return Figure("labels", "Generated labels over the epochs", NO_TASKS)
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
    """Chooses the first and the last epoch, and at most five others at growing distances."""
    return sorted({round(epoch) for epoch in np.geomspace(1, count, min(7, count))})


def _ridges(labels: np.ndarray, shown: list[int], modality: str, own_colour: str):
    farthest, fused = np.abs(labels).max(), np.abs(labels[0]).max()
    limit = max(min(farthest, FLATTENING * fused), 1e-3)
    beyond = ", larger ones at the ends" if farthest > limit else ""
    labels = labels.clip(-limit, limit)
    edges = np.linspace(-limit * 31 / 30, limit * 31 / 30, 32)  # labels, steps of 0.2, lie in the middle of bins
    counts = {epoch: np.histogram(labels[epoch - 1], edges)[0] for epoch in shown}
    height = 0.95 / max(1, max(of.max() for of in counts.values()))

    def draw(axes) -> None:
        for place, epoch in reversed(list(enumerate(shown))):
            depth = 3 * (len(shown) - place)
            before, now = (place + counts[of] * height for of in (shown[0], epoch))
            axes.stairs(before, edges, baseline=place, fill=True, color=FAINT, zorder=depth)
            colour = COLOURS["fusion"] if epoch == 1 else own_colour
            axes.stairs(now, edges, baseline=place, color=colour, linewidth=1.4, zorder=depth + 1)
            median = np.median(labels[epoch - 1])
            axes.plot([median] * 2, [place, place + 0.22], color=colour, linewidth=2, zorder=depth + 1)
        axes.set_yticks(range(len(shown)), [f"epoch {epoch}" for epoch in shown])
        axes.set(xlabel=f"generated {modality} label{beyond}", xlim=(edges[0], edges[-1]), ylim=(-0.05, None))
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)

    return draw


def label_quality(groups: list[Group], data: Data) -> Figure:
    """Draws how far the labels have moved, and, where the truth is known, how close they have come to it."""
    panels, rows, notes = [], [], []
    truths = [_truth(group, data) for group in groups]
    task = groups[0].finished[0].task
    drawn = [MOVED, *((*TITLES[name], measure) for name, measure in measures(task).items())]
    for row, (slug, title, unit, measure) in enumerate(drawn, start=1):
        curves: dict[int, dict[str, list[list[float]]]] = {}
        for number, (group, truth) in enumerate(zip(groups, truths, strict=True)):
            first = group.finished[0]
            targets = {name: _flat(first.fused[None])[0] for name in first.tasks} if slug == "moved" else truth
            curves[number] = {
                name: [quality(_flat(run.generated[name]), target, measure) for run in group.finished]
                for name, target in targets.items()
            }
        values = {
            number: finite
            for number, of in curves.items()
            if (finite := [one for seeds in of.values() for seed in seeds for one in seed if np.isfinite(one)])
        }
        if not values:
            continue
        lowest = min(map(min, values.values()))
        tops = dict(zip(values, axis_ends([max(of) - lowest for of in values.values()]), strict=True))
        for number, group in enumerate(groups):
            if not (of := curves[number]):
                continue
            reach = lowest, lowest + tops.get(number, 0.0)
            ends = {name: [np.mean([seed[at] for seed in seeds]) for at in (0, -1)] for name, seeds in of.items()}
            alt = f"{title}, of the labels of the last epoch (of the fused labels): "
            alt += ", ".join(f"{name} {last:.3f} ({first:.3f})" for name, (first, last) in ends.items()) + "."
            draw = _by_modality(of, unit, reach, dotted=slug != "moved")
            panels.append(Panel(group.picture(slug), group.titled(title), alt, draw, row if len(groups) > 1 else 1))
            rows += [
                (title, *[group.name] * bool(groups[0].name), name, *_epoch_means(seeds)) for name, seeds in of.items()
            ]
    if not rows:
        return Figure("quality", "Do the labels mean anything?", NO_TASKS)
    for number, group in enumerate(groups, start=1):
        if not (trust := _confidence(group)):
            continue
        chosen = [chosen_confidence(run.results) for run in group.finished]
        at_best = {name: float(np.mean([one[name] for one in chosen])) for name in trust}
        row = (len(drawn) + 1 if len(groups) > 1 else 1) + (number if len(by_target(trust)) > 1 else 0)
        panels += _trust_panels(group, trust, at_best, row)
        rows += [(TRUST, *[group.name] * bool(groups[0].name), name, *_epoch_means(of)) for name, of in trust.items()]
        notes.append(f"{group.titled('After the chosen epoch')}, {'; '.join(trust_in_words(at_best))}.")
    text = "The mean distance between the labels of each modality and the fused label." + SEEDS
    if any(truths):
        text += (
            " These data have true labels for each modality. Generated labels are useful if they are closer to the "
            "true ones than the fused label is, which the dotted lines show."
        )
    if notes:
        text += (
            " The confidence says how far the rule trusts a difference from the fused label to be what a modality "
            "says. At 0, the difference counts as noise, and the label stays the fused one; at 1, it is trusted fully. "
        ) + " ".join(notes)
    head = ["measure", *["runs"] * bool(groups[0].name), "modality", "fused label", "epoch 2", "half-way", "last epoch"]
    return Figure("quality", "Do the labels mean anything?", text, panels, [Table(head, rows)])


def _confidence(group: Group) -> dict[str, list[list[float]]]:
    """
    Returns the confidence by the names of [`label_confidence`] and by seed, epoch by epoch; nothing for runs of another
    convention, or that did not keep it.
    """
    of_runs = [run.results.get("label_confidence", {}) for run in group.finished]
    return {name: [of[name] for of in of_runs] for name in of_runs[0] if all(name in of for of in of_runs)}


def _trust_panels(
    group: Group, trust: dict[str, list[list[float]]], at_best: dict[str, float], row: int
) -> Iterator[Panel]:
    """Draws a panel for each target."""
    targets, chosen = by_target(trust), by_target(at_best)
    for place, (target, of) in enumerate(targets.items(), start=1):
        about = f"{TRUST}: {target}" if target else TRUST
        alt = f"{about}, after the chosen epoch: {'; '.join(trust_in_words(chosen[target]))}."
        draw = _by_modality(of, "confidence", (0.0, 1.0), dotted=False)
        name = group.picture("trust", *[str(place)] * (len(targets) > 1))
        yield Panel(name, group.titled(about), alt, draw, row)


def _truth(group: Group, data: Data) -> dict[str, np.ndarray]:
    """Returns the true labels of the training clips by modality, if they are known."""
    splits = data.of(group.finished[0])
    if isinstance(splits, str):
        return {}
    known = true_labels(splits["train"], group.finished[0].tasks)
    return {name: as_targets(splits["train"].task, labels) for name, labels in known.items()}


def _flat(generated: np.ndarray) -> np.ndarray:
    """Returns labels as (epochs, clips, targets), whether or not there are several targets."""
    return generated.reshape(*generated.shape[:2], -1)


def _by_modality(curves: dict[str, list[list[float]]], unit: str, reach: tuple[float, float], dotted: bool):
    def draw(axes) -> None:
        draw_by_modality(axes, curves, dotted)
        margin = 0.05 * (reach[1] - reach[0]) + 1e-3
        axes.set(ylabel=unit, ylim=(reach[0] - margin, reach[1] + margin))

    return draw


def _epoch_means(seeds: list[list[float]]) -> list[float]:
    """Averages seeds in the first, second and middle epoch that all reached, and in the last epoch of each."""
    count = min(map(len, seeds))
    places = [0, min(1, count - 1), (count - 1) // 2, -1]
    return [float(np.mean([seed[place] for seed in seeds])) for place in places]
