"""The results of a training, its predictions and the labels that it generated."""

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from transformers.trainer_utils import PredictionOutput

from ..data import Samples, Splits
from ..data.columns import MODALITIES
from ..labels.conflict import conflict_errors, in_conflict
from ..labels.quality import generated_label_quality, true_labels
from ..labels.trust import label_confidence
from ..model.task_selfmm import Task
from ..storage.whole_files import whole
from ..task_metrics import constant_predictions, errors_of, metrics_at, metrics_of, thresholds_of
from ..training.trainer import SelfMMTrainer

Outputs = dict[str, PredictionOutput]
"""Outputs of the trainer's `predict`, by split."""


def results_of(splits: Splits, trainer: SelfMMTrainer, outputs: Outputs, modalities: list[str]) -> dict[str, Any]:
    """
    Returns the best epoch by validation loss; the metrics of each split, also over the clips whose modalities agree and
    those in conflict; how good the generated labels are, and how far they are trusted.
    """
    state = trainer.state
    epochs = len(trainer.pseudo_labels.history)
    # Without the evaluation of `eval_on_start`: the untrained model is never chosen.
    evaluations = [one for one in state.log_history if "eval_selection_loss" in one and one["epoch"] > 0]
    best = min(evaluations, key=lambda entry: entry["eval_selection_loss"], default={"epoch": epochs})
    task = trainer.task
    loss = best.get("eval_selection_loss", outputs["validation"].metrics["validation_selection_loss"])
    results = {"epochs": epochs, "best_epoch": math.ceil(best["epoch"]), "selection_loss": loss}
    for split, output in outputs.items():
        skipped = ("_runtime", "_per_second", "_model_preparation_time")
        losses = (f"{split}_loss", f"{split}_selection_loss")  # a target may be called loss
        results |= {
            name: value for name, value in output.metrics.items() if not name.endswith(skipped) and name not in losses
        }
        results |= constant_results(split, splits, task)
        results |= conflict_results(split, splits[split], output, trainer.unimodal_tasks, task)
    if thresholds := thresholds_of(task, *_predicted(task, outputs["validation"], splits["validation"])):
        results["thresholds"] = thresholds
    if "test" in outputs:
        chosen = metrics_at(task, thresholds, *_predicted(task, outputs["test"], splits["test"]))
        results |= {f"test_{name}": value for name, value in chosen.items()}
    results |= generated_label_quality(splits, trainer.pseudo_labels.history[-1].numpy(), modalities)
    confidence = label_confidence(trainer.pseudo_labels, trainer.unimodal_tasks)
    return results | ({"label_confidence": confidence} if confidence else {})


def _predicted(task: Task, output: PredictionOutput, samples: Samples) -> tuple[NDArray, NDArray]:
    """Returns predictions and labels as [`metrics_of`] takes them."""
    return predicted(task, output.predictions[0]), samples.labels


def constant_results(split: str, splits: Splits, task: Task) -> dict[str, float]:
    """
    Returns `SPLIT_constant_METRIC`, the metrics of predicting the same for each clip. For rare emotions, results close
    to these say nothing. Nothing is returned for the one score of the field's data sets, for which they are known.
    """
    if task.label_range is not None:
        return {}
    constant = constant_predictions(task, splits["train"].labels, len(splits[split]))
    metrics = metrics_of(task, constant, splits[split].labels)
    return {f"{split}_constant_{name}": value for name, value in metrics.items() if value == value}


def conflict_results(
    split: str, samples: Samples, output: PredictionOutput, tasks: Collection[str], task: Task
) -> dict[str, Any]:
    """
    Returns `conflict_by`, and what [`conflict_errors`] says of the clips in agreement and in conflict. `conflict_by` is
    `"labels"` if the data have true unimodal labels, also of modalities that the model lacks, else `"predictions"`.
    Returns nothing if fewer than two modalities have labels or predictions, or if the task is not one score.
    """
    if task.label_range is None:
        return {}
    fusion, unimodal = output.predictions
    scores = true_labels(samples, MODALITIES)
    by = "labels" if len(scores) > 1 else "predictions"
    if by == "predictions":
        scores = {name: np.where(samples.lengths(name) > 0, unimodal[name][:, 0], np.nan) for name in tasks}
    if len(scores) < 2:
        return {}
    errors = errors_of(task, fusion, samples.labels)
    found = conflict_errors(errors, in_conflict(np.stack(list(scores.values())), task.label_range))
    return {"conflict_by": by, **{f"{split}_{name}": value for name, value in found.items()}}


def predictions_table(splits: Splits, outputs: Outputs, modalities: list[str], task: Task) -> pa.Table:
    """
    Makes the table of predictions: `id`, `split`, `label`, `fusion`, and a column for each modality, null where a clip
    lacks it. Predictions of several targets are lists, those of a classification are probabilities; the label of a
    class is its number.
    """
    tables = []
    for split, output in outputs.items():
        fusion, unimodal = output.predictions
        samples = splits[split]
        columns = {
            "id": samples["id"],
            "split": [split] * len(samples),
            "label": parquet_column(samples.labels),
            "fusion": parquet_column(predicted(task, fusion)),
            **{
                name: parquet_column(predicted(task, unimodal[name]), samples.lengths(name) == 0) for name in modalities
            },
        }
        tables.append(pa.table(columns))
    return pa.concat_tables(tables)


def predicted(task: Task, logits: NDArray) -> NDArray:
    """Applies [`Task.predictions`] to what the trainer returns, (clips, targets)."""
    return task.predictions(torch.from_numpy(logits)).numpy()


def parquet_column(values: NDArray, lacking: NDArray | None = None) -> pa.Array:
    """Makes a column of numbers from (clips,) or (clips, 1), or of lists from (clips, targets)."""
    values = np.asarray(values, dtype=np.float32)
    if values.ndim == 1 or values.shape[1] == 1:
        return pa.array(values.reshape(-1), mask=lacking)
    lacking = np.zeros(len(values), bool) if lacking is None else lacking
    ends = np.cumsum(np.where(lacking, 0, values.shape[1]), dtype=np.int32)  # pyarrow 23 writes only empty nulls
    return pa.ListArray.from_arrays(np.append(np.int32(0), ends), values[~lacking].reshape(-1), mask=pa.array(lacking))


def pseudo_labels_table(splits: Splits, trainer: SelfMMTrainer, modalities: list[str]) -> pa.Table:
    """
    Makes the table of generated labels of all training clips: `id`, `epoch` from 1 on, the annotated `label`, and a
    column for each modality; the labels of several targets or classes are lists.
    """
    ids, fused = splits["train"]["id"], parquet_column(splits["train"].labels)
    tables = [
        pa.table(
            {
                "id": ids,
                "epoch": np.full(len(ids), epoch, dtype=np.int32),
                "label": fused,
                **{name: parquet_column(labels[:, column].numpy()) for column, name in enumerate(modalities)},
            }
        )
        for epoch, labels in enumerate(trainer.pseudo_labels.history, start=1)
    ]
    return pa.concat_tables(tables)


def write_parquet(file: Path, table: pa.Table) -> None:
    with whole(file) as part:
        pq.write_table(table, part)


def hardware(trainer: SelfMMTrainer) -> str:
    """Says in words what hardware the model was trained on."""
    device, processes = trainer.accelerator.device, trainer.accelerator.num_processes
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
    precision = {"no": "float32"}.get(trainer.accelerator.mixed_precision, trainer.accelerator.mixed_precision)
    return f"trained on {processes} x {name}, {precision}" if processes > 1 else f"trained on a {name}, {precision}"
