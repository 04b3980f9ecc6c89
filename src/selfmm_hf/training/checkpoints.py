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

# The names and sizes of all files of a checkpoint except the trainer's state, which is written after it. Empty while
# the checkpoint is being written.
MANIFEST = "files.json"
PSEUDO_LABELS_FILE = "pseudo_labels.safetensors"
# Messages of `torch.save`, which raises every error as a RuntimeError.
TORCH_CANNOT_WRITE = re.compile(
    "PytorchStreamWriter|inline_container|Parent directory .* does not exist|cannot be opened"
)


class CheckpointError(OSError):
    """A checkpoint cannot be written or read."""


def begin(checkpoint: Path) -> None:
    """Marks `checkpoint` as unfinished; must be called before anything in it is written, or written again."""
    checkpoint.mkdir(parents=True, exist_ok=True)
    write_json(checkpoint / MANIFEST, {})
    (checkpoint / TRAINER_STATE_NAME).unlink(missing_ok=True)


@contextmanager
def written(checkpoint: Path, begins: bool) -> Iterator[None]:
    """
    Guards the writing of `checkpoint`, and syncs it to the disk at the end. Translates only errors of the disk.

    Args:
        begins: Whether this process is the one that makes the checkpoint.

    Raises:
        CheckpointError: The disk cannot take the checkpoint.
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
    """Checks whether an error comes from a disk: lack of memory, processes and devices raise the same classes."""
    if isinstance(error, OSError):
        return not isinstance(error, ConnectionError | TimeoutError) and error.errno != errno.ENOMEM
    return isinstance(error, SafetensorError) or bool(TORCH_CANNOT_WRITE.search(str(error)))


def seal(checkpoint: Path) -> None:
    """Lists the files of `checkpoint` in its manifest, once all processes have written theirs."""
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
    Checks that a run can resume from `checkpoint`.
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
    """Checks whether any weights in `checkpoint` are whole, as far as one can tell without the model."""
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
    """Checks whether a run was interrupted while it wrote `checkpoint`, and will write it again when it resumes."""
    try:
        return json.loads((checkpoint / MANIFEST).read_text("utf-8")) == {}
    except (OSError, ValueError):
        return False


def checkpoints(folder: Path) -> list[Path]:
    """Returns the checkpoints of a run, whole or not, by their steps."""
    found = {
        int(match[1]): path
        for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*")
        if path.is_dir() and (match := re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)", path.name))
    }
    return [path for _, path in sorted(found.items())]


def last_whole(folder: Path) -> Path | None:
    """Returns the latest checkpoint of a run that is whole."""
    return next((path for path in reversed(checkpoints(folder)) if fault(path) is None), None)


def to_resume(folder: Path) -> Path | None:
    """
    Finds the checkpoint from which the run in `folder` resumes; `None` if none is complete.

    Raises:
        CheckpointError: There are completed checkpoints, but no run can resume from any of them.
    """
    last = last_whole(folder)
    if last is None:
        for checkpoint in reversed(checkpoints(folder)):
            if not _is_unfinished(checkpoint) and has_weights(checkpoint):
                check(checkpoint)
    return last


def clear(folder: Path) -> list[str]:
    """
    Removes checkpoints from which no run can resume, because `Trainer` counts checkpoints by their names. Deletes those
    without whole weights, renames others, and leaves those that the run was writing when it was interrupted, as it will
    write them again.

    Returns:
        What was done, one line each.
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
    """Returns where a checkpoint lies once it has been renamed."""
    return checkpoint.with_name(f"kept-{checkpoint.name}")


def _free_name(wanted: Path) -> Path:
    numbered = (wanted.with_name(f"{wanted.name}-{number}") for number in count(2))
    return next(path for path in chain([wanted], numbered) if not path.exists())


def discard(checkpoint: Path) -> None:
    """Deletes a checkpoint that was not written to its end, which makes room on a full disk."""
    (checkpoint / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(checkpoint, ignore_errors=True)
