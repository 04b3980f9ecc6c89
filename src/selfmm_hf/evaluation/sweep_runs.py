"""Completes the run in a folder: starts it, resumes it, or leaves a finished run alone."""

import gc
import json
import shutil
import traceback
from contextlib import suppress
from pathlib import Path

from ..runs.folder import OPTIONS_FILE, RESULTS_FILE, has_begun
from ..runs.options import read_options
from ..runs.run import Run
from ..storage.whole_files import write_text
from ..training import checkpoints
from ..training.processes import occupied

FAILURE_FILE = "failure.txt"


class RunFailed(Exception):
    """A run failed; the traceback is in its folder."""


def is_done(folder: Path) -> bool:
    return (folder / RESULTS_FILE).is_file()  # a run's last file


def why_missing(folder: Path) -> str:
    """Says why a run is not done."""
    if (folder / FAILURE_FILE).is_file():
        return f"failed: {(folder / FAILURE_FILE).read_text('utf-8').strip().splitlines()[-1]}"
    return "interrupted" if (folder / OPTIONS_FILE).is_file() else "not begun"


def complete(folder: Path, arguments: list[str], test: bool) -> dict:
    """
    Completes the run in `folder`, and then deletes its checkpoints.

    Args:
        folder: May hold nothing, an interrupted run, or one that is done, which is left as it is.
        arguments: Options of `train.py`, without those of folders.
        test: Whether the test split is read in the end; see [`Run`].

    Returns:
        What `all_results.json` holds.

    Raises:
        RunFailed: The traceback is in the folder.
        FolderInUse: Another process is at work there.
    """
    with occupied(folder):
        if not is_done(folder):
            _train(folder, arguments, test)
        for checkpoint in checkpoints.checkpoints(folder):
            shutil.rmtree(checkpoint)
    return json.loads((folder / RESULTS_FILE).read_text("utf-8"))


def _train(folder: Path, arguments: list[str], test: bool) -> None:
    places = ["--output_dir", str(folder), "--resume_from_checkpoint", str(has_begun(folder)).lower()]
    failure = folder / FAILURE_FILE
    failure.unlink(missing_ok=True)
    try:
        Run(*read_options([*arguments, *places]), test=test).train()
    except Exception as error:
        with suppress(OSError):  # on a full disk, the message is left
            write_text(failure, traceback.format_exc())
        raise RunFailed(f"{type(error).__name__}: {' '.join(str(error).split())}") from error
    finally:
        gc.collect()  # a trainer and its model hold each other
