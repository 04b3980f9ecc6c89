"""A corpus that the project generates itself, in which the sentiment of each modality is known.

No real English data set has labels per modality, so nothing else can measure generated unimodal labels. Each
utterance has a sentiment in its words, its voice and its face, usually one and the same, in about a third of the
utterances not: sarcasm, a flat voice, a poker face, a masking smile. The fused label is what an annotator would say
who trusts the words most, in steps of 0.2 as in CMU-MOSI.

The words are English, the voice and the face are drawn as feature sequences: contours that rise or fall with the
sentiment, in noise, on a speaker's own level.
"""

import math

import numpy as np
from datasets import Dataset, DatasetDict, Value
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, PreTrainedTokenizerFast

from .columns import UNIMODAL_LABELS, features

SIZES = {"train": 1000, "validation": 200, "test": 300}
AUDIO_DIM, VISION_DIM = 5, 6
FUSION_WEIGHTS = {"text": 0.5, "audio": 0.25, "vision": 0.25}
# How an utterance's modalities relate, with probabilities.
SITUATIONS = {
    "agreement": 0.62,
    "sarcasm": 0.14,
    "flat voice": 0.08,
    "poker face": 0.08,
    "masking smile": 0.08,
}

OPENINGS = ["well", "honestly", "so", "you know", "i mean", "look", "okay", "um", "to be fair", "all in all"]
SUBJECTS = [
    "the movie", "this film", "the story", "the acting", "the ending", "the whole plot", "the director", "the cast",
    "the music", "the first half", "the dialogue", "that last scene", "the camera work", "the script",
]  # fmt: skip
VERBS = ["was", "felt", "seemed", "is"]
LINKS = ["and", "also", "plus", "then"]
CLOSINGS = [
    "if you ask me", "i guess", "that is all", "for what it is worth", "in the theater", "you will see",
    "when we watched it", "at least tonight",
]  # fmt: skip
# Words by sentiment; "not" in front turns one round and halves it.
WORDS = {
    -3: ["horrible", "disgusting", "unbearable", "atrocious", "dreadful", "worthless"],
    -2: ["bad", "boring", "annoying", "stupid", "painful", "lousy"],
    -1: ["slow", "weak", "flat", "clumsy", "messy", "dull"],
    0: ["long", "average", "usual", "typical", "okay", "neutral"],
    1: ["decent", "nice", "fine", "solid", "pleasant", "neat"],
    2: ["good", "funny", "clever", "touching", "great", "lovely"],
    3: ["amazing", "brilliant", "wonderful", "fantastic", "perfect", "superb"],
}


def demo_corpus(seed: int = 0, sizes: dict[str, int] | None = None) -> DatasetDict:
    """
    The corpus, the same for the same seed.

    Args:
        seed: Any integer.
        sizes: Utterances by split; `SIZES` by default.

    Returns:
        The splits, in memory. Columns as by [`features`], audio 5 and vision 6 wide, with `label_text`, `label_audio`
        and `label_vision`, the known sentiment of each in [-3, 3], and `situation`.
    """
    random = np.random.default_rng(seed)
    types = features({"audio": AUDIO_DIM, "vision": VISION_DIM}, UNIMODAL_LABELS.values())
    types["situation"] = Value("string")
    splits = DatasetDict()
    for split, size in (sizes or SIZES).items():
        samples = [_utterance(random, f"{split}{speaker:04d}") for speaker in range(size)]
        columns = {name: [sample[name] for sample in samples] for name in types}
        splits[split] = Dataset.from_dict(columns, types)
    return splits


def demo_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of whole words that knows every word of the corpus."""
    phrases = [
        *OPENINGS,
        *SUBJECTS,
        *VERBS,
        *LINKS,
        *CLOSINGS,
        "not",
        *(word for level in WORDS.values() for word in level),
    ]
    words = dict.fromkeys(word for phrase in phrases for word in phrase.split())
    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
    )


def demo_text_config() -> BertConfig:
    """A BERT small enough to be trained from nothing together with the rest."""
    return BertConfig(
        vocab_size=len(demo_tokenizer()),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=64,
        type_vocab_size=1,
        pad_token_id=0,
    )


def _utterance(random: np.random.Generator, name: str) -> dict:
    situation = str(random.choice(list(SITUATIONS), p=list(SITUATIONS.values())))
    sentiment = _sentiments(random, situation)
    text, words = _sentence(random, sentiment["text"])
    fused = sum(weight * sentiment[modality] for modality, weight in FUSION_WEIGHTS.items())
    return {
        "id": f"{name}$_$1",
        "text": text,
        "audio": _voice(random, sentiment["audio"], words),
        "vision": _face(random, sentiment["vision"], words),
        "label": round(round(float(fused) / 0.2) * 0.2, 1),
        "situation": situation,
        **{UNIMODAL_LABELS[modality]: float(value) for modality, value in sentiment.items()},
    }


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


def _sentence(random: np.random.Generator, sentiment: float) -> tuple[str, int]:
    def word(level: float) -> str:
        level = int(np.clip(round(level), -3, 3))
        if abs(level) == 1 and random.random() < 0.3:
            return "not " + random.choice(WORDS[-2 * level])
        return str(random.choice(WORDS[level]))

    parts = [random.choice(OPENINGS)] if random.random() < 0.6 else []
    clauses = random.integers(1, 4)
    left = sentiment * clauses  # what the remaining clauses still have to say
    for clause in range(clauses):
        level = np.clip(round(left / (clauses - clause) + random.normal(0, 0.3)), -3, 3)
        left -= level
        parts += [random.choice(LINKS)] if clause else []
        parts += [random.choice(SUBJECTS), random.choice(VERBS), word(level)]
    parts += [random.choice(CLOSINGS)] if random.random() < 0.4 else []
    text = " ".join(map(str, parts))
    return text, len(text.split())


def _voice(random: np.random.Generator, sentiment: float, words: int) -> np.ndarray:
    """Pitch, energy, tremor, speaking rate and breath, some 2 frames a word."""
    frames = int(words * random.uniform(1.5, 2.5)) + 2
    time = np.linspace(0, 1, frames)
    strength = sentiment / 3
    voice = random.normal(0, 0.5, (frames, AUDIO_DIM)) + random.normal(0, 0.2, AUDIO_DIM)
    voice[:, 0] += strength * (0.4 + 1.2 * time)  # pitch rises when pleased, falls when not
    voice[:, 1] += strength * (1 + np.sin(2 * math.pi * 3 * time)) / 2
    voice[:, 2] += 0.8 * abs(strength) * np.cos(2 * math.pi * 5 * time)  # aroused, either way
    voice[:, 3] += 0.5 * strength
    return voice.astype(np.float32)


def _face(random: np.random.Generator, sentiment: float, words: int) -> np.ndarray:
    """Mouth corners, brows, eyes, cheeks, head turn and nod, some 1.5 frames a word, the expression in one moment."""
    frames = int(words * random.uniform(1.2, 1.8)) + 2
    time = np.linspace(0, 1, frames)
    strength = sentiment / 3
    expression = np.exp(-(((time - random.uniform(0.3, 0.8)) / 0.25) ** 2))
    face = random.normal(0, 0.5, (frames, VISION_DIM)) + random.normal(0, 0.2, VISION_DIM)
    face[:, 0] += 2.0 * strength * expression  # a smile
    face[:, 1] += 1.2 * strength * expression  # brows up, or a frown
    face[:, 2] -= 0.8 * abs(strength) * expression  # narrowed eyes, either way
    face[:, 3] += max(strength, 0) * expression  # cheeks rise in a real smile
    return face.astype(np.float32)
