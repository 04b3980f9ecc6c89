"""CMU-MOSEI. SHA-256 from the README of thuiar/MMSA, SHA-1 of the file that the README of thuiar/Self-MM names."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..model.task_selfmm import Task
from .builder import FeatureBuilder, FeatureConfig, checksums
from .mmsa import FeatureTable
from .mosei_emotions import emotion_task, join_emotions
from .targets import score


@dataclass
class MoseiConfig(FeatureConfig):
    """
    Args:
        emotions: A table of the emotions, see [`read_emotions`], which become the labels; `None`: the sentiment is.
        emotions_sha256: Of this file, so that a cache made with another one is not used; [`Mosei`] sets it.
    """

    emotions: str | None = None
    emotions_sha256: str = ""


class Mosei(FeatureBuilder):
    """CMU-MOSEI from a feature file in the MMSA layout: see [`FeatureBuilder`]."""

    BUILDER_CONFIG_CLASS = MoseiConfig
    TITLE = "CMU-MOSEI"
    ABOUT = "22856 clips of English YouTube monologues by a thousand speakers, rated from -3 (strongly negative) to 3."
    LANGUAGE = "en"
    LABEL_RANGE = 3.0
    VOCABULARY = 30522  # of bert-base-uncased, which made the tokens in the file
    HOMEPAGE = "http://multicomp.cs.cmu.edu/resources/cmu-mosei-dataset/"
    CITATION = """@inproceedings{zadeh2018mosei,
  title = {Multimodal Language Analysis in the Wild: {CMU-MOSEI} Dataset and Interpretable Dynamic Fusion Graph},
  author = {Zadeh, AmirAli Bagher and Liang, Paul Pu and Poria, Soujanya and Cambria, Erik and Morency, Louis-Philippe},
  booktitle = {Proceedings of ACL},
  year = {2018}
}"""
    BUILDER_CONFIGS = (
        MoseiConfig(
            name="unaligned",
            checksums=(
                "ad8b23d50557045e7d47959ce6c5b955d8d983f2979c7d9b7b9226f6dd6fec1f",
                "db3e2cff4d706a88ee156981c2100975513d4610",
            ),
        ),
        MoseiConfig(
            name="aligned",
            checksums=(
                "45eccfb748a87c80ecab9bfac29582e7b1466bf6605ff29d3b338a75120bf791",
                "ef49589349bc1c2bc252ccc0d4657a755c92a056",
            ),
        ),
    )
    DEFAULT_CONFIG_NAME = "unaligned"

    def __init__(self, *args: Any, emotions: str | Path | None = None, **options: Any):
        if emotions is not None:
            path = Path(emotions).absolute()
            options |= {"emotions": str(path), "emotions_sha256": checksums(path)["sha256"] if path.is_file() else ""}
        super().__init__(*args, **options)

    @property
    def task(self) -> Task:
        return super().task if self.config.emotions is None else emotion_task(self.config.problem_type)

    @property
    def task_in_file(self) -> Task:
        return self.task if self.config.emotions is None else score(self.LABEL_RANGE)

    def tables(self, file: Path) -> dict[str, FeatureTable]:
        tables = super().tables(file)
        if self.config.emotions is not None:
            for notice in join_emotions(tables, Path(self.config.emotions), self.task):
                self._notice(f"{file.name}: {notice} (SHA-256 {self.config.emotions_sha256})")
        return tables
