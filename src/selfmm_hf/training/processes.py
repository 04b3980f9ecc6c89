"""Keeps a folder for one training: other processes stay out of it, and those of one training begin it together."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from filelock import Timeout

from ..storage.file_lock import held

LOCK_FILE = ".lock"

Answer = TypeVar("Answer")


class FolderInUse(ValueError):
    """Another process is working in a folder, or the folder cannot be locked."""


class FirstProcessFailed(OSError, ValueError):
    """The first of several processes has failed; the others end with its message."""

    is_told = True


def by_first_process(do: Callable[[], Answer]) -> Answer:
    """
    Runs `do` in the first of the processes that train together, and returns its result in all of them. None continues
    before it is done, however late one of them comes.

    Raises:
        FirstProcessFailed: In the other processes, if `do` raises an error in the first.
    """
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return do()
    outcome: list[Any] = [None, None]
    failure: Exception | None = None
    if distributed.get_rank() == 0:
        try:
            outcome[0] = do()
        except Exception as error:
            failure, outcome[1] = error, f"{type(error).__name__}: {error}"
    distributed.broadcast_object_list(outcome)
    if outcome[1] is not None:
        distributed.barrier()  # otherwise the first may be gone before the others have heard of it
        raise failure or FirstProcessFailed(outcome[1])
    return outcome[0]


@contextmanager
def occupied(folder: Path) -> Iterator[None]:
    """
    Keeps every other training out of `folder`, which is made if it is missing. May be nested. Of the processes that
    train together, the first holds the lock. The system releases the lock of a killed process.

    Raises:
        FolderInUse: Another process is at work there, or the folder cannot be locked.
    """
    with ExitStack() as alone:
        by_first_process(lambda: alone.enter_context(_locked(folder)))
        yield


def check_free(folder: Path) -> None:
    """
    Checks that no training is running in `folder`; writes nothing if there has been none.

    Raises:
        FolderInUse: Another process is at work in `folder`.
    """
    if (folder / LOCK_FILE).exists():
        with _locked(folder):
            pass


def is_empty(folder: Path) -> bool:
    """Checks that `folder` is missing, or holds nothing but its lock."""
    return not folder.exists() or all(path.name == LOCK_FILE for path in folder.iterdir())


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    file = folder.resolve() / LOCK_FILE
    with ExitStack() as alone:
        try:
            alone.enter_context(held(file))
        except Timeout:
            raise FolderInUse(
                f"Another process is training in {folder}: wait for it, or name another folder."
            ) from None
        except OSError as error:
            raise FolderInUse(
                f"{folder} cannot be kept for one training alone, because {LOCK_FILE} cannot be locked there "
                f"({error}): name a folder that you may write to, on a file system with locks."
            ) from error
        yield
