"""The table of the clips, which Ray reads piece by piece."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import ray
from fsspec.core import url_to_fs

from ..clips.job import told
from ..data.safe_pickle import DataError
from .work import Work

READER = 0.1  # share of a core that Ray counts for a reader


def read_table(table: str, work: Work) -> Callable[[], Any]:
    """
    Returns a function by which Ray reads the columns that are wanted. Only their names have been read so far.

    Raises:
        DataError: The table cannot be read, or lacks a column.
    """
    fs, path = url_to_fs(table)
    is_csv = path.endswith(".csv")
    if not is_csv and not path.endswith(".parquet"):
        raise DataError(f"{table} is neither .csv nor .parquet; expected a table with the column clip.")
    parse = pa.csv.ParseOptions(newlines_in_values=True)
    try:
        with fs.open(path, "rb") as content:
            names = (pa.csv.open_csv(content, parse_options=parse).schema if is_csv else pq.read_schema(content)).names
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{table} cannot be read: {told(error)}") from error
    columns = [name for name in ("clip", *work.columns, *work.optional) if name in names]
    if twice := [name for name in columns if names.count(name) > 1]:
        raise DataError(f"{table}: column {twice[0]!r} is there twice; leave one of them out.")
    if missing := [name for name in ("clip", *work.columns) if name not in names]:
        raise DataError(
            f"{table} lacks columns that a cluster needs: {', '.join(missing)}. It has {', '.join(names):.300}."
        )
    if not is_csv:
        return partial(ray.data.read_parquet, path, filesystem=fs, columns=columns, num_cpus=READER)
    convert = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(columns, pa.string()), include_columns=columns, strings_can_be_null=False
    )
    return partial(
        ray.data.read_csv, path, filesystem=fs, parse_options=parse, convert_options=convert, num_cpus=READER
    )
