"""The interface of a job: what a process does with each clip, on one machine or on a cluster."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from ..model.decoding_selfmm import ClipError

TIME_LIMIT = 1800.0  # seconds


class WorkError(ValueError):
    """No clip can be processed; the message says how to mend it."""


class Job(Protocol):
    """
    The settings that all processes share. It is pickled.

    Args:
        scratch: A folder for what the processes print.
        time_limit: Seconds that one clip may take.
    """

    scratch: Path
    time_limit: float

    def begin(self) -> Callable[[Any], Any]:
        """
        Called in each process; loads what is needed.

        Returns:
            A function that works on a clip. It raises only errors for which no clip is to blame.

        Raises:
            WorkError: Something cannot be loaded.
        """


def told(error: BaseException) -> str:
    """Describes an error in one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, ClipError) else f"{type(error).__name__}: {text}"
