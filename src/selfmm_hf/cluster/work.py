"""The kinds of work that a cluster does with the rows of a table."""

from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from ..clips.job import Job
from ..data.safe_pickle import DataError

Row = dict[str, Any]


class Work(Protocol):
    """
    One kind of work on the rows of a table. It is pickled.

    Args:
        columns: Columns that must be there, besides `clip`.
        optional: Columns that may be there.
        others: Names of files beside which the results would not be read.
    """

    columns: tuple[str, ...]
    optional: tuple[str, ...]
    others: tuple[str, ...]

    def files(self) -> dict[str, bytes]:
        """Returns what lies beside the results, by name. Results with other such files are refused."""

    def names(self) -> list[str]:
        """Returns how the names of result files begin."""

    def job(self, folder: Path) -> Job:
        """Returns what one process does, which may write into `folder`."""

    def task(self, number: int, row: Row) -> Any:
        """Returns a row as the job takes it, with its place as `clip`. Raises [`DataError`] if the row is wrong."""

    def source(self, row: Row) -> Any:
        """Returns what the result of a right row comes from, besides its id and clip. A change of it is told."""

    def tables(self, done: list[tuple[int, Row, Any]], folder: Path) -> dict[str, pa.Table]:
        """Makes tables of rows, each with its number and its result, by how the names of their files begin."""


def everywhere(model: str) -> str:
    """Returns the absolute path of a local model, for machines that work in other folders; a name on the Hub stays."""
    return str(Path(model).absolute()) if Path(model).exists() else model


def words(row: Row) -> str | None:
    """
    Returns the words of a row.

    Raises:
        DataError: The column `text` has another type.
    """
    text = row.get("text")
    if not isinstance(text, str | None):
        raise DataError(f"column 'text': expected text, got {text!r:.40}")
    return (text or "").strip() or None


def context(row: Row) -> list[str] | None:
    """
    Returns the utterances before that of a row, in the same video: a list in Parquet, one text in CSV.

    Raises:
        DataError: The column `context` has another type.
    """
    said = row.get("context")
    if isinstance(said, str):
        said = [said] if said.strip() else None
    if said is not None and not (isinstance(said, list) and all(isinstance(one, str) for one in said)):
        raise DataError(f"column 'context': expected a text or a list of texts, got {said!r:.40}")
    return said or None
