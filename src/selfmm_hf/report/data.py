"""What a run has left in its folder."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray

from .. import checkpoints
from ..data import LABEL_RANGES, Splits, load_splits
from ..options import NOT_RECIPE
from ..training_args import SelfMMTrainingArguments

OPTIONS, RESULTS, STATE, SWEEP = "options.yaml", "all_results.json", "trainer_state.json", "sweep.yaml"
PREDICTIONS, GENERATED, ROBUSTNESS = "predictions.parquet", "pseudo_labels.parquet", "robustness.json"


class ReportError(ValueError):
    """A folder is no run, or is damaged."""


@dataclass
class RunData:
    """
    One run.

    Args:
        folder: Of the run.
        options: As `options.yaml` has them.
        log_history: Of the trainer; of an unfinished run, as its last whole checkpoint has it.
        results: As `all_results.json` has them; empty where the run has not come to its end, as is all that follows.
        predictions: `id`, `split`, `label`, `fusion` and each modality, (clips,), NaN where a clip lacks one.
        generated: Generated labels by modality, (epochs, training clips).
        train_ids: Of the training clips.
        robustness: As `selfmm robustness` has stored them beside the run.
    """

    folder: Path
    options: dict[str, Any]
    log_history: list[dict[str, Any]] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)
    predictions: dict[str, NDArray] = field(default_factory=dict)
    generated: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    train_ids: list[str] = field(default_factory=list)
    robustness: dict[str, Any] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        return self.options.get("seed", SelfMMTrainingArguments.seed)

    @property
    def dataset(self) -> str:
        return self.options.get("dataset", "demo")

    @property
    def label_range(self) -> float:
        default = LABEL_RANGES.get(self.dataset, 3.0)
        return float(self.options.get("label_range", default)) if self.dataset == "custom" else default

    @property
    def tasks(self) -> list[str]:
        """The modalities with a task of their own, which alone have something to say."""
        learned = self.options.get("unimodal_tasks")
        return [name for name in self.generated if learned is None or name in learned]

    @property
    def fused(self) -> NDArray[np.float64]:
        """The fused labels of the training clips: each modality's, in the first epoch."""
        return next(iter(self.generated.values()))[0]

    def losses(self, name: str) -> list[float]:
        """`loss` of training or `eval_selection_loss` of validation, epoch by epoch."""
        return [entry[name] for entry in self.log_history if name in entry]

    def same_clips(self, other: "RunData") -> bool:
        """Whether both were trained and scored on the same clips."""
        predicted = np.array_equal(self.predictions["id"], other.predictions["id"])
        return predicted and self.train_ids == other.train_ids

    def of_split(self, split: str) -> dict[str, NDArray]:
        """The predictions for one split."""
        rows = self.predictions["split"] == split
        return {name: values[rows] for name, values in self.predictions.items()}


@dataclass
class Group:
    """Runs that differ by their seeds alone, in the order of these, and what sets them apart from the others."""

    name: str
    runs: list[RunData]

    def titled(self, what: str) -> str:
        """`what` of these runs."""
        return f"{what} ({self.name})" if self.name else what

    @property
    def finished(self) -> list[RunData]:
        return [run for run in self.runs if run.results]

    def of_split(self, split: str) -> dict[str, NDArray]:
        """The predictions of all finished runs for one split, one after the other."""
        parts = [run.of_split(split) for run in self.finished]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def find_runs(paths: list[Path]) -> list[RunData]:
    """
    The runs in folders, each of one run or of a sweep.

    Raises:
        ReportError: There is none, or one is damaged.
    """
    folders: dict[Path, Path] = {}
    for path in paths:
        found = [path] if (path / OPTIONS).is_file() else [file.parent for file in sorted(path.rglob(OPTIONS))]
        if not found:
            what = "holds no run: there is no options.yaml in it" if path.is_dir() else "is no folder of a run"
            raise ReportError(f"{path} {what}; name what `selfmm train` has been given as --output_dir.")
        folders |= {folder.resolve(): folder for folder in found}
    return [read_run(folder) for folder in folders.values()]


def read_run(folder: Path) -> RunData:
    """
    Raises:
        ReportError: Something of a finished run is missing or damaged.
    """
    run = RunData(folder, _options(folder / OPTIONS))
    if not (folder / RESULTS).is_file():
        checkpoint = checkpoints.last_whole(folder)
        if checkpoint is not None:
            run.log_history = _json(checkpoint / STATE, "log_history")["log_history"]
        return run
    run.results = _json(folder / RESULTS, "best_epoch", "epochs")
    run.log_history = _json(folder / STATE, "log_history")["log_history"]
    run.predictions = read_predictions(folder)
    if "test" not in run.predictions["split"]:
        raise ReportError(f"{folder} has not read the test split, as trials of a search do not; a report is of that.")
    run.train_ids, run.generated = read_generated(folder)
    for file in (folder / ROBUSTNESS, folder / "robustness" / ROBUSTNESS):
        if file.is_file():
            run.robustness = _json(file, "random")
    return run


def read_predictions(folder: Path) -> dict[str, NDArray]:
    """Columns of `predictions.parquet`."""
    table = _table(folder / PREDICTIONS, "id", "split", "label", "fusion")
    columns = {name: np.array(table[name].to_pylist(), dtype=object) for name in ("id", "split")}
    for name in table.column_names[2:]:
        columns[name] = _numbers(folder / PREDICTIONS, table, name)
    for name in ("label", "fusion"):
        if not np.isfinite(columns[name]).all():
            raise ReportError(f"{folder / PREDICTIONS}, column {name!r}, holds values that are no finite numbers.")
    return columns


def read_generated(folder: Path) -> tuple[list[str], dict[str, NDArray[np.float64]]]:
    """The ids of the training clips, and their generated labels by modality, (epochs, clips)."""
    file = folder / GENERATED
    table = _table(file, "id", "epoch")
    epochs = _numbers(file, table, "epoch")
    count, clips = len(np.unique(epochs)), int((epochs == epochs.min()).sum())
    if not np.array_equal(epochs, np.repeat(np.arange(1, count + 1), clips)):
        raise ReportError(f"{file} does not hold the same clips in each epoch.")
    names = [name for name in table.column_names if name not in ("id", "epoch")]
    if not names:
        raise ReportError(f"{file} is damaged: it has no column of a modality.")
    return table["id"].to_pylist()[:clips], {name: _numbers(file, table, name).reshape(count, -1) for name in names}


def group_runs(runs: list[RunData]) -> list[Group]:
    """
    Puts together what differs by the seed alone, and names groups by the options that set them apart.

    Raises:
        ReportError: They cannot be looked at side by side.
    """
    if len(ranges := sorted({run.label_range for run in runs})) > 1:
        raise ReportError(f"These runs have labels in ranges up to {ranges}: make a report of each data set.")
    groups: dict[str, list[RunData]] = {}
    recipes: dict[str, dict[str, Any]] = {}
    for run in runs:
        recipe = {name: value for name, value in run.options.items() if not NOT_RECIPE.fullmatch(name)}
        recipe.pop("seed", None)
        key = json.dumps(recipe, sort_keys=True, default=str)
        groups.setdefault(key, []).append(run)
        recipes[key] = recipe
    for alike in groups.values():
        finished = [run for run in alike if run.results]
        if odd := next((run for run in finished if not run.same_clips(finished[0])), None):
            raise ReportError(f"{finished[0].folder} and {odd.folder} have the same options, but not the same clips.")
    everything = sorted({name for recipe in recipes.values() for name in recipe})
    apart = [name for name in everything if len({str(recipe.get(name)) for recipe in recipes.values()}) > 1]
    return [
        Group(
            _configuration(runs[0].folder) or ", ".join(_named(name, recipes[key].get(name)) for name in apart),
            sorted(runs, key=lambda run: run.seed),
        )
        for key, runs in groups.items()
    ]


class Data:
    """The data sets of runs, each read once, where they still are."""

    def __init__(self):
        self._loaded: dict[tuple, Splits | str] = {}

    def of(self, run: RunData) -> Splits | str:
        """The splits that `run` was trained on, or a sentence why they are not there."""
        names = ("data", "data_config", "data_revision")
        key = (run.dataset, *(run.options.get(name) for name in names), run.label_range)
        if key not in self._loaded:
            try:
                self._loaded[key] = load_splits(*key)
            except (ValueError, OSError):
                self._loaded[key] = f"The data, {_place(key[1])}, cannot be read any more from where the run had them."
        splits = self._loaded[key]
        if not isinstance(splits, str) and splits["train"]["id"] != run.train_ids:
            return f"The data, {_place(key[1])}, are other ones by now than the run was trained on."
        return splits


def _place(data: str | None) -> str:
    return Path(data).name if data else "the generated corpus"


def _configuration(folder: Path) -> str:
    """What a sweep calls it: the runs of `selfmm benchmark` lie in SWEEP/CONFIGURATION/SEED."""
    configuration = folder.absolute().parent
    return configuration.name if (configuration.parent / SWEEP).is_file() else ""


def _named(name: str, value: Any) -> str:
    """An option, as it tells groups apart; of a path, the end."""
    if isinstance(value, list):
        value = " ".join(map(str, value)) or "none"
    elif isinstance(value, str) and "/" in value:
        value = Path(value).name
    return f"{name} {'default' if value is None else str(value):.40}".replace("_", " ")


def _options(file: Path) -> dict[str, Any]:
    try:
        options = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ReportError(f"{file} is damaged: {error}") from error
    if not isinstance(options, dict):
        raise ReportError(f"{file} is damaged: it holds no options.")
    return options


def _json(file: Path, *expected: str) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ReportError(f"{file} is missing: the run is not whole.") from None
    except (OSError, ValueError) as error:
        raise ReportError(f"{file} is damaged: {error}") from error
    if not isinstance(content, dict) or (missing := [name for name in expected if name not in content]):
        raise ReportError(f"{file} is damaged: it has no {missing[0] if isinstance(content, dict) else expected[0]!r}.")
    return content


def _table(file: Path, *expected: str) -> pa.Table:
    if not file.is_file():
        raise ReportError(f"{file} is missing: the run is not whole.")
    try:
        table = pq.read_table(file)
    except (OSError, ValueError) as error:
        raise ReportError(f"{file} is damaged: {error}") from error
    if missing := [name for name in expected if name not in table.column_names]:
        raise ReportError(f"{file} is damaged: it has no column {missing[0]!r}.")
    if not len(table):
        raise ReportError(f"{file} has no rows.")
    return table


def _numbers(file: Path, table: pa.Table, name: str) -> NDArray[np.float64]:
    try:
        return np.array(table[name].to_pylist(), dtype=np.float64)  # None becomes NaN
    except (TypeError, ValueError) as error:
        raise ReportError(f"{file}, column {name!r}, does not hold numbers: {error}") from error
