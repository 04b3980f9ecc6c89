"""
CMU-MOSI, and a pattern for other data sets in the MMSA layout: add yours to `BUILDERS` in `data/__init__.py`,
and its name to `Dataset` in `selfmm_cli/data.py`.

The SHA-256 is from the README of thuiar/MMSA, the SHA-1 that of the file that the README of thuiar/Self-MM names.
"""

from .builder import FeatureBuilder, FeatureConfig


class Mosi(FeatureBuilder):
    """CMU-MOSI from a feature file in the MMSA layout: see [`FeatureBuilder`]."""

    TITLE = "CMU-MOSI"
    ABOUT = "2199 opinion clips from 93 English YouTube monologues about films, rated from -3 (strongly negative) to 3."
    LANGUAGE = "en"
    LABEL_RANGE = 3.0
    VOCABULARY = 30522  # of bert-base-uncased, which made the tokens in the file
    HOMEPAGE = "http://multicomp.cs.cmu.edu/resources/cmu-mosi-dataset/"
    CITATION = """@article{zadeh2016mosi,
  title = {{MOSI}: Multimodal corpus of sentiment intensity and subjectivity analysis in online opinion videos},
  author = {Zadeh, Amir and Zellers, Rowan and Pincus, Eli and Morency, Louis-Philippe},
  journal = {arXiv preprint arXiv:1606.06259},
  year = {2016}
}"""
    BUILDER_CONFIGS = (
        FeatureConfig(
            name="unaligned",
            checksums=(
                "78e0f8b5ef8ff71558e7307848fc1fa929ecb078203f565ab22b9daab2e02524",
                "5da0b8440fc5a7c3a457859af27458beb993e088",
            ),
        ),
        FeatureConfig(
            name="aligned",
            checksums=(
                "d3994fd25681f9c7ad6e9c6596a6fe9b4beb85ff7d478ba978b124139002e5f9",
                "5c62b896619a334a7104c8bef05d82b05272c71c",
            ),
        ),
    )
    DEFAULT_CONFIG_NAME = "unaligned"
