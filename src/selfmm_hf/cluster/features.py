"""Computes features of clips on a cluster, as a data set."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset

from ..clips.extract import recipe_alone
from ..clips.folder import JOURNAL
from ..clips.job import TIME_LIMIT
from ..clips.one_clip import Job, Task
from ..data.columns import ORDER, UNIMODAL_LABELS, features
from ..data.custom.labels import as_number
from ..data.custom.table import SPLITS, TABLES
from ..data.mmsa import MOST
from ..data.recipe import RECIPE_FILE
from ..data.safe_pickle import DataError
from ..model.feature_extraction_selfmm import SelfMMFeatureExtractor
from .work import Row, everywhere, words

LABELS = ("label", *UNIMODAL_LABELS.values())


class Extraction:
    """
    Features of clips: a data set for `selfmm train --dataset custom`, `train-*.parquet` and so on. Labels are scores.

    Args:
        extractor: Its recipe lies beside the data.
        transcriber: A model for "automatic-speech-recognition", for clips without `text`.
        device: Where the encoders and the transcriber run.
        time_limit: Seconds that one clip may take.
    """

    columns = ("id", "label", "split")
    optional = ("text", *ORDER, *UNIMODAL_LABELS.values())
    others = (*TABLES, JOURNAL)

    def __init__(
        self,
        extractor: SelfMMFeatureExtractor,
        transcriber: str | None = None,
        device: str = "cpu",
        time_limit: float = TIME_LIMIT,
    ):
        extractor = recipe_alone(extractor)
        self.widths, self.recipe = extractor.widths, extractor.to_json_string()
        self._job = Job(Path(), Path(), extractor, transcriber and everywhere(transcriber), device, time_limit)

    def files(self) -> dict[str, bytes]:
        return {RECIPE_FILE: self.recipe.encode()}

    def names(self) -> list[str]:
        return list(dict.fromkeys(SPLITS.values()))

    def job(self, folder: Path) -> Job:
        return replace(self._job, out=folder)

    def task(self, number: int, row: Row) -> Task:
        if not isinstance(row["split"], str) or row["split"] not in SPLITS:
            raise DataError(f"column 'split': expected one of {', '.join(SPLITS)}, got {row['split']!r:.40}")
        for name in LABELS:
            if name in row:
                _finite(row, name)
        _order(row)
        said = words(row)
        return Task(str(number), row["clip"], transcribe=self._job.transcriber is not None and not said)

    def source(self, row: Row) -> Any:
        said = words(row)
        transcriber = None if said else self._job.transcriber
        return said, SPLITS[row["split"]], _labels(row), transcriber, *_order(row).values()

    def tables(self, done: list[tuple[int, Row, Any]], folder: Path) -> dict[str, pa.Table]:
        splits: dict[str, list[Row]] = {}
        for number, row, record in done:
            clip = {"id": row["id"], "text": words(row) or record.transcript or ""}
            for name, width in self.widths.items():
                file = folder / name / f"{number}.npy"
                clip[name] = np.load(file) if record.frames[name] else np.zeros((0, width), np.float32)
            clip |= _labels(row) | _order(row)
            splits.setdefault(SPLITS[row["split"]], []).append(clip)
        tables = {}
        for split, clips in splits.items():
            kinds = features(self.widths, clips[0])
            data = Dataset.from_dict({name: [clip[name] for clip in clips] for name in kinds}, kinds)
            tables[split] = data.data.table.replace_schema_metadata(kinds.arrow_schema.metadata)
        return tables


def _order(row: Row) -> dict[str, Any]:
    """
    Returns where a clip stands in which video, if the table says so.

    Raises:
        DataError: It says half of it, or something else.
    """
    if not ORDER.keys() & row.keys():
        return {}
    if missing := [name for name in ORDER if name not in row]:
        raise DataError(f"column {missing[0]!r}: missing; video and position belong together; give both, or neither")
    video = row["video"]
    if not isinstance(video, str) or not video.strip():
        raise DataError(f"column 'video': expected the video that the clip belongs to, got {video!r:.40}")
    return {"video": video, "position": _finite(row, "position")}


def _finite(row: Row, name: str) -> float:
    """
    Raises:
        DataError: The cell holds no finite number.
    """
    value = as_number(row[name])
    if value is None or not abs(value) < MOST:
        raise DataError(f"column {name!r}: expected a finite number, got {row[name]!r:.40}")
    return value


def _labels(row: Row) -> dict[str, float | None]:
    return {name: as_number(row[name]) for name in LABELS if name in row}
