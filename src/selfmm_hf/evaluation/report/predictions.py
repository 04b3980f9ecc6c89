"""Shows the predictions for the test split against the labels."""

import numpy as np

from ...labels.quality import true_labels
from ...metrics import absolute_errors, metric_name
from ...runs.plot import COLOURS, GREY, draw_outcome, draw_predictions, legend, looks_of
from ...task_metrics import metrics_of
from .confusion import classes
from .data import Data, Group
from .drawing import PAPER, Figure, Panel, Table, axis_ends

POINTS = 1000  # drawn at most


def outcomes(groups: list[Group]) -> Figure:
    """Draws the predictions for the test split, by the kind of the task."""
    panels, task = [], groups[0].finished[0].task
    for number, group in enumerate(groups, start=1):
        test = group.of_split("test")

        def draw(axes, labels=test["label"], predictions=test["fusion"]) -> None:
            draw_outcome(axes, task, labels, predictions)

        metrics = metrics_of(task, test["fusion"], test["label"])
        said = ", ".join(f"{metric_name(name)[1]} {value:.3f}" for name, value in metrics.items())
        panels.append(Panel(group.picture("outcome"), group.titled("Test split"), f"{said}.", draw, number, (5.4, 4.6)))
    return Figure("outcome", "Predictions", "What was predicted for the clips of the test split.", panels)


def scatter(groups: list[Group]) -> Figure:
    """Draws predictions against labels, and the residuals."""
    panels, rows = [], []
    for number, group in enumerate(groups, start=1):
        test = group.of_split("test")
        labels, predictions = test["label"], test["fusion"]
        residuals = predictions - labels
        error = np.mean([run.errors("test").mean() for run in group.finished])
        drawn = np.unique(np.linspace(0, len(labels) - 1, min(POINTS, len(labels))).round().astype(int))
        of_labels, names = classes(labels, group.finished[0].label_range, 5)
        found = [one for one in range(len(names)) if (of_labels == one).any()]
        quartiles = np.array([np.percentile(residuals[of_labels == one], [25, 50, 75]) for one in found])
        middles = np.array([labels[of_labels == one].mean() for one in found])

        def draw(axes, one=labels[drawn], other=predictions[drawn]) -> None:
            draw_predictions(axes, one, other)

        def draw_residuals(axes, labels=labels[drawn], residuals=residuals[drawn], at=middles, of=quartiles) -> None:
            axes.axhline(0, color=GREY, linewidth=1)
            axes.scatter(labels, residuals, s=10, alpha=0.35, color=COLOURS["text"], linewidths=0)
            axes.fill_between(
                at, of[:, 0], of[:, 2], color=COLOURS["audio"], alpha=0.25, linewidth=0, label="quartiles"
            )
            axes.plot(at, of[:, 1], "-s", color=COLOURS["audio"], markersize=5, label="median")
            axes.set(xlabel="label", ylabel="prediction minus label")
            legend(axes)

        alt = (
            f"Predictions against labels of {len(labels)} predictions: mean absolute error {error:.3f}, mean "
            f"difference {residuals.mean():+.3f}."
        )
        said = ", ".join(f"{middle:+.1f}: {of[1]:+.2f}" for middle, of in zip(middles, quartiles, strict=True))
        panels.append(Panel(group.picture("predicted"), group.titled("Predicted against true"), alt, draw, number))
        alt = f"Residuals against labels. Medians by label: {said}."
        panels.append(Panel(group.picture("residuals"), group.titled("Residuals"), alt, draw_residuals, number))
        rows += [
            (*[group.name] * bool(groups[0].name), names[one], int((of_labels == one).sum()), middle, *of)
            for one, middle, of in zip(found, middles, quartiles, strict=True)
        ]
    text = (
        "Each point is a clip of the test split; on the line, the prediction equals the label. Residuals are "
        "predictions minus labels: if their median falls from left to right, predictions are pulled to the middle."
    )
    if any(len(group.of_split("test")["label"]) > POINTS for group in groups):
        text += f" Each panel shows at most {POINTS} points; the numbers are of all clips."
    head = [*["runs"] * bool(groups[0].name), "class", "clips", "mean label", "lower quartile", "median residual"]
    return Figure("scatter", "Predicted against true", text, panels, [Table([*head, "upper quartile"], rows)])


def modality_errors(groups: list[Group], data: Data) -> Figure:
    """Draws the mean absolute error of each task, against the label and, where known, against its own true label."""
    panels, rows = [], []
    known = False
    measured = []
    for group in groups:
        tasks = ["fusion", *group.finished[0].tasks]
        splits = data.of(group.finished[0])
        truth = {}
        if not isinstance(splits, str) and splits["test"]["id"] == list(group.finished[0].of_split("test")["id"]):
            truth = true_labels(splits["test"], tasks[1:])
        errors = {task: ([], []) for task in tasks}
        for run in group.finished:
            test = run.of_split("test")
            for task in tasks:
                here = np.isfinite(test[task])
                for number, target in enumerate((test["label"], truth.get(task))):
                    if target is not None and (both := here & np.isfinite(target)).any():
                        error = absolute_errors(test[task][both], target[both], run.label_range).mean()
                        errors[task][number].append(float(error))
        known |= any(own for _, own in errors.values())
        clips = {task: int(np.isfinite(group.finished[0].of_split("test")[task]).sum()) for task in tasks}
        measured.append((group, errors, clips))
    tops = axis_ends(
        [1.12 * max(max(max(of), 1e-3) for pair in errors.values() for of in pair if of) for _, errors, _ in measured]
    )
    for (group, errors, clips), top in zip(measured, tops, strict=True):
        said = ", ".join(f"{task} {np.mean(of):.3f}" for task, (of, _) in errors.items() if of)
        alt = f"Mean absolute error against the label of the clip: {said}."
        panels.append(
            Panel(group.picture("modalities"), group.titled("Error by task"), alt, _errors(errors, top), 1, (4.0, 3.2))
        )
        for task, (of, own) in errors.items():
            cells = [f"{np.mean(values):.3f}" if values else "" for values in (of, own)[: 1 + known]]
            rows.append((*[group.name] * bool(groups[0].name), task, clips[task], *cells))
    text = (
        "The mean absolute error on the test split: of the fused prediction, and of the prediction of each modality "
        "alone, over the clips that have it. A modality need not agree with the label of the clip, so its error need "
        "not be small."
    )
    head = [*["runs"] * bool(groups[0].name), "task", "clips", "error", *["error against its own label"] * known]
    return Figure("modalities", "Error by modality", text, panels, [Table(head, rows)])


def _errors(errors: dict[str, tuple[list[float], list[float]]], top: float):
    looks = looks_of(errors)

    def draw(axes) -> None:
        for place, (task, pair) in zip(range(len(errors))[::-1], errors.items(), strict=True):
            for values, lift, full in zip(pair, (0.12, -0.2), (True, False), strict=True):
                if not values:
                    continue
                mean, height = np.mean(values), place + (lift if pair[1] else 0)
                colour, _, mark = looks[task]
                axes.plot([0, mean], [height] * 2, color=colour, alpha=0.35, linewidth=2.5)
                axes.plot([min(values), max(values)], [height] * 2, color=colour, linewidth=2)
                axes.plot(mean, height, mark, color=colour, markersize=8, markerfacecolor=colour if full else PAPER)
                axes.annotate(
                    f"{mean:.3f}", (max(values), height), xytext=(8, 0), textcoords="offset points", va="center", size=9
                )
        axes.set_yticks(range(len(errors))[::-1], list(errors))
        axes.set(xlabel="mean absolute error", xlim=(0, top * 1.08), ylim=(-0.6, len(errors) - 0.4))
        if any(own for _, own in errors.values()):
            axes.plot([], [], "o", color=GREY, label="against the clip's label")
            axes.plot([], [], "o", color=GREY, markerfacecolor=PAPER, label="against its own")
            legend(axes, 2)

    return draw
