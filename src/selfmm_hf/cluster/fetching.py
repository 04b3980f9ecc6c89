"""Fetches clips from a store to the machine of a job."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from ..clips.job import Job, told


@dataclass
class Fetching:
    """A job whose clips may lie in a store. Fetching them counts towards the job's time limit."""

    job: Job
    scratch: Path = field(init=False)
    time_limit: float = field(init=False)

    def __post_init__(self):
        self.scratch, self.time_limit = self.job.scratch, self.job.time_limit

    def begin(self) -> Callable[[tuple[int, Any]], Any]:
        return partial(_fetched, do=self.job.begin(), folder=self.scratch)


def _fetched(numbered: tuple[int, Any], do: Callable[[Any], Any], folder: Path) -> Any:
    task = numbered[1]
    with ExitStack() as kept:
        try:
            path = kept.enter_context(local(task.clip, folder))
        except Exception as error:  # whatever a store may answer
            return told(error)
        return do(replace(task, clip=path))


@contextmanager
def local(clip: str, folder: Path) -> Iterator[str]:
    """Yields the path of the file, or of a copy of it on this machine."""
    fs, path = url_to_fs(clip)
    if not fs.exists(path):
        raise FileNotFoundError(f"there is no file {clip}")
    if isinstance(fs, LocalFileSystem):
        yield path
        return
    copy = folder / f"clip{Path(path).suffix}"
    try:
        fs.get_file(path, str(copy))
        yield str(copy)
    finally:
        copy.unlink(missing_ok=True)
