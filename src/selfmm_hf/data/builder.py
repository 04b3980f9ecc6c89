"""What the builders of all data sets share: from splits of samples to Arrow, by way of `datasets`.

A new data set is a subclass in a module of its own, and an entry of `BUILDERS` in `data/__init__.py`. If its files are
not in the MMSA layout, it overrides `tables`.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from datasets import BuilderConfig, DatasetInfo, GeneratorBasedBuilder, SplitGenerator, Version
from datasets.exceptions import DatasetGenerationError
from datasets.utils import tqdm

from ..model.task_selfmm import REGRESSION, SINGLE_LABEL, Task
from ..storage.whole_files import writing
from .columns import features
from .mmsa import DataError, FeatureTable, Rules, read_mmsa
from .targets import SENTIMENTS, check_reach, score

logger = logging.getLogger(__name__)


@dataclass
class FeatureConfig(BuilderConfig):
    """
    One version of a data set.

    Args:
        not_finite: What becomes of frame values that are not finite: `zero`, `keep` or `refuse`; see [`Rules`].
        problem_type: What the labels are to be, where a data set has several kinds, in transformers' words; `None`:
            the usual kind.
        checksums: SHA-256 or SHA-1 of the published files, the one to be named first.
    """

    version: Version | str | None = "1.0.0"  # to be raised where the rows change, or a cache keeps the old ones
    not_finite: str = "zero"
    problem_type: str | None = None
    checksums: tuple[str, ...] = ()


class Origin(NamedTuple):
    """
    The file that a data set was made from, for its card: its name, its checksum, whether it was published, and of which
    data set for research use it then is, whatever the builder.
    """

    name: str
    sha256: str
    published: bool = False
    research: str | None = None


def layout(table: FeatureTable) -> str:
    """Whether each modality has frames of its own (`unaligned`), or one for each token (`aligned`)."""
    return "aligned" if table.aligned else "unaligned"


def checksums(file: Path) -> dict[str, str]:
    """SHA-256 and SHA-1, in hexadecimal."""
    digests = {"sha256": hashlib.sha256(), "sha1": hashlib.sha1()}
    size = file.stat().st_size
    with file.open("rb") as content, tqdm(total=size, unit="B", unit_scale=True, desc="Checksum") as bar:
        while block := content.read(1 << 24):
            for digest in digests.values():
                digest.update(block)
            bar.update(len(block))
    return {name: digest.hexdigest() for name, digest in digests.items()}


class FeatureBuilder(GeneratorBasedBuilder):
    """
    A data set from a feature file in the MMSA layout, with the columns of [`features`]:

        builder = Mosi(config_name="unaligned", data_files="unaligned_50.pkl")
        builder.download_and_prepare()
        dataset = builder.as_dataset()  # train, validation, test; memory-mapped

    Raises:
        DataError: The file is missing, wrong, or of another data set.
    """

    BUILDER_CONFIG_CLASS = FeatureConfig
    DEFAULT_WRITER_BATCH_SIZE = 128  # some MB of frames

    TITLE: ClassVar[str]
    ABOUT: ClassVar[str]
    LANGUAGE: ClassVar[str | None]
    LABEL_RANGE: ClassVar[float | None]
    VOCABULARY: ClassVar[int | None] = None
    HOMEPAGE: ClassVar[str] = ""
    CITATION: ClassVar[str] = ""

    origin: Origin | None = None
    notices: tuple[str, ...] = ()

    @property
    def task(self) -> Task:
        """What the labels are."""
        return self.task_of(self.config.problem_type)

    @property
    def task_in_file(self) -> Task:
        """What the labels in the feature file are."""
        return self.task

    @classmethod
    def task_of(cls, problem_type: str | None = None) -> Task:
        """
        What the labels are of a kind that the data set has; `None`: of its usual kind.

        Raises:
            DataError: It has none of this kind.
        """
        if problem_type in (None, REGRESSION):
            return score(cls.LABEL_RANGE)
        if problem_type == SINGLE_LABEL:
            return Task(SENTIMENTS, SINGLE_LABEL)
        raise DataError(
            f"Labels of {cls.TITLE} are scores, or {', '.join(SENTIMENTS)} by problem_type {SINGLE_LABEL}; "
            f"got {problem_type}."
        )

    @property
    def label_range(self) -> float | None:
        """Labels lie in [-label_range, label_range]; `None` where they are no such score."""
        return self.task.label_range

    def download_and_prepare(self, *args: Any, **options: Any) -> None:
        try:
            super().download_and_prepare(*args, **options)
        except DatasetGenerationError as error:  # what is wrong with the data, rather than that something is
            if not isinstance(cause := error.__cause__, DataError | OSError):
                raise
            if options.get("output_dir"):  # of which whoever named it tells
                raise cause from None
            with writing(Path(self.cache_dir)):
                raise cause from None

    def _info(self) -> DatasetInfo:
        return DatasetInfo(description=self.ABOUT, homepage=self.HOMEPAGE, citation=self.CITATION)

    def _split_generators(self, dl_manager) -> list[SplitGenerator]:
        self.notices = ()
        tables = self.tables(Path(dl_manager.download(self.file())))
        first = tables["train"]
        self.info.features = features(first.widths, first.columns, first.label_type)
        return [SplitGenerator(name=split, gen_kwargs={"table": table}) for split, table in tables.items()]

    def _generate_examples(self, table: FeatureTable) -> Iterator[tuple[int, dict[str, Any]]]:
        yield from enumerate(table.samples())
        for notice in table.notices():
            self._notice(notice)

    def _notice(self, notice: str) -> None:
        logger.warning(notice)
        self.notices += (notice,)

    def file(self) -> str:
        """What the data set is made from."""
        files = [file for files in (self.config.data_files or {}).values() for file in files]
        if len(files) != 1:
            raise DataError(f"{self.TITLE} is made from one feature file: give data_files='....pkl'; got {len(files)}.")
        return files[0]

    def tables(self, file: Path) -> dict[str, FeatureTable]:
        """The splits of the file, after its checksum was looked up."""
        tables = read_mmsa(file, Rules(self.config.not_finite, self.task_in_file, self.VOCABULARY))
        if (found := layout(tables["train"])) != self.config.name:
            raise DataError(f"{file} is {found}, not {self.config.name}: ask for the configuration {found}.")
        self.origin = self._origin(file)
        for shared in shared_ids({split: table.ids for split, table in tables.items()}):
            self._notice(f"{file}: {shared}")
        labels = [table.columns["label"] for table in tables.values()]
        check_reach(self.task_in_file, labels, file, own=not self.CITATION)
        return tables

    def _origin(self, file: Path) -> Origin:
        found = checksums(file)
        published = published_as(found)
        if published is None:
            if self.config.checksums:
                self._notice(
                    f"{file.name} is not the published file of {self.TITLE}, {self.config.name}: its SHA-256 is "
                    f"{found['sha256']}. It is read all the same, but do not compare its results with published ones."
                )
            return Origin(file.name, found["sha256"])
        title, config = published[0].TITLE, published[1]
        if published != (type(self), self.config.name):
            if self.CITATION:
                asked = f"{self.TITLE}, {self.config.name}"
                raise DataError(f"{file} is the published file of {title}, {config}, not of {asked}.")
            self._notice(f"{file.name} is the published file of {title}, {config}, by its checksum.")
        return Origin(file.name, found["sha256"], True, title)


def shared_ids(ids: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Says of each split the first id that an earlier one has, too."""
    seen: dict[str, str] = {}
    for split, names in ids.items():
        if twice := next((one for one in names if seen.setdefault(one, split) != split), None):
            yield f"the id {twice!r:.80} is in {seen[twice]} and in {split}"


def published_as(found: dict[str, str]) -> tuple[type[FeatureBuilder], str] | None:
    """The data set and configuration of the published file that has these checksums."""
    return next(
        (
            (builder, config.name)
            for builder in FeatureBuilder.__subclasses__()
            for config in builder.BUILDER_CONFIGS
            if not set(config.checksums).isdisjoint(found.values())
        ),
        None,
    )
