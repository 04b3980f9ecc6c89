"""Processes that extract clips side by side: one that dies takes no other clip with it."""

import multiprocessing
import os
import signal
import threading
import warnings
import wave
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pebble import ProcessExpired, ProcessPool
from transformers import pipeline
from transformers.utils import logging

from ..model.decoding_selfmm import ClipError, ClipWarning, clip_facts, decode_audio
from ..model.feature_extraction_selfmm import SelfMMFeatureExtractor
from ..model.loading_selfmm import without_its_code
from .folder import PART, Extracted, ExtractionError, ExtractionFolder

TIME_LIMIT = 1800.0  # seconds
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # read when a process starts

_here: "tuple[Job, Any] | ExtractionError"  # in a process: the job and the transcriber, or why they cannot be loaded


@dataclass
class Task:
    """
    A clip to be extracted.

    Args:
        id: Of the row.
        clip: The media file, relative to the folder of the clips.
        known: What was extracted before, if only the words are missing.
        transcribe: Whether words are wanted.
    """

    id: str
    clip: str
    known: Extracted | None = None
    transcribe: bool = False


@dataclass
class Job:
    """
    What all processes need to know.

    Args:
        clips: The folder of the media files.
        out: The folder that is filled.
        extractor: Computes the features; each process makes its own of this kind and recipe.
        transcriber: Name of a model for "automatic-speech-recognition".
        time_limit: Seconds that one clip may take.
    """

    clips: Path
    out: Path
    extractor: SelfMMFeatureExtractor
    transcriber: str | None = None
    time_limit: float = TIME_LIMIT

    def __getstate__(self) -> dict[str, Any]:
        extractor = self.extractor
        return {**self.__dict__, "extractor": (type(extractor), extractor.to_dict(), extractor.source)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        kind, recipe, source = state["extractor"]
        self.__dict__.update(state, extractor=kind.from_dict(recipe))
        self.extractor.source = source


def work(tasks: list[Task], job: Job, workers: int) -> Iterator[tuple[Task, Extracted | str]]:
    """
    Extracts clips. Those with which a process has died are tried once more at the end, one at a time.

    Args:
        tasks: The clips.
        job: What is done with them.
        workers: Processes.

    Yields:
        Each task as it is finished, with its line of the journal, or why it failed.

    Raises:
        ExtractionError: Something is wrong that no clip is to blame for: a package or a model is missing.
        CannotWrite: A file cannot be written.
    """
    suspects = []
    for task, outcome in _work(tasks, job, workers):
        if isinstance(outcome, ProcessExpired):
            suspects.append(task)
        else:
            yield task, outcome
    for task, outcome in _work(suspects, job, 1):
        yield task, _death(outcome, job) if isinstance(outcome, ProcessExpired) else outcome


def _work(tasks: list[Task], job: Job, workers: int) -> Iterator[tuple[Task, Extracted | str | ProcessExpired]]:
    waiting, workers = deque(tasks), min(workers, len(tasks))
    while waiting and workers:
        running: dict[Future, Task] = {}
        pool = ProcessPool(workers, initializer=_begin, initargs=(job,), context=multiprocessing.get_context("spawn"))
        try:
            with _single_threaded():
                while (waiting or running) and pool.active:
                    with _deaf_to_interrupts():
                        while waiting and len(running) < 2 * workers:
                            task = waiting.popleft()
                            running[pool.schedule(_extract, (task,), timeout=job.time_limit)] = task
                    for future in wait(running, timeout=1, return_when=FIRST_COMPLETED).done:
                        task, error = running.pop(future), future.exception()
                        if error is None:
                            yield task, future.result()
                        elif isinstance(error, ProcessExpired):
                            yield task, error
                        elif isinstance(error, TimeoutError):
                            yield task, f"it was not finished within {job.time_limit:g} s; --time_limit allows more"
                        elif isinstance(error, BrokenProcessPool):
                            waiting.append(task)
                        else:
                            raise error
        finally:
            pool.stop()
            pool.join()
        waiting.extend(running.values())
        workers //= 2  # there may be memory for fewer
    if waiting:
        raise ExtractionError(
            "The processes died before they had a clip in hand. Name fewer --workers if there may be too little "
            "memory, else try the recipe on a single clip."
        )


def _death(death: ProcessExpired, job: Job) -> str:
    """By which signal or exit status a process ended, and its last words."""
    how = f"exit status {death.exitcode}"
    if death.exitcode < 0:
        with suppress(ValueError):
            how = signal.Signals(-death.exitcode).name
    how = {"SIGKILL": "SIGKILL: for want of memory?"}.get(how, how)
    words = ""
    with suppress(OSError):
        log = (job.out / PART / f"{death.pid}.log").read_bytes()[-4000:].decode(errors="replace")
        words = next((line.strip() for line in reversed(log.splitlines()) if line.strip()), "")
    said = f"; {words:.200}" if words and not words.startswith("INFO:") else ""
    return f"the process that read it died ({how}{said})"


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Processes that start now have one thread each for numerics: there are as many of them as cores."""
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
    """Threads and processes that start now never see Ctrl-C, which a terminal sends to all: their parent ends them."""
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    resource_tracker.ensure_running()  # its start would undo this
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(job: Job) -> None:
    """A process: gets ready to extract. What is wrong then is no clip's fault, so each clip is answered with it."""
    global _here
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # ends at once, even within a library
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    trying = "The recipe cannot be computed"
    try:
        log = os.open(job.out / PART / f"{os.getpid()}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for output in (1, 2):  # what libraries print would tear the progress bar
            os.dup2(log, output)
        _try(job)
        trying = f"The transcriber {job.transcriber} cannot be loaded"
        with without_its_code(job.transcriber or ""):
            transcriber = job.transcriber and pipeline(
                "automatic-speech-recognition", job.transcriber, device="cpu", trust_remote_code=False
            )
        _here = job, transcriber
    except Exception as error:
        _here = ExtractionError(f"{trying}: {_told(error)}")


def _try(job: Job) -> None:
    """Loads what is needed, on a second of hoots and a black picture: what fails here is no clip's fault."""
    hoots = job.out / PART / f"{os.getpid()}.wav"
    hoot = bytes([224] * 20 + [32] * 20) * 100  # a quarter of a second at 400 Hz
    with wave.open(str(hoots), "wb") as file:
        file.setparams((1, 1, 16000, 0, "NONE", None))
        file.writeframes((hoot + bytes([128] * len(hoot))) * 2)
    job.extractor.extract({"audio": hoots, "vision": [np.zeros((64, 64, 3), np.uint8)]})


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _extract(task: Task) -> Extracted | str:
    if isinstance(_here, ExtractionError):
        raise _here
    return _outcome(task, *_here)


def _outcome(task: Task, job: Job, transcriber: Any) -> Extracted | str:
    """
    The clip's line of the journal, or why it failed.

    Raises:
        ExtractionError, CannotWrite: That is no clip's fault.
    """
    path = job.clips / task.clip
    features: dict[str, Any] = {}
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ClipWarning)
            record = task.known
            if record is None:
                status = path.stat()
                features, absent = job.extractor.extract(path)
                record = Extracted(task.id, task.clip, status.st_size, status.st_mtime_ns, clip_facts(path).duration)
                record.face_share = features.face_share
                record.absent, record.frames = absent, {name: len(frames) for name, frames in features.items()}
            if task.transcribe:
                words = _transcribed(path, transcriber, job.extractor.max_seconds)
                record = replace(record, transcriber=job.transcriber, transcript=words)
        said = [str(one.message) for one in caught if issubclass(one.category, ClipWarning)]
        record.warnings = list(dict.fromkeys([*record.warnings, *said]))
    except ImportError as error:
        raise ExtractionError(str(error)) from error
    except (Exception, SystemExit) as error:
        return _told(error)
    out = ExtractionFolder(job.out)
    for name, frames in features.items():
        out.save_features(name, task.id, frames)
    return record


def _transcribed(path: Path, transcriber: Any, max_seconds: float) -> str:
    sound = decode_audio(path, transcriber.feature_extractor.sampling_rate, max_seconds)
    if sound is None:
        return ""
    rate = transcriber.feature_extractor.sampling_rate
    # With times, as Whisper needs it beyond 30 s, and as `MultimodalSentimentPipeline` does.
    times = "word" if transcriber.type.startswith("ctc") else True
    return transcriber({"raw": sound, "sampling_rate": rate}, return_timestamps=times)["text"].strip()


def _told(error: BaseException) -> str:
    """What is wrong, in one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, ClipError) else f"{type(error).__name__}: {text}"
