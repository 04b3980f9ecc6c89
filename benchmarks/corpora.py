"""Corpora in which the sentiment of each modality is known, each with other parameters, as files in the MMSA layout.

Text is made-up words without grammar, ordered by their sentiment; audio and vision are frames along a direction, with
noise. [`Corpus`] describes what each modality says and how the label follows. `FAMILY` has the corpora that
label_family.py runs. They are unlike the synthetic corpus of the package, on purpose: a rule that holds on one corpus
may hold there alone.
"""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import crema_d
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import BertConfig, BertModel, BertTokenizerFast

SPLITS = {"train": 1.0, "valid": 0.2, "test": 0.4}  # clips, in shares of those of the training split
SCALE = 3.0  # sentiments lie in [-SCALE, SCALE] before they are brought to the range of the labels
TOKENS, FRAMES, WIDTHS = 20, 30, (5, 20)  # most tokens and frames of a clip; widths of audio and vision
SYLLABLES = [consonant + vowel for consonant in "bdfgklmnrs" for vowel in "ao"]
WORDS = [first + second for first in SYLLABLES for second in SYLLABLES]
"""From the most negative to the most positive."""

Columns = dict[str, Any]


@dataclass(frozen=True)
class Corpus:
    """
    Args:
        clips: Number of clips in the training split.
        rule: How the label follows from what text, audio and vision say. `mean`: the weighted mean. `strongest`: the
            one that is farthest from 0. `irony`: if the words are strong (beyond 1) and voice and face both contradict
            them, the mean of voice and face; otherwise the weighted mean. `rated`: all are drawn together, like
            CREMA-D's (crema_d.py); `weights`, `contradicting`, `noise`, `mean` and `deviation` are then ignored.
        weights: Of text, audio and vision; they sum to 1.
        contradicting: Share of the clips in which one of the three, at random, says the opposite of what it would have
            said.
        noise: Standard deviations, in sentiment: of what each modality says by itself, and of the label.
        signal: By how many standard deviations the words, or the frames along their direction, differ for sentiments
            that differ by 1. With 0, the modality says something, but it is not in the input.
        mean, deviation: Those of the sentiment that the modalities share, before it is clipped to [-3, 3].
        label_range: Labels lie in [-label_range, label_range], 3 or 1; sentiments are scaled with them.
        step: Labels are rounded to multiples of it; 0 for no rounding.
        lacking: Share of the clips without audio, and, independently, without vision.
    """

    clips: int = 1000
    rule: str = "mean"
    weights: tuple[float, float, float] = (0.5, 0.25, 0.25)
    contradicting: float = 0.35
    noise: tuple[float, float] = (0.5, 0.15)
    signal: tuple[float, float, float] = (1.0, 0.4, 0.3)
    mean: float = 0.0
    deviation: float = 1.5
    label_range: float = 3.0
    step: float = 0.0
    lacking: float = 0.0


EQUAL = (1 / 3, 1 / 3, 1 / 3)
FAMILY = {
    "balanced": Corpus(weights=EQUAL),
    "words_rule": Corpus(weights=(0.8, 0.1, 0.1), contradicting=0.2),
    "no_voice": Corpus(signal=(1.0, 0.0, 0.3)),
    "agreement": Corpus(contradicting=0.0, noise=(0.25, 0.1)),
    "conflict": Corpus(clips=2000, contradicting=0.7),
    "small": Corpus(clips=250, step=0.2),
    "range_1": Corpus(label_range=1.0, step=0.2),
    "skewed": Corpus(clips=1500, mean=1.3),
    "irony": Corpus(clips=1500, rule="irony", signal=(1.0, 0.6, 0.6)),
    "lacking": Corpus(clips=1500, lacking=0.3),
    "rare_conflict": Corpus(weights=EQUAL, contradicting=0.1, noise=(0.2, 0.05)),
    "weak": Corpus(clips=1500, signal=(0.3, 0.15, 0.1)),
    "few": Corpus(clips=120),
    "one_sided": Corpus(clips=1500, mean=1.5, deviation=0.8, label_range=1.0),
    "strongest": Corpus(clips=1500, rule="strongest"),
    "text_alone": Corpus(signal=(1.0, 0.0, 0.0)),
    "crema_d": Corpus(clips=1500, rule="rated", signal=(1.0, 0.6, 0.4)),
}


def label(corpus: Corpus, said: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns what clips say as a whole, (clips,), from what their modalities say, (clips, 3); without noise."""
    mean = said @ np.array(corpus.weights)
    if corpus.rule == "mean":
        return mean
    if corpus.rule == "strongest":
        return np.take_along_axis(said, np.abs(said).argmax(1, keepdims=True), axis=1)[:, 0]
    if corpus.rule == "irony":
        text, rest = said[:, :1], said[:, 1:]
        contradicted = (np.abs(text[:, 0]) > 1) & (text * rest < 0).all(1)
        return np.where(contradicted, rest.mean(1), mean)
    raise ValueError(f"The rule of a corpus is mean, strongest, irony or rated; got {corpus.rule!r}.")


def sentiments(corpus: Corpus, random: np.random.Generator, clips: int) -> tuple[NDArray, NDArray]:
    """Draws what the modalities say, (clips, 3), and the labels, (clips,), both in [-3, 3]."""
    if corpus.rule == "rated":
        rated = SCALE * crema_d.draw(random, clips)
        return rated[:, :3], rated[:, 3]
    common = random.normal(corpus.mean, corpus.deviation, (clips, 1))
    said = common + random.normal(0, corpus.noise[0], (clips, 3))
    contradicting = random.random(clips) < corpus.contradicting
    said[contradicting, random.integers(0, 3, clips)[contradicting]] *= -1
    said = said.clip(-SCALE, SCALE)
    return said, (label(corpus, said) + random.normal(0, corpus.noise[1], clips)).clip(-SCALE, SCALE)


def make(corpus: Corpus, seed: int = 0) -> tuple[dict[str, Columns], dict[str, NDArray[np.float64]]]:
    """
    Makes a corpus, which is the same for the same seed.

    Returns:
        The content of a file in the MMSA layout, and what text, audio and vision of its clips truly say, (clips, 3), on
        the scale of the labels, NaN where a clip lacks the modality; both by split. The file does not have the latter.
    """
    random, tokens = np.random.default_rng(seed), tokenizer()
    directions = [random.normal(size=width) for width in WIDTHS]
    file, truths, scale = {}, {}, corpus.label_range / SCALE
    for split, share in SPLITS.items():
        clips = round(corpus.clips * share)
        said, labels = sentiments(corpus, random, clips)
        labels = labels * scale
        if corpus.step:
            labels = np.round(labels / corpus.step) * corpus.step
        words = [_words(random, corpus.signal[0] * one) for one in said[:, 0]]
        ids = tokens(words, padding="max_length", max_length=TOKENS, return_tensors="np")
        file[split] = {
            "id": [f"{split}{clip}$_$0" for clip in range(clips)],
            "raw_text": words,
            "text_bert": np.stack([ids["input_ids"], ids["attention_mask"], ids["token_type_ids"]], 1).astype("f4"),
            "regression_labels": labels.astype(np.float32),
        }
        truths[split] = said * scale
        for number, (name, direction) in enumerate(zip(("audio", "vision"), directions, strict=True), start=1):
            lengths = random.integers(8, FRAMES, clips) * (random.random(clips) >= corpus.lacking)
            along = corpus.signal[number] * said[:, number, None, None] * direction
            frames = along + random.normal(size=(clips, FRAMES, len(direction)))
            frames[np.arange(FRAMES) >= lengths[:, None]] = 0
            file[split] |= {name: frames.astype(np.float32), f"{name}_lengths": lengths.tolist()}
            truths[split][lengths == 0, number] = np.nan
    return file, truths


def _words(random: np.random.Generator, position: float) -> str:
    levels = random.normal(position, 1, random.integers(6, TOKENS - 2)).clip(-SCALE, SCALE)
    return " ".join(WORDS[number] for number in np.rint((levels / SCALE + 1) / 2 * (len(WORDS) - 1)).astype(int))


def tokenizer() -> BertTokenizerFast:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return BertTokenizerFast(vocab={token: number for number, token in enumerate([*special, *WORDS])})


def write(file: dict[str, Columns], path: Path) -> None:
    path.write_bytes(pickle.dumps(file, protocol=4))


def write_encoder(folder: Path) -> None:
    """Writes a text encoder that knows the words: one layer, 32 wide, with the same random weights each time."""
    known = tokenizer()
    known.save_pretrained(folder)
    config = BertConfig(vocab_size=len(known), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=32, max_position_embeddings=64)  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
