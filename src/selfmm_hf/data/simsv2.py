"""CH-SIMS v2. No checksum of the published file is known."""

from .builder import FeatureBuilder, FeatureConfig


class SimsV2(FeatureBuilder):
    """CH-SIMS v2 from a feature file in the MMSA layout: see [`FeatureBuilder`]."""

    TITLE = "CH-SIMS v2"
    ABOUT = (
        "The labelled part of CH-SIMS v2: 4403 Chinese clips, rated from -1 (negative) to 1, as a whole and "
        "by words, voice and face alone."
    )
    LANGUAGE = "zh"
    LABEL_RANGE = 1.0
    VOCABULARY = 21128  # of bert-base-chinese, which made the tokens in the file
    HOMEPAGE = "https://github.com/thuiar/ch-sims-v2"
    CITATION = """@inproceedings{liu2022chsimsv2,
  title = {Make Acoustic and Visual Cues Matter: {CH-SIMS} v2.0 Dataset and {AV-Mixup} Consistent Module},
  author = {Liu, Yihe and Yuan, Ziqi and Mao, Huisheng and others},
  booktitle = {Proceedings of ICMI},
  year = {2022}
}"""
    BUILDER_CONFIGS = (FeatureConfig(name="unaligned"),)
