"""What is read of the hidden states of a text: chosen by the encoder, said by the model, refused where it cannot be."""

import json

import pytest
import torch
from conftest import assert_same_outputs, command, mmsa_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoConfig,
    AutoModel,
    BertModel,
    MT5EncoderModel,
    PreTrainedTokenizerFast,
    T5EncoderModel,
)  # fmt: skip

from selfmm_hf import SelfMMModel
from selfmm_hf.data.synthetic.words import demo_text_config, demo_tokenizer

WORDS = ["<|endoftext|>", "good", "bad", "film", *(f"word{number}" for number in range(46))]
DECODERS = ("gpt2", "llama", "qwen2")
SIZES = {
    "vocab_size": len(WORDS), "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 20,
}  # fmt: skip


def decoder_config(kind):
    options = {"pad_token_id": None, "bos_token_id": 0, "eos_token_id": 0}
    options |= {} if kind == "gpt2" else {"intermediate_size": 17, "num_key_value_heads": 2}
    return AutoConfig.for_model(kind, **SIZES, **options)


def save_decoder(folder, kind="llama"):
    """A causal decoder with a tokenizer that, as that of GPT-2, has no token for the padding."""
    torch.manual_seed(0)
    AutoModel.from_config(decoder_config(kind)).save_pretrained(folder)
    words = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token=WORDS[0]))
    words.pre_tokenizer = Whitespace()
    special = {"unk_token": WORDS[0], "eos_token": WORDS[0], "bos_token": WORDS[0]}
    PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)
    return folder


def save_bert(folder, said=None):
    """BERT with a tokenizer, and what sentence-transformers says of its pooling."""
    torch.manual_seed(0)
    BertModel(demo_text_config()).save_pretrained(folder)
    demo_tokenizer().save_pretrained(folder)
    if said is not None:
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(said if isinstance(said, str) else json.dumps(said))
    return folder


def flags(*on):
    names = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
    return {"word_embedding_dimension": 8, **{f"pooling_mode_{name}": name in on for name in names}}


@pytest.mark.parametrize(
    ("said", "pooling"),
    [
        (None, "cls"),
        (flags("cls_token"), "cls"),
        (flags("mean_tokens"), "mean"),
        (flags("lasttoken"), "last"),
        ({"embedding_dimension": 8, "pooling_mode": "mean", "include_prompt": True}, "mean"),
        ({"pooling_mode": ["lasttoken"]}, "last"),
        ({"pooling_mode": "cls"}, "cls"),
    ],
)
def test_an_encoder_says_how_it_pools(tmp_path, said, pooling):
    folder = save_bert(tmp_path, said)
    assert SelfMMModel.from_text_encoder(str(folder)).config.text_pooling == pooling
    for given in ("cls", "mean", "last"):
        assert SelfMMModel.from_text_encoder(str(folder), text_pooling=given).config.text_pooling == given


@pytest.mark.parametrize(
    ("said", "what"),
    [
        (flags("max_tokens"), "pools by max_tokens, which is not supported: set text_pooling to cls, mean or last"),
        (flags("mean_tokens", "max_tokens"), "pools by mean_tokens and max_tokens, which is not supported"),
        (flags(), "pools by nothing, which"),
        ({"pooling_mode": {"a": 1}}, "pools by {'a': 1}, which"),
        ("[]", "1_Pooling/config.json: "),
        ("{", "1_Pooling/config.json: "),
    ],
)
def test_a_pooling_that_is_not_there_is_refused(tmp_path, said, what):
    folder = save_bert(tmp_path, said)
    with pytest.raises(ValueError, match="cannot be loaded: ") as error:
        SelfMMModel.from_text_encoder(str(folder))
    assert what in str(error.value) and "\n" not in str(error.value)
    assert SelfMMModel.from_text_encoder(str(folder), text_pooling="mean").config.text_pooling == "mean"


@pytest.mark.parametrize("kind", DECODERS)
def test_a_decoder_is_read_by_its_last_token(tmp_path, kind):
    folder = str(save_decoder(tmp_path, kind))
    assert SelfMMModel.from_text_encoder(folder).config.text_pooling == "last"
    model = SelfMMModel.from_text_encoder(folder, text_pooling="mean", modalities=["text"])
    with pytest.raises(ValueError, match=r"text_pooling cls reads the state of its first token, .* as in decoders"):
        SelfMMModel.from_text_encoder(folder, text_pooling="cls")
    tokens = torch.tensor([[1, 5, 2], [7, 5, 2]])
    one, other = model(tokens).logits
    assert one != other, "the first word counts"


def test_a_sentence_encoder_made_of_a_decoder_that_says_cls_is_refused(tmp_path):
    save_decoder(tmp_path)
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(flags("cls_token")))
    with pytest.raises(ValueError, match=r"text_pooling cls reads .* take another text_pooling"):
        SelfMMModel.from_text_encoder(str(tmp_path))


@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
@pytest.mark.parametrize("kind", ["bert", "mpnet", "llama"])
def test_what_is_read(tiny_model, kind, pooling):
    """As by the definition, one text at a time; whatever side the padding is on."""
    config = decoder_config(kind) if kind in DECODERS else AutoConfig.for_model(kind, **SIZES, pad_token_id=1)
    model = tiny_model(text_config=config, text_pooling=pooling, modalities=["text"])
    lengths, size = [3, 7, 1], 9
    tokens = torch.randint(5, 50, (3, size), generator=torch.Generator().manual_seed(0))
    expected = []
    for row, length in enumerate(lengths):
        states = model.encoders["text"](input_ids=tokens[row : row + 1, :length])[0][0]
        expected.append({"cls": states[0], "mean": states.mean(0), "last": states[-1]}[pooling])
    mask = (torch.arange(size) < torch.tensor(lengths).unsqueeze(1)).long()
    for side in ("right", "left"):
        given = torch.zeros_like(tokens) + (config.pad_token_id or 0)
        real = mask if side == "right" else mask.flip(-1)
        given[real.bool()] = tokens[mask.bool()]
        torch.testing.assert_close(model.encode_text(given, real), torch.stack(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", DECODERS)
def test_every_parameter_of_a_decoder_learns(tiny_model, tiny_batch, kind):
    model = tiny_model(text_config=decoder_config(kind), text_pooling="last").train()
    model(**tiny_batch(targets=1)).loss.backward()
    idle = {name for name, one in model.named_parameters() if one.grad is None or not one.grad.any()}
    assert {name for name in idle if not name.endswith("k_proj.bias")} == set()


def test_a_model_saved_before_there_was_a_choice_reads_the_first_token(tiny_model, tiny_batch, tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved.pop("text_pooling") == "cls"
    (tmp_path / "config.json").write_text(json.dumps(saved))
    loaded = AutoModel.from_pretrained(tmp_path)
    assert loaded.config.text_pooling == "cls"
    assert_same_outputs(loaded(**tiny_batch()), model(**tiny_batch()))
    model.config.text_pooling = "mean"
    assert (loaded(**tiny_batch()).logits - model(**tiny_batch()).logits).abs().min() > 1e-4


OPTIONS = ["--config", "mosi", "--disable_tqdm", "true", "--use_cpu", "true", "--num_train_epochs", "1"]


@pytest.mark.parametrize("frozen", ["false", "true"])
def test_a_decoder_is_trained_saved_and_predicts(tmp_path, capsys, caplog, frozen):
    encoder, run = save_decoder(tmp_path / "encoder"), tmp_path / "run"
    given = ["--data", mmsa_file(tmp_path / "file.pkl"), "--text_encoder", encoder, "--freeze_text_encoder", frozen]
    assert command("train", *OPTIONS, *given, "--output_dir", run) == 0
    assert f"{encoder} is made for --text_pooling last, so that is used" in caplog.text
    results = json.loads((run / "all_results.json").read_text())
    assert results["text_pooling"] == "last"
    card = (run / "model" / "README.md").read_text()
    assert "the hidden state of its last token (`text_pooling: last`), of the last layer" in card
    capsys.readouterr()
    assert command("predict", "--model", run, "--text", "good film", "--json") == 0
    assert json.loads(capsys.readouterr().out)["unimodal"]["text"] is not None


def test_the_first_token_of_a_decoder_is_refused_before_the_run(tmp_path, capsys):
    encoder, run = save_decoder(tmp_path / "encoder"), tmp_path / "run"
    given = ["--data", mmsa_file(tmp_path / "file.pkl"), "--text_encoder", encoder, "--text_pooling", "cls"]
    assert command("train", *OPTIONS, *given, "--output_dir", run) == 2
    line = capsys.readouterr().err.strip()
    assert "text_pooling cls" in line and "\n" not in line and not run.exists()


@pytest.mark.parametrize(("kind", "pooling"), [("bert", "mean"), ("llama", "last"), ("t5", "cls")])
def test_a_model_begins_with_the_text_encoder_of_another(tiny_model, tmp_path, kind, pooling):
    """Say, of one that was trained on another corpus."""
    config = decoder_config(kind) if kind in DECODERS else AutoConfig.for_model(kind, **SIZES)
    trained = tiny_model(text_config=config, text_pooling=pooling)
    trained.save_pretrained(tmp_path)
    model = SelfMMModel.from_text_encoder(str(tmp_path))
    assert model.config.text_pooling == pooling
    model.save_pretrained(tmp_path / "new")
    again = SelfMMModel.from_pretrained(tmp_path / "new")
    for one in (model, again):
        mine, other = one.encoders["text"].state_dict(), trained.encoders["text"].state_dict()
        assert mine.keys() == other.keys() and all(torch.equal(mine[name], other[name]) for name in other)


@pytest.mark.parametrize("kind", [T5EncoderModel, MT5EncoderModel])
def test_an_encoder_that_was_saved_without_its_decoder(tmp_path, kind):
    torch.manual_seed(0)
    alone = kind(kind.config_class(**SIZES, d_kv=6, d_ff=17, num_decoder_layers=1)).eval()
    alone.save_pretrained(tmp_path)
    model, tokens = SelfMMModel.from_text_encoder(str(tmp_path), modalities=["text"]), torch.tensor([[5, 9, 7]])
    torch.testing.assert_close(model.encode_text(tokens), alone(tokens)[0][:, 0])
    model.save_pretrained(tmp_path / "new")
    again = SelfMMModel.from_pretrained(tmp_path / "new")
    torch.testing.assert_close(again.encode_text(tokens), model.encode_text(tokens))


def test_an_encoder_with_an_adapter_is_refused(tmp_path):
    """Or its weights, and whether any of them learn, would depend on whether PEFT is installed."""
    (save_bert(tmp_path) / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds an adapter, adapter_config\.json: merge it into the model"):
        SelfMMModel.from_text_encoder(str(tmp_path))


@pytest.mark.parametrize(
    ("what", "options", "wanted"),
    [
        ("reads word vectors", {"text_config": None, "text_dim": 5}, {}),
        ("take one of its members", {"members": 2}, {}),
        ("leave text_layer out", {}, {"text_layer": 1}),
    ],
)
def test_a_model_without_such_a_text_encoder_is_refused(tiny_model, tmp_path, what, options, wanted):
    tiny_model(**options).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=what):
        SelfMMModel.from_text_encoder(str(tmp_path), **wanted)
