"""Turns predictions under all conditions into figures, and these into tables."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...metrics import kind_and_target, metric_name, metric_of
from ...model.task_selfmm import REGRESSION, SINGLE_LABEL, Task
from ...published import as_printed
from ...storage.whole_files import as_json
from ...task_metrics import constant_predictions, metrics_of
from .protocols import SEEDS, Condition
from .published import Published

# What the field's tables of robustness show, by the range of the labels.
HEADLINES = {3.0: ["mae", "acc_2_negative_positive", "f1_negative_positive"], 1.0: ["mae", "acc_2", "f1"]}


def headlines(task: Task) -> list[str]:
    """Returns what tables show first; for several scores, emotions or classes, the means."""
    if task.label_range in HEADLINES:
        return HEADLINES[task.label_range]
    if task.problem_type == REGRESSION:
        return ["mae", "corr", "rmse"]
    return ["acc", "f1", "f1_macro"] if task.problem_type == SINGLE_LABEL else ["acc", "f1"]


def of_each(task: Task) -> list[str]:
    """Returns the metrics of each emotion, class or score, for a table of their own; none for a single score."""
    if len(task.names) == 1 and task.problem_type == REGRESSION:
        return []
    return [metric_of("mae" if task.problem_type == REGRESSION else "f1", name) for name in task.names]


Figures = dict[str, float]  # by metric
OTHER_ROWS = ("mean", "all", "guessing")  # a modality may be called so


def label(condition: Condition) -> str:
    """Returns the label of a row: a rate such as `0.3`, the modalities that are present, or `all`."""
    if condition.protocol == "random":
        return f"{condition.rate:g}"
    present = ", ".join(condition.present)
    if not condition.missing:
        return "all"
    return f"{present} alone" if present in OTHER_ROWS else present


def measure(
    predictions: dict[Condition, NDArray[np.float32]], labels: ArrayLike, task: Task
) -> dict[Condition, Figures]:
    """Computes the field's metrics under each condition; NaN where one is not defined."""
    return {one: metrics_of(task, values, labels) for one, values in predictions.items()}


def summarise(measured: dict[Condition, Figures], train_labels: NDArray, labels: NDArray, task: Task) -> dict:
    """
    Summarises the figures of both protocols for JSON, with `None` for NaN.

    Args:
        measured: As `measure` returns it.
        train_labels: Labels for a prediction without looking, see [`constant_predictions`].

    Returns:
        `random`: by rate and `mean`, the metrics' means over the masks; `absent` and `zeros`: by what is present,
        `mean` over all but the complete data, and `all`; `guess`: the metrics of the prediction without looking.
    """
    complete = next(figures for one, figures in measured.items() if one.protocol == "complete")
    rows = {"random": {"0": complete}, "absent": {}, "zeros": {}}
    grouped: dict[tuple[str, str], list[Figures]] = {}
    for one, figures in measured.items():
        if one.protocol != "complete":
            grouped.setdefault((one.protocol, label(one)), []).append(figures)
    for (protocol, name), figures in grouped.items():
        rows[protocol][name] = _mean(figures)
    for figures in rows.values():
        if figures:  # a model of one modality has no subsets
            figures["mean"] = _mean(list(figures.values()))
    for fill in ("absent", "zeros"):
        rows[fill]["all"] = complete
    guesses = metrics_of(task, constant_predictions(task, train_labels, len(labels)), labels)
    return as_json(rows | {"guess": guesses})


def markdown(report: dict[str, Any], rows: Sequence[Published]) -> str:
    """
    Formats the tables of both protocols, with the published figures of the data set beside the model's.

    Args:
        report: As `robustness.json` has it.
        rows: Published figures of this data set.
    """
    names = report.get("headlines") or HEADLINES[report["label_range"]]
    of_protocol = {kind: [row for row in rows if row.protocol == kind] for kind in ("random", "subsets")}
    known = {name: value for name in names if (value := report["guess"][name]) is not None}
    guess = ", ".join(f"{metric_name(name)[1]} {as_printed(name, value)}" for name, value in known.items())
    parts = [
        f"# {report['name']} on {report['dataset']}, test split, with missing data",
        f"{report['clips']} clips. A report on a finished model: nothing may be chosen by these figures. "
        f"Guessing {_guessed(report)} gives {guess}.",
        "## Missing at random",
        "Each token becomes [UNK] and each frame zeros with the probability on the left ([CLS] and [SEP] stay; LNLN's "
        f"protocol). Means over {len(SEEDS)} masks.",
        *_tables("rate", report, "random", of_protocol["random"]),
    ]
    if len(report["absent"]) > 2:
        parts += [
            "## Only some modalities",
            "The mean is over the subsets. The model is told that the other modalities are absent, and reads nothing "
            f"of them (`absent_modality`: {report['absent_modality']}):",
            *_tables("present", report, "absent", []),
            "The others are zero frames and [UNK] tokens, and the model is not told so, as with published figures:",
            *_tables("present", report, "zeros", of_protocol["subsets"]),
        ]
    if rows:
        sources = dict.fromkeys(f"- {row.paper}: {row.source}" for row in rows)
        parts += [
            "## Published figures",
            "They come from models with other features, trained and chosen in other ways; only figures of the same "
            "paper can be compared:",
            "\n".join(sources),
        ]
    return "\n\n".join(parts) + "\n"


def _guessed(report: dict[str, Any]) -> str:
    if report.get("guessed") is None:
        return "what is most frequent, or in the middle, among the training labels"
    return f"the median of the training labels, {report['guessed']:.2f},"


def _mean(figures: list[Figures]) -> Figures:
    """Returns the mean of each metric; NaN if one value is."""
    return {name: float(np.mean([one[name] for one in figures])) for name in figures[0]}


def _printed(name: str, value: float | None) -> str:
    return "" if value is None else as_printed(name, value)


def _cells(figures: dict[str, dict[str, float | None]], name: str) -> dict[str, str]:
    return {row: _printed(name, one.get(name)) for row, one in figures.items()}


def _columns(rows: list[Published], names: list[str]) -> list[tuple[str, str, dict[str, str]]]:
    """Makes columns of published figures, with those of one method in one source beside each other."""
    return [
        (
            f"{row.method} ({row.paper})",
            metric_name(name)[1],
            {key: as_printed(name, value) for key, value in row.metrics[name].items()},
        )
        for row in rows
        for name in names
        if name in row.metrics
    ]


def _tables(first: str, report: dict[str, Any], kind: str, rows: list[Published]) -> Iterator[str]:
    """Yields the table of the headlines, with published columns, and that of each target, with published rows."""
    figures, names = report[kind], report.get("headlines") or HEADLINES[report["label_range"]]
    own = [("", metric_name(name)[1], _cells(figures, name)) for name in names]
    yield _table(first, list(figures), own + _columns(rows, names))
    if not (each := report.get("of_each")):
        return
    labels, cells = [], {name: _cells(figures, name) for name in each}
    for condition in figures:
        labels.append(condition)
        for row in rows:
            if known := [name for name in each if condition in row.metrics.get(name, {})]:
                labels.append(f"{condition}, {row.method} ({row.paper})")
                for name in known:
                    cells[name][labels[-1]] = as_printed(name, row.metrics[name][condition])
    labels.append("guessing")
    for name in each:
        cells[name]["guessing"] = _printed(name, report["guess"][name])
    kinds, targets = zip(*map(kind_and_target, each), strict=True)
    yield f"{metric_name(kinds[0])[1]} of each:"
    columns = [("", target, cells[name]) for target, name in zip(targets, each, strict=True)]
    yield _table(first, labels, columns)


def _table(first: str, labels: list[str], columns: list[tuple[str, str, dict[str, str]]]) -> str:
    """Formats columns of (heading, metric, cells by row), aligned for the terminal."""
    lines = [[first, *(f"{heading}: {metric}" if heading else metric for heading, metric, _ in columns)]]
    lines += [[row, *(cells.get(row, "") for _, _, cells in columns)] for row in labels]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    padded.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)
