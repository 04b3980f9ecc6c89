"""
Recognises pickles in other layouts by their keys, and converts them to the MMSA layout. They must have what Self-MM
needs: words or word vectors, frames, and one sentiment score for each clip.

Sources: the data sections and loaders of WasifurRahman/BERT_multimodal_transformer (MAG-BERT), declare-lab/MISA and
declare-lab/Multimodal-Infomax (MMIM) for the tuples; of yaohungt/Multimodal-Transformer (MulT) and pliang279/MultiBench
for the dicts.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .safe_pickle import Array, DataError, OldText, read_array, read_bytes

SPLITS = {"train": ("train",), "valid": ("valid", "dev", "val", "validation"), "test": ("test",)}  # MMSA's: others'
PAUSE = "sp"  # the word that the CMU SDK has where nobody speaks
# CMU-MOSEI's labels are sentiment, happiness, sadness, anger, surprise, disgust, fear.
MOSEI_LABELS = 7
EXPECTED = "expected a dict of train, valid and test"
# IEMOCAP's in MulT's files, each as [1, 0], absent, or [0, 1], present; of clips that are read, 0 or 1 of each.
EMOTIONS = ("neutral", "happy", "sad", "angry")
EMOTION_LABELS = "emotion_labels"
INSTEAD = (
    "for IEMOCAP take MulT's iemocap_data.pkl or iemocap_data_noalign.pkl, or make a folder of your own with a "
    "table.csv (docs/data.md)"
)
DIALOGUES = "the dialogue-level IEMOCAP_features.pkl of DialogueRNN, MMGCN and COGMEN (six emotions, a tuple of nine)"
ONE_EMOTION_EACH = "LMF's iemocap.pkl (a data set for each emotion, keys of bytes)"


class Columns(dict):
    """
    The columns of a split as [`FeatureTable`] takes them, of a file in another layout.

    Args:
        trims: Whether frames of zeros before the first and after the last other one are padding.
        remarks: What a user should know of it, in sentences without a full stop.
    """

    def __init__(self, columns: dict[str, Any], trims: bool, remarks: tuple[str, ...]):
        super().__init__(columns)
        self.trims, self.remarks = trims, remarks


def as_mmsa(data: Any) -> dict[str, dict[str, Any]]:
    """
    The splits `train`, `valid` and `test`, each a dict of columns in the MMSA layout.

    Args:
        data: What the pickle holds: MMSA's own layout, which is left as it is;
            lists of `((words, vision, acoustic), label, segment)` by split, as for MAG-BERT, or with the words as
            a fourth of the inner tuple, as for MISA, and their lengths after it, as for MMIM;
            or dicts of `vision`, `audio`, `text` (word vectors), `labels` and perhaps `id` by split, as for MulT and
            MultiBench. The splits may be called `dev`, `val` or `validation` for `valid`.

    Raises:
        DataError: It is none of these, or lacks what is needed.
    """
    if type(data) is list and data and _is_clip(data[0]):
        raise DataError(
            "one split in the tuple layout of MISA and MMIM, train.pkl, dev.pkl or test.pkl; make one file of the "
            "three, a dict of the lists: {'train': ..., 'dev': ..., 'test': ...}"
        )
    if type(data) is tuple:
        raise DataError(f"a tuple of {len(data)}, as {DIALOGUES}, which is not read; {INSTEAD}")
    if type(data) is dict and {"happy", "angry"} <= set(data):
        raise DataError(f"the layout of {ONE_EMOTION_EACH}, which is not read; {INSTEAD}")
    if type(data) is not dict or not any(name in data for names in SPLITS.values() for name in names):
        raise DataError(f"split 'train' is missing; {EXPECTED}{_hint(data)}")
    splits = {}
    for split, names in SPLITS.items():
        found = [name for name in names if name in data]
        if len(found) > 1:
            raise DataError(f"there are the splits {' and '.join(map(repr, found))}; leave one of them out")
        content = data[found[0]] if found else None
        if type(content) is list and content and _is_clip(content[0]):
            splits[split] = _of_clips(content, found[0])
        elif type(content) is not dict:
            raise DataError(f"split {split!r} is missing; {EXPECTED}")
        elif "labels" in content and "regression_labels" not in content:
            splits[split] = _of_arrays(content, split, found[0])
        else:
            splits[split] = content
    return splits


def not_plain(problem: str) -> str:
    """What to do where a pickle cannot be read and may be one of those of IEMOCAP; nothing to add where it is not."""
    known = {"holds a set": DIALOGUES, "uses EMPTY_SET": DIALOGUES, "keys are not names": ONE_EMOTION_EACH}
    found = next((name for sign, name in known.items() if sign in problem), None)
    return (found and f"; if this is {found}: {INSTEAD}") or ""


def _hint(data: Any) -> str:
    if type(data) is not dict or not {"audio", "vision", "text"} & set(data):
        return ""
    if "labels" in data:
        return "; this is one split in the layout of MulT and MultiBench: make one file of the three, a dict of them"
    return (
        "; these look like features of clips by MMSA-FET: save them as audio/ID.npy and vision/ID.npy in a folder of "
        "your own, with a table.csv"
    )


def _is_clip(one: Any) -> bool:
    """Whether it is `((words, vision, acoustic, ...), label, segment)`."""
    return type(one) is tuple and len(one) == 3 and type(one[0]) is tuple and len(one[0]) >= 3


def _of_clips(clips: list[Any], split: str) -> Columns:
    columns: dict[str, list[Any]] = {"id": [], "raw_text": [], "audio": [], "vision": [], "regression_labels": []}
    for row, clip in enumerate(clips):
        where = f"split {split!r}, row {row}"
        if not _is_clip(clip):
            raise DataError(f"{where}: expected ((words, vision, acoustic), label, segment), as in the first row")
        (words, vision, acoustic, *more), label, segment = clip
        spoken = _words(more[0] if more else words)
        if spoken is None:
            raise DataError(
                f"{where}: the words are not text but numbers of a vocabulary that is not in the file; add the words "
                "as a fourth: ((numbers, vision, acoustic, words), label, segment)"
            )
        for name, frames in (("vision", vision), ("audio", acoustic)):
            if not isinstance(frames, Array) or not isinstance(frames.value, np.ndarray):
                raise DataError(f"{where}, {name}: expected an array of numbers, (frames, width)")
            columns[name].append(frames)
        columns["id"].append(_name(segment))
        columns["raw_text"].append(" ".join(word for word in spoken if word != PAUSE))
        columns["regression_labels"].append(_sentiment(_numbers(label)[None], where)[0].item())
    if any(len(clip[0]) > 4 for clip in clips):  # MMIM: frames of their own, not one a word
        columns |= {f"{name}_lengths": [len(one.value) for one in columns[name]] for name in ("audio", "vision")}
    return Columns(columns, False, ("in the tuple layout of MAG-BERT, MISA and MMIM",))


def _of_arrays(content: dict[str, Any], split: str, name: str) -> Columns:
    columns, remarks = dict(content), ["in the layout of MulT and MultiBench"]
    trims = "text_bert" not in columns and not any(one.endswith("_lengths") for one in columns)
    labels = _numbers(columns.pop("labels"))
    if labels.shape[1:] == (len(EMOTIONS), 2):
        columns[EMOTION_LABELS] = _emotions(labels, f"split {name!r}")
    else:
        columns["regression_labels"] = _sentiment(labels, f"split {name!r}")
    rows = len(labels)
    if trims:
        remarks.append("frames of zeros before and after the others are taken for padding")
    if "raw_text" not in columns:
        columns["raw_text"] = [""] * rows
        remarks.append("there are no words, only word vectors: train without --text_encoder")
    if "id" in columns:
        columns["id"] = _ids(columns["id"], name)
    else:
        columns["id"] = [f"{split}{row:05d}" for row in range(rows)]
        remarks.append("there are no ids; they are made up from the rows")
    return Columns(columns, trims, tuple(remarks))


def _numbers(values: Any) -> NDArray:
    """Numbers, or something else that [`_sentiment`] refuses, as an array."""
    if isinstance(values, Array):
        return read_array(values.value) if isinstance(values.value, np.ndarray) else np.array("no numbers")
    try:
        return np.asarray(values)
    except ValueError:  # lists of lists of several lengths
        return np.array("no numbers")


def _sentiment(labels: NDArray, where: str) -> NDArray:
    """The scores (rows,) of labels (rows, ...)."""
    if labels.dtype.kind not in "biuf" or not labels.ndim:
        raise DataError(f"{where}, labels: expected an array of numbers")
    labels = labels.reshape(len(labels), -1) if labels.size else labels.reshape(len(labels), 1)
    if labels.shape[1] not in (1, MOSEI_LABELS):
        raise DataError(
            f"{where}, labels: {labels.shape[1]} values a clip, but a sentiment score is one, or the first of "
            f"CMU-MOSEI's {MOSEI_LABELS}, and the emotions of IEMOCAP are {len(EMOTIONS)} pairs; make a folder of your "
            "own with a table.csv (docs/data.md)"
        )
    return labels[:, 0]


def _emotions(labels: NDArray, where: str) -> list[list[float]]:
    """0 or 1 of each emotion, of labels (rows, emotions, 2)."""
    odd = ~np.isin(labels, (0, 1)).all(2) | (labels.sum(2) != 1) if labels.dtype.kind in "biuf" else np.array([[True]])
    if odd.any():
        row, emotion = np.argwhere(odd)[0]
        got = labels[row, emotion].tolist()
        problem = f"expected [1, 0], absent, or [0, 1], present, got {got}"
        raise DataError(f"{where}, labels, row {row}, {EMOTIONS[emotion]}: {problem}")
    return labels[:, :, 1].astype(np.float64).tolist()


def _ids(ids: Any, split: str) -> list[str]:
    """One id a clip: of [video, begin, end], `video$_$begin_end`, whose video is known to `selfmm data inspect`."""
    rows = ids
    if isinstance(ids, Array):
        rows = read_array(ids.value).tolist() if isinstance(ids.value, np.ndarray) else ids.objects
        width = ids.shape[1] if len(ids.shape) > 1 else 1
        if ids.objects is not None and width > 1:
            rows = [ids.objects[row * width : (row + 1) * width] for row in range(ids.shape[0])]
    if type(rows) is not list:
        raise DataError(f"split {split!r}, id: expected a list or an array with one entry per clip")
    return [_name(one) for one in rows]


def _words(words: Any) -> list[str] | None:
    """Text, from a list or an array of it; `None` where it is something else."""
    if isinstance(words, Array):
        values = words.value
        words = read_array(values).reshape(-1).tolist() if isinstance(values, np.ndarray) else words.objects
    texts = [_text(one) for one in words] if type(words) in (list, tuple) else [None]
    return None if None in texts else texts


def _text(value: Any) -> str | None:
    if isinstance(value, Array):
        value = value.objects[0] if value.objects and len(value.objects) == 1 else value.value
        value = read_array(value).item() if isinstance(value, np.ndarray) and value.size == 1 else value
    if isinstance(value, bytes | memoryview):
        return read_bytes(value).decode("utf-8", "replace")
    return value.text if type(value) is OldText else value if type(value) is str else None


def _name(value: Any) -> str:
    """What a file calls a clip: text, a number, or several of them, the video first."""
    if type(value) in (list, tuple):
        video, *parts = (_name(one) for one in value) if value else ("",)
        return f"{video}$_${'_'.join(parts)}" if parts else video
    text = _text(value)
    return str(value) if text is None and type(value) in (int, float) else text or ""
