"""Checkpoints are whole or they do not count: a killed run never goes on from half of one."""

import json
import os
import re
import shutil
from pathlib import Path

from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

# The names and sizes of all files of a checkpoint but the trainer's state, which is written after it.
MANIFEST = "files.json"


class CheckpointError(OSError):
    """A checkpoint cannot be written or read."""


def seal(checkpoint: Path) -> None:
    """Lists the files that are in `checkpoint`, once all processes have written theirs."""
    files = [path for path in sorted(checkpoint.rglob("*")) if path.is_file() and path.name != TRAINER_STATE_NAME]
    sizes = {path.relative_to(checkpoint).as_posix(): path.stat().st_size for path in files}
    beside = checkpoint / f".{MANIFEST}.part"
    beside.write_text(json.dumps(sizes, indent=2) + "\n", encoding="utf-8")
    os.replace(beside, checkpoint / MANIFEST)


def unseal(checkpoint: Path) -> None:
    """To be called before anything in `checkpoint` is written again."""
    (checkpoint / MANIFEST).unlink(missing_ok=True)


def fault(checkpoint: Path) -> str | None:
    """What is wrong with `checkpoint`: nothing where a run can go on from it exactly where it was."""
    try:
        sizes = json.loads((checkpoint / MANIFEST).read_text("utf-8"))
        for name, size in sizes.items():
            if not (checkpoint / name).is_file():
                return f"{name} is missing"
            if (found := (checkpoint / name).stat().st_size) != size:
                return f"{name} has {found:,} of {size:,} bytes"
    except FileNotFoundError:
        return f"{MANIFEST} is missing: it was not written to its end"
    except (ValueError, AttributeError):
        return f"{MANIFEST} is damaged"
    try:
        state = json.loads((checkpoint / TRAINER_STATE_NAME).read_text("utf-8"))
        if state["global_step"] >= 0:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return f"{TRAINER_STATE_NAME} is missing or damaged: it was not written to its end"


def checkpoints(folder: Path) -> list[Path]:
    """Whole and other checkpoints of a run, by their steps."""
    found = {
        int(match[1]): path
        for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*")
        if path.is_dir() and (match := re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)", path.name))
    }
    return [path for _, path in sorted(found.items())]


def last_whole(folder: Path) -> Path | None:
    """The latest checkpoint of a run that is whole."""
    return next((path for path in reversed(checkpoints(folder)) if fault(path) is None), None)


def discard(checkpoint: Path) -> None:
    """Deletes what was not written to its end, which makes room where a disk is full."""
    unseal(checkpoint)
    shutil.rmtree(checkpoint, ignore_errors=True)
