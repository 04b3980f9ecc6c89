"""Measures a model for `selfmm robustness`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from transformers.utils import logging

from ...data import Samples, load_splits
from ...data.columns import MODALITIES
from ...data.masking import Tokens
from ...data.samples import as_trained
from ...data.targets import describe
from ...hub.saved_model import load_model, model_of
from ...metrics import few_clips
from ...model.configuration_selfmm import SelfMMConfig
from ...model.modeling_selfmm import SelfMMModel
from ...model.processing_selfmm import SelfMMProcessor
from ...model.task_selfmm import REGRESSION, Task
from ...runs.folder import MEASURED_FILES, OPTIONS_FILE, RESULTS_FILE
from ...runs.results import parquet_column
from ...storage.hub_names import check_name
from ...storage.whole_files import whole
from ...task_metrics import main_metric, metrics_of
from .curves import plot_robustness
from .protocols import Condition, conditions, predict
from .published import published
from .tables import headlines, markdown, measure, of_each, summarise

logger = logging.get_logger(__name__)

# Tolerance of the mean absolute error of labels in [-3, 3], or of the accuracy, for another device or precision.
SAME = 0.01


def measure_model(
    name: str,
    out: Path,
    *,
    dataset: str | None = None,
    data: str | None = None,
    data_config: str | None = None,
    data_revision: str | None = None,
    revision: str | None = None,
) -> str:
    """
    Measures one finished model on the test split under all conditions of both protocols, and writes a report.

    Args:
        name: Folder of a run or of a model, or a repository on the Hub.
        out: Folder to write; a new one.
        dataset, data, data_config, data_revision: As in [`RunOptions`]; by default those of the run.
        revision: Revision of the model's repository.

    Returns:
        The tables, as `robustness.md` has them.

    Raises:
        ValueError: That is no finished model, the data are not its own, or there is something at `out`.
    """
    if out.exists():
        raise ValueError(f"{out} exists already; name a new folder.")
    source, given, expected = _finished(name)
    dataset = dataset or given.get("dataset")
    if dataset is None:
        what = "does not tell its data set:" if Path(name).is_dir() else "is not a folder; if it is a repository,"
        raise ValueError(f"{name} {what} name --dataset, and --data where it lies.")
    model, processor = load_model(source, revision)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    task = model.config.task
    problem_type = given.get("problem_type")
    if not given and task.problem_type != REGRESSION:  # no run says what was asked of the data
        problem_type = task.problem_type
    where = {"data": data, "data_config": data_config, "data_revision": data_revision}
    splits = load_splits(
        dataset,
        *(value or given.get(option) for option, value in where.items()),
        task.label_range,
        problem_type=problem_type,
    )
    _check_data(name, model.config, splits["test"])
    if said := few_clips("test", len(splits["test"]), task.problem_type == REGRESSION):
        logger.warning(said)
    samples = as_trained(splits["test"], processor)
    labels = samples.labels

    predictions = _predictions(model, samples, processor, labels, expected)
    measured = measure(predictions, labels, task)
    train_labels = splits["train"].labels
    guess = float(np.median(train_labels)) if task.label_range is not None else None
    report = {
        "name": _name(name),
        "dataset": dataset,
        "split": "test",
        "clips": len(samples),
        "label_range": task.label_range,
        "absent_modality": model.config.absent_modality,
        "guessed": guess,
        **({} if task.label_range is not None else {"headlines": headlines(task), "of_each": of_each(task)}),
        **summarise(measured, train_labels, labels, task),
    }
    rows = published(dataset)
    text = markdown(report, rows)
    with whole(out) as part:
        part.mkdir()
        figures, tables, *pictures, predicted = (part / name for name in MEASURED_FILES)
        figures.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        tables.write_text(text, encoding="utf-8")
        pq.write_table(_predictions_table(predictions, samples["id"], labels), predicted)
        plot_robustness(report, rows, pictures)
    return text


def _finished(name: str) -> tuple[str, dict[str, Any], float | None]:
    """
    Returns where the model lies, the options of its run, and the error that the run found on the test split.

    Raises:
        ValueError: The model is not finished.
    """
    folder = Path(name)
    if not folder.is_dir():
        check_name(name)
        return name, {}, None
    if (folder / "trainer_state.json").is_file() and (folder / "config.json").is_file():
        raise ValueError(
            f"{name} is a checkpoint of a run, not its outcome: the test split is for a finished model, which "
            "validation has chosen. Let the run end, and name its folder."
        )
    source = model_of(folder)
    if not (source / "config.json").is_file():
        raise ValueError(f"{name} holds no finished model; name one: a run's folder, or a model's.")
    run = source.parent if source.name == "model" else source
    if not (run / OPTIONS_FILE).is_file():
        return str(source), {}, None
    if not (run / RESULTS_FILE).is_file():
        raise ValueError(f"The run in {run} has not ended; resume it with --resume_from_checkpoint true.")
    given = yaml.safe_load((run / OPTIONS_FILE).read_text(encoding="utf-8"))
    results = json.loads((run / RESULTS_FILE).read_text(encoding="utf-8"))
    return str(source), {"dataset": "demo", **given}, results.get("test_mae", results.get("test_acc"))


def _check_data(name: str, config: SelfMMConfig, samples: Samples) -> None:
    """
    Checks that the model can be measured by these data.

    Raises:
        ValueError: They have other labels, or features of another width.
    """
    wanted, found = config.task, samples.task
    if wanted != found and (wanted.label_range is None or wanted.label_range != found.label_range):
        raise ValueError(f"{name} predicts {describe(wanted)}, but the labels of the data are {describe(found)}.")
    for column, width in samples.widths.items():
        modality = "text" if column == "word_vectors" else column
        if modality in config.sequences and width != (reads := config.sequence_options(modality)["input_dim"]):
            raise ValueError(f"{name} reads {modality} of {reads} columns, but the data have {width}.")


def same_within(task: Task) -> float:
    """Returns by how much the main metric of the same data may differ."""
    if task.problem_type != REGRESSION:
        return SAME
    return SAME * float(np.mean([high - low for low, high in task.scales])) / 6


def _predictions(
    model: SelfMMModel, samples: Samples, processor: SelfMMProcessor, labels: np.ndarray, expected: float | None
) -> dict[Condition, np.ndarray]:
    """Predicts under all conditions; checks first that the complete data are those of the run."""
    tokens, pad = Tokens.of(processor.tokenizer), getattr(processor.tokenizer, "pad_token_id", 0)
    every = conditions(
        [name for name in dict.fromkeys([*MODALITIES, *model.config.modalities]) if name in model.config.modalities]
    )
    predictions = {}
    for one in logging.tqdm(every, desc="Conditions", disable=None):
        predictions[one] = predict(model, samples, one, tokens, pad)
        if one.protocol == "complete" and expected is not None:
            name = main_metric(model.config.task)
            value = metrics_of(model.config.task, predictions[one], labels)[name]
            if abs(value - expected) > same_within(model.config.task):
                title = {"mae": "mean absolute error", "acc": "accuracy"}[name]
                raise ValueError(
                    f"On the complete data the {title} is {value:.3f}, but the run found {expected:.3f}: "
                    "these are not the data that it was tested on. Name them with --dataset and --data."
                )
    return predictions


def _predictions_table(predictions: dict[Condition, np.ndarray], ids: list[str], labels: np.ndarray) -> pa.Table:
    tables = []
    for one, values in predictions.items():
        told = {name: [value] * len(ids) for name, value in _told(one).items()}
        tables.append(pa.table({**told, "id": ids, "label": parquet_column(labels), "fusion": parquet_column(values)}))
    return pa.concat_tables(tables)


def _told(condition: Condition) -> dict[str, Any]:
    return {
        "protocol": condition.protocol,
        "present": ", ".join(condition.present),
        "rate": condition.rate,
        "seed": condition.seed,
    }


def _name(model: str) -> str:
    """Returns the name of a model without folders: its place on a machine is private."""
    folder = Path(model)
    if not folder.is_dir():
        return model
    folder = folder.resolve()
    return folder.parent.name if folder.name == "model" else folder.name
