"""Runs a model on clips on a cluster."""

import hashlib
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from transformers.utils import SAFE_WEIGHTS_NAME

from ..clips.folder import PART
from ..clips.job import TIME_LIMIT, Job
from ..clips.prediction_rows import WORDS, prediction_columns, prediction_row
from ..clips.predictions import Clip, PredictionJob
from ..hub.saved_model import load_pipeline, model_of
from ..model.pipeline_selfmm import MultimodalSentimentPipeline
from .work import Row, context, everywhere, words


@dataclass
class Prediction:
    """
    Predictions for clips: `predictions-*.parquet`, with the columns of `selfmm predict --output FILE.csv`, without
    `error` and `warnings`, which are files of their own.

    Args:
        model: Folder of a model or of its run, which all nodes must see, or a repository on the Hub.
        revision: Revision of the repository.
        transcriber: A model for "automatic-speech-recognition", for clips without `text`.
        max_seconds: Longer clips are refused; by default the model's own limit.
        time_limit: Seconds that one clip may take.
    """

    model: str
    revision: str | None = None
    transcriber: str | None = None
    max_seconds: float | None = None
    time_limit: float = TIME_LIMIT
    columns = ()
    optional = ("id", "text", "context")
    others = ()

    def __post_init__(self):
        model, transcriber = everywhere(self.model), self.transcriber and everywhere(self.transcriber)
        self._load = partial(_load, model, self.revision, transcriber, max_seconds=self.max_seconds)

    def files(self) -> dict[str, bytes]:
        made = {"model": self.model, "revision": self.revision, "transcriber": self.transcriber}
        if (weights := model_of(Path(self.model)) / SAFE_WEIGHTS_NAME).is_file():
            with weights.open("rb") as content:
                made["sha256"] = hashlib.file_digest(content, "sha256").hexdigest()
        return {"model.json": (json.dumps(made, indent=2) + "\n").encode()}

    def names(self) -> list[str]:
        return ["predictions"]

    def job(self, folder: Path) -> Job:
        return PredictionJob(self._load, folder / PART, self.time_limit)

    def task(self, number: int, row: Row) -> Clip:
        return Clip(row["clip"], words(row), context(row))

    def source(self, row: Row) -> Any:
        return words(row), context(row)

    def tables(self, done: list[tuple[int, Row, Any]], folder: Path) -> dict[str, pa.Table]:
        rows = [{"id": row["id"], "clip": row["clip"], **prediction_row(said.result)} for _, row, said in done]
        if not rows:
            return {}
        kinds = {name: pa.string() if name in WORDS else pa.float32() for name in rows[0]}
        return {"predictions": pa.Table.from_pylist(rows, pa.schema(list(kinds.items())))}


def _load(*model: str | None, max_seconds: float | None) -> MultimodalSentimentPipeline:
    """Loads the pipeline of a model whose predictions fit into a table, see [`prediction_columns`]."""
    pipe = load_pipeline(*model, max_seconds=max_seconds)
    prediction_columns(pipe.model.config)
    return pipe
