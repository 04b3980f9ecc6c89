"""HTML pages, filled by jinja2. They need no other file and run no script."""

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..model.picture_parts_selfmm import FORBIDDEN


def fill(template: str, **values: Any) -> str:
    """
    A page of this folder, in which all text is escaped that is not [`Markup`].

    Args:
        template: The name of its file.
        values: What it shows.
    """
    return _environment().get_template(template).render(values) + "\n"


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=_writable,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )


def _writable(value: Any) -> Any:
    """Text without what no XML or HTML document may hold; file names and transcripts may."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", value)
