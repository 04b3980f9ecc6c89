"""Shows how good the predictions for the test split are."""

import numpy as np
from numpy.typing import NDArray

from ...labels.conflict import conflict_in_words
from ...labels.quality import true_labels
from ...metrics import METRIC_NAMES, SIMS_LIMITS, absolute_errors, is_share, metric_name, reported
from ...published import PublishedFigures, published_figures, published_in_words
from ...runs.plot import COLOURS, GREY, draw_outcome, draw_predictions, legend, looks_of
from ...task_metrics import metrics_of
from .data import Data, Group
from .drawing import PAPER, Figure, Panel, Table, axis_ends

POINTS = 1000  # drawn at most
SEVEN = ["\N{MINUS SIGN}3", "\N{MINUS SIGN}2", "\N{MINUS SIGN}1", "0", "+1", "+2", "+3"]


def results(groups: list[Group]) -> Figure:
    """Shows the field's metrics: those of the test split by group and seed, and all in a table."""
    runs = [run for group in groups for run in group.finished]
    names = reported(dict.fromkeys(name for run in runs for name in run.results), "test")
    titles = {name: metric_name(name)[1] for name in names}
    several = len(runs) > 1
    panels = [_seeds_panel(groups, name, titles[name]) for name in names[:3] if several]
    tables, first = [], runs[0]
    published = published_figures(first.dataset, first.modalities, first.task, names)
    for split in ("test", "validation"):
        beside = {f"published: {one.name}": one for one in published if split == "test"}
        caption = f"{split.capitalize()} split{', mean and standard deviation over the seeds' * several}"
        if runs[0].label_range is None:  # a metric for each target: too many for a line
            own = {group.name or "run": [_cell(group, f"{split}_{name}") for name in names] for group in groups}
            columns = own | {"constant": [_cell(groups[0], f"{split}_constant_{name}") for name in names]}
            columns |= {title: [_published_cell(one, name) for name in names] for title, one in beside.items()}
            printed = {name for one in beside.values() for name in one.metrics}
            kinds = {
                "": [name for name in names if name in METRIC_NAMES],
                ", beside published figures": [name for name in names if name in printed],
                ", each of them": [name for name in names if name not in METRIC_NAMES],
            }
            for kind, shown in kinds.items():
                heads = list(columns) if "published" in kind else [*own, "constant"]
                cells = {name: [columns[head][names.index(name)] for head in heads] for name in shown}
                rows = [(titles[name], *of) for name, of in cells.items() if any(of)]
                tables += [Table(["", *heads], rows, caption + kind)] * bool(rows)
            continue
        rows = []
        for group in groups:
            cells = [_cell(group, f"{split}_{name}") for name in names]
            named = [group.name or ("all seeds" if several else "this run")] * (several or bool(beside))
            rows.append((*named, *[len(group.finished)] * several, *cells))
        for title, one in beside.items():
            rows.append((title, *[one.seeds or ""] * several, *(_published_cell(one, name) for name in names)))
        head = [*["runs"] * (several or bool(beside)), *["seeds"] * several]
        tables.append(Table([*head, *titles.values()], rows, caption))
    if published:
        rows = [(one.name, one.of) for one in published]
        tables.append(Table(["published", "what it is of"], rows, f"Published figures of {published[0].dataset}"))
    text = "The epoch was chosen by the validation loss alone; the test split was read once, after that."
    if published:
        encoders = sorted({run.text_encoder for run in runs} - {None})
        text += f" {next(published_in_words(published, encoders)).rstrip(':')}: see the last table."
    if several:
        text += " Each point is a seed, and the stroke is their mean."
    if runs[0].label_range is None:
        text += (
            ' The column "constant" predicts the same for each clip: the most frequent class or the median in training.'
        )
    elif conflict := conflict_in_words([run.results for run in runs], runs[0].label_range):
        text += f" {conflict}"
    return Figure("results", "Results", text, panels, tables)


def _published_cell(one: PublishedFigures, name: str) -> str:
    """Writes a published figure in the units of the page, with the digits that are printed."""
    if name not in one.metrics:
        return ""
    return f"{one.metrics[name]:.{4 if is_share(name) else 3}f}"


def _cell(group: Group, name: str) -> str:
    values = _values(group, name)
    deviation = f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else ""
    return f"{values.mean():.3f}{deviation}" if np.isfinite(values).all() else ""


def _values(group: Group, name: str) -> NDArray[np.float64]:
    return np.array([run.results.get(name) for run in group.finished], dtype=float)  # None becomes NaN


def _seeds_panel(groups: list[Group], name: str, title: str) -> Panel:
    values = [_values(group, f"test_{name}") for group in groups]

    def draw(axes) -> None:
        places = np.arange(len(groups))[::-1]
        for place, of in zip(places, values, strict=True):
            axes.plot(of, np.full(len(of), place), "o", color=COLOURS["text"], alpha=0.6, markersize=6, linewidth=0)
            axes.plot([of.mean()] * 2, [place - 0.25, place + 0.25], color=COLOURS["fusion"], linewidth=2)
        axes.set_yticks(places, [group.name or "all seeds" for group in groups])
        axes.set(xlabel=f"{title}, test split", ylim=(-0.6, len(groups) - 0.4))
        axes.grid(axis="x", color=GREY, alpha=0.25)

    said = "; ".join(f"{group.name} {of.mean():.3f}".strip() for group, of in zip(groups, values, strict=True))
    return Panel(
        f"results-{name}", title, f"{title}, mean over the seeds: {said}.", draw, 1, (4.0, 1.5 + 0.4 * len(groups))
    )


def classes(scores: NDArray, label_range: float, count: int) -> tuple[NDArray[np.int64], list[str]]:
    """Returns the class of each score as the field counts them (`metrics.py`), and the names of the classes."""
    if label_range == 3:
        return (np.round(np.clip(np.float32(scores), -3, 3)) + 3).astype(int), SEVEN
    limits = SIMS_LIMITS[count]
    names = [f"≤ {limits[0]:g}", *(f"≤ {limit:g}" for limit in limits[1:]), f"> {limits[-1]:g}"]
    return np.digitize(np.clip(np.float32(scores), -1, 1), np.float32(limits), right=True), names


def confusion(labels: NDArray, predictions: NDArray, label_range: float, count: int) -> tuple[NDArray, list[str]]:
    """Counts clips by true class (rows) and predicted class (columns); also returns the names of the classes."""
    true, names = classes(labels, label_range, count)
    matrix = np.zeros((len(names), len(names)), dtype=int)
    np.add.at(matrix, (true, classes(predictions, label_range, count)[0]), 1)
    return matrix, names


def confusions(groups: list[Group]) -> Figure:
    """Draws which classes are taken for which: seven for MOSI and its kin, five and three for SIMS."""
    panels, tables = [], []
    label_range = groups[0].finished[0].label_range
    for number, group in enumerate(groups, start=1):
        test = group.of_split("test")
        for count in (7,) if label_range == 3 else (5, 3):
            matrix, names = confusion(test["label"], test["fusion"], label_range, count)
            title = group.titled(f"{count} classes")
            right, near = np.trace(matrix), sum(np.trace(matrix, offset) for offset in (-1, 0, 1))
            alt = (
                f"Confusion matrix: {right} of {matrix.sum()} predictions ({right / matrix.sum():.1%}) are of the "
                f"right class, {near / matrix.sum():.1%} of it or a class next to it."
            )
            panels.append(
                Panel(
                    group.picture("confusion", str(count)),
                    title,
                    alt,
                    _matrix(matrix, names),
                    1 if count == 7 else number,
                    (4.0, 3.9),
                )
            )
            head = ["true class", *(f"predicted {name}" for name in names), "clips"]
            rows = [(name, *map(int, row), int(row.sum())) for name, row in zip(names, matrix, strict=True)]
            tables.append(Table(head, rows, title))
    text = (
        "Rows are true classes, columns are predicted classes, and numbers count the clips of the test split. The "
        "stronger the colour of a cell, the larger its share of the row. Correct predictions lie on the framed "
        "diagonal."
    )
    if any(len(group.finished) > 1 for group in groups):
        text += " The predictions of all seeds are counted together."
    return Figure("confusion", "Confusion matrix", text, panels, tables)


def _matrix(matrix: NDArray, names: list[str]):
    def draw(axes) -> None:
        from matplotlib.patches import Rectangle

        for row, counts in enumerate(matrix):
            for column, clips in enumerate(counts):
                share = clips / max(1, counts.sum())
                place = (column - 0.5, row - 0.5)
                axes.add_patch(Rectangle(place, 1, 1, color=COLOURS["text"], alpha=0.62 * share, linewidth=0))
                if row == column:
                    axes.add_patch(Rectangle(place, 1, 1, fill=False, edgecolor=GREY, linewidth=1.2))
                if clips:
                    axes.text(column, row, clips, ha="center", va="center")
        axes.set_xticks(range(len(names)), names)
        axes.set_yticks(range(len(names)), names)
        edges = (-0.52, len(names) - 0.48)
        axes.set(xlabel="predicted class", ylabel="true class", xlim=edges, ylim=edges[::-1], aspect="equal")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)

    return draw


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
