"""Loads the inputs of a run: the splits of its data, the tokenizer of their texts, the recipe of their features."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from ..data import Splits, load_splits
from ..data.columns import MODALITIES
from ..data.recipe import find_recipe
from ..data.safe_pickle import DataError
from ..data.synthetic import demo_tokenizer
from ..metrics import few_clips
from ..model.feature_extraction_selfmm import SelfMMFeatureExtractor
from ..model.task_selfmm import REGRESSION
from ..model.text_encoder_selfmm import load_tokenizer
from ..storage.hub_names import check_name, take_from_hub
from .options import RunOptions


@dataclass
class Inputs:
    """
    The inputs of a run.

    Args:
        splits: The data, with tokenized texts, and only the modalities that are learned from.
        modalities: The names of these modalities.
        left_out: Modalities of the field and of the data that are not learned from.
        tokenizer: Tokenizer of the text encoder; `None` without one.
        extractor: Computes the features of a new clip as those of the data, normalised by the training split.
    """

    splits: Splits
    modalities: list[str]
    left_out: set[str]
    tokenizer: PreTrainedTokenizerBase | None
    extractor: SelfMMFeatureExtractor


def read_inputs(
    options: RunOptions,
    modalities: Sequence[str] | None,
    label_range: float | None,
    wanted: Sequence[str],
    tell: Callable[[str], None],
) -> Inputs:
    """
    Reads the inputs of a run.

    Args:
        modalities: To learn from; by default text, audio and vision, or those of the data if these are others.
        label_range: As in [`load_splits`].
        wanted: The splits to read.
        tell: Called with what the user should know.

    Raises:
        ValueError: The options do not fit each other or the data, or there is nothing to learn from.
    """
    if options.text_encoder is not None and "text" in (modalities or MODALITIES):
        check_name(options.text_encoder, owner=False)  # before the data are read, which may take long
    whole = load_splits(
        options.dataset, options.data, options.data_config, options.data_revision, label_range, wanted,
        options.problem_type,
    )  # fmt: skip
    there = ["text", *(name for name in whole["train"].widths if name != "word_vectors")]
    modalities = list(modalities or _own_modalities(whole, options) or MODALITIES)
    if unknown := set(modalities) - set(MODALITIES) - set(there):
        raise ValueError(f"{sorted(unknown)} are not modalities; expected some of {', '.join(there)}.")
    splits = _with(modalities, whole)
    for name in set(modalities) - {"text"} - splits["train"].widths.keys():
        raise ValueError(f"The data have no {name}. Leave it out: --modalities {' '.join(there)}.")
    modalities = _learnable(modalities, splits, tell)
    splits = _with(modalities, whole)
    tokenizer = _tokenizer(options, splits) if "text" in modalities else None
    if options.context_utterances and tokenizer is None:
        raise ValueError("--context_utterances is for a text encoder, and there is none: leave it out.")
    for split, samples in splits.items():
        said = few_clips(split, len(samples), samples.task.problem_type == REGRESSION)
        if said and split != "train":
            tell(said)
    if tokenizer is not None:
        for split, samples in splits.items():
            try:
                cut = samples.tokenize(tokenizer, options.max_text_tokens, options.context_utterances)
            except DataError as error:
                raise DataError(f"{split} split: {error}") from error
            if cut:
                tell(
                    f"{cut} of {len(samples)} texts of the {split} split have more than {options.max_text_tokens} "
                    "tokens and are cut; see --max_text_tokens."
                )
    left_out = {*MODALITIES, *there} - set(modalities)
    return Inputs(splits, modalities, left_out, tokenizer, _extractor(options, splits))


def _own_modalities(splits: Splits, options: RunOptions) -> list[str]:
    """Returns the modalities of data that have others than text, audio and vision, or have text alone."""
    sequences = ["text" if name == "word_vectors" else name for name in splits["train"].widths]
    if sequences and not set(sequences) - set(MODALITIES):
        return []
    return list(dict.fromkeys([*["text"] * (options.text_encoder is not None), *sequences]))


def _with(modalities: list[str], splits: Splits) -> Splits:
    others = splits["train"].widths.keys() - {"word_vectors" if name == "text" else name for name in modalities}
    return {split: samples.without(others) for split, samples in splits.items()} if others else splits


def _learnable(modalities: list[str], splits: Splits, tell: Callable[[str], None]) -> list[str]:
    """
    Returns the modalities that any training clip has. Nothing can be learned of the others: their encoders would still
    be untrained in the test.
    """
    train = splits["train"]
    columns = {"text" if name == "word_vectors" else name: name for name in train.widths}
    lacking = [name for name in modalities if name in columns and not train.lengths(columns[name]).any()]
    there = [name for name in modalities if name not in lacking]
    if lacking and not there:
        raise ValueError(f"The training clips have no {', '.join(lacking)}: there is nothing to learn from.")
    for name in lacking:
        tell(f"No training clip has {name}: it is left out, as with --modalities {' '.join(there)}.")
    return there


def _tokenizer(options: RunOptions, splits: Splits) -> PreTrainedTokenizerBase | None:
    if options.text_encoder is not None:
        name, revision = options.text_encoder, options.text_encoder_revision
        if not take_from_hub(name, "the text encoder", revision, owner=False) and revision is not None:
            raise ValueError(f"--text_encoder_revision needs a repository, but {name} is a folder. Leave it out.")
        tokenizer = load_tokenizer(name, revision)
        if not any(text.strip() for text in splits["train"]["text"]):
            there = list(splits["train"].widths)
            instead = (
                "train on the word vectors, without --text_encoder"
                if "word_vectors" in there
                else f"leave the text out with --modalities {' '.join(there)}"
            )
            raise ValueError(f"The training clips have no words for a text encoder to read: {instead}.")
        return tokenizer
    if options.dataset == "demo":
        return demo_tokenizer()
    if "word_vectors" in splits["train"].widths:
        return None
    there = " ".join(splits["train"].widths)
    without = f", or leave the text out with --modalities {there}" if there else ""
    raise ValueError(f"The data set {options.dataset} needs --text_encoder, a repository or a folder{without}.")


def _extractor(options: RunOptions, splits: Splits) -> SelfMMFeatureExtractor:
    train = splits["train"]
    widths = {"text" if name == "word_vectors" else name: width for name, width in train.widths.items()}
    extractor = find_recipe(options.dataset, options.data, options.data_revision)
    if extractor is None:
        given = {name: {"kind": "features", "dim": width} for name, width in widths.items()}
        return SelfMMFeatureExtractor(**{"audio": None, "vision": None, **given})
    for name in extractor.recipe.keys() - widths.keys():
        if extractor.others.pop(name, None) is None:
            setattr(extractor, name, None)
    for name in widths.keys() - extractor.recipe.keys():
        extractor.others[name] = {"kind": "features", "dim": widths[name]}
    for name, width in widths.items():
        if extractor.known_width(name) not in (None, width):
            raise ValueError(
                f"The {name} features of {options.data} are {width} wide, but its recipe makes "
                f"{extractor.known_width(name)} columns: they come from another recipe."
            )
    extractor.fit_normalization({name: train.frames(name, row) for name in widths} for row in range(len(train)))
    for samples in splits.values():
        samples.extractor = extractor
    return extractor
