"""Draws the picture of a robustness report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...metrics import metric_name
from ...runs.plot import GREY, PUBLISHED, STYLES
from ...storage.whole_files import write_figure
from .published import Published
from .tables import HEADLINES

GUESS = "guessing without looking"

Curves = dict[str, dict[float, list[float]]]
"""The values of each seed, by what is measured and by rate."""


def plot_robustness(report: dict[str, Any], rows: Sequence[Published], files: Sequence[Path]) -> None:
    """
    Draws error and F1 over the rate of missing data, and F1 over the modalities that are present.

    Args:
        report: As `robustness.json` has it.
        rows: Published figures of the data set, of which those of Self-MM are drawn.
        files: Files to write; their endings say in which format.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = report.get("headlines") or HEADLINES[report["label_range"]]
    mae, accuracy, f1 = names[0], names[1], "f1" if "f1" in names else names[2]
    figure = Figure(figsize=(13, 4.6), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    error, sign, subsets = figure.subplots(1, 3)
    for axes, name in ((error, mae), (sign, accuracy)):
        curve = {rate: [one] for rate, one in by_rate(_column(report["random"], name)).items()}
        draw_rates(axes, name, {report["name"]: curve}, rows, report["guess"][name])
        axes.set_title(metric_name(name)[1])
        axes.grid(alpha=0.25)
    own = [row for row in rows if row.method == "Self-MM" and row.protocol == "subsets"]
    _plot_subsets(subsets, report, own, f1)
    figure.suptitle(f"{report['dataset']}, test split, with missing data")
    handles = {}
    for axes in (error, sign, subsets):
        handles |= {text: handle for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False)
    for file in files:
        write_figure(file, figure, metadata={"Date": None} if file.suffix == ".svg" else None)


def draw_rates(axes, name: str, curves: Curves, rows: Sequence[Published], guess: float | None) -> None:
    """
    Draws a metric over the rate of missing data: for several seeds, the mean and a band from the lowest to the highest.

    Args:
        name: Name of the metric.
        rows: Published figures, of which those of Self-MM are drawn.
        guess: The metric of a guess without looking.
    """
    for number, (group, of) in enumerate(curves.items()):
        colour, style, mark = STYLES[number % len(STYLES)]
        inside = colour if number < len(STYLES) else "none"
        if any(len(seeds) > 1 for seeds in of.values()):
            ends = ([end(seeds) for seeds in of.values()] for end in (min, max))
            axes.fill_between(list(of), *ends, color=colour, alpha=0.2, linewidth=0)
        means = [np.mean(seeds) for seeds in of.values()]
        axes.plot(list(of), means, **_style(colour, style, mark), markerfacecolor=inside, label=group or "this model")
    for source, curve in published_rates(rows, name).items():
        axes.plot(curve.keys(), curve.values(), **_style(*PUBLISHED), label=source)
    if guess is not None:
        axes.axhline(guess, color=GREY, linestyle=(0, (1, 2)), label=GUESS)
    axes.set(xlabel="share of the data that is missing", ylabel=metric_name(name)[1])


def published_rates(rows: Sequence[Published], name: str) -> dict[str, dict[float, float]]:
    """Returns a metric of Self-MM as published, at several rates, by source."""
    of = [row for row in rows if row.method == "Self-MM" and row.protocol == "random"]
    curves = {_who(row): by_rate(row.metrics.get(name, {})) for row in of}
    return {source: curve for source, curve in curves.items() if len(curve) > 1}


def by_rate(figures: dict[str, float]) -> dict[float, float]:
    """Returns values by rate, without their mean."""
    return {float(rate): value for rate, value in figures.items() if rate != "mean"}


def _style(colour: str, line: Any, mark: str) -> dict[str, Any]:
    return {"color": colour, "linestyle": line, "marker": mark, "markersize": 4}


def _plot_subsets(axes, report, rows: list[Published], name: str) -> None:
    labels = [subset for subset in report["absent"] if subset != "mean"]
    places = {subset: place for place, subset in enumerate(reversed(labels))}
    colour, _, mark = STYLES[0]
    fills = ("absent", "zeros")
    rows = [row for row in rows if name in row.metrics]
    height = 0.7 / (len(fills) + len(rows))  # side by side, so that equal figures do not hide each other
    for number, fill in enumerate(fills):
        known = {
            subset: one[name] for subset, one in report[fill].items() if subset in places and one[name] is not None
        }
        axes.plot(
            list(known.values()),
            [places[subset] + 0.35 - height * (number + 0.5) for subset in known],
            mark,
            color=colour,
            markerfacecolor=colour if fill == "absent" else "white",
            label=f"{report['name']}: missing as {fill}",
        )
    for number, row in enumerate(rows, start=len(fills)):
        cells = {subset: value for subset, value in row.metrics[name].items() if subset in places}
        heights = [places[subset] + 0.35 - height * (number + 0.5) for subset in cells]
        axes.plot(list(cells.values()), heights, PUBLISHED[2], color=PUBLISHED[0], label=_who(row))
    if report["guess"][name] is not None:
        axes.axvline(report["guess"][name], color=GREY, linestyle=(0, (1, 2)), label=GUESS)
    for place in range(len(places) - 1):
        axes.axhline(place + 0.5, color="#dddddd", linewidth=0.8)
    axes.set_yticks(list(places.values()), list(places))
    axes.set(title=f"{metric_name(name)[1]} with only these modalities", xlabel=metric_name(name)[1])
    axes.grid(alpha=0.25, axis="x")


def _column(figures: dict[str, dict[str, float | None]], name: str) -> dict[str, float]:
    return {label: np.nan if of[name] is None else of[name] for label, of in figures.items()}


def _who(row: Published) -> str:
    return f"Self-MM, published ({row.paper})"
