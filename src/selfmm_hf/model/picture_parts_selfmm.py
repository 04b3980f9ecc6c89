"""The parts of pictures of predictions: colours, names, numbers and pieces of SVG. This file travels to the Hub."""

import html
import math
import re
from collections.abc import Iterable

# Okabe and Ito's colours, which colour-blind people can tell apart; all stand out from white and from black.
# `pages/report.css` has them again.
COLOURS = {"text": "#0072B2", "audio": "#D55E00", "vision": "#009E73"}
OTHER_COLOUR = "#CC79A7"
# What people call each modality, and the verb that follows.
NAMES = {"text": ("words", "are"), "audio": ("voice", "is"), "vision": ("face", "is")}

# The picture is this wide, in its own units, so that its letters can still be read on a phone.
WIDTH = 420
LEFT, RIGHT = 104, 346  # the ends of the scale
MARGIN = 8
EDGE = WIDTH - MARGIN
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif"

# XML has no such characters; file names and transcripts may.
FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def svg(parts: Iterable[str], height: float, title: str, description: Iterable[str]) -> str:
    """Returns one self-contained `<svg>` element; letters take the colour of the page."""
    # A picture opened by itself gets white paper, or a dark viewer would show black on black. No effect within a page.
    style = "<style>svg:root { color: #1a1a1a; background: #fff; }</style>"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" style="max-width:100%;height:auto" fill="currentColor" '
        f'font-family="{FONT}">'
        f"<title>{escaped(title)}</title><desc>{escaped(' '.join(description))}</desc>{style}{''.join(parts)}</svg>"
    )


def heading(title: str | None, said: str, number: str = "") -> tuple[list[str], float]:
    """Draws the title in small letters and the prediction below it; also returns where they end."""
    top = 40 if title else 14
    parts = [svg_text(MARGIN, 28, shortened(title, 50), size=15, opacity=0.8)] if title else []
    parts.append(svg_text(MARGIN, top + 26, said, size=24 if len(said) <= 28 else 17, weight=700))
    if number:
        parts.append(svg_text(EDGE, top + 26, number, size=24, weight=700, anchor="end"))
    return parts, top + 40


def number_text(value: float | None, limit: float, digits: int | None = None) -> str:
    """Formats a number with its sign and, unless `digits` is given, one decimal, or two if the scale ends below 2."""
    if value is None:
        return "\N{EN DASH}"
    digits = (1 if limit >= 2 else 2) if digits is None else digits
    written = f"{value:+.{digits}f}" if abs(value) < 1000 else f"{value:+.0e}"
    written = written[1:] if float(written) == 0 else written
    return written.replace("-", "\N{MINUS SIGN}")


def spoken(value: float | None, limit: float) -> str:
    """Writes a number as a screen reader should say it."""
    if value is None:
        return "no number"
    return number_text(value, limit).replace("+", "plus ").replace("\N{MINUS SIGN}", "minus ")


def seconds_text(value: float) -> str:
    return f"{round(value, 2):g}"


def tick(value: float) -> str:
    return f"{value:+g}".replace("-", "\N{MINUS SIGN}") if value else "0"


def time_ticks(begin: float, end: float) -> list[float]:
    """Returns at most seven round times."""
    steps = (size * 10**power for power in range(-3, 9) for size in (1, 2, 5))
    step = next(step for step in steps if (end - begin) / step <= 6)
    return [number * step for number in range(math.ceil(begin / step), math.floor(end / step + 1e-6) + 1)]


def svg_mark(number: int, x: float, y: float, colour: str, size: float, opacity: float = 1) -> str:
    """Draws a circle, a square, a triangle or a diamond, so that modalities do not differ by colour alone."""
    attributes = f'fill="{colour}" opacity="{opacity}"'
    if number % 4 == 0:
        return f'<circle cx="{x}" cy="{y}" r="{size}" {attributes}/>'
    corners = [
        [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        [(0, -1.2), (1.1, 0.9), (-1.1, 0.9)],
        [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)],
    ][number % 4 - 1]
    points = " ".join(f"{x + size * right:.2f},{y + size * down:.2f}" for right, down in corners)
    return f'<polygon points="{points}" {attributes}/>'


def svg_path(
    line: str, width: float, colour: str = "currentColor", dash: str | None = None, opacity: float | None = None
) -> str:
    more = (f' stroke-dasharray="{dash}"' if dash else "") + (f' opacity="{opacity}"' if opacity else "")
    return f'<path d="{line}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round"{more}/>'


def svg_span(begin: float, end: float, top: float, height: float) -> str:
    """Marks the area of a timeline, invisibly, so that a page can jump to the second that is clicked."""
    line = f"M{LEFT} {top}H{EDGE}V{top + height}H{LEFT}Z"
    return f'<path d="{line}" fill-opacity="0" data-begin="{begin:.3f}" data-end="{end:.3f}"/>'


def svg_text(
    x: float, y: float, text: str, size: int = 14, weight: int = 400, anchor: str = "start", opacity: float = 1,
    style: str = "normal",
) -> str:  # fmt: skip
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" font-style="{style}" text-anchor="{anchor}" '
        f'opacity="{opacity}">{escaped(text)}</text>'
    )


def modality_name(modality: str) -> str:
    """Returns the everyday name of a modality, and the field's name."""
    return f"{NAMES[modality][0]} ({modality})" if modality in NAMES else modality


def sentence_case(text: str) -> str:
    return text[:1].upper() + text[1:]


def shortened(text: str, length: int) -> str:
    """Leaves out the middle of a text that is too long: the end of a file's name matters too."""
    if len(text) <= length:
        return text
    return f"{text[: length // 2]}\N{HORIZONTAL ELLIPSIS}{text[-(length // 2 - 1) :]}"


def escaped(text: str) -> str:
    return html.escape(FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text))


__all__ = ["svg"]
