"""The data sets, as samples for the collator."""

from .demo import demo_corpus
from .mmsa import DataError, read_mmsa

MODALITIES = ["text", "audio", "vision"]
# Labels lie in [-range, range].
LABEL_RANGES = {"demo": 3.0, "mosi": 3.0, "mosei": 3.0, "sims": 1.0}

Splits = dict[str, list[dict]]


def load_splits(dataset: str, data_file: str | None = None) -> Splits:
    """
    The samples of `train`, `validation` and `test`: see [`read_mmsa`] and [`demo_corpus`].

    Raises:
        DataError: The data set is unknown, its file is missing or wrong, or labels are out of range.
    """
    if dataset not in LABEL_RANGES:
        raise DataError(f"There is no data set {dataset!r}; expected one of {', '.join(LABEL_RANGES)}.")
    if dataset == "demo":
        if data_file is not None:
            raise DataError(f"The data set demo is generated and takes no file, got {data_file}; name --dataset.")
        return demo_corpus()
    if data_file is None:
        raise DataError(f"The data set {dataset} needs its feature file: give --data_file.")
    splits = read_mmsa(data_file)
    limit = LABEL_RANGES[dataset]
    for split, samples in splits.items():
        if not samples:
            raise DataError(f"{data_file}: split {split!r} is empty; all of train, valid and test are needed.")
        for sample in samples:
            if abs(sample["label"]) > limit + 1e-6:
                raise DataError(
                    f"{data_file}: the label of {sample['id']!r} in {split} is {sample['label']:g}, but those of "
                    f"{dataset} lie in [-{limit:g}, {limit:g}]; is this another data set?"
                )
    largest = max(abs(sample["label"]) for samples in splits.values() for sample in samples)
    if largest <= limit / 3:
        raise DataError(
            f"{data_file}: no label is beyond {largest:g}, but those of {dataset} reach {limit:g}; is it SIMS?"
        )
    return splits


def tokenize(splits: Splits, tokenizer, max_tokens: int) -> None:
    """
    Adds what `tokenizer` makes of each `raw_text`, cut to `max_tokens`, replacing tokens that came with the file:
    those are of the encoder it was made for. A blank text has no tokens, which means that the text is absent.
    """
    for samples in splits.values():
        texts = [sample["raw_text"] for sample in samples]
        tokens = tokenizer(texts, truncation=True, max_length=max_tokens)
        for row, sample in enumerate(samples):
            blank = not texts[row].strip()
            sample.update({name: [] if blank else values[row] for name, values in tokens.items()})


__all__ = ["LABEL_RANGES", "MODALITIES", "DataError", "Splits", "demo_corpus", "load_splits", "read_mmsa", "tokenize"]
