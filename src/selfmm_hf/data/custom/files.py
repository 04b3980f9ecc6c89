"""The feature files of single clips: arrays of numpy, Parquet, and what MMSA-FET saves. None can run code."""

import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..safe_pickle import Array, DataError

__all__ = ["FET_COLUMNS", "READERS", "check_parquet", "check_size", "extracted", "read_frames"]

FET_COLUMNS = ("audio", "vision", "text", "text_bert")  # each of two dimensions, and three in a batch
MOST_BYTES = 2**29  # of one clip's frames, or of the table, once decompressed


def extracted(data: Any, row: int | None) -> dict[str, Any]:
    """What MMSA-FET made of one clip, as columns of one row, with lengths unless there is one frame per token."""
    if type(data) is not dict or not set(data) & set(FET_COLUMNS):
        keys = f"a dict of {', '.join(map(repr, list(data)[:9]))}" if type(data) is dict else type(data).__name__
        raise DataError(f"expected features by MMSA-FET (audio, vision, text, text_bert), got {keys:.120}")
    columns: dict[str, Any] = {}
    for name in FET_COLUMNS:
        if name not in data or (name == "text" and "text_bert" in data):
            continue
        array = data[name].value if isinstance(data[name], Array) else None
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
            raise DataError(f"{name!r} is not an array of numbers")
        if array.ndim != 2 + (row is not None):
            hint = "name the clip's row in the column 'row'" if row is None else "leave the column 'row' empty"
            raise DataError(f"{name!r} is of shape {array.shape}, which a {'single clip' if row is None else 'batch'} "
                            f"has not; {hint}, if it is {'a batch' if row is None else 'a single clip'}")  # fmt: skip
        if row is not None and row >= len(array):
            raise DataError(f"it has {len(array)} rows, there is no row {row} (the first is 0)")
        columns[name] = array[None] if row is None else array[row : row + 1]
    tokens = columns["text_bert"].shape[2] if "text_bert" in columns else None
    for name in ("audio", "vision", "text"):
        if name not in columns:
            continue
        lengths, steps = data.get(f"{name}_lengths"), columns[name].shape[1]
        lengths = lengths.value if isinstance(lengths, Array) else lengths
        if isinstance(lengths, np.ndarray):
            lengths = lengths.reshape(-1)
        elif type(lengths) in (int, float):
            lengths = [lengths]
        if isinstance(lengths, np.ndarray | list):
            columns[f"{name}_lengths"] = lengths[row or 0 : (row or 0) + 1]
        elif row is None and steps != tokens:
            columns[f"{name}_lengths"] = [steps]
        elif steps != tokens and name != "text":
            raise DataError(f"a batch of padded frames, and no {name}_lengths to tell where they end")
    return columns


def read_frames(path: Path) -> NDArray:
    """The frames (frames, width) of a clip in their own type."""
    try:
        frames = READERS[path.suffix](path)
    except DataError:
        raise
    except Exception as error:  # whatever a broken or hostile file can break
        raise DataError(f"damaged or cut off ({type(error).__name__} {str(error)!r:.120})") from error
    if frames.ndim != 2:
        hint = "; one frame is of shape (1, width)" if frames.ndim == 1 else ""
        raise DataError(f"expected an array of shape (frames, width), got {frames.shape}{hint}")
    return frames


def _read_npy(path: Path) -> NDArray:
    with path.open("rb") as file:
        return _array(file, path.stat().st_size)


def _read_npz(path: Path) -> NDArray:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) != 1 or not members[0].filename.endswith(".npy"):
            names = ", ".join(member.filename for member in members[:5])
            raise DataError(f"expected exactly one array in an .npz, got {len(members)} ({names:.80})")
        check_size(members[0].file_size)
        with archive.open(members[0]) as file:
            return _array(file, members[0].file_size)


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


def _read_parquet(path: Path) -> NDArray:
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        for name, kind in zip(schema.names, schema.types, strict=True):
            if not pa.types.is_integer(kind) and not pa.types.is_floating(kind):
                raise DataError(f"column {name!r:.40} is {kind!s:.40}; expected columns of numbers, one a feature")
            if name.startswith("__index_level_"):
                raise DataError(f"column {name!r:.40} is an index of pandas; save it with index=False")
        check_parquet(file, len(schema.names))
        columns = file.read(use_threads=False).columns
    return np.stack([column.to_numpy() for column in columns], axis=1) if columns else np.zeros((0, 0))


READERS: dict[str, Callable[[Path], NDArray]] = {".npy": _read_npy, ".npz": _read_npz, ".parquet": _read_parquet}


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
