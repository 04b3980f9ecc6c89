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
from ..data.custom.labels import TASK_FILE
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
    known = ("clip", *work.columns, *work.optional)
    parse = pa.csv.ParseOptions(newlines_in_values=True)
    texts = pa.csv.ConvertOptions(column_types=dict.fromkeys(known, pa.string()), strings_can_be_null=False)
    try:
        with fs.open(path, "rb") as content:
            opened = pa.csv.open_csv(content, None, parse, texts).schema if is_csv else pq.read_schema(content)
            names = opened.names
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{table} cannot be read: {told(error)}") from error
    columns = [name for name in known if name in names]
    if twice := [name for name in columns if names.count(name) > 1]:
        raise DataError(f"{table}: column {twice[0]!r} is there twice; leave one of them out.")
    if missing := [name for name in ("clip", *work.columns) if name not in names]:
        raise DataError(
            f"{table} lacks columns that a cluster needs: {', '.join(missing)}. It has {', '.join(names):.300}."
        )
    if "label" in work.columns and fs.exists(f"{path.rpartition('/')[0]}/{TASK_FILE}"):
        raise DataError(
            f"{table}: {TASK_FILE} lies beside it, but on a cluster labels are scores in [-3, 3] or [-1, 1]: leave it "
            "out, or leave out --engine ray."
        )
    # Otherwise, Ray takes a folder `text=good` for a column of the table.
    options = {"filesystem": fs, "partitioning": None, "num_cpus": READER}
    if not is_csv:
        return partial(ray.data.read_parquet, path, columns=columns, **options)
    texts.include_columns = columns
    return partial(ray.data.read_csv, path, parse_options=parse, convert_options=texts, **options)
