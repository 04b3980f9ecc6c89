"""What is left when data are missing, as `selfmm robustness` has measured it."""

from ..model_card import METRIC_NAMES
from ..plots import COLOURS, GREY, legend
from .data import Group, ReportError, RunData
from .drawing import Figure, Panel, Table

STYLES = [
    (COLOURS["text"], "-", "o"),
    (COLOURS["audio"], "--", "s"),
    (COLOURS["vision"], "-.", "^"),
    (COLOURS["fusion"], ":", "D"),
]
KINDS = {
    "random": ("Missing at random", "rate"),
    "absent": ("Only some modalities present, and the model is told so", "present"),
    "zeros": ("Only some modalities present, the others filled with zeros", "present"),
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
    tables = []
    for kind, (title, what) in KINDS.items():
        found = {line: [_figures(run, kind, name) for name in names] for line, run in lines.items()}
        rows = [
            (line, label, *(of[label] for of in figures)) for line, figures in found.items() for label in figures[0]
        ]
        if rows:
            tables.append(Table(["run", what, *(METRIC_NAMES[name][1] for name in names)], rows, title))
    panels = []
    for name in names:
        curves = {line: _rates(_figures(run, "random", name)) for line, run in lines.items()}
        panels.append(_panel(name, curves, runs[0][1].robustness.get("guess", {}).get(name)))
    text = (
        "The test split once more, with words, frames of sound and frames of the face missing at random, all at the "
        "same rate, and with only some of the modalities. The model was chosen before, on validation."
    )
    return Figure("robustness", "Missing data", text, panels, tables)


def _figures(run: RunData, kind: str, name: str) -> dict[str, float]:
    """One metric by rate, or by what is present, and its mean."""
    try:
        figures = {label: of[name] for label, of in run.robustness.get(kind, {}).items()}
        return {label: float("nan") if value is None else float(value) for label, value in figures.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ReportError(f"robustness.json in {run.folder} is damaged: {type(error).__name__} {error}") from error


def _rates(figures: dict[str, float]) -> dict[float, float]:
    return {float(rate): value for rate, value in figures.items() if rate != "mean"}


def _panel(name: str, curves: dict[str, dict[float, float]], guess: float | None) -> Panel:
    title = METRIC_NAMES[name][1]

    def draw(axes) -> None:
        for number, (line, of) in enumerate(curves.items()):
            colour, style, mark = STYLES[number % len(STYLES)]
            axes.plot(of.keys(), of.values(), style, marker=mark, markersize=4, color=colour, label=line)
        if guess is not None:
            axes.axhline(guess, color=GREY, linestyle=(0, (1, 2)), label="a guess without looking")
        axes.set(xlabel="share of the data that is missing", ylabel=title)
        legend(axes, 2)

    said = "; ".join(f"{line}: " + ", ".join(f"{rate:g} {of[rate]:.3f}" for rate in of) for line, of in curves.items())
    return Panel(f"robustness-{name}", title, f"{title} by the rate of missing data: {said}.", draw)
