"""The columns of every data set, whatever file it comes from."""

from collections.abc import Collection

from datasets import Array2D, Features, List, Value

from ..model.task_selfmm import SINGLE_LABEL, Task
from .targets import LabelType, label_type, task_of_type

SPLITS = ["train", "validation", "test"]
MODALITIES = ["text", "audio", "vision"]
# Frames, width of a frame: no padding, and (0, width) where a clip lacks the modality. There may be others.
SEQUENCES = ["audio", "vision", "word_vectors"]
UNIMODAL_LABELS = {modality: f"label_{modality}" for modality in MODALITIES}
# No sequence has one of these names, nor one that begins with `label`.
RESERVED = {"id", "text", "video", "position", "split", "input_ids", "situation", "index", "fusion", "epoch"}
OTHERS = {"id", "text", "label", "input_ids", "situation"}  # `situation` is of the synthetic corpus
FRAMES = "float32"
# Which utterances come before which, where the ids do not tell.
ORDER = {"video": Value("string"), "position": Value("float64")}


def features(widths: dict[str, int], others: Collection[str] = (), label: LabelType | None = None) -> Features:
    """
    The types of the columns.

    Args:
        widths: Of the sequences that there are: `audio`, `vision`, `word_vectors`, or any [`is_sequence_name`].
        others: Which of the optional columns there are: `video` and `position`, `input_ids`, and `label_text`,
            `label_audio`, ... of any modality.
        label: The type of the labels, by [`label_type`]; float32 by default.

    Returns:
        - `id`: string, unlike any other of the data set;
        - `text`: string, what is said, for any tokenizer; blank where nothing is;
        - `video`, `position`: string and float64, the place of a clip in its video, where the ids do not tell;
        - `audio`, `vision`, `word_vectors`, ...: float32 (frames, width), without padding;
        - `label`: what the task says; `label_text`, ...: what annotators said of one modality alone (SIMS);
        - `input_ids`: the tokens that came with the file, [CLS] and [SEP] included.
    """
    label = Value("float32") if label is None else label
    types: dict[str, object] = {"id": Value("string"), "text": Value("string")}
    types |= {name: kind for name, kind in ORDER.items() if name in others}
    types |= {name: Array2D((None, widths[name]), FRAMES) for name in sorted(widths, key=_place)}
    types |= {"label": label}
    types |= {name: label for name in unimodal_labels(widths).values() if name in others}
    if "input_ids" in others:
        types["input_ids"] = List(Value("int32"))
    return Features(types)


def _place(name: str) -> int:
    return SEQUENCES.index(name) if name in SEQUENCES else len(SEQUENCES)


def is_sequence_name(name: str) -> bool:
    """Whether a modality of one's own may be called so: a Python identifier that is not the name of another column."""
    return name.isidentifier() and name not in RESERVED and not name.startswith("label")


def unimodal_labels(sequences: Collection[str]) -> dict[str, str]:
    """By modality, the column of its own labels, whether or not there is one: of the usual three, and of others."""
    return UNIMODAL_LABELS | {name: f"label_{name}" for name in sequences if name not in SEQUENCES}


def sequences(found: Features) -> list[str]:
    """The columns of frames, the usual ones first, be they of another type."""
    own = [name for name, kind in found.items() if is_sequence_name(name) and _is_frames(kind)]
    return [name for name in SEQUENCES if name in found] + [name for name in own if name not in SEQUENCES]


def known_columns(found: Features) -> list[str]:
    """The columns that are read, in their order."""
    there = sequences(found)
    known = OTHERS | set(there) | set(unimodal_labels(there).values())
    if "position" in found and found.get("video") == ORDER["video"]:  # else a film, or anything else
        known |= ORDER.keys()
    return [name for name in found if name in known]


def _is_frames(kind: object) -> bool:
    return isinstance(kind, Array2D) and kind == Array2D((None, kind.shape[1]), FRAMES)


def odd_column(found: Features, task: Task | None = None) -> str | None:
    """
    The first column that is missing or of another type than [`features`] says, in words.

    Args:
        task: Of the data set, if it is known.
    """
    widths = {name: getattr(found[name], "shape", (0, 0))[-1] for name in sequences(found)}
    label = found.get("label")
    task = task or task_of_type(label) or Task()
    probabilities = task.problem_type == SINGLE_LABEL and isinstance(label, List)
    for name, kind in features(widths, known_columns(found), label_type(task, probabilities)).items():
        if found.get(name) != kind:
            expected = str(kind).replace(", 0)", ", width)")
            return f"column {name!r}: expected {expected}, got {found.get(name, 'nothing')}"
    return None
