"""Extracts one clip: decodes it, computes its features, recognises its words."""

import os
import warnings
import wave
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..model.decoding_selfmm import ClipWarning, clip_facts
from ..model.feature_extraction_selfmm import SelfMMFeatureExtractor
from ..model.transcription_selfmm import load_transcriber, transcribed
from .folder import PART, Extracted, ExtractionError, ExtractionFolder
from .job import TIME_LIMIT, told
from .processes import Processes


@dataclass
class Task:
    """
    A clip to be extracted.

    Args:
        id: Id of the row.
        clip: The media file, relative to the folder of the clips.
        known: The earlier result, if only the words are missing.
        transcribe: Whether words are wanted.
    """

    id: str
    clip: str
    known: Extracted | None = None
    transcribe: bool = False


@dataclass
class Job:
    """
    The settings that all processes share.

    Args:
        clips: The folder of the media files.
        out: The folder that is filled.
        extractor: Computes the features; each process makes its own of this kind and recipe.
        transcriber: Name of a model for "automatic-speech-recognition".
        device: Where the encoders and the transcriber run.
        time_limit: Seconds that one clip may take.
    """

    clips: Path
    out: Path
    extractor: SelfMMFeatureExtractor
    transcriber: str | None = None
    device: str = "cpu"
    time_limit: float = TIME_LIMIT

    @property
    def scratch(self) -> Path:
        return self.out / PART

    def begin(self) -> Callable[[Task], Extracted | str]:
        """Loads what is needed, and tries it on a second of hoots and a black picture."""
        try:
            hoots = self.scratch / f"{os.getpid()}.wav"
            _write_hoots(hoots)
            self.extractor = self.extractor.to(self.device)
            self.extractor.extract({"audio": hoots, "vision": [np.zeros((64, 64, 3), np.uint8)]})
        except Exception as error:
            raise ExtractionError(f"The recipe cannot be computed: {told(error)}") from error
        try:
            transcriber = self.transcriber and load_transcriber(self.transcriber, self.device)
        except Exception as error:
            raise ExtractionError(f"The transcriber {self.transcriber} cannot be loaded: {told(error)}") from error
        return partial(extract, job=self, transcriber=transcriber)

    def __getstate__(self) -> dict[str, Any]:
        extractor = self.extractor
        return {**self.__dict__, "extractor": (type(extractor), extractor.to_dict(), extractor.source)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        kind, recipe, source = state["extractor"]
        self.__dict__.update(state, extractor=kind.from_dict(recipe))
        self.extractor.source = source


def work(tasks: list[Task], job: Job, workers: int) -> Iterator[tuple[Task, Extracted | str]]:
    """
    Runs [`Processes.work`] for an extraction.

    Raises:
        WorkError: Something is wrong that no clip is to blame for: a package or a model is missing.
        CannotWrite: A file cannot be written.
    """
    with closing(Processes(job, workers)) as processes:
        yield from processes.work(tasks)


def _write_hoots(path: Path) -> None:
    hoot = bytes([224] * 20 + [32] * 20) * 100  # a quarter of a second at 400 Hz
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 1, 16000, 0, "NONE", None))
        file.writeframes((hoot + bytes([128] * len(hoot))) * 2)


def extract(task: Task, job: Job, transcriber: Any = None) -> Extracted | str:
    """
    Extracts a clip; returns its line of the journal, or why it failed.

    Raises:
        ExtractionError, CannotWrite: Something is wrong that no clip is to blame for.
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
                words, _ = transcribed(transcriber, path, max_seconds=job.extractor.max_seconds)
                record = replace(record, transcriber=job.transcriber, transcript=words)
        said = [str(one.message) for one in caught if issubclass(one.category, ClipWarning)]
        record.warnings = list(dict.fromkeys([*record.warnings, *said]))
    except ImportError as error:
        raise ExtractionError(str(error)) from error
    except (Exception, SystemExit) as error:
        return told(error)
    out = ExtractionFolder(job.out)
    for name, frames in features.items():
        out.save_features(name, task.id, frames)
    return record
