"""
The folder of the results, on a disk or a store. A file is named by the rows of its batch, so a batch that is done twice
is written once. Rows that are done are recognised by the ids in the files, and by what they were made of.
"""

import hashlib
import io
from collections.abc import Iterable, Iterator
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

FAILURES, WARNINGS = "failures", "warnings"
SOURCES = b"sources"  # in the metadata of a file: for each row, a hash of what it was made of


class Results:
    """The files of the results. They are looked up at each call, so that this object can be pickled."""

    def __init__(self, out: str):
        self.out = absolute(out)

    def begin(self, work: Work) -> None:
        """Writes what lies beside the results, and deletes failures, whose rows are tried again."""
        fs, root = url_to_fs(self.out)
        if other := next((name for name in work.others if fs.exists(f"{root}/{name}")), None):
            raise WorkError(f"{self.out} has {other}, beside which results are not read; name another folder.")
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
        Returns the hashes of the ids in the results, and of what each was made of, uint64, (rows, 2).

        Raises:
            DataError: A file of the results cannot be read.
        """
        found = (np.stack([hashes(ids), sources], axis=1) for _, ids, sources in self._rows(names))
        return np.concatenate([np.zeros((0, 2), np.uint64), *found])

    def check_ids(self, names: list[str]) -> None:
        """
        Checks that all ids differ.
        Raises:
            DataError: Two rows of the table have the same id.
        """
        ids = self.done(names)[:, 0]
        if not (twice := ids.size - np.unique(ids).size):
            return
        unique, counts = np.unique(ids, return_counts=True)
        for file, found, _ in self._rows(names):
            for clip, is_twice in zip(found, np.isin(hashes(found), unique[counts > 1]), strict=True):
                if is_twice:
                    raise DataError(
                        f"{self.out}: {twice} ids are there twice, with a row each, such as {clip!r:.80} in "
                        f"{Path(file).name}: make the ids of the table differ, delete such files, and start again. Or "
                        "two runs have written here at once."
                    )

    def write_table(self, name: str, table: pa.Table, sources: np.ndarray) -> None:
        """
        Writes a table whole or not at all.

        Args:
            sources: For each row, a hash of what it was made of.
        """
        content = io.BytesIO()
        kept = {**(table.schema.metadata or {}), SOURCES: sources.tobytes().hex()}
        pq.write_table(table.replace_schema_metadata(kept), content)
        self.write(name, content.getvalue())

    def write(self, name: str, content: bytes) -> None:
        """Writes a file whole or not at all."""
        fs, root = url_to_fs(self.out)
        if isinstance(fs, LocalFileSystem):
            with whole(Path(root, name)) as part:
                part.write_bytes(content)
        else:
            fs.pipe_file(f"{root}/{name}", content)

    def _rows(self, names: list[str]) -> Iterator[tuple[str, list[str], np.ndarray]]:
        """Each file of the results, the ids in it, and the hashes of what its rows were made of."""
        fs, root = url_to_fs(self.out)
        for file in self._of(fs, root, names):
            try:
                with fs.open(file, "rb") as content:
                    found = pq.read_table(content, columns=["id"])
                ids, sources = found["id"].to_pylist(), bytes.fromhex((found.schema.metadata or {})[SOURCES].decode())
            except (KeyError, ValueError, pa.ArrowException) as error:
                raise DataError(f"{file} cannot be read: {told(error)}. Delete it; its clips are done again.") from None
            yield file, ids, np.frombuffer(sources, np.uint64)

    def _of(self, fs: Any, root: str, names: list[str]) -> list[str]:
        """Not by `glob`, for which a folder's own name may be a pattern."""
        fs.invalidate_cache(root)  # of a store, to which the workers write
        files = sorted(fs.ls(root, detail=False)) if fs.exists(root) else []
        return [file for name in names for file in files if fnmatch(Path(file).name, f"{name}-*.parquet")]


def absolute(place: str) -> str:
    """The same place from whatever folder a machine of the cluster works in."""
    fs, path = url_to_fs(place)
    return path if isinstance(fs, LocalFileSystem) else place


def hashes(ids: Iterable[Any]) -> np.ndarray:
    """Returns hashes of ids, uint64, so that those of a hundred million clips fit into memory."""
    digests = (hashlib.blake2b(str(one).encode(), digest_size=8).digest() for one in ids)
    return np.frombuffer(b"".join(digests), np.uint64)
