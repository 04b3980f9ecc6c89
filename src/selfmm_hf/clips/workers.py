"""Processes that extract clips side by side: one that dies takes no other clip with it."""

import multiprocessing
import os
import signal
import threading
import warnings
import wave
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import pipeline
from transformers.utils import logging

from ..model.decoding_selfmm import ClipError, ClipWarning, clip_facts, decode_audio
from ..model.feature_extraction_selfmm import SelfMMFeatureExtractor
from ..model.loading_selfmm import without_its_code
from ..storage.whole_files import CannotWrite
from .folder import PART, Extracted, ExtractionError, ExtractionFolder

END_SECONDS = 10  # that a process may take to end
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # read when a process starts


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
    """

    clips: Path
    out: Path
    extractor: SelfMMFeatureExtractor
    transcriber: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        extractor = self.extractor
        return {**self.__dict__, "extractor": (type(extractor), extractor.to_dict(), extractor.source)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        kind, recipe, source = state["extractor"]
        self.__dict__.update(state, extractor=kind.from_dict(recipe))
        self.extractor.source = source


@dataclass
class Death:
    """How a process ended that had a clip in hand."""

    reason: str


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
        if isinstance(outcome, Death):
            suspects.append(task)
        else:
            yield task, outcome
    for task, outcome in _work(suspects, job, 1):
        yield task, outcome.reason if isinstance(outcome, Death) else outcome


def _work(tasks: list[Task], job: Job, workers: int) -> Iterator[tuple[Task, Extracted | str | Death]]:
    waiting = deque(tasks)
    at_work: dict[Connection, _Worker] = {}
    try:
        while True:
            while len(at_work) < workers and len(waiting) > sum(one.task is None for one in at_work.values()):
                worker = _Worker(job)
                at_work[worker.connection] = worker
            if not at_work:
                return
            for connection in wait(list(at_work)):
                worker = at_work[connection]
                task, outcome = worker.task, worker.answer()
                if isinstance(outcome, Death):
                    del at_work[connection]
                    if task is None:
                        workers -= 1  # there may be memory for fewer
                        if workers:
                            continue
                        raise ExtractionError(
                            f"{outcome.reason}, before it had a clip in hand. Name fewer --workers if there may be too "
                            "little memory, else try the recipe on a single clip."
                        )
                if outcome is not None:
                    yield task, outcome  # ty: ignore[invalid-yield]
                if connection in at_work and not worker.give(waiting):
                    del at_work[connection]
    finally:
        for worker in at_work.values():
            worker.end(0)


class _Worker:
    """A process, as its parent sees it: `task` is what it has in hand, `None` until it is ready."""

    def __init__(self, job: Job):
        context = multiprocessing.get_context("spawn")
        self.task: Task | None = None
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_main, args=(theirs, job), daemon=True)
        self.log = job.out / PART
        with _single_threaded(), _deaf_to_interrupts():
            self.process.start()
        theirs.close()

    def answer(self) -> Extracted | str | Death | None:
        """What the process says of its task; nothing where it says that it is ready."""
        try:
            answer = self.connection.recv()
        except (EOFError, OSError):
            self.end()
            return Death(f"{'the process that read it' if self.task else 'a process'} died {self._how()}")
        if isinstance(answer, ExtractionError | CannotWrite):
            raise answer
        return answer

    def give(self, tasks: deque[Task]) -> bool:
        """Hands the process its next task; ends it where there is none."""
        self.task = tasks.popleft() if tasks else None
        with suppress(OSError):  # it has just died: its next answer tells
            self.connection.send(self.task)
        if self.task is None:
            self.end()
        return self.task is not None

    def end(self, seconds: float = END_SECONDS) -> None:
        """Waits for the end of the process, or brings it about."""
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()

    def _how(self) -> str:
        """By which signal or exit status, and its last words."""
        code = self.process.exitcode
        how = f"exit status {code}"
        if code < 0:
            with suppress(ValueError):
                how = signal.Signals(-code).name
        how = {"SIGKILL": "SIGKILL: for want of memory?"}.get(how, how)
        words = ""
        with suppress(OSError):
            log = (self.log / f"{self.process.pid}.log").read_bytes()[-4000:].decode(errors="replace")
            words = next((line.strip() for line in reversed(log.splitlines()) if line.strip()), "")
        return f"({how}; {words:.200})" if words and not words.startswith("INFO:") else f"({how})"


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
    """Processes that start now ignore Ctrl-C, which their terminal sends to all: their parent ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _main(connection: Connection, job: Job) -> None:
    """A process: extracts what it is sent until it is sent nothing."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
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
    except Exception as error:
        connection.send(ExtractionError(f"{trying}: {_told(error)}"))
        return
    connection.send(None)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent is gone
        while task := connection.recv():
            connection.send(_outcome(task, job, transcriber))


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


def _outcome(task: Task, job: Job, transcriber: Any) -> Extracted | str | ExtractionError | CannotWrite:
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
        return ExtractionError(str(error))
    except Exception as error:
        return _told(error)
    try:
        out = ExtractionFolder(job.out)
        for name, frames in features.items():
            out.save_features(name, task.id, frames)
    except CannotWrite as error:
        return error
    return record


def _transcribed(path: Path, transcriber: Any, max_seconds: float) -> str:
    sound = decode_audio(path, transcriber.feature_extractor.sampling_rate, max_seconds)
    if sound is None:
        return ""
    rate = transcriber.feature_extractor.sampling_rate
    # With times, as Whisper needs it beyond 30 s, and as `MultimodalSentimentPipeline` does.
    times = "word" if transcriber.type.startswith("ctc") else True
    return transcriber({"raw": sound, "sampling_rate": rate}, return_timestamps=times)["text"].strip()


def _told(error: Exception) -> str:
    """What is wrong, in one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, ClipError) else f"{type(error).__name__}: {text}"
