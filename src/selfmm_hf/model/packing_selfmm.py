"""Lets encoders skip padding, and tokens that are never read. This file travels to the Hub.

On a CPU, padding costs as much as words and frames do. There, texts are packed end to end in rows if the encoder allows
it, and other sequences are encoded in groups of similar lengths. If only one token of a text is read, the last layer of
a text encoder computes no other.
"""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

# Text encoders whose tokens know of each other only by absolute positions and the attention mask. Positions are those
# of the columns, or count the tokens that are not padding, starting after the position of the padding token.
BY_COLUMN = {"bert", "electra"}
AFTER_PADDING = {"roberta", "xlm-roberta", "camembert"}
# The modules of such an encoder, and of each of its layers. If there are others, this version of transformers computes
# something else, and the encoder is called as a whole.
EMBEDDINGS = {"word_embeddings", "position_embeddings", "token_type_embeddings", "LayerNorm", "dropout"}
LAYER = {"attention", "intermediate", "intermediate.dense", "intermediate.intermediate_act_fn"}
LAYER |= {"attention.self", *(f"attention.self.{name}" for name in ("query", "key", "value", "dropout"))}
LAYER |= {
    f"{part}{name}" for part in ("output", "attention.output") for name in ("", ".dense", ".LayerNorm", ".dropout")
}
# The parts that PEFT adds to a linear layer; they still treat each token by itself.
LORA = re.compile(r"\.(base_layer|lora_\w+)(\.|$)")
# Padding is skipped if it is more than a tenth of the real tokens.
WORTHWHILE = 1.1
CLIPS_AT_ONCE = 16


def may_look(values: torch.Tensor) -> bool:
    """Checks that values may decide what is computed: reading them makes no device wait, and nothing is traced."""
    return values.device.type == "cpu" and not torch.compiler.is_compiling() and not torch.jit.is_tracing()


def by_length(lengths: torch.Tensor, encode: Callable[[torch.Tensor, int], torch.Tensor]) -> torch.Tensor:
    """
    Encodes a batch in groups of similar lengths.

    Args:
        lengths: (batch,), on the CPU.
        encode: Takes the indices of some clips, (clips,), and their greatest length, and returns their encodings.

    Returns:
        The encodings, in the order of the batch.
    """
    order = lengths.argsort()
    groups = [encode(clips, int(lengths[clips[-1]])) for clips in order.split(CLIPS_AT_ONCE)]
    return torch.cat(groups)[order.argsort()]


@dataclass
class PackedTexts:
    """
    Places the tokens of a batch of texts in rows that are as long as the longest text.

    Args:
        source: Clip and column of each real token, two tensors of shape (tokens,).
        target: Place of each real token, counted through the rows, (tokens,).
        start: Place of each clip's first token, (batch,).
        shape: Number of rows, and their length.
    """

    source: tuple[torch.Tensor, torch.Tensor]
    target: torch.Tensor
    start: torch.Tensor
    shape: tuple[int, int]

    @classmethod
    def of(cls, attention_mask: torch.Tensor) -> "PackedTexts":
        """Packs texts; `attention_mask` (batch, tokens) is on the CPU, and each clip has a token."""
        real = attention_mask.bool()
        lengths = real.sum(-1).tolist()
        longest = max(lengths)
        room: list[int] = []  # free places of each row
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
        """Arranges `values` of each clip's tokens, (batch, tokens), in rows."""
        rows = values.new_full(self.shape, padding)
        rows.view(-1)[self.target] = values[self.source]
        return rows

    def attention_mask(self) -> torch.Tensor:
        """Lets each token see those of its own text, (rows, 1, length, length)."""
        clips = torch.full(self.shape, -1)
        clips.view(-1)[self.target] = self.source[0]
        return (clips.unsqueeze(-1) == clips.unsqueeze(-2)).unsqueeze(1)

    def mean(self, states: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Averages each clip's `wanted` tokens, (batch, tokens), of `states`, (rows, length, dim), to (batch, dim)."""
        chosen = wanted[self.source]
        tokens = states.flatten(0, 1)[self.target[chosen]].float()
        sums = tokens.new_zeros(len(wanted), tokens.shape[1]).index_add(0, self.source[0][chosen], tokens)
        return (sums / wanted.sum(-1, keepdim=True)).to(states.dtype)

    def place(self, column: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns row and column of the token that is at `column`, (batch,), of each clip."""
        at = self.target[(self.source[1] == column[self.source[0]]).nonzero().squeeze(-1)]
        return at // self.shape[1], at % self.shape[1]


def is_plain(encoder: nn.Module) -> bool:
    """Checks that [`_through`] can run the layers of `encoder`: it knows their structure, and they are not sharded."""
    config = encoder.config
    if config.model_type not in BY_COLUMN | AFTER_PADDING or not type(encoder).__module__.startswith("transformers."):
        return False
    absolute = getattr(config, "position_embedding_type", "absolute") in (None, "absolute")
    sharded = hasattr(next(encoder.parameters()), "to_local")  # FSDP gathers weights only where a layer is called
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
    parts = ({name for name, _ in layer.named_modules() if name} for layer in encoder.encoder.layer)
    return all({name for name in found if not LORA.search(name)} == LAYER for found in parts)


def read_texts(
    encoder: nn.Module, input_ids: torch.Tensor, attention_mask: torch.Tensor, pooling: str = "cls",
    every_layer: bool = False, context_mask: torch.Tensor | None = None, **inputs: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """
    Encodes texts, and pools the last hidden states of each one's tokens, (batch, hidden_size).

    Args:
        encoder: A text encoder of transformers.
        input_ids, attention_mask: (batch, tokens); each text has a token.
        pooling: `"cls"`, the state of its first token; `"last"`, that of its last one; `"mean"`, the mean of all.
        every_layer: Whether all hidden states are read, from the embeddings on: (batch, layers + 1, hidden_size).
        context_mask: Tokens that the others see but that are not read themselves, (batch, tokens); never all of a
            text's.
        inputs: Further inputs of the shape of `input_ids`.
    """
    real = attention_mask.bool()
    wanted = real if context_mask is None else real & ~context_mask.bool()
    wasteful = may_look(real) and real.numel() > WORTHWHILE * int(real.sum())
    columns = {"input_ids": input_ids, **inputs}
    if is_plain(encoder):
        columns["position_ids"] = _positions(encoder, input_ids)
        if wasteful:
            texts = PackedTexts.of(real)
            columns = {name: texts.rows(values) for name, values in columns.items()}
            where = None if pooling == "mean" else texts.place(_place(wanted, pooling))
            average = partial(texts.mean, wanted=wanted)
            return _through(encoder, columns, texts.attention_mask(), where, average, every_layer)
        seen = real[:, None, None, :].expand(-1, 1, real.shape[1], -1)
        row = torch.arange(real.shape[0], device=real.device)
        where = None if pooling == "mean" else (row, _place(wanted, pooling))
        return _through(encoder, columns, seen, where, partial(mean, real=wanted), every_layer)
    columns["attention_mask"] = attention_mask
    if wasteful:

        def read(clips: torch.Tensor, longest: int) -> torch.Tensor:
            some = {name: values[clips, :longest] for name, values in columns.items()}
            return _called(encoder, some, wanted[clips, :longest], pooling, every_layer)

        return by_length(_place(real, "last") + 1, read)
    return _called(encoder, columns, wanted, pooling, every_layer)


def _called(
    encoder: nn.Module, columns: dict[str, torch.Tensor], wanted: torch.Tensor, pooling: str, every_layer: bool
) -> torch.Tensor:
    """Does the same as [`read_texts`] by calling an encoder; `wanted` are the tokens to read, (batch, tokens)."""
    decodes = "use_cache" in inspect.signature(encoder.forward).parameters  # no second step would use the cache
    options = {"use_cache": False} if decodes else {}
    if every_layer:
        states = encoder(**columns, **options, output_hidden_states=True).hidden_states
        return torch.stack([_pooled(one, wanted, pooling) for one in states], 1)
    return _pooled(encoder(**columns, **options)[0], wanted, pooling)


def _place(real: torch.Tensor, pooling: str) -> torch.Tensor:
    """Returns the column of the first or the last token of each text, (batch,); `real` is (batch, tokens)."""
    if pooling == "last":
        return (real * torch.arange(real.shape[1], device=real.device)).amax(-1)
    return real.int().argmax(-1)  # not 0 where the tokenizer pads on the left


def _pooled(states: torch.Tensor, real: torch.Tensor, pooling: str) -> torch.Tensor:
    return mean(states, real) if pooling == "mean" else one_of_each(states, _place(real, pooling))


def _positions(encoder: nn.Module, input_ids: torch.Tensor) -> torch.Tensor:
    if encoder.config.model_type in BY_COLUMN:
        return torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    words = (input_ids != encoder.config.pad_token_id).long()
    return words.cumsum(-1) * words + encoder.config.pad_token_id


def _through(
    encoder: nn.Module, columns: dict[str, torch.Tensor], seen: torch.Tensor,
    where: tuple[torch.Tensor, torch.Tensor] | None, average: Callable[[torch.Tensor], torch.Tensor], every_layer: bool,
) -> torch.Tensor:  # fmt: skip
    """
    Runs a plain encoder on texts, layer by layer.

    Args:
        columns: The inputs of the embeddings, (rows, length).
        seen: Which tokens each token sees, (rows, 1, length, length).
        where: Row and column of the one token that is read of each text, (batch,) each; `None` if `average` reads all.
        average: Pools all tokens of each text: (rows, length, hidden_size) to (batch, hidden_size).
        every_layer: See [`read_texts`].
    """
    hidden = encoder.embeddings(**columns)
    if hasattr(encoder, "embeddings_project"):  # ELECTRA
        hidden = encoder.embeddings_project(hidden)
    read = average if where is None else lambda states: states[where]
    *layers, last = encoder.encoder.layer
    states = [read(hidden)] if every_layer else []
    for layer in layers:
        hidden = _layer(layer, hidden, seen)
        states += [read(hidden)] if every_layer else []
    final = _alone(last, hidden, seen, *where) if where is not None else read(_layer(last, hidden, seen))
    return torch.stack([*states, final], 1) if every_layer else final


def _layer(layer: nn.Module, hidden: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    hidden = layer(hidden, seen)
    return hidden if isinstance(hidden, torch.Tensor) else hidden[0]  # versions of transformers differ


def _alone(
    layer: nn.Module, hidden: torch.Tensor, seen: torch.Tensor, row: torch.Tensor, column: torch.Tensor
) -> torch.Tensor:
    """
    Runs the last layer only for the tokens at `row` and `column`, both (batch,), because nothing else of it is read.
    The other tokens take part by their keys and values.
    """
    own = hidden[row, column].unsqueeze(1)  # (batch, 1, hidden_size)
    attention = layer.attention.self

    def heads(states: torch.Tensor) -> torch.Tensor:
        return states.unflatten(-1, (attention.num_attention_heads, -1)).transpose(1, 2)

    context = nn.functional.scaled_dot_product_attention(
        heads(attention.query(own)),
        heads(attention.key(hidden).index_select(0, row)),
        heads(attention.value(hidden).index_select(0, row)),
        seen[row, :, column].unsqueeze(2),  # (batch, 1, 1, length)
        dropout_p=attention.dropout.p if attention.training else 0.0,
    )
    own = layer.attention.output(context.transpose(1, 2).flatten(2), own)
    return layer.output(layer.intermediate(own), own).squeeze(1)


def one_of_each(values: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """Returns `values` (batch, length, dim) of each clip at its `place`, (batch,), as (batch, dim)."""
    return values.gather(1, place.long().view(-1, 1, 1).expand(-1, 1, values.shape[-1])).squeeze(1)


def mean(values: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Averages `values` (batch, length, dim) where `real`, (batch, length), to (batch, dim); each clip has a place."""
    return values.masked_fill(~real.unsqueeze(-1), 0.0).sum(1) / real.sum(-1, keepdim=True)
