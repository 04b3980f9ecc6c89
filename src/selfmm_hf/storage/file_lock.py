"""A lock on a file. Its holder deletes the file at the end; the system releases the lock of a killed process."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from filelock import FileLock

# A killed process may leave others that inherited the lock: those of a data loader end within five seconds.
PATIENCE = 6.0


@contextmanager
def held(file: Path) -> Iterator[None]:
    """
    Holds the lock for one process, and one thread of it, at a time. May be nested. Makes the folder if it is missing.

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
    """Locks the file that is there now: a holder deletes his file at the end, which others may have opened already."""
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
    """Returns the same object for the same file, so that a thread knows whether it already has the lock."""
    return FileLock(file)
