"""The kinds of work that a cluster does with the rows of a table."""

from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from ..clips.job import Job

Row = dict[str, Any]


class Work(Protocol):
    """
    One kind of work on the rows of a table. It is pickled.

    Args:
        columns: Which must be there, besides `clip`.
        optional: Which may be there.
    """

    columns: tuple[str, ...]
    optional: tuple[str, ...]

    def files(self) -> dict[str, bytes]:
        """What lies beside the results, by name. Results of other such files are refused."""

    def names(self) -> list[str]:
        """How files of results begin."""

    def job(self, folder: Path) -> Job:
        """What one process does, which may write into `folder`."""

    def task(self, number: int, row: Row) -> Any:
        """A row as the job takes it; its `clip` is where it is. Raises [`DataError`] if something in it is wrong."""

    def tables(self, done: list[tuple[int, Row, Any]], folder: Path) -> dict[str, pa.Table]:
        """Rows, each with its number and what has come of it, by how the name of their file begins."""


def words(row: Row) -> str | None:
    """What a row says is said."""
    return (row.get("text") or "").strip() or None
