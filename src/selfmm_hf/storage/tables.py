"""Tables that people open in a spreadsheet."""

import re

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # beginnings of cells that a spreadsheet computes
NUMBER = re.compile(r"[+-]\d+(\.\d+)?", re.ASCII)


def plain_cell(text: str | None) -> str | None:
    """Returns text that no spreadsheet takes for a formula. Numbers stay as they are: "-1" may be a class."""
    return f"'{text}" if text and text.startswith(FORMULA) and not NUMBER.fullmatch(text) else text
