"""A data set of one's own: a folder with a table of the clips, and a feature file for each clip and modality."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ...model.task_selfmm import Task
from ..builder import FeatureBuilder, FeatureConfig, Origin
from ..mmsa import DataError, FeatureTable, Rules
from ..targets import check_reach, score
from .folder import list_files, read_folder
from .labels import table_task
from .table import TABLES, find_table, read_splits


@dataclass
class CustomConfig(FeatureConfig):
    """
    Args:
        label_range: Labels lie in [-label_range, label_range]; `None`: 3.
        fingerprint: Of the folder, so that a cache made from other files is not used; [`Custom`] sets it.
    """

    label_range: float | None = None
    fingerprint: str = ""

    def __post_init__(self):
        super().__post_init__()
        if self.label_range not in (None, 1, 3):
            raise DataError(f"label_range is 3, scored as MOSI, or 1, scored as SIMS; got {self.label_range}.")


class Custom(FeatureBuilder):
    """
    A data set of one's own: a folder, see [`read_folder`], or one file in the MMSA layout.

        Custom(data_dir="folder", label_range=1.0)
        Custom(data_dir="folder", name="fold1of5")
        Custom(config_name="unaligned", data_files="features.pkl")
    """

    BUILDER_CONFIG_CLASS = CustomConfig
    TITLE = "a custom data set"
    ABOUT = "A data set of its user's own."
    LANGUAGE = None
    LABEL_RANGE = 3.0
    BUILDER_CONFIGS = (CustomConfig(name="unaligned"), CustomConfig(name="aligned"))

    def __init__(self, *args: Any, data_dir: str | Path | None = None, **options: Any):
        if data_dir is not None:  # without a config_name, which makes it "default"
            data_dir = str(Path(data_dir).absolute())
            options["fingerprint"] = _fingerprint(Path(data_dir))
        super().__init__(*args, data_dir=data_dir, **options)

    @cached_property
    def task(self) -> Task:
        if self.config.data_dir is not None:
            file = find_table(Path(self.config.data_dir))
            if said := table_task(file, read_splits(file, self.config.name), self.config.problem_type):
                return said
        usual = self.task_of(self.config.problem_type)
        return usual if usual.label_range is None else score(self.config.label_range or self.LABEL_RANGE)

    def file(self) -> str:
        return super().file() if self.config.data_dir is None else str(find_table(Path(self.config.data_dir)))

    def tables(self, file: Path) -> dict[str, FeatureTable]:
        if self.config.data_dir is None:
            return super().tables(file)
        rules = Rules(self.config.not_finite, self.task)
        tables = read_folder(file.parent, rules, self.config.problem_type, self.config.name)
        digest = hashlib.sha256(file.read_bytes() + self.config.fingerprint.encode())
        self.origin = Origin(file.parent.name, digest.hexdigest())
        check_reach(self.task, [table.columns["label"] for table in tables.values()], file, own=True)
        for notice in tables["train"].folder.unused(tables.values()):
            self._notice(notice)
        return tables


def is_custom(folder: Path) -> bool:
    """Whether this is a folder of one's own, by its table."""
    return any((folder / name).is_file() for name in TABLES)


def _fingerprint(folder: Path) -> str:
    return hashlib.sha256(repr(sorted(list_files(folder).items())).encode()).hexdigest()
