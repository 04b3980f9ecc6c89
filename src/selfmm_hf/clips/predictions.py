"""Runs the pipeline on clips, one after another or side by side."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..model.decoding_selfmm import ClipWarning
from ..model.pipeline_selfmm import MultimodalSentimentPipeline
from .job import TIME_LIMIT, WorkError, told
from .media import words_beside

Progress = Callable[[str, float, float | None], None]  # as the pipeline reports within a clip


@dataclass
class Clip:
    """
    A clip, and what is known of it.

    Args:
        clip: The media file; `None` if there are words alone.
        text: The words, if they are known.
        context: What was said before in the same video.
        number: Its place among several clips.
    """

    clip: str | None
    text: str | None = None
    context: list[str] | None = None
    number: int = 0


@dataclass
class Said:
    """
    The prediction for a clip.

    Args:
        result: What the pipeline returns.
        warnings: Warnings that are not among the remarks of the result.
    """

    result: dict[str, Any]
    warnings: list[str] = field(default_factory=list)


def clips_with_words(
    files: Sequence[str], text: str | None = None, context: list[str] | None = None, beside: bool = True
) -> list[Clip | str]:
    """
    Finds the words of each clip; returns the clips, or why their words cannot be read.

    Args:
        files: Paths or URLs.
        text: What is said in each.
        context: What was said before each in the same video.
        beside: Whether the words of `a.mp4` may stand in `a.txt` beside it, where `text` is not given.
    """
    clips: list[Clip | str] = []
    for number, file in enumerate(files):
        try:
            clips.append(Clip(file, words_beside(file) if text is None and beside else text, context, number))
        except ValueError as error:
            clips.append(str(error))
    return clips


def predict(clip: Clip, pipe: MultimodalSentimentPipeline, progress: Progress | None = None) -> Said | str:
    """
    Runs the pipeline on a clip; returns its result, or why the clip cannot be read.

    Raises:
        WorkError: A package is missing.
    """
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ClipWarning)
            if clip.clip is None:
                result = pipe({"text": clip.text}, context=clip.context)
            else:
                result = pipe(clip.clip, text=clip.text, context=clip.context, progress=progress)
    except ImportError as error:
        raise WorkError(str(error)) from error
    except (ValueError, OSError) as error:
        return str(error)
    notes = dict.fromkeys(str(one.message) for one in caught if issubclass(one.category, ClipWarning))
    return Said(result, [note for note in notes if note not in result["remarks"]])


def one_by_one(
    clips: Sequence[Clip | str], pipe: MultimodalSentimentPipeline, progress: Progress | None = None
) -> Iterator[tuple[int, Said | str]]:
    """
    Runs the pipeline on each clip, in their order; yields each number and result.

    Args:
        clips: As [`clips_with_words`] returns them.
        progress: Called with how far a clip is.
    """
    for number, clip in enumerate(clips):
        yield number, clip if isinstance(clip, str) else predict(clip, pipe, progress)


def side_by_side(
    clips: Sequence[Clip | str],
    load: Callable[[], MultimodalSentimentPipeline],
    workers: int,
    time_limit: float = TIME_LIMIT,
) -> Iterator[tuple[int, Said | str]]:
    """
    Does the same in processes of one thread each, and yields clips as they are done.

    Args:
        load: Loads the pipeline of a process; it is pickled.
        workers: Number of processes.
        time_limit: Seconds that one clip may take.

    Raises:
        WorkError: Something is wrong that no clip is to blame for.
    """
    from .processes import Processes  # needs pebble

    yield from ((number, clip) for number, clip in enumerate(clips) if isinstance(clip, str))
    with TemporaryDirectory() as folder:
        job = PredictionJob(load, Path(folder), time_limit)
        with closing(Processes(job, workers)) as processes:
            readable = [clip for clip in clips if not isinstance(clip, str)]
            yield from ((clip.number, outcome) for clip, outcome in processes.work(readable))


@dataclass
class PredictionJob:
    """
    A [`Job`] that predicts.

    Args:
        load: Loads the pipeline; it is pickled.
        scratch: A folder for what the processes print.
        time_limit: Seconds that one clip may take.
    """

    load: Callable[[], MultimodalSentimentPipeline]
    scratch: Path
    time_limit: float = TIME_LIMIT

    def begin(self) -> Callable[[Clip], Said | str]:
        return partial(_predict, pipe=self.load())


def _predict(clip: Clip, pipe: MultimodalSentimentPipeline) -> Said | str:
    """Runs [`predict`]; whatever a damaged file may raise fails that clip alone."""
    try:
        return predict(clip, pipe)
    except WorkError:
        raise
    except Exception as error:
        return told(error)
