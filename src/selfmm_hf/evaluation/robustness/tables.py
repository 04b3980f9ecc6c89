"""Predictions under all conditions -> figures, and their table."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...metrics import is_share, metric_name
from ...model.task_selfmm import REGRESSION, SINGLE_LABEL, Task
from ...task_metrics import constant_predictions, metrics_of
from .protocols import SEEDS, Condition
from .published import Published

REPORT_FILE = "robustness.json"
# What the field's tables of robustness show, by the range of the labels.
HEADLINES = {3.0: ["mae", "acc_2_negative_positive", "f1_negative_positive"], 1.0: ["mae", "acc_2", "f1"]}


def headlines(task: Task) -> list[str]:
    """What tables show: of a task that is not the field's, the means, and the F1 of each emotion."""
    if task.label_range in HEADLINES:
        return HEADLINES[task.label_range]
    if task.problem_type == REGRESSION:
        return ["mae", "corr", "rmse"]
    return ["acc", "f1", *(["f1_macro"] if task.problem_type == SINGLE_LABEL else [f"f1_{one}" for one in task.names])]


Figures = dict[str, float | None]


def label(condition: Condition) -> str:
    """Of a row: a rate such as `0.3`, the modalities that are present, or `all`."""
    if condition.protocol == "random":
        return f"{condition.rate:g}"
    return ", ".join(condition.present) if condition.missing else "all"


def measure(
    predictions: dict[Condition, NDArray[np.float32]], labels: ArrayLike, task: Task
) -> dict[Condition, Figures]:
    """The field's metrics under each condition; `None` where one is not defined."""
    return {one: _metrics(values, labels, task) for one, values in predictions.items()}


def summarise(measured: dict[Condition, Figures], train_labels: NDArray, labels: NDArray, task: Task) -> dict:
    """
    The figures of both protocols.

    Args:
        measured: As `measure` returns it.
        train_labels: From which a prediction without looking is made, see [`constant_predictions`].

    Returns:
        `random`: by rate and `mean`, the metrics' means over the masks; `absent` and `zeros`: by what is present,
        `mean` over all but the complete data, and `all`; `guess`: of that prediction for each clip.
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
    guesses = _metrics(constant_predictions(task, train_labels, len(labels)), labels, task)
    return rows | {"guess": guesses}


def markdown(report: dict[str, Any], rows: Sequence[Published]) -> str:
    """
    The two tables, with the published figures of the data set beside the model's.

    Args:
        report: As `robustness.json` has it.
        rows: Published ones, of this data set.
    """
    names = report.get("headlines") or HEADLINES[report["label_range"]]
    random = [("", metric_name(name)[1], _cells(report["random"], name)) for name in names]
    random += _columns([row for row in rows if row.protocol == "random"], names)
    subsets = [
        (f"missing as {fill}", metric_name(name)[1], _cells(report[fill], name))
        for fill in ("absent", "zeros")
        for name in names
    ]
    subsets += _columns([row for row in rows if row.protocol == "subsets"], names)
    guess = ", ".join(f"{metric_name(name)[1]} {_printed(name, report['guess'][name])}" for name in names)
    parts = [
        f"# {report['name']} on {report['dataset']}, test split, with missing data",
        f"{report['clips']} clips. A report on a finished model: nothing may be chosen by these figures. "
        f"Guessing {_guessed(report)} gives {guess}.",
        "## Missing at random",
        "Each token becomes [UNK] and each frame zeros with the probability on the left ([CLS] and [SEP] stay; LNLN's "
        f"protocol). Means over {len(SEEDS)} masks.",
        _table("rate", list(report["random"]), random),
    ]
    if len(report["absent"]) > 2:
        parts += [
            "## Only some modalities",
            'Missing "as absent": the model is told so, and reads nothing (`absent_modality`: '
            f'{report["absent_modality"]}). "As zeros": zero frames and [UNK] tokens, of which the model is not told; '
            "published figures are of this kind. The mean is over the subsets.",
            _table("present", list(report["absent"]), subsets),
        ]
    if rows:
        sources = dict.fromkeys(f"- {row.paper}: {row.source}" for row in rows)
        parts += [
            "## Published figures",
            "They are of models with other features, trained and chosen otherwise; the columns of one paper compare "
            "with each other alone:",
            "\n".join(sources),
        ]
    return "\n\n".join(parts) + "\n"


def _guessed(report: dict[str, Any]) -> str:
    if report.get("guessed") is None:
        return "what is most frequent, or in the middle, among the training labels"
    return f"the median of the training labels, {report['guessed']:.2f},"


def _metrics(predictions: ArrayLike, labels: ArrayLike, task: Task) -> Figures:
    # JSON knows no NaN, which a correlation is where all predictions are equal.
    metrics = metrics_of(task, predictions, labels)
    return {name: None if math.isnan(value) else value for name, value in metrics.items()}


def _mean(figures: list[Figures]) -> Figures:
    """Of each metric; `None` where one of them is not defined."""
    return {
        name: None if any(one[name] is None for one in figures) else float(np.mean([one[name] for one in figures]))
        for name in figures[0]
    }


def _printed(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value * 100:.2f}" if is_share(name) else f"{value:.3f}"


def _cells(figures: dict[str, Figures], name: str) -> dict[str, str]:
    return {row: _printed(name, one.get(name)) for row, one in figures.items()}


def _columns(rows: list[Published], names: list[str]) -> list[tuple[str, str, dict[str, str]]]:
    """Of published figures, those of one method in one source beside each other."""
    return [
        (f"{row.method} ({row.paper})", metric_name(name)[1], {
            key: f"{value:.2f}" if is_share(name) else f"{value:.3f}" for key, value in row.metrics[name].items()
        })
        for row in rows
        for name in names
        if name in row.metrics
    ]  # fmt: skip


def _table(first: str, labels: list[str], columns: list[tuple[str, str, dict[str, str]]]) -> str:
    """Columns as (heading, metric, cells by row)."""
    lines = [[first, *(f"{heading}: {metric}" if heading else metric for heading, metric, _ in columns)]]
    lines += [["---"] * len(lines[0])]
    lines += [[row, *(cells.get(row, "") for _, _, cells in columns)] for row in labels]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
