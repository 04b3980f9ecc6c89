"""What is kept of a training: its results, its predictions and the labels that it generated."""

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers.trainer_utils import PredictionOutput

from ..data import Samples, Splits
from ..data.columns import MODALITIES
from ..labels.conflict import conflict_errors, in_conflict
from ..labels.quality import generated_label_quality, true_labels
from ..labels.trust import label_confidence
from ..metrics import absolute_errors
from ..storage.whole_files import whole
from ..training.trainer import SelfMMTrainer

Outputs = dict[str, PredictionOutput]
"""Of the trainer's `predict`, by split."""


def results_of(splits: Splits, trainer: SelfMMTrainer, outputs: Outputs, modalities: list[str]) -> dict[str, Any]:
    """
    The best epoch by the validation loss; the metrics of each split, also over the clips whose modalities agree and
    those in conflict; how good the generated labels are, and how far they are trusted.
    """
    state = trainer.state
    epochs = len(trainer.pseudo_labels.history)
    # Without that of `eval_on_start`, which is of no model that may be chosen.
    evaluations = [one for one in state.log_history if "eval_selection_loss" in one and one["epoch"] > 0]
    best = min(evaluations, key=lambda entry: entry["eval_selection_loss"], default={"epoch": epochs})
    label_range = trainer.pseudo_labels.label_range
    loss = best.get("eval_selection_loss", outputs["validation"].metrics["validation_selection_loss"])
    results = {"epochs": epochs, "best_epoch": math.ceil(best["epoch"]), "selection_loss": loss}
    for split, output in outputs.items():
        skipped = ("_runtime", "_per_second", "_loss", "_model_preparation_time")
        results |= {name: value for name, value in output.metrics.items() if not name.endswith(skipped)}
        results |= conflict_results(split, splits[split], output, trainer.unimodal_tasks, label_range)
    results |= generated_label_quality(splits, trainer.pseudo_labels.history[-1].numpy(), modalities)
    confidence = label_confidence(trainer.pseudo_labels, trainer.unimodal_tasks)
    return results | ({"label_confidence": confidence} if confidence else {})


def conflict_results(
    split: str, samples: Samples, output: PredictionOutput, tasks: Collection[str], label_range: float
) -> dict[str, Any]:
    """
    `conflict_by`, `"labels"` where the data know the unimodal labels, of whichever modalities the model has, else
    `"predictions"`; and what [`conflict_errors`] says of that division of the clips. Nothing where there are neither
    labels nor predictions of two modalities.
    """
    fusion, unimodal = output.predictions
    scores = true_labels(samples, MODALITIES)
    by = "labels" if len(scores) > 1 else "predictions"
    if by == "predictions":
        scores = {name: np.where(samples.lengths(name) > 0, unimodal[name][:, 0], np.nan) for name in tasks}
    if len(scores) < 2:
        return {}
    errors = absolute_errors(fusion, samples["label"], label_range)
    found = conflict_errors(errors, in_conflict(np.stack(list(scores.values())), label_range))
    return {"conflict_by": by, **{f"{split}_{name}": value for name, value in found.items()}}


def predictions_table(splits: Splits, outputs: Outputs, modalities: list[str]) -> pa.Table:
    """`id`, `split`, `label`, `fusion`, and a column for each modality, null where a clip lacks it."""
    tables = []
    for split, output in outputs.items():
        fusion, unimodal = output.predictions
        samples = splits[split]
        columns = {
            "id": samples["id"],
            "split": [split] * len(samples),
            "label": np.float32(samples["label"]),
            "fusion": fusion[:, 0],
            **{name: pa.array(unimodal[name][:, 0], mask=samples.lengths(name) == 0) for name in modalities},
        }
        tables.append(pa.table(columns))
    return pa.concat_tables(tables)


def pseudo_labels_table(splits: Splits, trainer: SelfMMTrainer, modalities: list[str]) -> pa.Table:
    """`id`, `epoch` from 1 on, and the generated labels of each modality, for all training clips."""
    ids = splits["train"]["id"]
    tables = [
        pa.table(
            {
                "id": ids,
                "epoch": np.full(len(ids), epoch, dtype=np.int32),
                **{name: labels[:, column, 0].numpy() for column, name in enumerate(modalities)},
            }
        )
        for epoch, labels in enumerate(trainer.pseudo_labels.history, start=1)
    ]
    return pa.concat_tables(tables)


def write_parquet(file: Path, table: pa.Table) -> None:
    with whole(file) as part:
        pq.write_table(table, part)


def hardware(trainer: SelfMMTrainer) -> str:
    """What it was trained on, in words."""
    device, processes = trainer.accelerator.device, trainer.accelerator.num_processes
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
    precision = {"no": "float32"}.get(trainer.accelerator.mixed_precision, trainer.accelerator.mixed_precision)
    return f"trained on {processes} x {name}, {precision}" if processes > 1 else f"trained on a {name}, {precision}"
