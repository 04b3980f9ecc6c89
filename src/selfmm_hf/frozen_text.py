"""Texts that are read once: of a frozen text encoder, what it makes of them is the same in each epoch."""

from typing import Any

import numpy as np
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from .collator import SelfMMCollator
from .data import Samples
from .modeling_selfmm import SelfMMModel


class FrozenText(Dataset):
    """
    Samples with `text_embeds`, as [`SelfMMModel`] takes them, in place of their tokens.

    Args:
        samples: With tokens.
        model: Whose text encoder reads them, on the device where it is.
        batch_size: Texts read at once.
        progress: Whether a bar is shown.
    """

    def __init__(self, samples: Samples, model: SelfMMModel, batch_size: int, progress: bool = True):
        self.samples = samples
        self.embeds = np.zeros((len(samples), model.widths["text"]), dtype=np.float32)
        collate = SelfMMCollator(sequences=())
        order = samples.lengths("text").argsort()  # as little padding as can be
        batches = np.split(order, range(batch_size, len(order), batch_size))
        for rows in tqdm(batches, desc="Reading texts", disable=not progress):
            batch = collate([{name: tokens[row] for name, tokens in samples.tokens.items()} for row in rows])
            inputs = {name: values.to(model.device) for name, values in batch.items()}
            self.embeds[rows] = model.encode_text(**inputs).float().cpu().numpy()

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: int | str) -> Any:
        sample = self.samples[key]
        if isinstance(key, str):
            return sample
        sample = {name: value for name, value in sample.items() if name not in self.samples.tokens}
        return sample | {"text_embeds": self.embeds[key]}
