"""Texts laid end to end, so that a text encoder computes nothing on padding. This file travels to the Hub."""

from dataclasses import dataclass

import torch
from torch import nn

# Text encoders whose tokens know of each other by absolute positions and the attention mask alone. Positions are those
# of columns, or count the tokens that are not padding, from the position after that of the padding token on.
BY_COLUMN = {"bert", "electra"}
AFTER_PADDING = {"roberta", "xlm-roberta", "camembert"}
# Padding that is not worth the packing: a tenth of the real tokens.
WORTHWHILE = 1.1


@dataclass
class PackedTexts:
    """
    Where the tokens of a batch of texts lie in rows that are as long as its longest text.

    Args:
        source: Clip and column of each real token, two of shape (tokens,).
        target: Its place, counted through the rows, (tokens,).
        start: The place of each clip's first token, (batch,).
        shape: Rows and their length.
    """

    source: tuple[torch.Tensor, torch.Tensor]
    target: torch.Tensor
    start: torch.Tensor
    shape: tuple[int, int]

    @classmethod
    def of(cls, attention_mask: torch.Tensor) -> "PackedTexts":
        """`attention_mask` (batch, tokens) is on the CPU, and each clip has a token."""
        real = attention_mask.bool()
        lengths = real.sum(-1)
        longest = int(lengths.max())
        room: list[int] = []  # what is left of each row
        start = torch.empty_like(lengths)
        for clip in lengths.argsort(descending=True, stable=True).tolist():  # first fit, the longest first
            length = int(lengths[clip])
            row = next((row for row, left in enumerate(room) if left >= length), len(room))
            if row == len(room):
                room.append(longest)
            start[clip] = row * longest + longest - room[row]
            room[row] -= length
        clip, column = real.nonzero(as_tuple=True)
        target = start[clip] + (real.cumsum(-1) - 1)[clip, column]
        return cls((clip, column), target, start, (len(room), longest))

    def rows(self, values: torch.Tensor, padding: int = 0) -> torch.Tensor:
        """`values` of each clip's tokens, (batch, tokens), in rows."""
        rows = values.new_full(self.shape, padding)
        rows.view(-1)[self.target] = values[self.source]
        return rows

    def attention_mask(self) -> torch.Tensor:
        """Each token sees those of its own text, (rows, 1, length, length)."""
        clips = torch.full(self.shape, -1)
        clips.view(-1)[self.target] = self.source[0]
        return (clips.unsqueeze(-1) == clips.unsqueeze(-2)).unsqueeze(1)


def can_pack(encoder: nn.Module, attention_mask: torch.Tensor) -> bool:
    """Whether `encoder` gives the same in rows, and sooner: on a CPU, where padding costs as much as words do."""
    if attention_mask.device.type != "cpu" or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    config = encoder.config
    absolute = getattr(config, "position_embedding_type", "absolute") in (None, "absolute")
    if config.model_type not in BY_COLUMN | AFTER_PADDING or not absolute or config._attn_implementation != "sdpa":
        return False
    return attention_mask.numel() > WORTHWHILE * int(attention_mask.bool().sum())


def first_tokens(
    encoder: nn.Module, input_ids: torch.Tensor, attention_mask: torch.Tensor, **inputs: torch.Tensor
) -> torch.Tensor:
    """
    The last hidden state of each text's first token, (batch, hidden_size), computed without padding.

    Args:
        encoder: One that `can_pack`.
        input_ids, attention_mask: (batch, tokens); each text has a token.
        inputs: Further ones of that shape, such as `token_type_ids`.
    """
    padding = encoder.config.pad_token_id or 0
    if encoder.config.model_type in BY_COLUMN:
        positions = torch.arange(input_ids.shape[1]).expand_as(input_ids)
    else:
        words = input_ids != padding
        positions = words.cumsum(-1) * words + padding
    packed = PackedTexts.of(attention_mask)
    hidden = encoder(
        input_ids=packed.rows(input_ids, padding),
        attention_mask=packed.attention_mask(),
        position_ids=packed.rows(positions),
        **{name: packed.rows(values) for name, values in inputs.items()},
    )[0]  # (rows, length, hidden_size)
    return hidden.flatten(0, 1)[packed.start]
