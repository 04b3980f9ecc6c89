"""Reads the files that a run has left in its folder."""

import json
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray
from transformers.trainer import TRAINER_STATE_NAME

from ..data import range_of_labels
from ..data.targets import score, task_from_json
from ..model.task_selfmm import Task
from ..task_metrics import errors_of, metrics_at, metrics_of, thresholds_of
from ..training import checkpoints
from ..training.arguments import SelfMMTrainingArguments
from .folder import ENVIRONMENT_FILE, GENERATED_FILE, OPTIONS_FILE, PREDICTIONS_FILE, RESULTS_FILE

# The shapes, see [`read_json`], of what is read in the files of a run.
NUMBER = int | float
OPTIONS = {
    "seed?": int,
    "dataset?": str,
    "data?": str,
    "label_range?": NUMBER,
    "problem_type?": str,
    "unimodal_tasks?": [str],
}
ENVIRONMENT = {"data": {"*": str}, "sessions": [dict]}
RESULTS = {
    "best_epoch": int,
    "epochs": int,
    "text_encoder?": str | None,
    "conflict_by?": str,
    "label_confidence?": {"*": [NUMBER]},
    "validation_*": NUMBER | None,
    "test_*": NUMBER | None,
}
LOG = {"log_history": [{"epoch": NUMBER, "loss?": NUMBER, "eval_selection_loss?": NUMBER}]}
NAMES = {int: "a whole number", NUMBER: "a number", NUMBER | None: "a number or null", str: "text",
         str | None: "text or null", list: "a list", dict: "a map"}  # fmt: skip


class RunError(ValueError):
    """A folder holds no run, or a damaged one."""


@dataclass
class StoredRun:
    """
    A run, as read from its folder.

    Args:
        folder: Folder of the run.
        options: As `options.yaml` has them.
        log_history: Log of the trainer; of an unfinished run, from its last whole checkpoint.
        environment: As `environment.json` has it.
        results: As `all_results.json` has them; empty for an unfinished run.
        predictions: `id`, `split`, `label`, `fusion` and each modality, for the clips of validation and test, (clips,),
            or (clips, targets) for several targets, NaN where a clip lacks the modality; empty for an unfinished run.
    """

    folder: Path
    options: dict[str, Any]
    log_history: list[dict[str, Any]] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    predictions: dict[str, NDArray] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "StoredRun":
        """
        Raises:
            RunError: Something of a finished run is missing or damaged.
        """
        run = cls(folder, _options(folder / OPTIONS_FILE))
        if (folder / ENVIRONMENT_FILE).is_file():
            run.environment = read_json(folder / ENVIRONMENT_FILE, ENVIRONMENT)
        if not (folder / RESULTS_FILE).is_file():
            checkpoint = checkpoints.last_whole(folder)
            if checkpoint is not None:
                run.log_history = read_json(checkpoint / TRAINER_STATE_NAME, LOG)["log_history"]
            return run
        run.results = read_json(folder / RESULTS_FILE, RESULTS)
        best, epochs = run.results["best_epoch"], run.results["epochs"]
        if not 0 < best <= epochs:
            raise RunError(f"{folder / RESULTS_FILE} is damaged: it has best_epoch {best} of {epochs}.")
        for name, values in run.results.get("label_confidence", {}).items():
            if len(values) < best:
                where = f"{folder / RESULTS_FILE} is damaged: label_confidence.{name}"
                raise RunError(f"{where} has {len(values)} epochs, fewer than best_epoch, {best}.")
        run.log_history = read_json(folder / TRAINER_STATE_NAME, LOG)["log_history"]
        run.predictions = read_predictions(folder)
        return run

    @property
    def seed(self) -> int:
        return self.options.get("seed", SelfMMTrainingArguments.seed)

    @property
    def dataset(self) -> str:
        return self.options.get("dataset", "demo")

    @property
    def task(self) -> Task:
        """What is predicted."""
        for file, content in ((RESULTS_FILE, self.results), (ENVIRONMENT_FILE, self.environment)):
            if "task" in content:
                try:
                    return task_from_json(content["task"])
                except ValueError as error:
                    raise RunError(f"{self.folder / file} is damaged: {error}") from error
        limit = range_of_labels(self.dataset, self.options.get("label_range"))
        if limit is None:
            raise RunError(
                f"{self.folder} does not record what is predicted: an older version began the run. Let it finish."
            )
        return score(limit)

    @property
    def label_range(self) -> float | None:
        """The label range of one score; `None` for another task."""
        return self.task.label_range

    @property
    def modalities(self) -> list[str]:
        """The modalities that the model was given; only for a finished run."""
        return [name for name in self.predictions if name not in ("id", "split", "label", "fusion")]

    @property
    def text_encoder(self) -> str | None:
        """The name of the pretrained text encoder, without its owner or folder; `None` without one."""
        name = self.results.get("text_encoder")
        return None if name is None else Path(name).name

    @property
    def train_ids(self) -> list[str]:
        """The ids of the training clips."""
        return self._generated[0]

    @property
    def generated(self) -> dict[str, NDArray[np.float64]]:
        """Generated labels by modality, (epochs, training clips), or (epochs, training clips, targets)."""
        return self._generated[1]

    @cached_property
    def _generated(self) -> tuple[list[str], dict[str, NDArray[np.float64]]]:
        return read_generated(self.folder)

    @property
    def tasks(self) -> list[str]:
        """The modalities with a task of their own; the predictions of the others mean nothing."""
        learned = self.options.get("unimodal_tasks")
        return [name for name in self.generated if learned is None or name in learned]

    @property
    def fused(self) -> NDArray[np.float64]:
        """The fused labels of the training clips, which each modality has in the first epoch."""
        return next(iter(self.generated.values()))[0]

    def losses(self, name: str) -> list[float]:
        """Returns [`losses_by_epoch`] of this run."""
        return losses_by_epoch(self.log_history, name)

    def same_clips(self, other: "StoredRun") -> bool:
        """Checks that both were trained and scored on the same clips."""
        predicted = np.array_equal(self.predictions["id"], other.predictions["id"])
        return predicted and self.train_ids == other.train_ids

    def of_split(self, split: str) -> dict[str, NDArray]:
        """Returns the predictions for one split."""
        rows = self.predictions["split"] == split
        return {name: values[rows] for name, values in self.predictions.items()}

    def metrics(self, split: str) -> dict[str, float]:
        """Returns the metrics of the fused prediction; for emotions on test, also with thresholds from validation."""
        rows = self.of_split(split)
        metrics = metrics_of(self.task, rows["fusion"], rows["label"])
        if split != "test":
            return metrics
        validation = self.of_split("validation")
        thresholds = thresholds_of(self.task, validation["fusion"], validation["label"])
        return metrics | metrics_at(self.task, thresholds, rows["fusion"], rows["label"])

    def errors(self, split: str) -> NDArray[np.float32]:
        """Returns the errors of the fused predictions, (clips,), see [`errors_of`]."""
        rows = self.of_split(split)
        return errors_of(self.task, rows["fusion"], rows["label"])


def losses_by_epoch(log_history: list[dict[str, Any]], name: str) -> list[float]:
    """
    Returns `loss` of training or `eval_selection_loss` of validation for each epoch. If an epoch has several values,
    takes the mean in training and the lowest in validation, which chooses the model; NaN if it has none.
    """
    logged: dict[int, list[float]] = {}
    for entry in log_history:
        if name in entry and entry["epoch"] > 0:  # skips `eval_on_start`
            logged.setdefault(math.ceil(entry["epoch"]), []).append(entry[name])
    one = np.min if name.startswith("eval_") else np.mean
    return [float(one(logged.get(epoch, math.nan))) for epoch in range(1, max(logged, default=0) + 1)]


def read_predictions(folder: Path) -> dict[str, NDArray]:
    """Reads the columns of `predictions.parquet` without the training clips, which older runs do not have."""
    table = _table(folder / PREDICTIONS_FILE, "id", "split", "label", "fusion")
    table = table.filter(pc.field("split") != "train")
    columns = {name: np.array(table[name].to_pylist(), dtype=object) for name in ("id", "split")}
    targets = next((len(one) for one in table["fusion"].to_pylist() if isinstance(one, list)), None)
    for name in table.column_names[2:]:
        rows = table[name].to_pylist()
        if targets is not None:  # a clip without the modality has none of them
            rows = [[None] * targets if row is None else row for row in rows]
        columns[name] = _numbers(folder / PREDICTIONS_FILE, name, rows)
    for name in ("label", "fusion"):
        if not np.isfinite(columns[name]).all():
            raise RunError(f"{folder / PREDICTIONS_FILE}, column {name!r}, holds values that are no finite numbers.")
    return columns


def read_generated(folder: Path) -> tuple[list[str], dict[str, NDArray[np.float64]]]:
    """Reads the ids of the training clips, and their generated labels by modality, (epochs, clips[, targets])."""
    file = folder / GENERATED_FILE
    table = _table(file, "id", "epoch")
    epochs = _numbers(file, "epoch", table["epoch"].to_pylist())
    count, clips = len(np.unique(epochs)), int((epochs == epochs.min()).sum())
    if not np.array_equal(epochs, np.repeat(np.arange(1, count + 1), clips)):
        raise RunError(f"{file} does not hold the same clips in each epoch.")
    names = [name for name in table.column_names if name not in ("id", "epoch", "label")]
    if not names:
        raise RunError(f"{file} is damaged: it has no column of a modality.")
    labels = {name: _numbers(file, name, table[name].to_pylist()) for name in names}
    return table["id"].to_pylist()[:clips], {
        name: values.reshape(count, clips, *values.shape[1:]) for name, values in labels.items()
    }


def _options(file: Path) -> dict[str, Any]:
    try:
        options = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RunError(f"{file} is damaged: {error}") from error
    if not isinstance(options, dict):
        raise RunError(f"{file} is damaged: it holds no options.")
    return _checked(file, options, OPTIONS)


def read_json(file: Path, shape: dict[str, Any]) -> dict[str, Any]:
    """
    Reads a map whose values are of this shape.

    Args:
        shape: By key a type, `[shape]` for a list, or again shapes by key. A key that ends in `?` may be missing, and
            one that ends in `*` stands for all that begin so.

    Raises:
        RunError: The file is missing or damaged.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{file} is missing: the run is not complete.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{file} is damaged: {error}") from error
    return _checked(file, content, shape)


def _checked(file: Path, content: Any, shape: dict[str, Any]) -> dict[str, Any]:
    if fault := _fault(content, shape):
        raise RunError(f"{file} is damaged: {fault}.")
    return content


def _fault(value: Any, shape: Any, name: str = "") -> str | None:
    """Says where a value is not of its shape, see [`read_json`]; `None` if it is."""
    kind = type(shape) if isinstance(shape, list | dict) else shape
    if not isinstance(value, kind) or isinstance(value, bool):
        return f"{name or 'it'} is {value!r:.40}, expected {NAMES[kind]}"
    parts: list[tuple[str, Any, Any]] = []
    if isinstance(shape, list):
        parts = [(f"{name}[{number}]", one, shape[0]) for number, one in enumerate(value)]
    elif isinstance(shape, dict):
        for key, inner in shape.items():
            if key[-1] not in "?*" and key not in value:
                return f"{name or 'it'} has no {key!r}"
            names = [one for one in value if one == key.rstrip("?") or (key[-1] == "*" and one.startswith(key[:-1]))]
            parts += [(f"{name}.{one}".lstrip("."), value[one], inner) for one in names]
    return next(filter(None, (_fault(one, inner, where) for where, one, inner in parts)), None)


def _table(file: Path, *expected: str) -> pa.Table:
    if not file.is_file():
        raise RunError(f"{file} is missing: the run is not complete.")
    try:
        table = pq.read_table(file)
    except (OSError, ValueError) as error:
        raise RunError(f"{file} is damaged: {error}") from error
    if missing := [name for name in expected if name not in table.column_names]:
        raise RunError(f"{file} is damaged: it has no column {missing[0]!r}.")
    if not len(table):
        raise RunError(f"{file} has no rows.")
    return table


def _numbers(file: Path, name: str, rows: list[Any]) -> NDArray[np.float64]:
    try:
        return np.array(rows, dtype=np.float64)  # None becomes NaN
    except (TypeError, ValueError) as error:
        raise RunError(f"{file}, column {name!r}, does not hold numbers: {error}") from error
