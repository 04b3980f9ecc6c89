"""The two published protocols, as conditions under which a model predicts the test split. `data/masking.py` removes the
data.

- Data missing at random: LNLN (Zhang, Wang, Yu, NeurIPS 2024, arXiv 2409.20012), Haoyu-ha/LNLN, robust_evaluation.py,
  `main`: rates 0, 0.1 ... 0.9, the same one for all modalities, and the mean over the rates. Its seeds 1111 to 1113 are
  those of three trained models, whose masks are the same ones; here, they are three masks of one model.
- Only some modalities present: CorrKD (Li et al., CVPR 2024, arXiv 2404.16456) and HRLF (Li et al., NeurIPS 2024,
  arXiv 2411.02793), which fill the missing modalities with zeros. So does `zeros` here, with tokens as [UNK], as LNLN
  does where a whole modality is missing: the model is not told, and its LSTM runs over zeros. With `absent`, the model
  is told: no frame is read, no word is encoded, and its part of the fusion is what `absent_modality` of the
  configuration says.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...data.masking import Tokens, with_missing, without
from ...model.modeling_selfmm import SelfMMModel
from ...training.collator import SelfMMCollator

RATES = tuple(tenth / 10 for tenth in range(10))
SEEDS = (1111, 1112, 1113)
BATCH_SIZE = 32


@dataclass(frozen=True)
class Condition:
    """
    One way in which clips are incomplete.

    Args:
        protocol: `complete`; `random`, missing at random; `absent` or `zeros`, only some modalities present.
        modalities: Modalities of the model.
        present: Those that clips have.
        rate: Rate of missing data, with `random`.
        seed: Seed of the masks, with `random`.
    """

    protocol: str
    modalities: tuple[str, ...]
    present: tuple[str, ...]
    rate: float = 0.0
    seed: int = 0

    @property
    def missing(self) -> list[str]:
        return [name for name in self.modalities if name not in self.present]

    @property
    def rates(self) -> dict[str, float]:
        """Rates of missing tokens and frames, by modality."""
        if self.protocol == "zeros":
            return dict.fromkeys(self.missing, 1.0)
        return dict.fromkeys(self.modalities, self.rate)


def conditions(modalities: Sequence[str]) -> list[Condition]:
    """Returns all conditions of both protocols, the complete data first."""
    every = tuple(modalities)
    subsets = [some for count in range(1, len(every)) for some in combinations(every, count)]
    return [
        Condition("complete", every, every),
        *(Condition("random", every, every, rate, seed) for rate in RATES[1:] for seed in SEEDS),
        *(Condition(fill, every, some) for fill in ("absent", "zeros") for some in subsets),
    ]


def predict(
    model: SelfMMModel,
    samples: Sequence[dict[str, Any]],
    condition: Condition,
    tokens: Tokens | None,
    pad_token_id: int = 0,
) -> NDArray[np.float32]:
    """
    Predicts each clip, (clips,), or, for several targets, as [`Task.predictions`], (clips, targets), with data missing
    as `condition` says.

    Args:
        model: In eval mode.
        samples: As [`SelfMMCollator`] takes them.
        tokens: What a missing token becomes, where samples have `input_ids`.
        pad_token_id: The tokenizer's id of padding.
    """
    collate = SelfMMCollator(tuple(model.config.sequences), pad_token_id)
    logits = []
    for start in range(0, len(samples), BATCH_SIZE):
        places = range(start, min(start + BATCH_SIZE, len(samples)))
        rows = [with_missing(samples[row], condition.rates, [condition.seed, row], tokens) for row in places]
        batch = collate([{name: value for name, value in row.items() if name != "label"} for row in rows])
        if condition.protocol == "absent":
            batch = without(batch, condition.missing)
        with torch.inference_mode():
            logits.append(model(**{name: values.to(model.device) for name, values in batch.items()}).logits.cpu())
    predictions = model.config.task.predictions(torch.cat(logits)).numpy()
    return predictions[:, 0] if predictions.shape[1] == 1 else predictions
