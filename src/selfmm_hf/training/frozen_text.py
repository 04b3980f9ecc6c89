"""Encodes each text once if the text encoder is frozen: its output is the same in every epoch."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from ..data import Samples
from ..model.modeling_selfmm import SelfMMModel
from .collator import SelfMMCollator


class FrozenText(Dataset):
    """Samples, which have `text_embeds` for [`SelfMMModel`] once their texts have been read."""

    def __init__(self, samples: Samples):
        self.samples = samples
        self.embeds: NDArray[np.float32] | None = None  # (samples, *model.text_shape)

    def read(self, model: SelfMMModel, collator: SelfMMCollator, batch_size: int, progress: bool = True) -> None:
        """
        Encodes all texts.

        Args:
            model: Its text encoder reads, on the device where it is.
            collator: The collator of the training.
            batch_size: Texts read at once.
            progress: Whether a bar is shown.
        """
        embeds = np.zeros((len(self), *model.text_shape), dtype=np.float32)
        order = self.samples.lengths("text").argsort()  # for as little padding as possible
        batches = np.split(order, range(batch_size, len(order), batch_size))
        for rows in tqdm(batches, desc="Reading texts", disable=not progress):
            batch = collator([{name: tokens[row] for name, tokens in self.samples.tokens.items()} for row in rows])
            inputs = {name: values.to(model.device) for name, values in batch.items()}
            embeds[rows] = model.encode_text(**inputs).float().cpu().numpy()
        self.embeds = embeds

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: int | str) -> Any:
        sample = self.samples[key]
        return sample if self.embeds is None or isinstance(key, str) else sample | {"text_embeds": self.embeds[key]}
