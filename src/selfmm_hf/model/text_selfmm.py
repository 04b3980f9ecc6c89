"""What a text encoder reads of a text: the same for the processor and in training. This file travels to the Hub."""

import re
import threading
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

_TOKENIZING = threading.Lock()  # a fast tokenizer keeps padding and truncation of one call for the next

# What people call a word: what stands between spaces; of Chinese and Japanese, each character.
WORD = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\\s\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")
EDGES = re.compile(r"^[\W_]+|[\W_]+$")  # punctuation around a word


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: list[str], max_tokens: int) -> dict[str, list[list[int]]]:
    """
    The tokens of each text, cut to `max_tokens`.

    Args:
        tokenizer: Of the text encoder.
        texts: What is said in each clip.
        max_tokens: With the special ones, such as [CLS] and [SEP].

    Returns:
        By name, such as `input_ids`, a list for each text. It is empty where the text is absent: where it is blank, or
        no token of it is known to the encoder.
    """
    made = _tokens(tokenizer, texts, truncation=True, max_length=max_tokens)
    special = {*tokenizer.all_special_ids, tokenizer.unk_token_id}

    def says_something(text: str, ids: list[int]) -> bool:
        known = set(ids) - special
        # Beside an unknown character, some tokenizers have a token for the space before it.
        blank = tokenizer.unk_token_id in ids and not tokenizer.decode(sorted(known)).strip()
        return bool(text.strip() and known and not blank)

    present = [says_something(text, ids) for text, ids in zip(texts, made["input_ids"], strict=True)]
    return {name: [row if one else [] for row, one in zip(made[name], present, strict=True)] for name in made}


def length(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    """Tokens of a text that is not cut, with the special ones."""
    return len(_tokens(tokenizer, text)["input_ids"])


def parts(tokenizer: PreTrainedTokenizerBase, text: str, max_tokens: int) -> list[str]:
    """A text in as many parts as it takes for none to have more than `max_tokens`: halves of halves, of whole words."""
    if len(text) < 2 or length(tokenizer, text) <= max_tokens:
        return [text]
    middle = len(text) // 2
    spaces = [place for place in range(middle // 2, middle + middle // 2 + 1) if text[place].isspace()]
    cut = min(spaces, key=lambda place: abs(place - middle), default=middle)
    return [part for half in (text[:cut], text[cut:]) for part in parts(tokenizer, half.strip(), max_tokens)]


def text_batch(tokenizer: PreTrainedTokenizerBase, texts: list[str], max_tokens: int) -> dict[str, torch.Tensor]:
    """
    The model's inputs for texts of any length.

    Returns:
        What the tokenizer gives, padded at the end: (texts, tokens), or, where one of them has more than `max_tokens`,
        (texts, parts, tokens). An absent text has an attention mask of zeros.
    """
    rows = []
    for text in texts:
        made = tokenize(tokenizer, parts(tokenizer, text, max_tokens), max_tokens)
        rows.append([{name: made[name][part] for name in made} for part, ids in enumerate(made["input_ids"]) if ids])
    most = max(1, *map(len, rows))
    longest = max((len(part["input_ids"]) for row in rows for part in row), default=1)
    padding = {"input_ids": tokenizer.pad_token_id or 0}
    names = dict.fromkeys([*_tokens(tokenizer, ""), "attention_mask"])
    batch = {name: torch.full((len(texts), most, longest), padding.get(name, 0)) for name in names}
    for number, row in enumerate(rows):
        for place, part in enumerate(row):
            for name in names:
                values = part.get(name, [1] * len(part["input_ids"]))
                batch[name][number, place, : len(values)] = torch.tensor(values)
    return {name: values.squeeze(1) if most == 1 else values for name, values in batch.items()}


def some_words(tokenizer: PreTrainedTokenizerBase, count: int = 8) -> str:
    """A text of words, or parts of words, from all over the vocabulary."""
    special = set(tokenizer.all_special_ids)
    known = [number for number in sorted(tokenizer.get_vocab().values()) if number not in special]
    return " ".join(tokenizer.decode([number]) for number in known[:: max(1, len(known) // count)])


def count_words(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, int]:
    """How many words a text has, and of how many of them the encoder does not know a part."""
    words = [word for one in WORD.findall(text) if (word := EDGES.sub("", one))]
    if not words or tokenizer.unk_token_id is None:
        return len(words), 0
    tokens = _tokens(tokenizer, words, add_special_tokens=False)["input_ids"]
    return len(words), sum(tokenizer.unk_token_id in ids for ids in tokens)


def _tokens(tokenizer: PreTrainedTokenizerBase, texts: str | list[str], **options: Any) -> dict[str, list]:
    with _TOKENIZING:
        # Without `verbose=False` it warns of lengths that no encoder will see.
        return dict(tokenizer(texts, verbose=False, **options))


__all__ = ["count_words", "length", "parts", "some_words", "text_batch", "tokenize"]
