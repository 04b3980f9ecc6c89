"""Writes files and folders whole or not at all: beside their place, synced to the disk, and then moved there."""

import errno
import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import Timeout
from safetensors import SafetensorError

from .file_lock import held

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOCK = "lock"
UNSYNCED = {errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES}  # of file systems that cannot sync a folder


class CannotWrite(OSError):
    """Something cannot be written; the message names it, the reason, and how much room there is."""


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """
    Yields where to write a file or a folder. It is moved to its place, and replaces an earlier one, if the block ends
    well.

    Args:
        target: Its place. An earlier file or folder there is replaced; of a link, only the link itself.

    Raises:
        CannotWrite: It cannot be written, or another process is writing it.
    """
    with beside(target) as folder:
        yield folder / target.name
        move(folder / target.name, target)


@contextmanager
def beside(target: Path) -> Iterator[Path]:
    """
    Yields an empty hidden folder beside `target`, to write in before things are moved: see [`scratch`].

    Raises:
        CannotWrite: Something cannot be written there, or another process is writing `target`.
    """
    if target.exists() and not target.is_file() and not target.is_dir():
        raise CannotWrite(f"{target} cannot be written: it is neither a file nor a folder.")
    folder = hidden(target)
    with writing(target), scratch(folder):
        yield folder


@contextmanager
def scratch(folder: Path) -> Iterator[None]:
    """
    Keeps a folder for one process at a time. Deletes what a killed one has left, and at the end everything.

    Raises:
        filelock.Timeout: Another process has it.
    """
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    try:
        with held(folder / LOCK):
            try:
                _clear(folder)
                yield
            finally:
                _clear(folder)
    finally:
        with suppress(OSError):  # another process has come
            folder.rmdir()


def hidden(target: Path) -> Path:
    """Returns the folder in which a file or a folder is written until it is whole."""
    return target.absolute().with_name(f".{target.name}.part")


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """
    Names the path and the free space in errors of writing: most libraries name no path, and some have their own errors.

    Raises:
        CannotWrite: Writing failed.
    """
    try:
        yield
    except CannotWrite:
        raise
    except Timeout:
        raise CannotWrite(f"Another process is writing {target}: wait for it, or name another place.") from None
    except (OSError, SafetensorError) as error:
        there = next(folder for folder in target.absolute().parents if folder.is_dir())
        free = shutil.disk_usage(there).free
        reason = " ".join(str(error).split())
        raise CannotWrite(f"{target} cannot be written: {reason} ({free:,} bytes are free there).") from error


def move(made: Path, target: Path) -> None:
    """
    Moves a file or a folder to its place once it is on the disk.

    Args:
        made: The file or folder, in a scratch folder of the same disk.
        target: Its place. What was there goes to the scratch folder.
    """
    sync(made)
    if target.is_dir() and not target.is_symlink():
        os.replace(target, made.with_name("replaced"))
    elif made.is_dir() and target.is_symlink():
        target.unlink()
    os.replace(made, target)
    _sync(target.parent)


def sync(path: Path) -> None:
    """Syncs a file, or a folder with all that is in it, to the disk."""
    if path.is_dir():
        for child in path.iterdir():
            if not child.is_symlink():
                sync(child)
    _sync(path)


def write_text(file: Path, text: str) -> None:
    with whole(file) as part:
        part.write_text(text, encoding="utf-8")


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Writes JSON with `null` for NaN, which JSON does not know."""
    write_text(file, json.dumps(as_json(content), indent=2, ensure_ascii=False) + "\n")


def write_figure(file: Path, figure: "Figure", **options: Any) -> None:
    """
    Writes a figure of matplotlib. Dollar signs in it are dollar signs: names may have them.

    Args:
        options: As `Figure.savefig` takes them.
    """
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)
    with whole(file) as part:
        figure.savefig(part, dpi=110, **options)


def as_json(value: Any) -> Any:
    """Returns `value` with `None` for NaN, and lists for tuples."""
    if isinstance(value, dict):
        return {str(key): as_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _sync(path: Path) -> None:
    is_folder = path.is_dir()
    if is_folder and os.name == "nt":  # Windows does so by itself
        return
    try:
        descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if not is_folder or error.errno not in UNSYNCED:
            raise


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != LOCK:
            with suppress(OSError):
                path.unlink()
