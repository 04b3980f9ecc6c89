"""A lock that is a file. Whoever holds it deletes it at the end; the system lifts it from a process that is killed."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from filelock import FileLock

# What was killed may leave processes that have inherited the lock: those of a data loader end within five seconds.
PATIENCE = 6.0


@contextmanager
def held(file: Path) -> Iterator[None]:
    """
    For one process, and one thread of it, at a time. May be nested. The folder is made where it is not there.

    Raises:
        filelock.Timeout: Another process holds it.
        OSError: The file cannot be made or locked.
    """
    lock = _lock(file)
    if lock.is_locked:  # by this thread
        yield
        return
    _acquire(lock, file)
    try:
        yield
    finally:
        with suppress(OSError):
            file.unlink()
        lock.release()


def _acquire(lock: FileLock, file: Path) -> None:
    """Takes the lock of the file that is there: whoever ends deletes his, while others may have opened it already."""
    while True:
        file.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            file.open("ab").close()
            number = file.stat().st_ino
            try:
                lock.acquire(timeout=PATIENCE)
            except NotImplementedError as error:
                raise OSError(f"{file} cannot be locked: {error}") from error
            if file.stat().st_ino == number:
                return
        lock.release()


@cache
def _lock(file: Path) -> FileLock:
    """The same object for the same file, so that a thread knows whether it has the lock already."""
    return FileLock(file)
