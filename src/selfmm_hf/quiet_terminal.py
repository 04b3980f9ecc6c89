"""Nothing is written to the terminal for a while."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def silent() -> Iterator[None]:
    """Lets nothing be written to the terminal, also not by C++ and Rust, which know nothing of Python's streams."""
    streams = {}
    _flush()
    for number in (1, 2):
        with suppress(OSError):  # it is closed
            streams[number] = os.dup(number)
    try:
        with open(os.devnull, "wb") as nowhere, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for number in streams:
                os.dup2(nowhere.fileno(), number)
            yield
    finally:
        _flush()
        for number, stream in streams.items():
            os.dup2(stream, number)
            os.close(stream)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
