"""The tokens that a text encoder reads: words, parts of long texts, unknown words; of tokenizers of several kinds."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

from selfmm_hf.data.synthetic import demo_tokenizer
from selfmm_hf.model.text_selfmm import count_words, parts, text_batch, tokenize

GRIN = "\U0001f600"


def sentence_pieces():
    """Marks the spaces, as XLM-R and its kind do: an unknown character has a known token before it."""
    pieces = [("<unk>", 0.0), ("</s>", 0.0), ("\u2581", -2.0), ("\u2581good", -1.0), ("\u2581film", -1.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>")


def in_python(tmp_path):
    """One that is not of the tokenizers library."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "movie", "was", "good"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    return BertTokenizerLegacy(str(tmp_path / "vocab.txt"))


@pytest.mark.parametrize("text", ["", " \n", GRIN, f"{GRIN} {GRIN}", "qwertz uiop", "[UNK]"])
@pytest.mark.parametrize("make", [demo_tokenizer, sentence_pieces])
def test_what_says_nothing_has_no_tokens(make, text):
    tokens = tokenize(make(), [text, "good"], 50)
    assert all(rows[0] == [] and len(rows[1]) for rows in tokens.values())


def test_texts_are_cut_as_the_tokenizer_cuts_them():
    tokenizer, text = demo_tokenizer(), "the movie was good"
    for tokens in (3, 5, 6, 50):
        assert tokenize(tokenizer, [text], tokens) == dict(tokenizer([text], truncation=True, max_length=tokens))
    assert tokenize(tokenizer, [f"{GRIN} {GRIN} good"], 4)["input_ids"] == [[]]  # of what is left, nothing is known


@pytest.mark.parametrize("kind", ["demo", "python"])
def test_no_word_of_a_long_text_is_lost(kind, tmp_path):
    tokenizer = demo_tokenizer() if kind == "demo" else in_python(tmp_path)
    text = "the movie was good " * 100
    tokenizer.model_max_length = 64
    pieces = parts(tokenizer, text, 50)
    assert len(pieces) == 16 and " ".join(pieces).split() == text.split()
    assert not tokenizer.deprecation_warnings  # it has not warned of a length that no encoder will see
    assert parts(tokenizer, " the movie ", 50) == [" the movie "]
    batch = text_batch(tokenizer, [text, "the movie"], 50)
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (2, 16, 27)
    assert batch["attention_mask"][0].sum() == 400 + 2 * 16 and batch["attention_mask"][1].sum() == 4


def test_long_texts_without_spaces(tmp_path):
    tokenizer = in_python(tmp_path)
    text = "\u597d" * 101  # Chinese: BERT's tokenizers take each character for a word
    pieces = parts(tokenizer, text, 50)
    assert "".join(pieces) == text and all(len(tokenizer(one)["input_ids"]) <= 50 for one in pieces)
    assert parts(tokenizer, "a" * 10_000, 50) == ["a" * 10_000]  # one word
    assert len(parts(sentence_pieces(), "xz" * 5000, 3)) <= 10_000


def test_one_word_of_many_tokens_beside_others():
    assert max(map(len, parts(sentence_pieces(), "good " + "\u2581" * 500, 8))) < 20


def test_the_batch_has_a_column_where_there_are_no_words():
    batch = text_batch(demo_tokenizer(), ["", GRIN], 50)
    assert batch["attention_mask"].tolist() == [[0], [0]] and batch["input_ids"].dtype == torch.int64


@pytest.mark.parametrize(
    ("text", "words", "unknown"),
    [
        ("The board approved quarterly dividends", 5, 4),
        ("the movie was good!", 4, 0),
        ("the movie -- was GOOD ... \u201cgood\u201d", 5, 0),
        (f"good {GRIN}", 1, 0),
        ("well-known", 1, 1),
        ("\u7535\u5f71 good", 3, 2),
        ("...", 0, 0),
    ],
)
def test_unknown_words_are_counted(text, words, unknown):
    assert count_words(demo_tokenizer(), text) == (words, unknown)


def test_who_knows_every_character_knows_every_word():
    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1}, []))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    assert count_words(tokenizer, "ab ba") == (2, 0) and tokenize(tokenizer, ["ab"], 9)["input_ids"] == [[0, 1]]
