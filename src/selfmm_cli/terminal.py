"""What a command writes to a terminal."""

import codecs
import errno
import io
import json
import os
import sys
from typing import Any

UNWRITTEN = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EPIPE}
SHOWN_AFTER = 2.0  # seconds after which the progress of a part is shown


def printable(text: str) -> str:
    """Escapes whatever would steer a terminal, or be invisible on it: the text may be a stranger's."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


def escape_what_cannot_be_encoded() -> None:
    r"""Has standard output write what its encoding lacks, such as \u4e2d under cp1252, as JSON would escape it."""

    def escaped(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeEncodeError):
            raise error
        return json.dumps(error.object[error.start : error.end])[1:-1], error.end

    codecs.register_error("json", escaped)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="json")


def unwritten(error: Exception | None = None) -> str | None:
    """
    Returns why standard output cannot be written, or `None`. If it cannot, nothing more goes there.

    Args:
        error: Error with which a command has ended. If it is of a full disk or a closed pipe and names no file, it is
            of the output: errors of files that we write name them.
    """
    try:
        if isinstance(error, OSError) and error.errno in UNWRITTEN and error.filename is None:
            raise error
        sys.stdout.flush()
    except OSError as reason:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return f"standard output cannot be written: {reason.strerror}"
    return None


class ClipProgress:
    """
    Shows bars on standard error, if that is a terminal: over clips, and within a clip that takes long.

        with ClipProgress(clips) as progress:
            pipe(clip, progress=progress.within)
            progress.print(row)
            progress.next()
    """

    def __init__(self, clips: int):
        from tqdm import tqdm

        self._tqdm = tqdm
        disable = not sys.stderr.isatty()
        self._clips = tqdm(total=clips, desc="Clips", unit="clip", leave=False, disable=disable or clips < 2)
        self._disable, self._what, self._bar = disable, "", None

    def __enter__(self) -> "ClipProgress":
        return self

    def __exit__(self, *_: Any) -> None:
        self._close_bar()
        self._clips.close()

    def within(self, what: str, done: float, total: float | None) -> None:
        """Shows progress as the pipeline reports it: `"download"` in bytes, `"picture"` in seconds."""
        if self._bar is None or what != self._what or done < self._bar.n:
            self._close_bar()
            unit = {"unit": "B", "unit_scale": True} if what == "download" else {"unit": " s"}
            common = {"leave": False, "position": 1, "delay": SHOWN_AFTER, "disable": self._disable}
            self._what = what
            self._bar = self._tqdm(desc=what.capitalize(), total=total and round(total), **unit, **common)
        self._bar.update(int(done) - self._bar.n)

    def next(self) -> None:
        """Counts one more clip as done."""
        self._close_bar()
        self._clips.update()

    def print(self, line: str, file: Any = None) -> None:
        """Writes a line to standard output, or to `file`, above the bars."""
        self._close_bar()
        with self._tqdm.external_write_mode(file=file or sys.stdout):
            print(line, file=file or sys.stdout, flush=True)

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
