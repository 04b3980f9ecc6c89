"""Figures -> one HTML page, which needs no other file and runs no script."""

import html
import re
from typing import Any

from ...model.picture_selfmm import FORBIDDEN, STYLE
from .drawing import Figure, Table

NUMBER = re.compile(r"(\d+\.\d+( ± \d+\.\d+|%)?)?")
BREAK = '<div class="break"></div>\n'
LONG = 10  # rows; longer tables are folded away

REPORT_STYLE = """
:root { --blue: #0072b2; --orange: #d55e00; --green: #009e73; --grey: #767676; --faint: #ccc;
  --font: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; }
@media (prefers-color-scheme: dark) {
  :root { --blue: #56b4e9; --orange: #ee8434; --green: #2fc497; --grey: #999; --faint: #4a4a4a; }
}
body { max-width: 76rem; padding: 1rem 1.5rem; }
h2 { font-size: 1.3rem; margin: 0 0 .5rem; }
section > p { max-width: 48rem; margin: .25rem 0 1rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; padding: 0; margin: 1rem 0; list-style: none; }
.content { display: flex; flex-wrap: wrap; align-items: flex-start; gap: 1.25rem 2rem; }
.content > * { flex: 0 1 auto; max-width: 100%; }
figure { margin: 0; break-inside: avoid; width: 21.5rem; }
figcaption { display: flex; justify-content: space-between; gap: 1rem; font-weight: 600; margin-bottom: .25rem; }
.content > .break, .content > details { flex-basis: 100%; }
figcaption a { white-space: nowrap; font-weight: normal; font-size: .8rem; opacity: .8; }
svg { fill: currentColor; max-width: none; }
svg * { stroke-linejoin: round; stroke-linecap: butt; }
table { width: auto; font-size: .9rem; margin: 0; overflow-wrap: normal; }
th, td { padding: .25rem .7rem .25rem 0; vertical-align: baseline; }
thead th, thead th.number { max-width: 9rem; white-space: normal; vertical-align: bottom; }
tbody th { white-space: nowrap; }
td.words { white-space: normal; min-width: 14rem; }
caption { font-weight: 600; opacity: 1; }
summary { margin: 0; }
@media (max-width: 30rem) { body { padding: .5rem; } }
@media print {
  @page { margin: 1.5cm; }
  :root { --blue: #0072b2; --orange: #d55e00; --green: #009e73; --grey: #767676; --faint: #ccc; --line: #bbb; }
  body { font-size: .8rem; padding: 0; max-width: none; }
  nav, figcaption a { display: none; }
  section { break-inside: auto; border: 0; padding: 0; }
  h2, section > p { break-after: avoid; break-inside: avoid; }
  tr, .content > .wide { break-inside: avoid; margin-bottom: .75rem; }
  .content > .wide { display: inline-block; vertical-align: top; margin-right: 1rem; }
  .content { display: block; } figure { display: inline-block; width: 47%; margin: 0 2% .5rem 0; }
  .wide { overflow: visible; }
  td, td.number, tbody th { white-space: normal; } td.words { min-width: 0; } th, td { padding-right: .4rem; }
  details::details-content { display: block; content-visibility: visible; } summary { display: none; }
}
"""


def page(title: str, notes: list[str], figures: list[Figure], svgs: dict[str, str]) -> str:
    """
    The document.

    Args:
        notes: Said at the beginning.
        svgs: The drawing of each panel, by its name.
    """
    links = "".join(f'<li><a href="#{one.name}">{_escaped(one.title)}</a></li>' for one in figures)
    sections = "\n".join(_section(one, svgs) for one in figures)
    paragraphs = "\n".join(f"<p>{_escaped(note)}</p>" for note in notes)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_escaped(title)}</title>\n<style>{STYLE}{REPORT_STYLE}</style>\n</head>\n<body>\n"
        f"<header>\n<h1>{_escaped(title)}</h1>\n{paragraphs}\n"
        f'<nav aria-label="Figures"><ul>{links}</ul></nav>\n</header>\n'
        f"<main>\n{sections}\n</main>\n</body>\n</html>\n"
    )


def _section(figure: Figure, svgs: dict[str, str]) -> str:
    rows = [panel.row for panel in figure.panels]
    panels = "\n".join(
        f"{'' if before in (None, panel.row) else BREAK}"
        f'<figure>\n<figcaption>{_escaped(panel.title)}<a href="{panel.name}.png">PNG</a></figcaption>\n'
        f"{_described(svgs[panel.name], panel.alt)}\n</figure>"
        for before, panel in zip([None, *rows], figure.panels, strict=False)
    )
    tables = "\n".join(map(_table, figure.tables))
    parts = [
        f'<section id="{figure.name}">\n<h2>{_escaped(figure.title)}</h2>\n<p>{_escaped(figure.text)}</p>',
        f'<div class="content">\n{panels}\n{tables}\n</div>' if panels or tables else "",
    ]
    return "\n".join(filter(None, parts)) + "\n</section>"


def _described(svg: str, alt: str) -> str:
    return svg.replace("<svg ", f'<svg aria-label="{_escaped(alt)}" ', 1)


def _table(table: Table) -> str:
    columns = list(zip(*table.rows, strict=True))
    numeric = [all(not isinstance(cell, str) or NUMBER.fullmatch(cell) for cell in column) for column in columns]
    kinds = [' class="number"' if right else "" for right in numeric]
    head = "".join(f'<th scope="col"{kind}>{_escaped(name)}</th>' for name, kind in zip(table.head, kinds, strict=True))
    body = "\n".join(
        "<tr>"
        + f'<th scope="row"{kinds[0]}>{_cell(row[0])}</th>'
        + "".join(_data(cell, kind) for cell, kind in zip(row[1:], kinds[1:], strict=True))
        + "</tr>"
        for row in table.rows
    )
    caption = f"<caption>{_escaped(table.caption)}</caption>" if table.caption else ""
    whole = (
        f'<div class="wide" tabindex="0"><table>{caption}<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )
    if len(table.rows) <= LONG:
        return whole
    name = f"The numbers: {table.caption}" if table.caption else "The numbers"
    return f"<details><summary>{_escaped(name)}</summary>{whole}</details>"


def _data(cell: Any, kind: str) -> str:
    if isinstance(cell, str) and len(cell) > 30:
        return f'<td class="words" dir="auto">{_cell(cell)}</td>'
    return f"<td{kind}>{_cell(cell)}</td>"


def _cell(cell: Any) -> str:
    """Text as it is, whole numbers whole, others with three places."""
    if isinstance(cell, str):
        return _escaped(cell)
    if isinstance(cell, int):
        return str(cell)
    if cell is None or cell != cell:
        return "\N{EN DASH}"
    return f"{cell:.3f}".replace("-", "\N{MINUS SIGN}")


def _escaped(text: str) -> str:
    return html.escape(FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text))
