"""The data sets: read from the files that are passed around, kept as Arrow, handed out as samples."""

import glob
from collections.abc import Sequence
from pathlib import Path

from datasets import DatasetDict
from transformers import PreTrainedTokenizerBase

from ..metrics import METRICS
from ..model.feature_extraction_selfmm import SelfMMFeatureExtractor
from ..model.processing_selfmm import SelfMMProcessor
from ..model.task_selfmm import Task
from ..storage.hub_names import check_name
from .builder import FeatureBuilder, layout
from .columns import SPLITS, odd_column
from .custom import Custom, is_custom
from .iemocap import Iemocap
from .mmsa import DataError, read_mmsa
from .mosei import Mosei
from .mosi import Mosi
from .prepared import find_prepared, on_hub
from .samples import Samples, as_trained
from .sims import Sims
from .simsv2 import SimsV2
from .synthetic import demo_corpus
from .targets import SENTIMENT, check_reach, describe, score, task_of_type

BUILDERS: dict[str, type[FeatureBuilder]] = {
    "mosi": Mosi,
    "mosei": Mosei,
    "sims": Sims,
    "simsv2": SimsV2,
    "iemocap": Iemocap,
    "custom": Custom,
}
# Labels lie in [-range, range]; `None`: they are no such score.
LABEL_RANGES = {"demo": 3.0, **{name: builder.LABEL_RANGE for name, builder in BUILDERS.items()}}

Splits = dict[str, Samples]


def range_of_labels(dataset: str, wanted: float | None = None) -> float | None:
    """
    Labels lie in [-range, range], by which their metrics are chosen too; `None` where they are no score.

    Args:
        wanted: Of a `custom` data set; the others have theirs.

    Raises:
        DataError: The data set is unknown, or no metrics are known for a custom one of this range.
    """
    if dataset not in LABEL_RANGES:
        raise DataError(f"There is no data set {dataset!r}; expected one of {', '.join(LABEL_RANGES)}.")
    if dataset != "custom" or wanted is None:
        return LABEL_RANGES[dataset]
    if wanted not in METRICS:
        raise DataError(
            f"Labels of a custom data set lie in [-3, 3], scored as for MOSI, or in [-1, 1], scored as for SIMS; "
            f"got label_range {wanted:g}. Scale them."
        )
    return float(wanted)


def load_splits(
    dataset: str,
    data: str | None = None,
    config: str | None = None,
    revision: str | None = None,
    label_range: float | None = None,
    wanted: Sequence[str] = SPLITS,
    problem_type: str | None = None,
) -> Splits:
    """
    Loads the samples of `train`, `validation` and `test`. Each split has its task: `splits["train"].task`.

    Args:
        dataset: `demo`, `mosi`, `mosei`, `sims`, `simsv2`, `iemocap` or `custom`.
        data: Where it is: a published feature file, a folder that `selfmm data prepare` has made, a folder of one's
            own (see [`Custom`]), or a data set repository on the Hub. Nothing for `demo`.
        config: `aligned` or `unaligned`, where there are both; of a folder of one's own a fold across subjects, such
            as `fold1of5`.
        revision: Of the repository.
        label_range: As in [`range_of_labels`].
        wanted: The splits of which anything is read.
        problem_type: What the labels are to be, in transformers' words, where the data set has several kinds.

    Raises:
        DataError: The data set is unknown, its data are missing or wrong, or labels are out of range.
    """
    limit = range_of_labels(dataset, label_range)
    if dataset == "demo":
        if data is not None:
            raise DataError(f"The data set demo is generated and takes no data, got {data}; name --dataset.")
        corpus = demo_corpus()
        return {split: Samples(corpus[split]) for split in wanted}
    if data is None:
        raise DataError(f"The data set {dataset} needs --data: a feature file, a prepared folder, or a repository.")
    builder = find_builder(dataset, data, config, limit, problem_type)
    if builder is None:
        prepared = find_prepared(data, config, revision)
        if prepared.origin is not None and prepared.origin["dataset"] != dataset:
            raise DataError(f"{data} holds the data set {prepared.origin['dataset']}, not {dataset}.")
        if prepared.origin is not None and prepared.origin["not_finite"] == "keep":
            raise DataError(f"{data} was prepared with --not_finite keep, for inspection; training needs zero.")
        splits, task = prepared.load(), prepared.task
        if task is None and "train" in splits:
            task = task_of_type(splits["train"].features.get("label"))
        if task is None or (task.names == (SENTIMENT,) and task.label_range in METRICS):
            # Rather than what a file says of it.
            task = score(limit) if limit else BUILDERS[dataset].task_of(problem_type)
    else:
        builder.download_and_prepare()
        splits, task = builder.as_dataset(), builder.task
    if problem_type not in (None, task.problem_type):
        raise DataError(
            f"The labels of {data} are {describe(task)}, a {task.problem_type}, not a {problem_type}; leave "
            "problem_type out, or prepare the data with it"
        )
    return _checked(splits, data, task, wanted)


def find_builder(
    dataset: str,
    data: str,
    config: str | None = None,
    label_range: float | None = None,
    problem_type: str | None = None,
    **options,
) -> FeatureBuilder | None:
    """
    The builder that reads `data`; `None` where it is Parquet already.

    Args:
        dataset, data, config, label_range, problem_type: As in [`load_splits`].
        options: Fields of [`FeatureConfig`], and `cache_dir`.

    Raises:
        DataError: There is no such file, or it is no feature file.
    """
    path, builder = Path(data), BUILDERS[dataset]
    if problem_type is not None:
        options["problem_type"] = problem_type
    if dataset != "custom" and is_custom(path):
        raise DataError(f"{data} has a table, so it is a data set of your own: take it as custom, not {dataset}.")
    if dataset == "custom":
        options["label_range"] = builder.LABEL_RANGE if label_range is None else label_range
        if is_custom(path):
            return builder(data_dir=data, **({"name": config} if config else {}), **options)
    if (path / "extraction.jsonl").is_file() and not is_custom(path):
        raise DataError(f"{data} is not finished: run the same `selfmm extract` again to resume it.")
    if path.is_file():
        if config is None:
            config = layout(read_mmsa(path)["train"])
        if config not in builder.builder_configs:
            raise DataError(f"{builder.TITLE} has no configuration {config}; expected {list(builder.builder_configs)}.")
        return builder(config_name=config, data_files=glob.escape(str(path.absolute())), **options)
    on_hub(check_name, data)
    return None


def fit_processor(
    splits: Splits,
    tokenizer: PreTrainedTokenizerBase,
    extractor: SelfMMFeatureExtractor | None = None,
    max_tokens: int = 50,
) -> SelfMMProcessor:
    """
    Makes splits ready for [`SelfMMTrainer`]: from now on their samples have tokens, and frames that are normalised by
    the mean and standard deviation of the training split.

    Args:
        splits: `train` and any others.
        tokenizer: Of the text encoder.
        extractor: The recipe of the frames; by default that of the synthetic corpus and of `selfmm extract`.
        max_tokens: Longer texts are cut.

    Returns:
        The processor that does the same with new clips.
    """
    extractor, train = extractor or SelfMMFeatureExtractor(), splits["train"]
    extractor.fit_normalization({name: train.frames(name, row) for name in train.widths} for row in range(len(train)))
    processor = SelfMMProcessor(extractor, tokenizer, max_tokens)
    for samples in splits.values():
        as_trained(samples, processor)
    return processor


def open_splits(splits: DatasetDict, data: str, wanted: Sequence[str] = SPLITS, task: Task | None = None) -> Splits:
    """
    Splits that anybody may have made, with the columns of [`features`] and no nulls in them.

    Args:
        task: What the labels are; by default what their type says: see [`Samples`].

    Raises:
        DataError: A split is missing or empty, or has a wrong column or value; split, column, row and id are named.
    """
    opened: Splits = {}
    for split in wanted:
        if split not in splits or not len(splits[split]):
            raise DataError(f"{data}: split {split!r} is missing or empty; expected {', '.join(SPLITS)}.")
        where = f"{data}, split {split!r}"
        if odd := odd_column(splits[split].features, task):
            raise DataError(f"{where}, {odd}; make the data set with `selfmm data prepare`.")
        try:
            opened[split] = Samples(splits[split], task=task)
        except DataError as error:
            raise DataError(f"{where}, {error}") from None
        if (widths := opened[split].widths) != (first := next(iter(opened.values())).widths):
            raise DataError(f"{where}: the sequences have the widths {widths}, but {first} in {next(iter(opened))!r}.")
    return opened


def _checked(splits: DatasetDict, data: str, task: Task, wanted: Sequence[str]) -> Splits:
    """Checks what builders guarantee, for data that anybody may have made."""
    opened = open_splits(splits, data, wanted, task)
    for split, samples in opened.items():
        if fault := next(samples.faults(), None):
            raise DataError(f"{data}, split {split!r}, {fault}")
    check_reach(task, [samples["label"] for samples in opened.values()], data)
    return opened
