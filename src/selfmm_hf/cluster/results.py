"""
The folder of the results, on a disk or a store. A file is named by the rows of its batch, so a batch that is done twice
is written once. Rows that are done are recognised by the ids in the files.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from ..clips.job import WorkError
from ..data.safe_pickle import DataError
from ..storage.whole_files import whole
from .work import Work

FAILURES = "failures"


class Results:
    """The files of the results. They are looked up at each call, so that this object can be pickled."""

    def __init__(self, out: str):
        self.out = out

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
        """Returns the hashes of the ids in the results, uint64."""
        fs, root = url_to_fs(self.out)
        found = [np.zeros(0, np.uint64)]
        for file in self._of(fs, root, names):
            with fs.open(file, "rb") as content:
                found.append(hashes(pq.read_table(content, columns=["id"])["id"]))
        return np.concatenate(found)

    def check_ids(self, names: list[str]) -> None:
        """
        Checks that all ids differ.
        Raises:
            DataError: Two rows of the table have the same id.
        """
        ids = self.done(names)
        if twice := ids.size - np.unique(ids).size:
            raise DataError(f"{self.out}: {twice} ids of the table are there twice, with a row each; ids must differ.")

    def write(self, name: str, content: bytes) -> None:
        """Writes a file whole or not at all."""
        fs, root = url_to_fs(self.out)
        if isinstance(fs, LocalFileSystem):
            with whole(Path(root, name)) as part:
                part.write_bytes(content)
        else:
            fs.pipe_file(f"{root}/{name}", content)

    def _of(self, fs: Any, root: str, names: list[str]) -> list[str]:
        return [file for name in names for file in sorted(fs.glob(f"{root}/{name}-*.parquet"))]


def hashes(ids: pa.ChunkedArray) -> np.ndarray:
    """Returns hashes of ids, uint64, so that those of a hundred million clips fit into memory."""
    digests = (hashlib.blake2b(str(one).encode(), digest_size=8).digest() for one in ids.to_pylist())
    return np.frombuffer(b"".join(digests), np.uint64)
