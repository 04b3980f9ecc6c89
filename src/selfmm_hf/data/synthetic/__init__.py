"""A corpus that the project generates itself, in which the sentiment of each modality is known.

No real English data set has labels per modality, so nothing else can measure generated unimodal labels. Each utterance
has a sentiment in its words, its voice and its face. Usually the three agree; in about a third of the utterances they
do not: sarcasm, a flat voice, a poker face, a masking smile. The fused label is that of an annotator who trusts the
words most, in steps of 0.2 as in CMU-MOSI.

The voice is synthesised sound, the face a moving landmark mesh. Both become features by the recipe for real clips.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from datasets import BuilderConfig, DatasetDict, DatasetInfo, GeneratorBasedBuilder, SplitGenerator, Value, Version

from ...environment import cores
from ...model.audio_features_selfmm import LIBROSA33_COLUMNS, librosa33
from ...model.vision_features_selfmm import COLUMNS, face_features
from ..columns import UNIMODAL_LABELS, features
from .face import FRAME_RATE, face_motion
from .voice import synthesise_voice
from .words import demo_text_config, demo_tokenizer, sentence

SIZES = {"train": 1000, "validation": 200, "test": 300}
FUSION_WEIGHTS = {"text": 0.5, "audio": 0.25, "vision": 0.25}
# How the modalities of an utterance relate, and how often.
SITUATIONS = {
    "agreement": 0.62,
    "sarcasm": 0.14,
    "flat voice": 0.08,
    "poker face": 0.08,
    "masking smile": 0.08,
}


@dataclass
class Utterance:
    """
    What is said, heard and seen of one speaker.

    Args:
        text: The words.
        sound: (samples,) float32, 22050 Hz.
        landmarks: (468, 3) for each of 10 frames a second, or `None` where the face is not seen.
        sentiment: Sentiment of `text`, `audio` and `vision`, in [-3, 3].
        situation: One of `SITUATIONS`.
    """

    text: str
    sound: np.ndarray
    landmarks: list[np.ndarray | None]
    sentiment: dict[str, float]
    situation: str

    @property
    def label(self) -> float:
        """The annotated label, in [-3, 3]: a weighted mean of the modalities' sentiments, in steps of 0.2."""
        fused = sum(weight * self.sentiment[modality] for modality, weight in FUSION_WEIGHTS.items())
        return round(round(fused / 0.2) * 0.2, 1)


def utterance(seed: int, split: str, row: int) -> Utterance:
    """Makes one utterance of the corpus, which does not depend on the others."""
    random = np.random.default_rng([seed, list(SIZES).index(split), row])
    situation = str(random.choice(list(SITUATIONS), p=list(SITUATIONS.values())))
    sentiment = _sentiments(random, situation)
    text = sentence(random, sentiment["text"])
    voice = synthesise_voice(random, sentiment["audio"], text.split())
    landmarks = face_motion(random, sentiment["vision"], voice.openness)
    return Utterance(text, voice.sound, landmarks, sentiment, situation)


@dataclass
class DemoConfig(BuilderConfig):
    """
    Args:
        seed: Any integer.
        sizes: Utterances by split.
    """

    version: Version | str | None = "2.0.0"  # must be raised if the rows change, or caches keep the old ones
    seed: int = 0
    sizes: dict[str, int] = field(default_factory=dict)


class Demo(GeneratorBasedBuilder):
    """The corpus as features. It is rendered once; afterwards it comes from the cache of `datasets`."""

    BUILDER_CONFIG_CLASS = DemoConfig

    def _info(self) -> DatasetInfo:
        types = features({"audio": len(LIBROSA33_COLUMNS), "vision": len(COLUMNS)}, UNIMODAL_LABELS.values())
        types["situation"] = Value("string")
        return DatasetInfo(features=types)

    def _split_generators(self, dl_manager) -> list[SplitGenerator]:
        # `datasets` divides these lists among its processes.
        return [
            SplitGenerator(name=split, gen_kwargs={"split": split, "rows": list(range(size))})
            for split, size in self.config.sizes.items()
        ]

    def _generate_examples(self, split: str, rows: list[int]) -> Iterator[tuple[int, dict[str, Any]]]:
        for row in rows:
            one = utterance(self.config.seed, split, row)
            yield (
                row,
                {
                    "id": f"{split}{row:04d}$_$1",
                    "text": one.text,
                    "audio": librosa33(one.sound),
                    "vision": face_features(one.landmarks, FRAME_RATE)[0],
                    "label": one.label,
                    "situation": one.situation,
                    **{UNIMODAL_LABELS[modality]: value for modality, value in one.sentiment.items()},
                },
            )


def demo_corpus(seed: int = 0, sizes: dict[str, int] | None = None) -> DatasetDict:
    """
    Returns the corpus, which is the same for the same seed. Rendering all of it takes about a minute, the first time.

    Args:
        seed: Any integer.
        sizes: Utterances by split; `SIZES` by default.

    Returns:
        The splits. Columns as by [`features`], audio 33 (`librosa33`) and vision 41 (`face`) wide, with `label_text`,
        `label_audio` and `label_vision`, the known sentiment of each in [-3, 3], and `situation`.

    Raises:
        ImportError: A library of the extra `clips` is missing.
    """
    builder = Demo(seed=seed, sizes=sizes or SIZES)
    many = sum(builder.config.sizes.values()) > 100
    builder.download_and_prepare(num_proc=cores() if many else None)
    return builder.as_dataset()


def _sentiments(random: np.random.Generator, situation: str) -> dict[str, float]:
    base = random.uniform(-3, 3)
    sentiment = {modality: base + random.normal(0, 0.3) for modality in FUSION_WEIGHTS}
    if situation == "sarcasm":  # nice words in a bitter voice
        sentiment["text"] = abs(sentiment["text"])
        sentiment["audio"], sentiment["vision"] = -abs(sentiment["audio"]), -abs(sentiment["vision"])
    elif situation == "flat voice":
        sentiment["audio"] = random.normal(0, 0.2)
    elif situation == "poker face":
        sentiment["vision"] = random.normal(0, 0.2)
    elif situation == "masking smile":
        sentiment["text"], sentiment["audio"] = -abs(sentiment["text"]), -abs(sentiment["audio"])
        sentiment["vision"] = abs(sentiment["vision"])
    return {modality: float(np.clip(value, -3, 3)) for modality, value in sentiment.items()}


__all__ = ["FUSION_WEIGHTS", "SITUATIONS", "SIZES", "Utterance", "demo_corpus", "demo_text_config", "demo_tokenizer"]
