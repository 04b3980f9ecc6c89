"""Training with missing data.

Source: LNLN (NeurIPS 2024, arXiv 2409.20012), Haoyu-ha/LNLN, core/dataset.py, `MMDataset.__getitem__`: for each
modality on its own, half of the clips are complete, and the others miss each token or frame with a probability that is
drawn for the clip, uniform in [0, 1). There, masks change only in that worker process which reads clip 0; here, all of
them change with each epoch.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset
from transformers import TrainerCallback

from ..data.columns import MODALITIES
from ..data.masking import Tokens, with_missing


class MissingData(Dataset):
    """
    Samples of which parts are missing, other parts in each epoch.

    What is missing from a clip depends on the seed, the epoch and the clip's place in the data set, and on nothing
    else: not on the order, the worker or the process in which it is read, nor on whether the run was resumed.

    Args:
        samples: As [`SelfMMTrainer`] takes them, a list or with columns.
        tokens: What a missing token becomes, where samples have `input_ids`.
        max_rate: Rates are uniform in [0, max_rate); 1 in LNLN.
        seed: Of the training.

    Attributes:
        epoch: From 1 in training, which [`EpochOf`] sets; 0 at first, and for data that stay the same, as validation.
    """

    def __init__(self, samples: Sequence[dict[str, Any]], tokens: Tokens | None, max_rate: float, seed: int):
        self.samples, self.tokens, self.max_rate, self.seed = samples, tokens, max_rate, seed
        self._epoch = torch.zeros(1, dtype=torch.long).share_memory_()  # with workers that outlive an epoch
        self._rates: tuple[int, NDArray[np.float64]] | None = None

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.samples)

    def rates(self) -> NDArray[np.float64]:
        """Of each clip and modality in this epoch, (clips, 3), in [0, max_rate); half of each column is 0."""
        epoch = self.epoch
        if self._rates is None or self._rates[0] != epoch:
            random = np.random.default_rng([self.seed, epoch])
            rates = random.uniform(0, self.max_rate, (len(self), len(MODALITIES)))
            for column in rates.T:
                column[random.permutation(len(self))[: len(self) // 2]] = 0
            self._rates = epoch, rates
        return self._rates[1]

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, str):
            columns = not isinstance(self.samples, list)
            return self.samples[key] if columns else [sample[key] for sample in self.samples]
        rates = dict(zip(MODALITIES, self.rates()[key], strict=True))
        return with_missing(self.samples[key], rates, [self.seed, self.epoch, key % len(self)], self.tokens)


class EpochOf(TrainerCallback):
    """Tells the data which epoch begins."""

    def __init__(self, data: MissingData):
        self.data = data

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.data.epoch = int(state.epoch or 0) + 1
