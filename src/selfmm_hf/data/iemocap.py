"""IEMOCAP in the split and the files of MulT. No checksum of a published file is known."""

from ..model.task_selfmm import MULTI_LABEL, SINGLE_LABEL, Task
from .builder import FeatureBuilder, FeatureConfig
from .mmsa import EMOTIONS, DataError


class Iemocap(FeatureBuilder):
    """
    IEMOCAP from `iemocap_data.pkl` (aligned) or `iemocap_data_noalign.pkl` (unaligned) of MulT
    (yaohungt/Multimodal-Transformer): 2717 / 798 / 938 clips with GloVe vectors of the words, COVAREP and Facet,
    without ids and words.

    Labels are those of four emotions, each there or not, as MulT evaluates them; or, with
    `problem_type="single_label_classification"`, the one emotion of each clip.
    """

    TITLE = "IEMOCAP"
    ABOUT = (
        "4453 utterances of ten actors in English dialogues, by annotators neutral, happy, sad or angry: the split and "
        "the features of MulT."
    )
    LANGUAGE = "en"
    LABEL_RANGE = None
    HOMEPAGE = "https://sail.usc.edu/iemocap/"
    CITATION = """@article{busso2008iemocap,
  title = {{IEMOCAP}: Interactive Emotional Dyadic Motion Capture Database},
  author = {Busso, Carlos and Bulut, Murtaza and Lee, Chi-Chun and others},
  journal = {Language Resources and Evaluation},
  year = {2008}
}"""
    BUILDER_CONFIGS = (FeatureConfig(name="unaligned"), FeatureConfig(name="aligned"))
    DEFAULT_CONFIG_NAME = "unaligned"

    @classmethod
    def task_of(cls, problem_type: str | None = None) -> Task:
        if problem_type not in (None, MULTI_LABEL, SINGLE_LABEL):
            raise DataError(f"Labels of {cls.TITLE} are emotions: {MULTI_LABEL} or {SINGLE_LABEL}; got {problem_type}.")
        return Task(EMOTIONS, problem_type or MULTI_LABEL)
