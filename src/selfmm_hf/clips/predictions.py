"""What the pipeline says of clips: of one, and as rows of a table."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..model.configuration_selfmm import SelfMMConfig
from ..model.decoding_selfmm import ClipWarning
from ..model.pipeline_selfmm import MultimodalSentimentPipeline
from .job import TIME_LIMIT, WorkError, told

WORDS = ("id", "clip", "label", "transcript", "error")  # columns that hold no numbers


@dataclass
class Clip:
    """
    Args:
        clip: The media file; `None`: there are words alone.
        text: The words, if they are known.
        context: What was said before in the same video.
        number: Which of several it is.
    """

    clip: str | None
    text: str | None = None
    context: list[str] | None = None
    number: int = 0


@dataclass
class Said:
    """
    Args:
        result: What the pipeline returns.
        warnings: What it warned of that is not among the remarks of the result.
    """

    result: dict[str, Any]
    warnings: list[str] = field(default_factory=list)


def predict(
    clip: Clip, pipe: MultimodalSentimentPipeline, progress: Callable[[str, float, float | None], None] | None = None
) -> Said | str:
    """
    What the pipeline says of a clip, or why it cannot be read.

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


@dataclass
class PredictionJob:
    """
    A [`Job`] that predicts.

    Args:
        load: Gives the pipeline; it is pickled.
        scratch: A folder for what the processes print.
        time_limit: Seconds that one clip may take.
    """

    load: Callable[[], MultimodalSentimentPipeline]
    scratch: Path
    time_limit: float = TIME_LIMIT

    def begin(self) -> Callable[[Clip], Said | str]:
        return partial(_predict, pipe=self.load())


def _predict(clip: Clip, pipe: MultimodalSentimentPipeline) -> Said | str:
    """[`predict`], where whatever somebody's file can break fails that clip alone."""
    try:
        return predict(clip, pipe)
    except WorkError:
        raise
    except Exception as error:
        return told(error)


def prediction_columns(config: SelfMMConfig) -> list[str]:
    """The columns of [`prediction_row`]."""
    names, targets = ["score", *config.modalities], config.task.names
    if config.task.label_range is None:
        names = [f"{name}_{target}" for name in names for target in targets]
    return [*names, "label", "transcript"]


def prediction_row(result: dict[str, Any]) -> dict[str, float | str | None]:
    """
    What the pipeline returns, as cells by column: `score`, then each modality's name, then `label` and `transcript`;
    of other tasks than one score `score_TARGET`, `text_TARGET`, ... of each target.
    """
    one = "score" in result
    row: dict[str, Any] = {}
    targets = () if one else tuple(result["scores"])
    for name, said in {"score": result.get("score" if one else "scores"), **result["unimodal"]}.items():
        row |= {name: said} if one else {f"{name}_{target}": said and said[target] for target in targets}
    label = result.get("label")
    row["label"] = "; ".join(label) if isinstance(label, list) else label
    row["transcript"] = result.get("transcript")
    return row
