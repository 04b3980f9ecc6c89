"""Utterances before a text: of its own video alone, seen by its tokens, and never read themselves."""

import json
import re

import numpy as np
import pytest
import torch
from conftest import assert_same_outputs, command
from datasets import Dataset, Features, Value
from test_text_pooling import DECODERS, decoder_config, save_bert, save_decoder
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import RobertaProcessing, TemplateProcessing
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast, RobertaTokenizerFast, pipeline

from selfmm_hf import SelfMMFeatureExtractor, SelfMMModel, SelfMMProcessor
from selfmm_hf.data import Samples, load_splits
from selfmm_hf.data.columns import odd_column
from selfmm_hf.data.context import places_of, utterances_before
from selfmm_hf.data.safe_pickle import DataError
from selfmm_hf.data.synthetic.words import demo_text_config, demo_tokenizer
from selfmm_hf.model import packing_selfmm as packing
from selfmm_hf.model.text_selfmm import most_tokens, text_batch, tokenize
from selfmm_hf.training.collator import SelfMMCollator
from selfmm_hf.training.frozen_text import FrozenText

WORDS = ["good", "bad", "great", "movie", "food", "wonderful", "the", "was", "and", "is"]
IDS = ["b$_$2", "a$_$10", "a$_$2", "b$_$1", "a$_$9", "c$_$1", "a$b$_$3", "a$_$11"]
TEXTS = ["good", "bad", "great", "movie", "food", "wonderful", "the", "was"]
# The same in columns of a table, whose ids say something else: videos, and seconds at which an utterance begins.
PLACES = [("b", 2.5), ("a", 30.25), ("a", -2.0), ("b", 1.0), ("a", 29.0), ("c", 1.0), ("a b", 3.0), ("a", 31.0)]
OTHER_IDS = [f"a/{number}" for number in range(len(TEXTS))]


def before(ids, texts, count):
    return utterances_before(places_of(ids), texts, count)


def test_what_is_before():
    expected = [["movie"], ["great", "food"], [], [], ["great"], [], [], ["food", "bad"]]
    assert before(IDS, TEXTS, 2) == utterances_before(PLACES, TEXTS, 2) == expected
    assert before(["v/w/01", "v/w/3", "v/x/2"], ["a", "b", "c"], 1) == [[], ["a"], []]
    assert before(["v/1", "v/01", "v/2"], ["a", "b", "c"], 5) == [[], [], ["a", "b"]], "two at one place"


@pytest.mark.parametrize("ids", [["abc", "abd"], ["a$_$1", "a$_$x"], ["a/b", "a/c"]])
def test_ids_that_tell_no_place_are_refused(ids):
    with pytest.raises(DataError, match="does not tell the video and the place of the utterance"):
        places_of(ids)


def test_a_context_that_nobody_has_is_refused():
    with pytest.raises(DataError, match="no utterance has an earlier one of the same video"):
        before(["a$_$1", "b$_$2"], ["a", "b"], 1)


def samples_of(texts, columns=False):
    rows = {"id": OTHER_IDS if columns else IDS, "text": texts, "label": [0.5] * len(texts)}
    if columns:
        rows |= {"video": [video for video, _ in PLACES], "position": [position for _, position in PLACES]}
    samples = Samples(Dataset.from_dict(rows))
    samples.tokenize(demo_tokenizer(), 20, 2)
    return samples


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("row", range(len(IDS)))
def test_no_other_video_and_no_later_utterance_leaks(tiny_model, row, columns):
    """Whatever else is said in the split, tokens and scores of an utterance with this context stay what they are."""
    seen = {row} | {TEXTS.index(one) for one in before(IDS, TEXTS, 2)[row]}
    others = [text if number in seen else "wonderful food and food" for number, text in enumerate(TEXTS)]
    one, other = samples_of(TEXTS, columns), samples_of(others, columns)
    for name, rows in one.tokens.items():
        assert rows[row].tolist() == other.tokens[name][row].tolist(), name
    model = tiny_model(text_config=demo_text_config(), modalities=["text"], text_pooling="mean")
    collate = SelfMMCollator(sequences=())
    scores = [model(**collate([samples[number] for number in range(len(IDS))])).logits[row] for samples in (one, other)]
    torch.testing.assert_close(*scores)
    for number in seen - {row}:  # and what is seen is seen
        changed = [("bad bad bad" if number == place else text) for place, text in enumerate(TEXTS)]
        score = model(**collate([samples_of(changed, columns)[place] for place in range(len(IDS))])).logits[row]
        assert (score - scores[0]).abs() > 1e-6


def bert_tokenizer():
    tokenizer = demo_tokenizer()
    special = [("[CLS]", tokenizer.cls_token_id), ("[SEP]", tokenizer.sep_token_id)]
    pair = {"single": "[CLS] $A [SEP]", "pair": "[CLS] $A [SEP] $B:1 [SEP]:1", "special_tokens": special}
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(**pair)
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    return tokenizer


def test_tokens_of_a_tokenizer_that_knows_no_pairs():
    """As around one text, with what ends it between the two."""
    tokenizer = demo_tokenizer()
    made = tokenize(tokenizer, ["great food"], 20, [["good movie"]])
    ids = tokenizer("good movie")["input_ids"] + tokenizer("great food")["input_ids"][1:]
    assert (made["input_ids"], made["context_mask"]) == ([ids], [[1] * 4 + [0] * 3])


def test_tokens_of_a_pair():
    tokenizer = bert_tokenizer()
    said, before = "the food is great", ["good movie", " ", "bad"]
    made = {name: rows[0] for name, rows in tokenize(tokenizer, [said], 20, [before]).items()}
    expected = tokenizer("good movie bad", said)
    assert set(expected["token_type_ids"]) == {0, 1}
    assert {name: made[name] for name in expected} == dict(expected)
    assert made["context_mask"] == [1] * 5 + [0] * 5  # [CLS] good movie bad [SEP] | the food is great [SEP]
    alone = tokenize(tokenizer, [said, said, ""], 20, [[], [" "], ["good"]])
    assert alone["input_ids"] == [tokenizer(said)["input_ids"]] * 2 + [[]]
    assert alone["context_mask"] == [[0] * 6] * 2 + [[]]


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_segments_that_the_encoder_does_not_know_are_left_out(tiny_model, kind):
    """As those of klue/roberta-base, whose tokenizer is of BERT."""
    sizes = dict(hidden_size=12, num_hidden_layers=2, num_attention_heads=2, intermediate_size=17, type_vocab_size=1)
    config = AutoConfig.for_model(kind, **sizes, vocab_size=200, max_position_embeddings=30, pad_token_id=0)
    model = tiny_model(text_config=config, text_pooling="mean", modalities=["text"])
    batch = text_batch(bert_tokenizer(), ["the food is great", "bad"], 20, [["good movie"], []])
    found = model(**batch)
    assert batch.pop("token_type_ids").max() == 1
    assert_same_outputs(found, model(**batch))


def test_long_contexts_lose_their_begin():
    tokenizer = bert_tokenizer()
    made = tokenize(tokenizer, ["good " * 30], 6, [["bad " * 30, "great movie"]])
    ids = tokenizer("bad " * 10 + "great movie", "good " * 4)["input_ids"]
    assert made["input_ids"] == [ids] and len(ids) == most_tokens(tokenizer, 6, 2) == 6 * 3 + 1
    assert most_tokens(tokenizer, 6, 0) == 6


@pytest.mark.parametrize("side", ["left", "right"])
def test_long_texts_are_cut_as_without_context(side):
    tokenizer, said = bert_tokenizer(), "good bad great movie food"
    tokenizer.truncation_side = side
    alone, beside = tokenize(tokenizer, [said] * 2, 5, [[], ["wonderful"]])["input_ids"]
    assert alone[1:] == beside[-4:] == tokenizer(said, truncation=True, max_length=5)["input_ids"][1:]


def test_tokens_of_a_decoder(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(save_decoder(tmp_path))
    made = tokenize(tokenizer, ["good film"], 20, [["bad", "film"]])
    assert made["input_ids"] == [tokenizer("bad film good film")["input_ids"]]
    assert made["context_mask"] == [[1, 1, 0, 0]]


def test_the_words_of_two_texts_do_not_run_together():
    """A byte-level tokenizer, as of GPT-2 and Qwen, puts nothing between two texts."""
    alphabet = {letter: number for number, letter in enumerate(sorted(ByteLevel.alphabet()))}
    letters = Tokenizer(BPE(alphabet, []))
    letters.pre_tokenizer, letters.decoder = ByteLevel(add_prefix_space=False), ByteLevelDecoder()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters, eos_token="!", unk_token=None)
    made = tokenize(tokenizer, ["It is good"], 20, [["bad", "film"]])
    assert tokenizer.decode(made["input_ids"][0]) == "bad film\nIt is good"
    assert made["context_mask"] == [[1] * 9 + [0] * 10]
    assert most_tokens(tokenizer, 20, 2) == 61


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("layer", [-1, "weighted"])
@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("kind", ["bert", "roberta", "mpnet", "llama"])
def test_only_own_tokens_are_read(tiny_model, kind, pooling, layer, left):
    """As by the definition, one text at a time, however they are packed and padded."""
    sizes = dict(vocab_size=50, hidden_size=12, num_hidden_layers=2, num_attention_heads=2, intermediate_size=17)
    config = AutoConfig.for_model(kind, **sizes, max_position_embeddings=20, pad_token_id=1)
    config = decoder_config(kind) if kind in DECODERS else config
    model = tiny_model(text_config=config, text_pooling=pooling, text_layer=layer, modalities=["text"])
    lengths, contexts = torch.tensor([9, 3, 12, 5]), torch.tensor([4, 0, 11, 2])
    place = torch.arange(12)
    mask, context = place < lengths.unsqueeze(1), place < contexts.unsqueeze(1)
    tokens = torch.randint(5, 50, mask.shape, generator=torch.Generator().manual_seed(0)).masked_fill(~mask, 1)
    expected = []
    for row, (length, begin) in enumerate(zip(lengths, contexts, strict=True)):
        states = model.encoders["text"](tokens[row : row + 1, :length], output_hidden_states=True)
        states = states.hidden_states if layer == "weighted" else [states[0]]
        own = [one[0, begin:] for one in states]
        read = torch.stack([one.mean(0) if pooling == "mean" else one[-1] for one in own])
        expected.append(read if layer == "weighted" else read[0])
    given = [one.flip(1).long() if left else one.long() for one in (mask, context)]
    if left:
        order = (place - (12 - lengths).unsqueeze(1)) % 12
        tokens, given = tokens.gather(1, order), [mask.long().gather(1, order), context.long().gather(1, order)]
    found = model.encode_text(tokens, given[0], context_mask=given[1])
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_packed_and_padded_texts_with_context_have_the_same_gradients(tiny_model, monkeypatch):
    model = tiny_model(text_config=demo_text_config(), modalities=["text"], text_pooling="mean")
    samples = samples_of(TEXTS)
    batch = SelfMMCollator(sequences=())([samples[row] for row in range(len(IDS))])
    gradients = []
    for look in (packing.may_look, lambda _: False):
        monkeypatch.setattr(packing, "may_look", look)
        model.zero_grad()
        model(**batch).loss.backward()
        gradients.append([one.grad.clone() for one in model.parameters() if one.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 10
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_clip_with_nothing_but_context_has_no_text(tiny_model):
    model = tiny_model(text_config=demo_text_config(), modalities=["text"], text_pooling="mean")
    tokens, ones = torch.tensor([[5, 6, 7], [5, 6, 7]]), torch.ones(2, 3, dtype=torch.long)
    context = torch.tensor([[1, 1, 1], [1, 0, 0]])
    output = model(tokens, ones, context_mask=context)
    assert output.present["text"].tolist() == [False, True] and output.logits.isfinite().all()
    with pytest.raises(ValueError, match="context_mask must be of the shape of input_ids"):
        model(tokens, ones, context_mask=context[:1])


def test_a_frozen_encoder_reads_context_once(tiny_model):
    model = tiny_model(text_config=demo_text_config(), modalities=["text"], text_pooling="mean")
    samples, collate = samples_of(TEXTS), SelfMMCollator(sequences=())
    frozen = FrozenText(samples)
    frozen.read(model, collate, 3, progress=False)
    found, expected = (model(**collate([one[row] for row in range(len(IDS))])) for one in (frozen, samples))
    assert_same_outputs(found, expected)


def test_a_long_text_has_its_context_in_each_part(tiny_model):
    model = tiny_model(text_config=demo_text_config(), modalities=["text"], text_pooling="mean")
    tokenizer, words = demo_tokenizer(), "good movie great food"
    batch = text_batch(tokenizer, [words, "bad"], 4, [["wonderful"], []])
    assert batch["input_ids"].ndim == 3 and batch["context_mask"].shape == batch["input_ids"].shape
    parts = text_batch(tokenizer, ["good movie", "great food"], 4, [["wonderful"]] * 2)
    mean = model.encode_text(**parts).mean(0)
    torch.testing.assert_close(model.encode_text(**batch)[0], mean, rtol=1e-5, atol=1e-6)


# A run


OPTIONS = ["--dataset", "custom", "--num_train_epochs", "1", "--disable_tqdm", "true", "--use_cpu", "true"]


@pytest.fixture
def data(tmp_path):
    rows, count = ["id,text,label,split"], {"train": 12, "validation": 6, "test": 6}
    for split, number in count.items():
        for row in range(number):
            words = f"{WORDS[row % 10]} {WORDS[row % 7]}"
            rows.append(f"{split}{row % 2}/{row},{words},{3 * (row % 3 - 1)},{split}")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "table.csv").write_text("\n".join(rows))
    return tmp_path / "data"


# Ids that tell the opposite, and a video that is in two splits: what is before is in the split, too.
ROWS = """id,text,label,split,video,position
v/3,good,2,train,one,1
v/2,bad,-1,train,one,2
v/1,great,1,test,one,3
w/2,movie,0,test,one,4.5
w/1,food,0,validation,two,1
x/1,was,0,validation,two,0
"""
SEEN = {"train": [[], ["good"]], "validation": [["was"], []], "test": [[], ["great"]]}


@pytest.mark.parametrize("prepared", [False, True])
def test_a_table_may_tell_the_order(tmp_path, monkeypatch, prepared):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "own"
    source.mkdir()
    (source / "table.csv").write_text(ROWS)
    if prepared:
        assert command("data", "prepare", "custom", "--data", source, "--output_dir", tmp_path / "made") == 0
        assert command("data", "verify", tmp_path / "made", "--source", source) == 0
        source = tmp_path / "made"
    tokenizer, fingerprints = demo_tokenizer(), set()
    for split, samples in load_splits("custom", str(source)).items():
        fingerprints.add(samples.fingerprint())
        samples.tokenize(tokenizer, 9, 2)
        made = tokenize(tokenizer, samples["text"], 9, SEEN[split])
        assert [samples[row]["input_ids"].tolist() for row in range(2)] == made["input_ids"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "table.csv").write_text(ROWS.replace("one,1", "one,7"))
    others = {samples.fingerprint() for samples in load_splits("custom", str(tmp_path / "other")).values()}
    assert len(others - fingerprints) == 1, "runs of another order are of other data"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",position", ",place", "column 'position': missing; video and position belong together"),
        (",video", ",film", "column 'video': missing; video and position belong together"),
        ("train,one,2", "train,one,", r"column 'position', row 1 \(id 'v/2'\): expected a number, got ''"),
        ("train,one,2", "train,one,nan", r"column 'position', row 1 \(id 'v/2'\): expected a finite number"),
        ("train,one,2", "train, ,2", r"column 'video', row 1 \(id 'v/2'\): expected the video that the clip"),
        ("train,one,2", "train,one,1.0", r"row 1 \(id 'v/2'\): 'v/3' is at 1.0 of the video 'one', too; positions"),
    ],
)
def test_an_order_that_is_none_is_refused(tmp_path, capsys, old, new, message):
    assert ROWS.count(old) == 1
    (tmp_path / "table.csv").write_text(ROWS.replace(old, new))
    assert command("data", "inspect", tmp_path) == 2
    said = capsys.readouterr().err
    assert re.search(message, said) and said.count("\n") == 1


def test_columns_that_are_no_order_are_not_read():
    rows = {"id": IDS, "text": TEXTS, "label": [0.5] * 8, "video": list(range(8)), "position": ["left"] * 8}
    samples = Samples(Dataset.from_dict(rows))
    assert samples.column_names == ["id", "text", "label"]
    types = {name: Value("string") for name in ("id", "text", "video", "position")}
    assert odd_column(Features(types)).startswith("column 'position': expected Value('float64')")
    types["video"] = Value("int64")
    assert odd_column(Features(types)).startswith("column 'label'")


@pytest.fixture
def encoder(tmp_path):
    (tmp_path / "encoder").mkdir()
    return save_bert(tmp_path / "encoder")


def test_from_a_table_to_a_prediction(tmp_path, data, encoder, capsys, caplog):
    run = tmp_path / "run"
    given = ["--data", data, "--text_encoder", encoder, "--output_dir", run, "--max_text_tokens", 8]
    assert command("train", *OPTIONS, *given, "--context_utterances", 2) == 0
    assert "text_pooling is mean, of the text's own tokens" in caplog.text
    model, processor = (one.from_pretrained(run / "model") for one in (SelfMMModel, SelfMMProcessor))
    assert model.config.text_pooling == "mean" and processor.context_utterances == 2
    card = (run / "model" / "README.md").read_text()
    assert "it sees up to 2 utterances before it" in card and "`context_mask` from the processor" in card

    pipe = pipeline("multimodal-sentiment", model=str(run / "model"))
    clip = {"text": "the food is great"}
    alone, with_two = pipe(clip), pipe(clip, context=["bad movie", "good"])
    assert alone["score"] != with_two["score"]
    context = {"context": ["bad movie", "good"]}
    assert with_two == pipe(clip, context=["wonderful", "bad movie", "good"]) == pipe({**clip, **context})
    assert pipe([clip, {**clip, **context}]) == [alone, with_two]
    rows = {"id": ["v/1", "v/2", "v/3"], "text": [*context["context"], clip["text"]], "label": [0.0] * 3}
    samples = Samples(Dataset.from_dict(rows))
    samples.tokenize(processor.tokenizer, processor.max_text_tokens, 2)
    tokens = processor.pad([processor.extract(clip, **context)[0]])
    for name in ("input_ids", "context_mask"):
        assert tokens[name][0].tolist() == samples[2][name].tolist(), "in training as in a prediction"

    capsys.readouterr()
    words = ["--text", clip["text"], "--context", "bad movie", "--context", "good", "--json"]
    assert command("predict", "--model", run, *words) == 0
    assert json.loads(capsys.readouterr().out)["score"] == pytest.approx(with_two["score"], abs=1e-5)
    for wrong, message in (
        ({"context": "bad movie"}, "context must be a list of strings"),
        ({"context": [1]}, "context must be a list of strings"),
        ({"context": {"good": 1}}, "context must be a list of strings"),
        ({"context": ["good \ud800"]}, "context has characters that are not Unicode"),
        ({"context": 5}, "context must be a list of strings"),
    ):
        with pytest.raises(ValueError, match=message):
            pipe(clip, **wrong)
    always = pipeline("multimodal-sentiment", model=str(run / "model"), **context)
    assert always(clip) == with_two
    for several in (lambda: pipe([clip, clip], **context), lambda: always([clip, clip])):
        with pytest.raises(ValueError, match="several clips, but context belongs to one of them"):
            several()
    assert command("robustness", run, "--output_dir", tmp_path / "robust") == 0


def test_the_windows_of_a_clip_have_its_context(model_folder, monkeypatch):
    for package in ("ai_edge_litert", "av", "librosa", "soxr"):
        pytest.importorskip(package)
    from test_decoding import voice
    from test_feature_extraction import RATE

    pipe, said = pipeline("multimodal-sentiment", model=str(model_folder), transcriber=object()), "the food is great"
    pipe.processor.context_utterances, pipe.model.config.text_pooling = 2, "mean"
    monkeypatch.setattr(pipe, "_transcribe", lambda *_: (said, [(word, 0.0) for word in said.split()]))
    clip, scores = {"audio": voice(1.0, RATE), "sampling_rate": RATE}, []
    for context in ([], ["bad movie"]):
        result = pipe({**clip, "context": context}, window_seconds=1.0)
        scores.append(result["unimodal"]["text"])
        assert [one["unimodal"]["text"] for one in result["timeline"]] == [pytest.approx(scores[-1], abs=1e-6)]
    assert abs(scores[0] - scores[1]) > 1e-4
    heard = [("good", 0.0), ("food", 0.1), ("bad", 0.6), ("movie", 0.7)]
    monkeypatch.setattr(pipe, "_transcribe", lambda *_: ("good food bad movie", heard))
    _, second = pipe({**clip, "context": ["great"]}, window_seconds=0.5)["timeline"]
    alone = pipe({"text": "bad movie", "context": ["great", "good food"]})
    assert second["unimodal"]["text"] == pytest.approx(alone["unimodal"]["text"], abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--context_utterances", "2", "--text_pooling", "cls"], "take mean or last"),
        (["--context_utterances", "-1"], "context_utterances must be in [0, 100]"),
        (["--context_utterances", "9", "--max_text_tokens", "30"], "lower max_text_tokens or context_utterances"),
    ],
)
def test_runs_that_cannot_be_are_refused(tmp_path, data, encoder, capsys, options, message):
    given = ["--data", data, "--text_encoder", encoder, "--output_dir", tmp_path / "run"]
    assert command("train", *OPTIONS, *given, *options) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_a_split_without_contexts_is_named(tmp_path, data, encoder, capsys):
    table = data / "table.csv"
    table.write_text(re.sub(r"test./(.)", r"video\1/\1", table.read_text()))  # each test utterance in its own video
    given = ["--data", data, "--text_encoder", encoder, "--output_dir", tmp_path / "run"]
    assert command("train", *OPTIONS, *given, "--context_utterances", 2) == 2
    assert "test split: no utterance has an earlier one of the same video" in capsys.readouterr().err


def test_a_modality_may_be_called_context_too():
    extractor = SelfMMFeatureExtractor(audio=None, vision=None, context={"kind": "features", "dim": 3})
    processor, frames = SelfMMProcessor(extractor, demo_tokenizer(), 20, 2), np.ones((4, 3), np.float32)
    for given, before in ((None, []), (["bad"], ["bad"])):
        batch = processor.pad([processor.extract({"text": "good", "context": frames}, context=given)[0]])
        assert batch["input_ids"].tolist() == tokenize(demo_tokenizer(), ["good"], 20, [before])["input_ids"]
        assert batch["context"].shape == (1, 4, 3) and batch["context_lengths"].tolist() == [4]


def test_a_model_without_context_takes_none(tiny_model):
    processor = SelfMMProcessor(SelfMMFeatureExtractor(audio=None, vision=None), demo_tokenizer())
    with pytest.raises(ValueError, match="trained without context, and reads none"):
        processor.extract({"text": "good", "context": ["bad"]})
    assert processor.extract({"text": "good", "context": []})[0]["text"] == "good"


def test_tokens_of_a_pair_without_segments():
    """RoBERTa's has two tokens between them, and no segments."""
    words = {
        word: number for number, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", "a", "b", "Ġa", "Ġb"])
    }
    tokenizer = RobertaTokenizerFast(vocab=words, merges=[])
    tokenizer.backend_tokenizer.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0))  # as its files have it
    made = tokenize(tokenizer, ["a b"], 20, [["b", "a"]])
    assert made["input_ids"] == [tokenizer("b a", "a b")["input_ids"]] and sum(made["context_mask"][0]) > 3
