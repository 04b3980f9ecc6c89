"""Renders drawings as pictures for paper, and as pictures that take the colours of the page around them."""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...runs.plot import COLOURS, FAINT, GREY

FLATTENING = 4  # a reach this many times as large as another one flattens that
# In the SVG, these become variables of the page, which are others in dark mode.
INK, PAPER = "#1a1a1a", "#ffffff"
VARIABLES = {
    COLOURS["text"]: "var(--blue)",
    COLOURS["audio"]: "var(--orange)",
    COLOURS["vision"]: "var(--green)",
    COLOURS["fusion"]: "currentColor",
    INK: "currentColor",
    PAPER: "var(--card)",
    GREY: "var(--grey)",
    FAINT: "var(--faint)",
}
RC = {
    "axes.edgecolor": INK, "axes.labelcolor": INK, "axes.titlesize": 11, "axes.spines.top": False,
    "axes.spines.right": False, "font.family": ["DejaVu Sans"], "font.size": 10, "svg.fonttype": "none",
    "svg.hashsalt": "selfmm", "text.color": INK, "text.parse_math": False, "xtick.color": INK, "ytick.color": INK,
}  # fmt: skip


@dataclass
class Panel:
    """
    One drawing.

    Args:
        name: Name of its file, unique in the report.
        title: Written above it.
        alt: The drawing in words, for those who do not see it.
        draw: A function that fills the axes.
        row: Panels of different rows do not stand side by side.
        size: In inches, (width, height). Small enough that its letters can be read on a phone.
    """

    name: str
    title: str
    alt: str
    draw: Callable[[Any], None]
    row: int = 1
    size: tuple[float, float] = (4.0, 3.5)


@dataclass
class Table:
    """Numbers, or words; the first column names the rows. A long table is folded away."""

    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""


@dataclass
class Figure:
    """
    The answer to one question: drawings, the numbers in them, and how to read both.

    Args:
        name: Name of its place in the page.
        text: How to read it; or, if there are no panels, why it is left out.
    """

    name: str
    title: str
    text: str
    panels: list[Panel] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


def render(panel: Panel) -> tuple[bytes, str]:
    """Renders the drawing as PNG, on white, and as SVG for a page that defines the variables of `VARIABLES`."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever the user's matplotlibrc says
        matplotlib.rcParams.update(RC)
        figure = Canvas(figsize=panel.size, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        panel.draw(axes)
        axes.set_title(panel.title)
        png, svg = io.BytesIO(), io.StringIO()
        figure.savefig(png, format="png", dpi=160, facecolor=PAPER)
        axes.set_title("")  # the page has it as text
        figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return png.getvalue(), _for_page(svg.getvalue(), panel.name)


def _for_page(svg: str, name: str) -> str:
    """Makes one element with ids of its own, which takes colours and letters of the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\s*<style type=\"text/css\">.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg role="img" \1>', svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]*)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]*)\)", rf"url(#{name}-\1)", svg)
    svg = re.sub(r'xlink:href="#([^"]*)"', rf'href="#{name}-\1"', svg)
    svg = re.sub(r"font: ((?:\w+ )*[\d.]+px) [^;\"]*", r"font: \1 var(--font)", svg)
    colours = "|".join(VARIABLES)
    by_hex = {colour.lower(): variable for colour, variable in VARIABLES.items()}
    return re.sub(colours, lambda match: by_hex[match[0].lower()], svg, flags=re.IGNORECASE).strip()


def axis_ends(reaches: Sequence[float]) -> list[float]:
    """
    Returns where an axis ends for each group: at the same place for all that reach about as far, so that they can be
    compared. A group that reaches much farther than the least would flatten the others, and gets an axis of its own.
    """
    alike = [reach <= FLATTENING * min(reaches) for reach in reaches]
    common = max(reach for reach, one in zip(reaches, alike, strict=True) if one)
    return [common if one else reach for reach, one in zip(reaches, alike, strict=True)]
