"""What is left when data are missing, as `selfmm robustness` has measured it."""

from ..model_card import METRIC_NAMES
from ..plots import COLOURS, legend
from .data import Group, ReportError, RunData
from .drawing import Figure, Panel, Table

STYLES = [
    (COLOURS["text"], "-", "o"),
    (COLOURS["audio"], "--", "s"),
    (COLOURS["vision"], "-.", "^"),
    (COLOURS["fusion"], ":", "D"),
]
KINDS = {
    "absent": "Only some modalities present, and the model is told so",
    "zeros": "Only some modalities present, the others filled with zeros",
}
HEADLINES = {3.0: ("mae", "acc_2_negative_positive"), 1.0: ("mae", "acc_2")}


def robustness(groups: list[Group]) -> Figure:
    """Curves over the rate of missing data, a line for each run that has been measured."""
    runs = [(group, run) for group in groups for run in group.finished if run.robustness]
    lines = {f"{group.name} seed {run.seed}".strip(): run for group, run in runs}
    if not lines:
        told = "Not measured: what selfmm robustness leaves in the folder of a run, robustness.json, is drawn here."
        return Figure("robustness", "Missing data", told)
    names = HEADLINES[runs[0][1].label_range]
    curves = {name: {line: _rates(run, name) for line, run in lines.items()} for name in names}
    panels = [_panel(name, curves[name]) for name in names]
    rows = [
        (line, rate, *(curves[name][line].get(rate) for name in names))
        for line in lines
        for rate in curves[names[0]][line]
    ]
    tables = [Table(["run", "rate", *(METRIC_NAMES[name][1] for name in names)], rows)]
    for kind, title in KINDS.items():
        present = [
            (line, of, *(figures.get(name) for name in names))
            for line, run in lines.items()
            for of, figures in run.robustness.get(kind, {}).items()
        ]
        if present:
            tables.append(Table(["run", "present", *(METRIC_NAMES[name][1] for name in names)], present, title))
    text = "The test split once more, with words, frames of sound and frames of the face missing at random."
    return Figure("robustness", "Missing data", text, panels, tables)


def _rates(run: RunData, name: str) -> dict[float, float]:
    try:
        figures = {rate: of[name] for rate, of in run.robustness["random"].items() if rate != "mean"}
        return {float(rate): float("nan") if value is None else float(value) for rate, value in figures.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ReportError(f"robustness.json in {run.folder} is damaged: {type(error).__name__} {error}") from error


def _panel(name: str, curves: dict[str, dict[float, float]]) -> Panel:
    title = METRIC_NAMES[name][1]

    def draw(axes) -> None:
        for number, (line, of) in enumerate(curves.items()):
            colour, style, mark = STYLES[number % len(STYLES)]
            axes.plot(of.keys(), of.values(), style, marker=mark, markersize=4, color=colour, label=line)
        axes.set(xlabel="share of the data that is missing", ylabel=title)
        if len(curves) > 1:
            legend(axes, 2)

    said = "; ".join(f"{line}: " + ", ".join(f"{rate:g} {of[rate]:.3f}" for rate in of) for line, of in curves.items())
    return Panel(f"robustness-{name}", title, f"{title} by the rate of missing data: {said}.", draw)
