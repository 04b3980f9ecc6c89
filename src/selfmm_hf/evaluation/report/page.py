"""Makes one HTML page of figures, which needs no other file and runs no script."""

import re
from typing import Any

from markupsafe import Markup, escape

from ...pages import fill
from .drawing import Figure, Panel, Table

NUMBER = re.compile(r"(-?\d+\.\d+( ± \d+\.\d+|%)?)?")
LONG = 10  # rows; longer tables are folded away
RIGHT, WORDS = Markup(' class="number"'), Markup(' class="words" dir="auto"')


def page(title: str, notes: list[str], figures: list[Figure], svgs: dict[str, str]) -> str:
    """
    Returns the document.

    Args:
        notes: Sentences for the beginning.
        svgs: The drawing of each panel, by its name.
    """
    return fill("report.html", title=title, notes=notes, figures=[_figure(figure, svgs) for figure in figures])


def _figure(figure: Figure, svgs: dict[str, str]) -> dict[str, Any]:
    before: list[Panel | None] = [None, *figure.panels]
    panels = [
        {
            "name": panel.name,
            "title": panel.title,
            "svg": Markup(svgs[panel.name].replace("<svg ", f'<svg aria-label="{escape(panel.alt)}" ', 1)),
            "new_row": last is not None and last.row != panel.row,
        }
        for last, panel in zip(before, figure.panels, strict=False)
    ]
    tables = list(map(_table, figure.tables))
    return {"name": figure.name, "title": figure.title, "text": figure.text, "panels": panels, "tables": tables}


def _table(table: Table) -> dict[str, Any]:
    columns = zip(*table.rows, strict=True)
    numeric = [all(not isinstance(cell, str) or NUMBER.fullmatch(cell) for cell in column) for column in columns]
    kinds = [RIGHT if right else "" for right in numeric]
    folded = f"The numbers: {table.caption}" if table.caption else "The numbers"
    return {
        "caption": table.caption,
        "head": list(zip(table.head, kinds, strict=True)),
        "rows": [
            (
                _cell(row[0]),
                [
                    (_cell(cell), WORDS if isinstance(cell, str) and len(cell) > 30 else kind)
                    for cell, kind in zip(row[1:], kinds[1:], strict=True)
                ],
            )
            for row in table.rows
        ],
        "folded": folded if len(table.rows) > LONG else None,
    }


def _cell(cell: Any) -> str:
    """Writes text and whole numbers as they are, other numbers with three decimals."""
    if isinstance(cell, str | int):
        return str(cell)
    if cell is None or cell != cell:
        return "\N{EN DASH}"
    return f"{cell:.3f}".replace("-", "\N{MINUS SIGN}")
