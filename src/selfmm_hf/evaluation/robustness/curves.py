"""The picture of a robustness report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...metrics import is_share, metric_name
from ...runs.plot import PUBLISHED, STYLES
from .published import Published
from .tables import HEADLINES

GUESS = "#777777"


def plot_robustness(report: dict[str, Any], rows: Sequence[Published], files: Sequence[Path]) -> None:
    """
    Draws error and F1 over the rate of missing data, and F1 over the modalities that are present.

    Args:
        report: As `robustness.json` has it.
        rows: Published figures of that data set; Self-MM's are drawn.
        files: To write; their endings say as what.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = report.get("headlines") or HEADLINES[report["label_range"]]
    mae, accuracy, f1 = names[0], names[1], "f1" if "f1" in names else names[2]
    figure = Figure(figsize=(13, 4.6), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    error, sign, subsets = figure.subplots(1, 3)
    rows = [row for row in rows if row.method == "Self-MM"]
    for axes, name in ((error, mae), (sign, accuracy)):
        _plot_rates(axes, report, [row for row in rows if row.protocol == "random"], name)
    _plot_subsets(subsets, report, [row for row in rows if row.protocol == "subsets"], f1)
    figure.suptitle(f"{report['dataset']}, test split: what is left when data are missing")
    handles = {}
    for axes in (error, sign, subsets):
        handles |= {text: handle for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False)
    for file in files:
        figure.savefig(file, dpi=110, metadata={"Date": None} if file.suffix == ".svg" else None)


def _plot_rates(axes, report, rows: list[Published], name: str) -> None:
    points = {float(rate): one[name] for rate, one in report["random"].items() if rate != "mean"}
    _draw(axes, points, *STYLES[0], report["name"], 100 if is_share(name) else 1)
    for row in rows:
        points = {float(rate): value for rate, value in row.metrics.get(name, {}).items() if rate != "mean"}
        if len(points) > 1:
            _draw(axes, points, *PUBLISHED, _who(row), 1)
    scale, unit = (100, ", %") if is_share(name) else (1, "")
    if report["guess"][name] is not None:
        axes.axhline(report["guess"][name] * scale, color=GUESS, linestyle=":", label="guessing without looking")
    axes.set(
        title=metric_name(name)[1], xlabel="rate of missing tokens and frames", ylabel=f"{metric_name(name)[1]}{unit}"
    )
    axes.grid(alpha=0.25)


def _plot_subsets(axes, report, rows: list[Published], name: str) -> None:
    labels = [subset for subset in report["absent"] if subset != "mean"]
    scale, unit = (100, ", %") if is_share(name) else (1, "")
    places = {subset: place for place, subset in enumerate(reversed(labels))}
    colour, _, mark = STYLES[0]
    fills = ("absent", "zeros")
    rows = [row for row in rows if name in row.metrics]
    height = 0.7 / (len(fills) + len(rows))  # side by side, that equal figures do not hide each other
    for number, fill in enumerate(fills):
        known = {
            subset: one[name] for subset, one in report[fill].items() if subset in places and one[name] is not None
        }
        axes.plot(
            [value * scale for value in known.values()],
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
        axes.axvline(report["guess"][name] * scale, color=GUESS, linestyle=":", label="guessing without looking")
    for place in range(len(places) - 1):
        axes.axhline(place + 0.5, color="#dddddd", linewidth=0.8)
    axes.set_yticks(list(places.values()), list(places))
    axes.set(title=f"{metric_name(name)[1]} with only these modalities", xlabel=f"{metric_name(name)[1]}{unit}")
    axes.grid(alpha=0.25, axis="x")


def _draw(axes, points: dict[float, float], colour, line, mark, text: str, scale: float) -> None:
    values = [value * scale for value in points.values()]
    axes.plot(list(points), values, linestyle=line, marker=mark, markersize=5, color=colour, label=text)


def _who(row: Published) -> str:
    return f"{row.method}, published ({row.paper})"
