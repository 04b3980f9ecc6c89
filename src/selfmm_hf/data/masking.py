"""Removes parts of a sample, to simulate missing data. The functions return changed copies.

Source: LNLN (Zhang, Wang, Yu, NeurIPS 2024, arXiv 2409.20012), official code Haoyu-ha/LNLN, core/dataset.py,
`MMDataset.generate_m`: each token but the first and the last, [CLS] and [SEP], becomes [UNK] with probability r, each
frame becomes zeros with probability r, and lengths and attention masks stay. Two things are otherwise here. There, each
modality's mask comes from the same random numbers, as its generator starts anew for each; here, modalities are
independent. And here, a clip's masks depend on its own place alone, not on the padding of the whole split.
"""

import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from .columns import MODALITIES


@dataclass(frozen=True)
class Tokens:
    """
    What a missing token becomes.

    Args:
        unknown: Id of [UNK].
        kept: Ids of the tokens that are never missing, [CLS] and [SEP] in BERT.
    """

    unknown: int
    kept: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase | None) -> "Tokens | None":
        """
        Of a tokenizer; `None` where the words come as vectors.

        Raises:
            ValueError: The tokenizer has no token for unknown words.
        """
        if tokenizer is None:
            return None
        if tokenizer.unk_token_id is None:
            raise ValueError(
                f"{type(tokenizer).__name__} has no token for unknown words, which missing ones become; take a text "
                "encoder whose tokenizer has one, as BERT's."
            )
        return cls(tokenizer.unk_token_id, tuple(sorted(tokenizer.all_special_ids)))


def with_missing(
    sample: Mapping[str, Any], rates: Mapping[str, float], key: Sequence[int], tokens: Tokens | None = None
) -> dict[str, Any]:
    """
    The sample with parts of it missing.

    Args:
        sample: As [`SelfMMCollator`] takes it.
        rates: By modality, the probability in [0, 1] with which each token or frame is missing; 0 for those left out.
        key: Whole numbers from 0, such as seed and place: the same ones give the same random numbers, whatever else
            was drawn before. With the same key, what is missing at some rate is missing at every higher one.
        tokens: Where the sample has `input_ids`.

    Returns:
        The sample, missing tokens as [UNK], and missing frames as zeros: the zeros that the model sees, which is the
        training mean where features are normalised.
    """
    changed = dict(sample)
    for modality, rate in rates.items():
        number = MODALITIES.index(modality) if modality in MODALITIES else zlib.crc32(modality.encode())
        name = "input_ids" if modality == "text" and sample.get("input_ids") is not None else modality
        if not rate or sample.get(name) is None or not len(sample[name]):
            continue
        values = np.asarray(sample[name])
        missing = np.random.default_rng([*key, number]).random(len(values)) < rate
        if name == "input_ids":
            changed[name] = np.where(missing & ~np.isin(values, tokens.kept), tokens.unknown, values)
        else:
            changed[name] = np.where(missing[:, np.newaxis], values.dtype.type(0), values)
    return changed


def without(batch: Mapping[str, torch.Tensor], modalities: Collection[str]) -> dict[str, torch.Tensor]:
    """
    The batch as of clips that lack these modalities: lengths of 0, and an attention mask of zeros.

    The same as leaving the inputs out, but for clips that have nothing else, which are clips still.
    """
    empty = {f"{name}_lengths" for name in modalities} | ({"attention_mask"} if "text" in modalities else set())
    return {name: torch.zeros_like(values) if name in empty else values for name, values in batch.items()}
