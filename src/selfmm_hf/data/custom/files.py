"""The feature files of single clips, arrays of numpy, which cannot run code; and how much memory a table may take."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..safe_pickle import DataError

__all__ = ["check_parquet", "check_size", "read_frames"]

MOST_BYTES = 2**29  # of the table, once decompressed


def read_frames(path: Path) -> NDArray:
    """The frames (frames, width) of a clip in their own type."""
    try:
        with path.open("rb") as file:
            frames = _array(file, path.stat().st_size)
    except DataError:
        raise
    except Exception as error:  # whatever a broken or hostile file can break
        raise DataError(f"damaged or cut off ({type(error).__name__} {str(error)!r:.120})") from error
    if frames.ndim != 2:
        hint = "; one frame is of shape (1, width)" if frames.ndim == 1 else ""
        raise DataError(f"expected an array of shape (frames, width), got {frames.shape}{hint}")
    return frames


def _array(file: BinaryIO, size: int) -> NDArray:
    """An array as numpy saves it, once its header was found to agree with the size of the file."""
    version = np.lib.format.read_magic(file)
    headers: dict[tuple[int, int], Callable] = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in headers:  # 3.0 is for field names
        raise DataError("an array with named fields; save plain numbers")
    shape, _, dtype = headers[version](file)
    if dtype.kind not in "biuf":
        kind = "Python objects, which are never read" if dtype.hasobject else f"dtype {str(dtype)[:40]}"
        raise DataError(f"an array of {kind}; save plain numbers")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != size - file.tell():
        raise DataError(f"its header announces {shape} of {dtype}, but {size - file.tell()} bytes follow")
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def check_size(size: int) -> None:
    """An error where a file would expand to more than `MOST_BYTES`."""
    if size > MOST_BYTES:
        raise DataError(f"it expands to {size:,} bytes, more than {MOST_BYTES:,}, the most that is read")


def check_parquet(file: pq.ParquetFile, width: int) -> None:
    """An error where the file, or `width` columns of it, would take more memory than [`check_size`] allows."""
    facts = file.metadata
    groups = [facts.row_group(number) for number in range(facts.num_row_groups)]  # their columns can abort pyarrow
    rows = max([facts.num_rows, *(group.num_rows for group in groups)])
    check_size(max(rows * width * 8, sum(group.total_byte_size for group in groups)))
