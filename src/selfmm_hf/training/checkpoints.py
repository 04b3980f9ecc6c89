"""
Writes and checks checkpoints. A run resumes only from a complete one. An incomplete one is kept if its weights are
complete. The trainer chooses the best epoch, see `selection_loss` there.
"""

import errno
import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..storage.whole_files import sync, write_json

# The names and sizes of all files of a checkpoint but the trainer's state, which is written after it. While it is being
# written, of none.
MANIFEST = "files.json"
PSEUDO_LABELS_FILE = "pseudo_labels.safetensors"
# What `torch.save` says, which knows no other error than RuntimeError.
TORCH_CANNOT_WRITE = re.compile(
    "PytorchStreamWriter|inline_container|Parent directory .* does not exist|cannot be opened"
)


class CheckpointError(OSError):
    """A checkpoint cannot be written or read."""


def begin(checkpoint: Path) -> None:
    """Must be called before anything in `checkpoint` is written, or written again."""
    checkpoint.mkdir(parents=True, exist_ok=True)
    write_json(checkpoint / MANIFEST, {})
    (checkpoint / TRAINER_STATE_NAME).unlink(missing_ok=True)


@contextmanager
def written(checkpoint: Path, begins: bool) -> Iterator[None]:
    """
    Guards the writing of `checkpoint`, which is on the disk at the end. Only errors of the disk are translated.

    Args:
        begins: Whether this process is the one that makes it.

    Raises:
        CheckpointError: The disk does not take it.
    """
    folder = checkpoint.parent
    try:
        if begins:
            begin(checkpoint)
        yield
        if begins:
            sync(checkpoint)
    except (OSError, RuntimeError, SafetensorError) as error:
        if not _is_of_a_disk(error):
            raise
        free = shutil.disk_usage(folder).free if folder.is_dir() else 0
        if begins:
            discard(checkpoint)
        last = last_whole(folder)
        raise CheckpointError(
            f"{checkpoint} cannot be written: {' '.join(str(error).split())} ({free:,} bytes were free). "
            + (f"{last} is complete: free some space, and resume from it." if last else "Name another output_dir.")
        ) from error


def _is_of_a_disk(error: Exception) -> bool:
    """Memory that is short, other processes and devices have errors of the same classes."""
    if isinstance(error, OSError):
        return not isinstance(error, ConnectionError | TimeoutError) and error.errno != errno.ENOMEM
    return isinstance(error, SafetensorError) or bool(TORCH_CANNOT_WRITE.search(str(error)))


def seal(checkpoint: Path) -> None:
    """Lists the files that are in `checkpoint`, once all processes have written theirs."""
    files = [path for path in sorted(checkpoint.rglob("*")) if path.is_file()]
    left_out = (MANIFEST, TRAINER_STATE_NAME)
    sizes = {path.relative_to(checkpoint).as_posix(): path.stat().st_size for path in files}
    sync(checkpoint)
    write_json(checkpoint / MANIFEST, {name: size for name, size in sizes.items() if name not in left_out})


def fault(checkpoint: Path) -> str | None:
    """Says what is wrong with `checkpoint`; `None` if a run can resume from it exactly where it was."""
    try:
        sizes = json.loads((checkpoint / MANIFEST).read_text("utf-8"))
        if not sizes:
            return "it was not written to its end"
        if not all(isinstance(size, int) for size in sizes.values()):
            return f"{MANIFEST} is of another version"
        for name, size in sizes.items():
            if not (checkpoint / name).is_file():
                return f"{name} is missing"
            if (found := (checkpoint / name).stat().st_size) != size:
                return f"{name} has {found:,} of {size:,} bytes"
    except FileNotFoundError:
        return f"{MANIFEST} is missing: it was not written to its end, or by another program"
    except (ValueError, AttributeError, TypeError):
        return f"{MANIFEST} is damaged"
    if PSEUDO_LABELS_FILE not in sizes:
        return "it holds weights alone, as save_only_model leaves them"
    try:
        state = json.loads((checkpoint / TRAINER_STATE_NAME).read_text("utf-8"))
        if state["global_step"] >= 0:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return f"{TRAINER_STATE_NAME} is missing or damaged: it was not written to its end"


def check(checkpoint: Path) -> None:
    """
    Raises:
        CheckpointError: No run can resume from `checkpoint`.
    """
    if wrong := fault(checkpoint):
        kept = " Its weights are complete and are kept: load them, or start again in another output_dir."
        raise CheckpointError(
            f"{checkpoint} is not a complete checkpoint, and a run cannot be resumed from it: {wrong}."
            + (kept if has_weights(checkpoint) else "")
        )


def has_weights(checkpoint: Path) -> bool:
    """Whether any weights in `checkpoint` are whole, as far as can be told without knowing the model."""
    files = [path for path in checkpoint.rglob("*") if path.is_file() and path.name != PSEUDO_LABELS_FILE]
    return any(
        (path.suffix == ".safetensors" and _is_whole(path))
        or (path.suffix in (".bin", ".pt") and "model" in path.name and zipfile.is_zipfile(path))
        or path.name == ".metadata"  # the last file of distributed weights
        for path in files
    )


def _is_whole(file: Path) -> bool:
    try:
        with safe_open(file, framework="pt"):
            return True
    except SafetensorError:
        return False


def _is_unfinished(checkpoint: Path) -> bool:
    """Whether a run was interrupted while it wrote `checkpoint`, and will write it again when it resumes."""
    try:
        return json.loads((checkpoint / MANIFEST).read_text("utf-8")) == {}
    except (OSError, ValueError):
        return False


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


def to_resume(folder: Path) -> Path | None:
    """
    Finds the checkpoint from which the run in `folder` resumes; `None` if none is complete.

    Raises:
        CheckpointError: There are completed ones, and none of them will do.
    """
    last = last_whole(folder)
    if last is None:
        for checkpoint in reversed(checkpoints(folder)):
            if not _is_unfinished(checkpoint) and has_weights(checkpoint):
                check(checkpoint)
    return last


def clear(folder: Path) -> list[str]:
    """
    Removes checkpoints from which no run can resume: `Trainer` counts checkpoints by their names. Those without whole
    weights are deleted, others are renamed, and those that the run was writing when it was interrupted are left, as it
    writes them again.

    Returns:
        What was done, a line each.
    """
    done = []
    for checkpoint in checkpoints(folder):
        wrong = fault(checkpoint)
        if wrong and not has_weights(checkpoint):
            discard(checkpoint)
            done.append(f"{checkpoint} was incomplete and is deleted: {wrong}.")
        elif wrong and not _is_unfinished(checkpoint):
            kept = _free_name(aside(checkpoint))
            checkpoint.rename(kept)
            done.append(f"{checkpoint} is renamed to {kept.name}, as no run can resume from it: {wrong}.")
    return done


def aside(checkpoint: Path) -> Path:
    """Where a checkpoint is, once it has been renamed."""
    return checkpoint.with_name(f"kept-{checkpoint.name}")


def _free_name(wanted: Path) -> Path:
    numbered = (wanted.with_name(f"{wanted.name}-{number}") for number in count(2))
    return next(path for path in chain([wanted], numbered) if not path.exists())


def discard(checkpoint: Path) -> None:
    """Deletes what was not written to its end, which makes room where a disk is full."""
    (checkpoint / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(checkpoint, ignore_errors=True)
