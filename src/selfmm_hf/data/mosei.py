"""CMU-MOSEI. SHA-256 from the README of thuiar/MMSA, SHA-1 of the file that the README of thuiar/Self-MM names."""

from .builder import FeatureBuilder, FeatureConfig


class Mosei(FeatureBuilder):
    """CMU-MOSEI from a feature file in the MMSA layout: see [`FeatureBuilder`]."""

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
        FeatureConfig(
            name="unaligned",
            checksums=(
                "ad8b23d50557045e7d47959ce6c5b955d8d983f2979c7d9b7b9226f6dd6fec1f",
                "db3e2cff4d706a88ee156981c2100975513d4610",
            ),
        ),
        FeatureConfig(
            name="aligned",
            checksums=(
                "45eccfb748a87c80ecab9bfac29582e7b1466bf6605ff29d3b338a75120bf791",
                "ef49589349bc1c2bc252ccc0d4657a755c92a056",
            ),
        ),
    )
    DEFAULT_CONFIG_NAME = "unaligned"
