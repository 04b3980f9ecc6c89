"""Encoders that compute what is read and nothing else. This file travels to the Hub.

On a CPU, where padding costs as much as words and frames do, texts lie end to end in rows if the encoder allows it, and
other sequences are encoded in groups of similar lengths. The last layer of a text encoder computes one token.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

# Text encoders whose tokens know of each other by absolute positions and the attention mask alone. Positions are those
# of columns, or count the tokens that are not padding, from the position after that of the padding token on.
BY_COLUMN = {"bert", "electra"}
AFTER_PADDING = {"roberta", "xlm-roberta", "camembert"}
# The modules that such an encoder consists of, and each of its layers. Where there are others, another version of
# transformers computes something else, and the encoder is called as it is.
EMBEDDINGS = {"word_embeddings", "position_embeddings", "token_type_embeddings", "LayerNorm", "dropout"}
LAYER = {"attention", "intermediate", "intermediate.dense", "intermediate.intermediate_act_fn"}
LAYER |= {"attention.self", *(f"attention.self.{name}" for name in ("query", "key", "value", "dropout"))}
LAYER |= {
    f"{part}{name}" for part in ("output", "attention.output") for name in ("", ".dense", ".LayerNorm", ".dropout")
}
# Padding that is not worth the trouble: a tenth of the real tokens.
WORTHWHILE = 1.1
CLIPS_AT_ONCE = 16


def may_look(values: torch.Tensor) -> bool:
    """Whether values may decide what is computed: where nothing waits for a look at them, and nothing is traced."""
    return values.device.type == "cpu" and not torch.compiler.is_compiling() and not torch.jit.is_tracing()


def by_length(lengths: torch.Tensor, encode: Callable[[torch.Tensor, int], torch.Tensor]) -> torch.Tensor:
    """
    Encodes a batch in groups of similar lengths.

    Args:
        lengths: (batch,), on the CPU.
        encode: Given some clips, (clips,), and the longest length among them, returns what it makes of each of them.

    Returns:
        What `encode` has made, in the order of the batch.
    """
    order = lengths.argsort()
    groups = [encode(clips, int(lengths[clips[-1]])) for clips in order.split(CLIPS_AT_ONCE)]
    return torch.cat(groups)[order.argsort()]


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
        lengths = real.sum(-1).tolist()
        longest = max(lengths)
        room: list[int] = []  # what is left of each row
        places = [0] * len(lengths)
        for clip in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):  # first fit, the longest first
            row = next((row for row, left in enumerate(room) if left >= lengths[clip]), len(room))
            if row == len(room):
                room.append(longest)
            places[clip] = row * longest + longest - room[row]
            room[row] -= lengths[clip]
        start = torch.tensor(places)
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


def is_plain(encoder: nn.Module) -> bool:
    """Whether `encoder` is one whose layers [`_first_tokens`] can run: of a structure that it knows, not sharded."""
    config = encoder.config
    if config.model_type not in BY_COLUMN | AFTER_PADDING or not type(encoder).__module__.startswith("transformers."):
        return False
    absolute = getattr(config, "position_embedding_type", "absolute") in (None, "absolute")
    sharded = hasattr(next(encoder.parameters()), "to_local")  # FSDP puts weights together where a layer is called
    as_known = absolute and not config.is_decoder and config._attn_implementation == "sdpa" and not sharded
    return as_known and _is_known(encoder)


def _is_known(encoder: nn.Module) -> bool:
    parts = {name for name, _ in encoder.named_children()}
    if not {"embeddings", "encoder"} <= parts <= {"embeddings", "embeddings_project", "encoder", "pooler"}:
        return False
    if {name for name, _ in encoder.embeddings.named_children()} != EMBEDDINGS:
        return False
    if {name for name, _ in encoder.encoder.named_children()} != {"layer"}:
        return False
    return all({name for name, _ in layer.named_modules() if name} == LAYER for layer in encoder.encoder.layer)


def first_tokens(
    encoder: nn.Module, input_ids: torch.Tensor, attention_mask: torch.Tensor, **inputs: torch.Tensor
) -> torch.Tensor:
    """
    The last hidden state of each text's first token, (batch, hidden_size).

    Args:
        encoder: A text encoder of transformers.
        input_ids, attention_mask: (batch, tokens); each text has a token.
        inputs: Further ones of that shape.
    """
    real = attention_mask.bool()
    wasteful = may_look(real) and real.numel() > WORTHWHILE * int(real.sum())
    first = real.int().argmax(-1)  # not 0 where the tokenizer pads on the left
    columns = {"input_ids": input_ids, **inputs}
    if is_plain(encoder):
        columns["position_ids"] = _positions(encoder, input_ids)
        if wasteful:
            packed = PackedTexts.of(real)
            columns = {name: packed.rows(values) for name, values in columns.items()}
            row, column = packed.start // packed.shape[1], packed.start % packed.shape[1]
            return _first_tokens(encoder, row, column, attention_mask=packed.attention_mask(), **columns)
        row, seen = torch.arange(real.shape[0], device=real.device), real[:, None, None, :]
        seen = seen.expand(-1, 1, real.shape[1], -1)
        return _first_tokens(encoder, row, first, attention_mask=seen, **columns)
    columns["attention_mask"] = attention_mask
    if wasteful:
        ends = (real * torch.arange(1, real.shape[1] + 1)).amax(-1)

        def encode(clips: torch.Tensor, longest: int) -> torch.Tensor:
            hidden = encoder(**{name: values[clips, :longest] for name, values in columns.items()})[0]
            return one_of_each(hidden, first[clips])

        return by_length(ends, encode)
    return one_of_each(encoder(**columns)[0], first)


def _positions(encoder: nn.Module, input_ids: torch.Tensor) -> torch.Tensor:
    if encoder.config.model_type in BY_COLUMN:
        return torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    words = (input_ids != encoder.config.pad_token_id).long()
    return words.cumsum(-1) * words + encoder.config.pad_token_id


def _first_tokens(
    encoder: nn.Module, row: torch.Tensor, column: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor,
    **embedded: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """
    What `encoder` makes of the tokens at `row` and `column`, both (batch,). The last layer, of which nothing else is
    read, computes them alone: the others take part by their keys and values.

    Args:
        input_ids: (rows, length).
        attention_mask: Which tokens each token sees, (rows, 1, length, length).
        embedded: Further inputs of the embeddings, (rows, length).
    """
    hidden = encoder.embeddings(input_ids=input_ids, **embedded)
    if hasattr(encoder, "embeddings_project"):  # ELECTRA
        hidden = encoder.embeddings_project(hidden)
    *layers, last = encoder.encoder.layer
    for layer in layers:
        hidden = layer(hidden, attention_mask)
        hidden = hidden if isinstance(hidden, torch.Tensor) else hidden[0]  # versions of transformers differ
    own = hidden[row, column].unsqueeze(1)  # (batch, 1, hidden_size)
    attention = last.attention.self

    def heads(states: torch.Tensor) -> torch.Tensor:
        return states.unflatten(-1, (attention.num_attention_heads, -1)).transpose(1, 2)

    context = nn.functional.scaled_dot_product_attention(
        heads(attention.query(own)),
        heads(attention.key(hidden).index_select(0, row)),
        heads(attention.value(hidden).index_select(0, row)),
        attention_mask[row, :, column].unsqueeze(2),  # (batch, 1, 1, length)
        dropout_p=attention.dropout.p if attention.training else 0.0,
    )
    own = last.attention.output(context.transpose(1, 2).flatten(2), own)
    return last.output(last.intermediate(own), own).squeeze(1)


def one_of_each(values: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """`values` (batch, length, dim) of each clip at its `place`, (batch,); gives (batch, dim)."""
    return values.gather(1, place.long().view(-1, 1, 1).expand(-1, 1, values.shape[-1])).squeeze(1)
