"""Processes that work on clips side by side. One that dies takes no other clip with it."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import torch
from pebble import ProcessExpired, ProcessPool
from transformers.utils import logging

from .job import Job, WorkError, told

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # read when a process starts

_do: "Callable[[Any], Any] | WorkError"  # in each process: works on a clip, or says why nothing can


class Processes:
    """
    A pool of processes that starts with the first clips and ends with [`close`].

    Args:
        job: What to do with a clip.
        count: Number of processes, of one thread each.
    """

    def __init__(self, job: Job, count: int):
        self.job, self.count = job, count
        self._pool: tuple[int, ProcessPool] | None = None

    def close(self) -> None:
        if self._pool is not None:
            _, pool = self._pool
            pool.stop()
            pool.join()
            self._pool = None

    def work(self, clips: list[Any]) -> Iterator[tuple[Any, Any]]:
        """
        Works on clips. Those with which a process has died are tried once more at the end, one at a time.

        Args:
            clips: Clips in the form that the job takes.

        Yields:
            Each clip as it is finished, with its result, or with a sentence that says why it failed.

        Raises:
            WorkError: Something is wrong that no clip is to blame for.
        """
        suspects = []
        for clip, outcome in self._work(clips, self.count):
            if isinstance(outcome, ProcessExpired):
                suspects.append(clip)
            else:
                yield clip, outcome
        for clip, outcome in self._work(suspects, 1):
            yield clip, self._death(outcome) if isinstance(outcome, ProcessExpired) else outcome

    def _work(self, clips: list[Any], count: int) -> Iterator[tuple[Any, Any]]:
        waiting, count = deque(clips), min(count, len(clips))
        while waiting and count:
            running: dict[Future, Any] = {}
            whole = False
            pool = self._begun(count)
            try:
                with _single_threaded():
                    while (waiting or running) and pool.active:
                        with _deaf_to_interrupts():
                            while waiting and len(running) < 2 * count:
                                clip = waiting.popleft()
                                running[pool.schedule(_work_on, (clip,), timeout=self.job.time_limit)] = clip
                        for future in wait(running, timeout=1, return_when=FIRST_COMPLETED).done:
                            clip, error = running.pop(future), future.exception()
                            if error is None:
                                yield clip, future.result()
                            elif isinstance(error, ProcessExpired):
                                yield clip, error
                            elif isinstance(error, TimeoutError):
                                limit = f"{self.job.time_limit:g} s"
                                yield clip, f"it was not finished within {limit}; --time_limit allows more"
                            elif isinstance(error, BrokenProcessPool):
                                waiting.append(clip)
                            else:
                                raise error
                whole = pool.active
            finally:
                if not whole:
                    self.close()
            waiting.extend(running.values())
            count //= 2  # there may be memory for fewer
        if waiting:
            raise WorkError(
                "The processes died before they had a clip in hand. Set fewer --workers if there may be too little "
                "memory, else try the recipe on a single clip."
            )

    def _begun(self, count: int) -> ProcessPool:
        """Returns a pool of `count` processes: the current one, if it has as many."""
        if self._pool is None or self._pool[0] != count:
            self.close()
            context = multiprocessing.get_context("spawn")
            self._pool = count, ProcessPool(count, initializer=_begin, initargs=(self.job,), context=context)
        return self._pool[1]

    def _death(self, death: ProcessExpired) -> str:
        """Says by which signal or exit status a process ended, and its last words."""
        how = f"exit status {death.exitcode}"
        if death.exitcode < 0:
            with suppress(ValueError):
                how = signal.Signals(-death.exitcode).name
        how = {"SIGKILL": "SIGKILL, perhaps because memory is short: set fewer --workers"}.get(how, how)
        words = ""
        with suppress(OSError):
            log = _log(self.job, death.pid).read_bytes()[-4000:].decode(errors="replace")
            words = next((line.strip() for line in reversed(log.splitlines()) if line.strip()), "")
        said = f"; {words:.200}" if words and not words.startswith("INFO:") else ""
        return f"the process that read it died ({how}{said})"


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Limits processes that start now to one thread each for numerics: there are as many of them as cores."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Hides Ctrl-C, which a terminal sends to all, from threads and processes that start now: the parent ends them."""
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    resource_tracker.ensure_running()  # its start would undo this
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _log(job: Job, process: int) -> Path:
    return job.scratch / f"{process}.log"


def _begin(job: Job) -> None:
    """Prepares a process for its work. Errors here are no clip's fault, so each clip is answered with them."""
    global _do
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # ends at once, even within a library
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    try:
        log = os.open(_log(job, os.getpid()), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for output in (1, 2):  # what libraries print would tear the progress bar
            os.dup2(log, output)
        _do = job.begin()
    except Exception as error:
        text = str(error) if isinstance(error, ValueError) else told(error)
        _do = error if isinstance(error, WorkError) else WorkError(text)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _work_on(clip: Any) -> Any:
    if isinstance(_do, WorkError):
        raise _do
    return _do(clip)
