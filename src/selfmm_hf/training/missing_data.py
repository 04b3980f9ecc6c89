"""Training with missing data.

Source: LNLN (NeurIPS 2024, arXiv 2409.20012), Haoyu-ha/LNLN, core/dataset.py, `MMDataset.__getitem__`: for each
modality separately, half of the clips are complete, and the others miss each token or frame with a probability drawn
for the clip, uniform in [0, 1). In LNLN, masks change only in the worker process that reads clip 0; here, all masks
change in each epoch.
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
    Samples with missing parts, which are others in each epoch.

    What is missing from a clip depends on the seed, the epoch and the clip's place in the data set, and on nothing
    else: not on the order, the worker or the process in which it is read, nor on whether the run was resumed.

    Args:
        samples: Samples as [`SelfMMTrainer`] takes them, a list or a data set with columns.
        tokens: What a missing token becomes, where samples have `input_ids`.
        max_rate: Rates are uniform in [0, max_rate); 1 in LNLN.
        seed: Seed of the training.

    Attributes:
        epoch: From 1 in training, set by [`EpochOf`]; 0 at first, and for data that stay the same, such as validation.
    """

    def __init__(self, samples: Sequence[dict[str, Any]], tokens: Tokens | None, max_rate: float, seed: int):
        self.samples, self.tokens, self.max_rate, self.seed = samples, tokens, max_rate, seed
        self._epoch = torch.zeros(1, dtype=torch.long).share_memory_()  # shared with workers that outlive an epoch
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
        """Returns the rates of this epoch, (clips, modalities), in [0, max_rate); half of each column is 0."""
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
