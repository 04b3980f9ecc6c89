"""Tables that people open in a spreadsheet."""

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # beginnings of cells that a spreadsheet computes


def plain_cell(text: str | None) -> str | None:
    """Returns text that no spreadsheet takes for a formula."""
    return f"'{text}" if text and text.startswith(FORMULA) else text
