"""Shows results with missing data, as `selfmm robustness` has measured them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...metrics import metric_name
from ...runs.folder import ROBUSTNESS_FILE
from ...runs.plot import legend
from ...runs.stored import NUMBER, RunError, StoredRun, read_json
from ...task_metrics import main_metric
from ..robustness.curves import Curves, by_rate, draw_rates, published_rates
from ..robustness.measure import same_within
from ..robustness.published import Published, published
from ..robustness.tables import headlines, of_each
from .data import Group
from .drawing import Figure, Panel, Table

KINDS = {
    "random": ("Missing at random", "rate"),
    "absent": ("Only some modalities present, and the model is told so", "present"),
    "zeros": ("Only some modalities present, the others filled with zeros", "present"),
}


def robustness(groups: list[Group]) -> Figure:
    """Draws curves over the rate of missing data, one for each group of runs that have been measured."""
    measured = {group.name: found for group in groups if (found := list(_measured(group)))}
    if not measured:
        told = "Not measured: selfmm robustness writes robustness.json, which is drawn here if a run's folder has it."
        return Figure("robustness", "Missing data", told)
    first = groups[0].finished[0]
    names = headlines(first.task)[:2]
    tables = []
    for kind, (title, what) in KINDS.items():
        rows = [
            (f"{group} seed {run.seed}".strip(), label, *(_figures(report, kind, name)[label] for name in names))
            for group, found in measured.items()
            for run, report in found
            for label in _figures(report, kind, names[0])
        ]
        if rows:
            tables.append(Table(["run", what, *(metric_name(name)[1] for name in names)], rows, title))
    datasets = {run.dataset for group in groups for run in group.finished}
    panels, beside = [], published(first.dataset) if len(datasets) == 1 else []
    for name in names:
        curves: Curves = {group: {} for group in measured}
        for group, found in measured.items():
            for _, report in found:
                for rate, value in by_rate(_figures(report, "random", name)).items():
                    curves[group].setdefault(rate, []).append(value)
        guesses = {report.get("guess", {}).get(name) for found in measured.values() for _, report in found}
        guess = guesses.pop() if len(guesses) == 1 else None  # others for other clips
        panels.append(_panel(name, curves, guess, beside))
    text = (
        "The test split again, with words, frames of sound and frames of the face missing at random, all at the same "
        "rate, and with only some of the modalities present. The model was chosen before, on validation. Several seeds "
        "are drawn as their mean and a band from the lowest to the highest."
    )
    if of_each(first.task):
        text += (
            " The curves are means over emotions, classes or scores, which robustness.md of the run lists one by one."
        )
    if any(published_rates(beside, name) for name in names):
        text += " Published figures come from other features, and their models were chosen in other ways."
    return Figure("robustness", "Missing data", text, panels, tables)


def _measured(group: Group) -> Iterator[tuple[StoredRun, dict[str, Any]]]:
    """
    Yields the runs that have a report of robustness, beside their other files or in a folder of its own.

    Raises:
        RunError: It is not of this run: its result on the complete data is another one.
    """
    for run in group.finished:
        places: list[Path] = [run.folder / ROBUSTNESS_FILE, run.folder / "robustness" / ROBUSTNESS_FILE]
        if not (found := [file for file in places if file.is_file()]):
            continue
        name = main_metric(run.task)
        figures = {"*": dict.fromkeys([name, *headlines(run.task)[:2]], NUMBER | None)}
        kinds = {"random": figures, "absent?": figures, "zeros?": figures}
        report = read_json(found[-1], kinds | {"guess?": {"*": NUMBER | None}})
        value, expected = _figures(report, "random", name).get("0"), run.results.get(f"test_{name}")
        if value is not None and expected is not None and not abs(value - expected) <= same_within(run.task):
            raise RunError(
                f"{found[-1]} is not of this run: on the complete data, its {metric_name(name)[1]} is {value:.3f}, and "
                f"that of the run {expected:.3f}. Move it away, or measure this run: selfmm robustness."
            )
        yield run, report


def _figures(report: dict[str, Any], kind: str, name: str) -> dict[str, float]:
    """Returns one metric by rate, or by what is present, and its mean."""
    figures = {label: of[name] for label, of in report.get(kind, {}).items()}
    return {label: float("nan") if value is None else float(value) for label, value in figures.items()}


def _panel(name: str, curves: Curves, guess: float | None, rows: list[Published]) -> Panel:
    title = metric_name(name)[1]

    def draw(axes) -> None:
        draw_rates(axes, name, curves, rows, guess)
        legend(axes, 1 if max(map(len, curves)) > 15 else 2)

    said = "; ".join(
        f"{group}: ".removeprefix(": ") + ", ".join(f"{rate:g} {np.mean(seeds):.3f}" for rate, seeds in of.items())
        for group, of in curves.items()
    )
    return Panel(f"robustness-{name}", title, f"{title} by the rate of missing data: {said}.", draw)
