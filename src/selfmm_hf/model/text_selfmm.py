"""Turns texts into tokens, in the same way for the processor and in training. This file travels to the Hub."""

import re
import threading
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

_TOKENIZING = threading.Lock()  # a fast tokenizer keeps padding and truncation of one call for the next

# What people call a word: what stands between spaces; of Chinese and Japanese, each character.
WORD = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\\s\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")
EDGES = re.compile(r"^[\W_]+|[\W_]+$")  # punctuation around a word


def tokenize(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], max_tokens: int, contexts: list[list[str]] | None = None
) -> dict[str, list[list[int]]]:
    """
    The tokens of each text, cut to `max_tokens`.

    Args:
        tokenizer: Of the text encoder.
        texts: What is said in each clip.
        max_tokens: With the special ones, such as [CLS] and [SEP].
        contexts: The utterances before each text, which stand before it as the first text of a pair: at most
            `max_tokens` for each of them, those at the end.

    Returns:
        By name, such as `input_ids`, a list for each text. It is empty where the text is absent: where it is blank, or
        no token of it is known to the encoder. With `contexts` there is `context_mask`: 1 for the tokens before the
        text's own.

    Raises:
        ValueError: There are contexts, and the tokenizer does not tell which of two texts a token is of.
    """
    made = _tokens(tokenizer, texts, truncation=True, max_length=max_tokens)
    special = {*tokenizer.all_special_ids, tokenizer.unk_token_id}

    def says_something(text: str, ids: list[int]) -> bool:
        known = set(ids) - special
        # Beside an unknown character, some tokenizers have a token for the space before it.
        blank = tokenizer.unk_token_id in ids and not tokenizer.decode(sorted(known)).strip()
        return bool(text.strip() and known and not blank)

    present = [says_something(text, ids) for text, ids in zip(texts, made["input_ids"], strict=True)]
    made = {name: [row if one else [] for row, one in zip(made[name], present, strict=True)] for name in made}
    if contexts is None:
        return made
    made["context_mask"] = [[0] * len(ids) for ids in made["input_ids"]]
    pair, own_tokens = _Pair.of(tokenizer), max_tokens - tokenizer.num_special_tokens_to_add()
    for row, (text, before) in enumerate(zip(texts, contexts, strict=True)):
        words = " ".join(one for one in before if one.strip())
        if made["input_ids"][row] and words:
            first = _tokens(tokenizer, words, add_special_tokens=False)["input_ids"][-max_tokens * len(before) :]
            own = _tokens(tokenizer, text, add_special_tokens=False, truncation=True, max_length=own_tokens)
            columns = pair.columns(first, own["input_ids"])
            for name in made:
                made[name][row] = columns[name]
    return made


@dataclass
class _Pair:
    """
    What a tokenizer puts around two texts.

    Args:
        special: Ids before the first text, between the two, and after the second one. A new line stands between them if
            the tokenizer puts nothing there.
        types: The `token_type_ids` of these, and of each of the two texts.
    """

    special: tuple[list[int], list[int], list[int]]
    types: tuple[list[int], int, list[int], int, list[int]]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> "_Pair":
        if not tokenizer.is_fast:
            raise ValueError(f"{type(tokenizer).__name__} does not tell which of two texts a token is of: no context.")
        words = some_words(tokenizer)
        with _TOKENIZING:
            alone, made = tokenizer(words, verbose=False), tokenizer(words, words, verbose=False)
        parts, ids = made.sequence_ids(0), made["input_ids"]
        types = made.get("token_type_ids") or [0] * len(ids)
        begin, end = parts.index(0), parts.index(1)
        between = next(place for place in range(begin, end + 1) if parts[place] != 0)
        after = next((place for place in range(end, len(ids)) if parts[place] != 1), len(ids))
        spans = slice(0, begin), slice(between, end), slice(after, None)
        if None not in parts:  # nothing is said of pairs: as around one text, whose end stands between the two
            ids, parts = alone["input_ids"], alone.sequence_ids(0)
            ending = slice(len(parts) - parts[::-1].index(0), None)
            spans, types = (slice(0, parts.index(0)), ending, ending), [0] * len(ids)
            begin = end = 0
        first, middle, last = (types[span] for span in spans)
        before, between, after = (ids[span] for span in spans)
        if not between:  # of most decoders: the words must not run together
            new_line = _tokens(tokenizer, "\n", add_special_tokens=False)["input_ids"]
            between = [] if tokenizer.unk_token_id in new_line else new_line
            middle = [types[begin]] * len(between)
        return cls((before, between, after), (first, types[begin], middle, types[end], last))

    def columns(self, first: list[int], second: list[int]) -> dict[str, list[int]]:
        """Of the ids of two texts, the columns of the pair."""
        (before, between, after), types = self.special, self.types
        ids = [*before, *first, *between, *second, *after]
        own = len(second) + len(after)
        return {
            "input_ids": ids,
            "attention_mask": [1] * len(ids),
            "token_type_ids": [*types[0], *[types[1]] * len(first), *types[2], *[types[3]] * len(second), *types[4]],
            "context_mask": [1] * (len(ids) - own) + [0] * own,
        }


def most_tokens(tokenizer: PreTrainedTokenizerBase, max_tokens: int, utterances: int) -> int:
    """How many tokens [`tokenize`] gives at most for a text with so many utterances before it."""
    more = sum(map(len, _Pair.of(tokenizer).special)) - tokenizer.num_special_tokens_to_add() if utterances else 0
    return max_tokens * (utterances + 1) + more


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


def text_batch(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], max_tokens: int, contexts: list[list[str]] | None = None
) -> dict[str, torch.Tensor]:
    """
    The model's inputs for texts of any length, each part of which has the same utterances before it, if any.

    Returns:
        What the tokenizer gives, padded at the end: (texts, tokens), or, where one of them has more than `max_tokens`,
        (texts, parts, tokens). An absent text has an attention mask of zeros.
    """
    rows = []
    for number, text in enumerate(texts):
        pieces = parts(tokenizer, text, max_tokens)
        made = tokenize(tokenizer, pieces, max_tokens, contexts and [contexts[number]] * len(pieces))
        rows.append([{name: made[name][part] for name in made} for part, ids in enumerate(made["input_ids"]) if ids])
    most = max(1, *map(len, rows))
    longest = max((len(part["input_ids"]) for row in rows for part in row), default=1)
    padding = {"input_ids": tokenizer.pad_token_id or 0}
    names = dict.fromkeys([*_tokens(tokenizer, ""), "attention_mask", *["context_mask"] * (contexts is not None)])
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


def check_unicode(name: str, *texts: str) -> None:
    """
    Raises:
        ValueError: A text has half of a surrogate pair, as JSON and arguments that are not UTF-8 may; no tokenizer
            takes it.
    """
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} has characters that are not Unicode; give it as UTF-8.") from None


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


__all__ = ["check_unicode", "count_words", "length", "most_tokens", "parts", "some_words", "text_batch", "tokenize"]
