"""
The folder of the results, on a disk or a store. A file is named by the rows of its batch, so a batch that is done twice
is written once. Rows that are done are recognised by the ids in the files.
"""

import hashlib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from ..clips.job import WorkError, told
from ..data.safe_pickle import DataError
from ..storage.whole_files import whole
from .work import Work

FAILURES = "failures"


class Results:
    """The files of the results. They are looked up at each call, so that this object can be pickled."""

    def __init__(self, out: str):
        self.out = absolute(out)

    def begin(self, work: Work) -> None:
        """Writes what lies beside the results, and deletes failures, whose rows are tried again."""
        fs, root = url_to_fs(self.out)
        fs.makedirs(root, exist_ok=True)
        for name, content in work.files().items():
            path = f"{root}/{name}"
            if fs.exists(path) and fs.cat_file(path) != content:
                raise WorkError(f"{self.out} has results of another {name}; name another folder.")
            if not fs.exists(path) and self._of(fs, root, work.names()):
                raise WorkError(f"{self.out} has results, but no {name}; put it back, or name another folder.")
            self.write(name, content)
        for file in self._of(fs, root, [FAILURES]):
            fs.rm_file(file)

    def done(self, names: list[str]) -> np.ndarray:
        """
        Returns the hashes of the ids in the results, uint64.

        Raises:
            DataError: A file of the results cannot be read.
        """
        return np.concatenate([np.zeros(0, np.uint64), *(hashes(ids) for _, ids in self._ids(names))])

    def check_ids(self, names: list[str]) -> None:
        """
        Checks that all ids differ.
        Raises:
            DataError: Two rows of the table have the same id.
        """
        ids = self.done(names)
        if not (twice := ids.size - np.unique(ids).size):
            return
        unique, counts = np.unique(ids, return_counts=True)
        for file, found in self._ids(names):
            for clip in found.filter(pa.array(np.isin(hashes(found), unique[counts > 1]))).to_pylist():
                raise DataError(
                    f"{self.out}: {twice} ids are there twice, with a row each, such as {clip!r:.80} in "
                    f"{Path(file).name}: make the ids of the table differ, delete such files, and start again. Or two "
                    "runs have written here at once."
                )

    def write(self, name: str, content: bytes) -> None:
        """Writes a file whole or not at all."""
        fs, root = url_to_fs(self.out)
        if isinstance(fs, LocalFileSystem):
            with whole(Path(root, name)) as part:
                part.write_bytes(content)
        else:
            fs.pipe_file(f"{root}/{name}", content)

    def _ids(self, names: list[str]) -> Iterator[tuple[str, pa.ChunkedArray]]:
        """Each file of the results, and the ids in it."""
        fs, root = url_to_fs(self.out)
        for file in self._of(fs, root, names):
            try:
                with fs.open(file, "rb") as content:
                    ids = pq.read_table(content, columns=["id"])["id"]
            except (KeyError, pa.ArrowException) as error:
                raise DataError(f"{file} cannot be read: {told(error)}. Delete it; its clips are done again.") from None
            yield file, ids

    def _of(self, fs: Any, root: str, names: list[str]) -> list[str]:
        """Not by `glob`, for which a folder's own name may be a pattern."""
        fs.invalidate_cache(root)  # of a store, to which the workers write
        files = sorted(fs.ls(root, detail=False)) if fs.exists(root) else []
        return [file for name in names for file in files if fnmatch(Path(file).name, f"{name}-*.parquet")]


def absolute(place: str) -> str:
    """The same place from whatever folder a machine of the cluster works in."""
    fs, path = url_to_fs(place)
    return path if isinstance(fs, LocalFileSystem) else place


def hashes(ids: pa.ChunkedArray) -> np.ndarray:
    """Returns hashes of ids, uint64, so that those of a hundred million clips fit into memory."""
    digests = (hashlib.blake2b(str(one).encode(), digest_size=8).digest() for one in ids.to_pylist())
    return np.frombuffer(b"".join(digests), np.uint64)
