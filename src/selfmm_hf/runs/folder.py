"""The folder of a run: its files, and whether a run may start or resume there."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import yaml
from transformers.trainer import TRAINER_STATE_NAME

from ..storage.whole_files import hidden
from ..training import checkpoints

# These name places, or do not affect what is learned.
UNLEARNED_OPTIONS = re.compile(
    "output_dir|overwrite_output_dir|resume_from_checkpoint|save_total_limit|disable_tqdm|report_to|run_name"
    "|push_to_hub|hub_.*|log.*|dataloader_(num_workers|pin_memory|prefetch_factor|persistent_workers)"
)
OPTIONS_FILE = "options.yaml"
ENVIRONMENT_FILE = "environment.json"
RESULTS_FILE = "all_results.json"
PREDICTIONS_FILE = "predictions.parquet"
GENERATED_FILE = "pseudo_labels.parquet"
FILES = [
    RESULTS_FILE,
    ENVIRONMENT_FILE,
    OPTIONS_FILE,
    PREDICTIONS_FILE,
    GENERATED_FILE,
    "run.png",
    TRAINER_STATE_NAME,
]
# What `selfmm robustness` writes; `selfmm report` looks for the first in the run's folder and in `robustness` there.
ROBUSTNESS_FILE = "robustness.json"
MEASURED_FILES = [ROBUSTNESS_FILE, "robustness.md", "robustness.png", "robustness.svg", PREDICTIONS_FILE]


def check_writable(folder: Path) -> None:
    """
    Checks that `folder` can be made and written to.
    Raises:
        ValueError: `folder` cannot be made or written to.
    """
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        problem = "cannot be written to" if existing.is_dir() else "is not a folder"
        raise ValueError(f"{existing} {problem}: name another --output_dir.")


def has_begun(folder: Path) -> bool:
    """Checks whether a run has left anything in `folder`."""
    return (folder / OPTIONS_FILE).exists() or bool(checkpoints.checkpoints(folder))


def check_new(folder: Path) -> None:
    """
    Checks that `folder` holds no run yet.
    Raises:
        ValueError: `folder` holds a run already.
    """
    if has_begun(folder):
        raise ValueError(
            f"{folder} holds an earlier run: resume it with --resume_from_checkpoint true, replace it "
            "by --overwrite_output_dir, or name another --output_dir."
        )


def checkpoint_of(folder: Path, resume: str, given: dict[str, Any], epochs: float) -> Path | None:
    """
    Finds the checkpoint from which a run resumes; `None` if it had not written any.

    Args:
        folder: Folder of the run.
        resume: `true`, or the path of a checkpoint.
        given: The options with which it is to resume.
        epochs: How many the run should have in the end.

    Raises:
        CheckpointError: The checkpoint is not whole.
        ValueError: There is no such checkpoint, or its run had other options or is done.
    """
    if resume.lower() in ("true", "1", "yes"):
        if not has_begun(folder):
            raise ValueError(f"There is no checkpoint in {folder} to resume from, nor any run.")
        checkpoint = checkpoints.to_resume(folder)
    else:
        checkpoint = Path(resume)
        if not checkpoint.is_dir():
            raise ValueError(f"There is no checkpoint folder {resume}.")
        checkpoints.check(checkpoint)
    begun = folder if checkpoint is None else checkpoint.parent
    before = _options(begun, given)
    if name := difference(before, given, "num_train_epochs"):
        was, wanted = (options.get(name, "the default") for options in (before, given))
        raise ValueError(
            f"The run in {begun} was started with {name}: {was}, and cannot be resumed with {wanted}; "
            f"--config {begun / OPTIONS_FILE} has its options."
        )
    if checkpoint is not None:
        epoch = json.loads((checkpoint / TRAINER_STATE_NAME).read_text("utf-8"))["epoch"]
        if epoch > epochs:
            raise ValueError(
                f"{checkpoint} has been trained for {epoch:g} epochs, and num_train_epochs is "
                f"{epochs:g}: it may be raised, not lowered."
            )
    done = (folder / RESULTS_FILE).is_file()
    if done and checkpoint is None:
        raise ValueError(
            f"The run in {folder} is done, and has no checkpoint to resume from: name another --output_dir, or replace "
            "it by --overwrite_output_dir."
        )
    if done and difference(_options(folder, given), given):
        raise ValueError(
            f"The run in {folder} is done, and has read the test split, which is read once: to train further from its "
            "last checkpoint, name that, and another --output_dir."
        )
    return checkpoint


def _options(folder: Path, otherwise: dict[str, Any]) -> dict[str, Any]:
    """Reads the options of the run in `folder`; returns `otherwise` if it has left none."""
    file = folder / OPTIONS_FILE
    return yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else otherwise


def difference(before: dict[str, Any], now: dict[str, Any], *free: str) -> str | None:
    """
    Returns the first option that differs in `now` and affects what is learned. Options named `free` may differ, and so
    may `data`, which is only a place: other data are noticed by their content.
    """
    for name in sorted(before.keys() | now.keys()):
        if name not in ("data", *free) and not UNLEARNED_OPTIONS.fullmatch(name) and before.get(name) != now.get(name):
            return name
    return None


def delete_run(folder: Path) -> None:
    """Deletes what a run leaves and `selfmm robustness` has measured of it, nothing else that may lie in the folder."""
    for path in checkpoints.checkpoints(folder):
        shutil.rmtree(path)
    shutil.rmtree(folder / "model", ignore_errors=True)
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    for name in ("model", *FILES):
        shutil.rmtree(hidden(folder / name), ignore_errors=True)
    measured = folder / "robustness"
    (folder / ROBUSTNESS_FILE).unlink(missing_ok=True)
    if (measured / ROBUSTNESS_FILE).is_file():
        for name in MEASURED_FILES:
            (measured / name).unlink(missing_ok=True)
        if not any(measured.iterdir()):
            measured.rmdir()
