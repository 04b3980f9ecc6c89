"""CH-SIMS. SHA-256 from the README of thuiar/MMSA, SHA-1 of the file that the README of thuiar/Self-MM names."""

from .builder import FeatureBuilder, FeatureConfig


class Sims(FeatureBuilder):
    """CH-SIMS from a feature file in the MMSA layout: see [`FeatureBuilder`]."""

    TITLE = "CH-SIMS"
    ABOUT = (
        "2281 clips from Chinese films, series and shows, rated from -1 (negative) to 1, as a whole and by "
        "words, voice and face alone."
    )
    LANGUAGE = "zh"
    LABEL_RANGE = 1.0
    VOCABULARY = 21128  # of bert-base-chinese, which made the tokens in the file
    HOMEPAGE = "https://github.com/thuiar/MMSA"
    CITATION = """@inproceedings{yu2020chsims,
  title = {{CH-SIMS}: A {C}hinese Multimodal Sentiment Analysis Dataset with Fine-grained Annotation of Modality},
  author = {Yu, Wenmeng and Xu, Hua and Meng, Fanyang and others},
  booktitle = {Proceedings of ACL},
  year = {2020}
}"""
    BUILDER_CONFIGS = (
        FeatureConfig(
            name="unaligned",
            checksums=(
                "c9e20c13ec0454d98bb9c1e520e490c75146bfa2dfeeea78d84de047dbdd442f",
                "a00c73e92f66896403c09dbad63e242d5af756f8",
            ),
        ),
    )
