"""The columns of every data set, whatever file it comes from."""

from collections.abc import Collection

from datasets import Array2D, Features, List, Value

SPLITS = ["train", "validation", "test"]
MODALITIES = ["text", "audio", "vision"]
# Frames, width of a frame: no padding, and (0, width) where a clip lacks the modality.
SEQUENCES = ["audio", "vision", "word_vectors"]
UNIMODAL_LABELS = {modality: f"label_{modality}" for modality in MODALITIES}
# All that are read; `situation` is of the synthetic corpus.
COLUMNS = {"id", "text", *SEQUENCES, "label", *UNIMODAL_LABELS.values(), "input_ids", "situation"}


def features(widths: dict[str, int], others: Collection[str] = ()) -> Features:
    """
    The types of the columns.

    Args:
        widths: Of the sequences that there are, among `audio`, `vision` and `word_vectors`.
        others: Which of the optional columns there are: `input_ids`, and `label_text`, `label_audio`, `label_vision`.

    Returns:
        - `id`: string, unlike any other of the data set;
        - `text`: string, what is said, for any tokenizer; blank where nothing is;
        - `audio`, `vision`, `word_vectors`: float32 (frames, width), without padding;
        - `label`: float32, the sentiment; `label_text`, ...: what annotators said of one modality alone (SIMS);
        - `input_ids`: the tokens that came with the file, [CLS] and [SEP] included.
    """
    types: dict[str, object] = {"id": Value("string"), "text": Value("string")}
    types |= {name: Array2D((None, widths[name]), "float32") for name in SEQUENCES if name in widths}
    types |= {"label": Value("float32")}
    types |= {name: Value("float32") for name in UNIMODAL_LABELS.values() if name in others}
    if "input_ids" in others:
        types["input_ids"] = List(Value("int32"))
    return Features(types)


def odd_column(found: Features) -> str | None:
    """The first column that is missing or of another type than [`features`] says, in words."""
    widths = {name: getattr(found[name], "shape", (0, 0))[-1] for name in SEQUENCES if name in found}
    for name, kind in features(widths, found).items():
        if found.get(name) != kind:
            expected = str(kind).replace(", 0)", ", width)")
            return f"column {name!r}: expected {expected}, got {found.get(name, 'nothing')}"
    return None
