"""
Loads text encoders, and tests by their behaviour, not by their names, whether a model can use them. This file travels
to the Hub.
"""

import base64
import inspect
import json
import os
import struct
from bisect import bisect
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)  # fmt: skip
from transformers.utils import CONFIG_NAME

from .layers_selfmm import first_layers
from .loading_selfmm import check_whole, file_of, load, quiet, reading, reason
from .packing_selfmm import read_texts
from .text_selfmm import most_tokens, some_words

# Of the size of a state. Rounding is far below; what one word, or some padding, changes is far above.
NOTHING = 1e-5
ROUNDING = 1e-4
MOST_TOKENS = 1024  # with which an encoder is tried
# By how much a tokenizer may lengthen a text before it looks for words. Unicode has a sign that stands for 18 letters.
MOST_GROWTH = 1000
# Where a model of sentence-transformers says how it pools, and its words for what is there.
POOLING_FILE = "1_Pooling/config.json"
POOLINGS = {"cls_token": "cls", "cls": "cls", "mean_tokens": "mean", "mean": "mean", "lasttoken": "last"}


def encoder_of(model: PreTrainedModel) -> nn.Module:
    """What reads texts: of an encoder-decoder, the encoder; without a pooler, which would never get a gradient."""
    # Not by `config.is_encoder_decoder`, which is false where T5's encoder was saved alone.
    decodes = "decoder_input_ids" in inspect.signature(model.forward).parameters
    encoder = model.get_encoder() if decodes else model
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    return encoder


def tells_segments(encoder: nn.Module) -> bool:
    """Whether `encoder` tells the two texts of a pair apart by `token_type_ids`. RoBERTa takes them, but knows one."""
    known = getattr(encoder.config, "type_vocab_size", 2)
    return known != 1 and "token_type_ids" in inspect.signature(encoder.forward).parameters


def load_text_encoder(
    name: str, revision: str | None = None, attn_implementation: str | None = None, pooling: str | None = None,
    layer: int | str = -1,
) -> tuple[nn.Module, PreTrainedConfig, str]:  # fmt: skip
    """
    A pretrained text encoder in eval mode, in float32, whatever the precision in which it was saved.

    Args:
        name: A Hub repository or a folder that `AutoModel` can load. Of a Self-MM model, its text encoder is taken.
        revision: Of the repository.
        attn_implementation: Its own default where not given.
        pooling: How the states of a text's tokens become one, `"cls"`, `"mean"` or `"last"`; where it is not given, as
            a Self-MM model or a model of sentence-transformers says; else by the first of `"cls"` and `"last"` that
            sees all words.
        layer: As [`SelfMMConfig`] takes `text_layer`: with the number of a layer, the encoder ends there.

    Returns:
        The encoder, the configuration from which `AutoModel` makes a model with such an encoder, see [`encoder_of`],
        and the pooling.

    Raises:
        ValueError: It cannot be loaded, lacks weights, or is none that the model can read by, or not by this pooling;
            the message says why.
    """
    loading = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
    try:
        loading |= {"revision": revision, "dtype": torch.float32, "output_loading_info": True}
        check_whole(name, revision)
        whole = load(AutoConfig.from_pretrained, name, revision=revision)
        trained = whole.model_type == "selfmm"
        if trained:
            pooling = pooling or whole.text_pooling
            _check_trained(whole, layer)
        loading["config"], layer = first_layers(whole, layer)
        with quiet() if loading["config"] is not whole else nullcontext():  # of the layers that are left out
            model, report = load(AutoModel.from_pretrained, name, **loading)
        encoder, config = encoder_of(model.eval()), model.config
        if trained:
            encoder, config = model.encoders["text"], config.text_config
        pooling = pooling or _said_pooling(name, revision)
    except Exception as error:  # a damaged file raises anything
        raise ValueError(f"The text encoder {name!r} cannot be loaded: {reason(error)}") from error
    own = {id(value) for value in encoder.parameters()}
    used = {one for one, value in model.named_parameters(remove_duplicate=False) if id(value) in own}
    if missing := sorted(used.intersection(report["missing_keys"])):
        raise ValueError(
            f"The text encoder {name!r} lacks {len(missing)} of its {len(used)} weights, such as {missing[0]}: they "
            "are of another model than its config.json describes."
        )
    if odd := [one for one, value in encoder.named_parameters() if not value.isfinite().all()]:
        raise ValueError(f"The text encoder {name!r} has weights that are not finite, such as {odd[0]}.")
    if pooling is None:
        readable = (one for one in ("cls", "last") if why_unreadable(encoder, config, one, layer) is None)
        pooling = next(readable, "cls")
    if problem := why_unreadable(encoder, config, pooling, layer):
        raise ValueError(f"The text encoder {name!r}, a {type(model).__name__}, cannot be used: {problem}.")
    return encoder, config, pooling


def _check_trained(config: PreTrainedConfig, layer: int | str) -> None:
    """
    Raises:
        ValueError: A Self-MM model has no text encoder that another could begin with.
    """
    if config.members > 1:
        raise ValueError("it is an ensemble of Self-MM models: take one of its members")
    if config.text_config is None:
        raise ValueError("it is a Self-MM model that reads word vectors, not texts")
    if isinstance(layer, int) and layer != -1:
        raise ValueError("it is a Self-MM model, whose text encoder is taken whole: leave text_layer out")


def _said_pooling(name: str, revision: str | None) -> str | None:
    """
    Reads how a model of sentence-transformers pools; other models do not say.

    Raises:
        ValueError: In a way that is not there.
    """
    file = file_of(name, POOLING_FILE, revision)
    if file is None:
        return None
    with reading(POOLING_FILE):
        said = json.loads(file.read_text("utf-8"))
        flags = [name for name, on in said.items() if on is True and name.startswith("pooling_mode_")]
        modes = [name.removeprefix("pooling_mode_") for name in flags]
        if "pooling_mode" in said:  # of later versions
            modes = said["pooling_mode"] if isinstance(said["pooling_mode"], list) else [said["pooling_mode"]]
    pooling = POOLINGS.get(str(modes[0])) if len(modes) == 1 else None
    if pooling is None:
        raise ValueError(
            f"{POOLING_FILE} says that it pools by {' and '.join(map(str, modes)) or 'nothing'}, which is not "
            "supported: set text_pooling to cls, mean or last"
        )
    return pooling


def load_tokenizer(name: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """
    The tokenizer of a text encoder.

    Raises:
        ValueError: There is none, it cannot be loaded, or it is none that texts can be read by.
    """
    try:
        if os.path.isdir(name) and not os.path.isfile(os.path.join(name, CONFIG_NAME)):
            raise ValueError(f"it has no {CONFIG_NAME}; name the folder of a model: that of a run has it in model")
        with reading("its tokenizer"):
            tokenizer = load(AutoTokenizer.from_pretrained, name, revision=revision)
            if tokenizer.pad_token_id is None and tokenizer.eos_token_id is not None:  # as of most decoders
                tokenizer.pad_token = tokenizer.eos_token
            check_tokenizer(tokenizer)
    except (OSError, ValueError) as error:
        raise ValueError(f"The text encoder {name!r} cannot be used: {reason(error)}") from error
    return tokenizer


def check_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    """
    Raises:
        ValueError: `tokenizer` knows no words, or has no padding, would blow texts up, or leaves out the special tokens
            that it has for the begin and the end of a text.
    """
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # what transformers makes of a folder without files
        raise ValueError("there is none, or its vocabulary is empty")
    if tokenizer.pad_token_id is None:
        raise ValueError("it has no padding token: set its `pad_token`, and save it anew")
    backend = getattr(tokenizer, "backend_tokenizer", None)  # those in Python have none
    for part in (getattr(backend, "normalizer", None), getattr(backend, "decoder", None)):
        if part is not None and _growth(json.loads(part.__getstate__())) > MOST_GROWTH:
            raise ValueError(f"its normalizer may make a text more than {MOST_GROWTH:,} times as long")
    ids = set(tokenizer(some_words(tokenizer), verbose=False)["input_ids"])
    edges = {"cls_token": tokenizer.cls_token_id, "sep_token": tokenizer.sep_token_id}
    if lacking := [name for name, number in edges.items() if number is not None and number not in ids]:
        raise ValueError(
            f"it has a {lacking[0]} and does not put it into texts: mend its post-processor, or set the {lacking[0]} "
            "to none"
        )


def _growth(part: Any) -> int:
    """How many characters a normalizer or decoder of tokenizers, as it is saved, may make of one, in all its steps."""
    growth = 1
    if isinstance(part, list):
        for one in part:
            growth *= _growth(one)
    elif isinstance(part, dict):
        kind, pattern = part.get("type"), part.get("pattern")
        if kind == "Replace":
            found = len(pattern.get("String", "")) if isinstance(pattern, dict) else 0
            # An expression may match between characters, too.
            growth = -(-len(part["content"]) // found) if found else len(part["content"]) + 1
        elif kind == "Prepend":
            growth = len(part["prepend"]) + 1
        elif kind == "Precompiled":  # the size of an index, the index, and texts with a zero after each
            blob = base64.b64decode(part["precompiled_charsmap"])
            begin = 4 + struct.unpack("<I", blob[:4])[0]
            growth = max(map(len, blob[begin:].split(b"\0")))
        else:
            growth = _growth([one for one in part.values() if isinstance(one, list | dict)])
    return max(growth, 1)


@torch.no_grad()
def why_unreadable(
    encoder: nn.Module, config: PreTrainedConfig, pooling: str = "cls", layer: int | str = -1
) -> str | None:
    """
    Says why the output of `encoder` for a text, with this pooling and layer, does not stand for the whole text; `None`
    if it does.
    """
    every = layer != -1  # also an encoder that was cut tells by them how many layers it has
    try:
        same, *others = _some_tokens(encoder, 8)
        # Two texts that differ in all but the token that is read.
        one, other = ([same, *others[:3]], [same, *others[3:6]])
        if pooling == "last":
            one, other = (text[1:] + text[:1] for text in (one, other))
        one, other = torch.tensor(one), torch.tensor(other)
        padding = torch.full((4,), getattr(config, "pad_token_id", None) or 0)
        company = torch.stack([torch.cat([one, padding]), torch.tensor([same, *others])])
        mask = torch.ones_like(company)
        mask[0, 4:] = 0
        four = torch.ones(1, 4, dtype=torch.long)
        alone, unlike = (read_texts(encoder, text[None], four, pooling, every) for text in (one, other))
        beside = read_texts(encoder, company, mask, pooling, every)[:1]
    except Exception as error:  # of anything that takes no words
        return f"it does not read tokens with an attention mask ({type(error).__name__}: {error})"
    width, size = getattr(config, "hidden_size", None), alone.abs().max()
    if alone.shape[-1] != width:
        return f"the states of its tokens are {alone.shape[-1]} wide, and its configuration says {width}"
    if every and alone.shape[1] != config.num_hidden_layers + 1:
        return (
            f"it has {alone.shape[1]} hidden states, expected those of {config.num_hidden_layers} layers and of the "
            "embeddings; leave text_layer out"
        )
    if (alone - unlike).abs().max() <= NOTHING * size:
        token, others = ("last", "come before it") if pooling == "last" else ("first", "come after it, as in decoders")
        return (
            f"text_pooling {pooling} reads the state of its {token} token, which is the same whatever words {others}; "
            "take another text_pooling, cls, mean or last, or an encoder that reads both ways, such as BERT; if it has "
            "just been trained, the training has collapsed: train again with a lower learning rate"
        )
    if (alone - beside).abs().max() > ROUNDING * size:
        return "its output for a text depends on the padding, so a score would depend on the other texts of the batch"
    return None


def check_tokens(encoder: nn.Module, tokenizer: PreTrainedTokenizerBase) -> None:
    """
    Raises:
        ValueError: `tokenizer` has tokens that `encoder` does not know.
    """
    highest, known = max(tokenizer.get_vocab().values(), default=0), _known_tokens(encoder)
    if highest >= known:
        raise ValueError(
            f"The tokenizer has tokens up to number {highest}, and the text encoder knows {known}: they do not belong "
            "together, or the encoder's embeddings were not resized when tokens were added."
        )


def readable_tokens(encoder: nn.Module, wanted: int) -> int:
    """How many tokens of a text `encoder`, on the CPU, can read, up to `wanted`."""
    most = getattr(encoder.config, "max_position_embeddings", None)
    if isinstance(most, int) and most > 0:
        wanted = min(wanted, most)
    tried = min(wanted, MOST_TOKENS)
    if _reads(encoder, tried):
        return wanted
    return bisect(range(1, tried), False, key=lambda length: not _reads(encoder, length))


def check_context(encoder: nn.Module, tokenizer: PreTrainedTokenizerBase, max_tokens: int, utterances: int) -> None:
    """
    Raises:
        ValueError: `encoder` cannot read a text of `max_tokens` with so many others before it.
    """
    most = most_tokens(tokenizer, max_tokens, utterances)
    if (readable := readable_tokens(encoder, most)) < most:
        raise ValueError(
            f"The text encoder reads {readable} tokens at most, and a text of max_text_tokens, {max_tokens}, with "
            f"{utterances} before it may have {most}: lower max_text_tokens or context_utterances."
        )


@torch.no_grad()
def _reads(encoder: nn.Module, length: int) -> bool:
    tokens = torch.tensor([_some_tokens(encoder, 1) * length])
    try:
        read_texts(encoder, tokens, torch.ones_like(tokens))
    except (IndexError, RuntimeError, ValueError):
        return False
    return True


def _known_tokens(encoder: nn.Module) -> int:
    return encoder.get_input_embeddings().weight.shape[0]


def _some_tokens(encoder: nn.Module, count: int) -> list[int]:
    """Different tokens from all over the vocabulary, none of which is the padding."""
    step = max(1, _known_tokens(encoder) // (count + 1))
    padding = getattr(encoder.config, "pad_token_id", None)
    return [number * step for number in range(1, count + 2) if number * step != padding][:count]


__all__ = [
    "check_context", "check_tokenizer", "check_tokens", "encoder_of", "load_text_encoder", "load_tokenizer",
    "readable_tokens", "tells_segments", "why_unreadable",
]  # fmt: skip
