"""LoRA of the text encoder: what learns, what is saved, and that nothing but the training knows of it."""

import json
import subprocess
import sys

import fresh
import pytest
import torch
from conftest import assert_same_outputs, command
from safetensors.torch import load_file
from test_packing import LENGTHS, SIZES, texts
from test_packing import model_of as packed_model
from test_text_pooling import save_bert, save_decoder
from test_trainer import arguments, corpus
from test_trainer import model as bert_model
from transformers import AutoConfig, AutoModel, BertModel, TrainingArguments

from selfmm_hf import SelfMMModel, SelfMMTrainer
from selfmm_hf.data import synthetic as demo
from selfmm_hf.model import packing_selfmm as packing
from selfmm_hf.training.lora import add_lora, lora_layers, merge_lora
from selfmm_hf.training.parameter_groups import LORA_RATE, TEXT_RATE

pytest.importorskip("peft", reason="peft is not installed")
NAMES = ("activation_checkpointing", "gradient_checkpointing")  # as newer and older versions of transformers have it
CHECKPOINTING = next(one for one in NAMES if hasattr(TrainingArguments, one))
KINDS = ("bert", "gpt2", "llama", "qwen2")


def encoder_folder(folder, kind):
    folder.mkdir(exist_ok=True)
    return save_bert(folder) if kind == "bert" else save_decoder(folder, kind)


def pretrained(folder, kind, **options):
    if kind == "bert":
        torch.manual_seed(0)
        BertModel(AutoConfig.for_model(kind, **SIZES)).save_pretrained(folder)
    else:
        encoder_folder(folder, kind)
    return SelfMMModel.from_text_encoder(str(folder), vision_dim=4, **options)


def copies(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def train(folder, model, **options):
    trainer = SelfMMTrainer(
        model, arguments(folder, num_train_epochs=1, **options), train_dataset=corpus(), eval_dataset=corpus(9, 1)
    )
    trainer.train()
    return trainer


@pytest.mark.parametrize("kind", KINDS)
def test_only_lora_and_the_rest_of_the_model_learn(tmp_path, kind):
    torch.manual_seed(0)
    model = pretrained(tmp_path / "encoder", kind)
    plain, batch = copies(model), texts()
    before = model(**batch)
    add_lora(model, rank=3)
    with torch.no_grad():
        assert_same_outputs(model(**batch), before, atol=0)
    begin = copies(model)
    layers = [name for name, value in model.encoders["text"].named_parameters() if "lora_A" in name]
    assert len(layers) == {"bert": 12, "gpt2": 8, "llama": 14, "qwen2": 14}[kind]
    train(tmp_path / "run", model)
    for name, value in model.state_dict().items():
        is_text, is_lora = name.startswith("encoders.text."), "lora_" in name
        assert torch.equal(value, begin[name]) == (is_text and not is_lora), name

    model.eval()
    with torch.no_grad():
        after = model(**batch)
        merge_lora(model)
        assert_same_outputs(model(**batch), after)
    assert (after.logits - before.logits).abs().max() > 1e-3
    assert model.state_dict().keys() == plain.keys() and not lora_layers(model)
    text = {name: value for name, value in model.state_dict().items() if name.startswith("encoders.text.")}
    changed = {name for name, value in text.items() if not torch.equal(value, plain[name])}
    assert len(changed) == len(layers) and not any("norm" in name.lower() or "embed" in name for name in changed)
    assert all(one.requires_grad for one in model.parameters())
    model.save_pretrained(tmp_path / "saved")
    with torch.no_grad():
        assert_same_outputs(SelfMMModel.from_pretrained(tmp_path / "saved")(**batch), after)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("model_type", ["bert", "roberta", "electra", "mpnet"])
def test_texts_are_packed_as_without(model_type, pooling, monkeypatch):
    model = packed_model(model_type, text_pooling=pooling).eval()
    add_lora(model, rank=2)
    for name, value in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value)
    assert packing.is_plain(model.encoders["text"]) == (model_type != "mpnet")
    found = []
    for look, plain in ((packing.may_look, packing.is_plain), (lambda _: False, lambda _: False)):
        monkeypatch.setattr(packing, "may_look", look)
        monkeypatch.setattr(packing, "is_plain", plain)
        model.zero_grad()
        outputs = model(**texts(), labels=torch.linspace(-3, 3, len(LENGTHS)))
        outputs.loss.backward()
        found.append((outputs, {name: one.grad for name, one in model.named_parameters() if one.grad is not None}))
    (one, gradients), (other, expected) = found
    torch.testing.assert_close(one.logits, other.logits, rtol=1e-5, atol=1e-5)
    assert gradients.keys() == expected.keys() and sum("lora_" in name for name in gradients) >= 24
    for name, value in gradients.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("kind", ["bert", "qwen2"])
def test_checkpointed_gradients_are_the_same(tmp_path, kind):
    weights = []
    for number, checkpointing in enumerate((False, True)):
        torch.manual_seed(0)
        model = pretrained(tmp_path / "encoder", kind, text_pooling="last")
        add_lora(model, rank=2)
        train(tmp_path / f"{number}", model, **{CHECKPOINTING: checkpointing})
        assert any(getattr(one, "gradient_checkpointing", False) for one in model.modules()) == checkpointing
        weights.append(copies(model))
    assert any("lora_B" in name and value.abs().max() > 0 for name, value in weights[0].items())
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=0, atol=1e-5, msg=name)


def test_learning_rates(tmp_path, caplog):
    rates = {}
    for given in ({}, {"learning_rates": {"encoders.text": TEXT_RATE}}, {"learning_rates": {"encoders": 1e-3}}):
        model = pretrained(tmp_path / "encoder", "bert")
        add_lora(model, rank=2)
        caplog.clear()
        trainer = SelfMMTrainer(
            model, arguments(tmp_path / "run", **given), train_dataset=corpus(), eval_dataset=corpus(9, 1)
        )
        groups = trainer.create_optimizer().param_groups
        text = {id(one) for one in model.encoders["text"].parameters()}
        inside = {group["lr"] for group in groups if text & {id(one) for one in group["params"]}}
        learned = sum(len(group["params"]) for group in groups)
        assert learned == sum(one.requires_grad for one in model.parameters())
        rates[tuple(inside)] = caplog.text
    assert list(rates) == [(LORA_RATE,), (TEXT_RATE,), (1e-3,)]
    said = list(rates.values())
    assert "LoRA of the pretrained text encoder learns at 0.0002" in said[0]
    assert "LoRA learns at 5e-05, the rate of a whole text encoder" in said[1] and not said[2]


def test_what_has_no_lora_is_refused(tiny_model, monkeypatch):
    model = bert_model()
    add_lora(model, rank=2)
    with pytest.raises(ValueError, match="has LoRA already: merge_lora comes first"):
        add_lora(model, rank=2)
    with pytest.raises(ValueError, match="LoRA is for a text encoder, and this model has none"):
        add_lora(tiny_model(text_config=None), rank=2)
    with pytest.raises(ValueError, match="frozen or trained by LoRA: leave out freeze_text_encoder or lora_rank"):
        add_lora(bert_model(freeze_text_encoder=True), rank=2)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ValueError, match=r"PEFT, which is not installed: pip install 'peft>=0"):
        add_lora(bert_model(), rank=2)


# A run


OPTIONS = ["--dataset", "custom", "--disable_tqdm", "true", "--use_cpu", "true", "--per_device_train_batch_size", "4"]
# In a process that cannot import PEFT, and without the package.
LOAD = """
import json, sys
sys.modules["peft"] = None
from transformers import AutoModel, AutoTokenizer, pipeline
model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)
pipe = pipeline("multimodal-sentiment", model=sys.argv[1], trust_remote_code=True)
assert "selfmm_hf" not in sys.modules
print(json.dumps(pipe({"text": "good bad film"})["score"]))
"""


@pytest.fixture
def data(tmp_path):
    words, rows = ["good film", "bad film", "good", "bad bad", "film bad good"], ["id,text,label,split"]
    for split, number in {"train": 14, "validation": 6, "test": 6}.items():
        rows += [f"{split}{row},{words[row % 5]},{3 * (row % 3 - 1)},{split}" for row in range(number)]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "table.csv").write_text("\n".join(rows))
    return tmp_path / "data"


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_a_run_resumes_exactly_and_its_model_loads_without_peft(tmp_path, data, kind, capsys):
    given = [*OPTIONS, "--data", data, "--text_encoder", encoder_folder(tmp_path / "encoder", kind), "--lora_rank", 2]
    given += ["--lora_alpha", 3, f"--{CHECKPOINTING}", "true", "--learning_rates", '{"encoders.text": 1e-2}']
    given += ["--bf16", "true"] if kind == "llama" else []
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert command("train", *given, "--output_dir", whole, "--num_train_epochs", 3) == 0
    assert command("train", *given, "--output_dir", stopped, "--num_train_epochs", 1) == 0
    (stopped / "all_results.json").unlink()  # as if it had been stopped there
    more = ["--num_train_epochs", 3, "--resume_from_checkpoint", "true"]
    assert command("train", *given, "--output_dir", stopped, *more) == 0
    for name in ("model/model.safetensors", "all_results.json", "predictions.parquet", "pseudo_labels.parquet"):
        assert (whole / name).read_bytes() == (stopped / name).read_bytes(), name

    results = json.loads((whole / "all_results.json").read_text())
    assert (results["lora_rank"], results["lora_alpha"]) == (2, 3)
    model = SelfMMModel.from_pretrained(whole / "model")
    assert results["text_encoder_parameters"] == sum(one.numel() for one in model.encoders["text"].parameters())
    card = " ".join((whole / "model" / "README.md").read_text().split())
    assert f"trained by LoRA of rank 2 (alpha 3): {results['lora_parameters']:,} parameters, beside" in card
    learned = load_file(whole / "model" / "model.safetensors")
    first = load_file(sorted(whole.glob("checkpoint-*"))[0] / "model.safetensors")
    assert any("lora_A" in name for name in first) and not any("lora" in name for name in learned)

    found = subprocess.run([fresh.python(), "-c", LOAD, whole / "model"], capture_output=True, text=True, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    capsys.readouterr()
    assert command("predict", "--model", whole, "--text", "good bad film", "--json") == 0
    score = json.loads(capsys.readouterr().out)["score"]
    assert json.loads(found.stdout) == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lora_rank", "-1"], "lora_rank must be in [0, 1024], got -1"),
        (["--lora_rank", "2", "--lora_alpha", "0"], "lora_alpha must be a positive number, got 0"),
        (["--lora_alpha", "8"], "lora_alpha must be left out without lora_rank"),
        (["--lora_rank", "2", "--freeze_text_encoder", "true"], "leave out freeze_text_encoder or lora_rank"),
        (["--lora_rank", "2", "--config", "demo"], "--lora_rank is for a pretrained text encoder"),
    ],
)
def test_runs_that_cannot_be_are_refused(tmp_path, data, capsys, monkeypatch, options, message):
    monkeypatch.setattr(demo, "SIZES", {"train": 30, "validation": 9, "test": 11})  # as in other tests
    own = [*OPTIONS, "--data", data, "--text_encoder", encoder_folder(tmp_path / "encoder", "bert")]
    assert command("train", *([] if "demo" in options else own), "--output_dir", tmp_path / "run", *options) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_layers_that_cannot_be_checkpointed_are_refused(tmp_path, data, capsys):
    encoder = save_bert(tmp_path)
    AutoModel.from_config(AutoConfig.for_model("mpnet", **{**SIZES, "vocab_size": 200})).save_pretrained(encoder)
    given = [*OPTIONS, "--data", data, "--text_encoder", encoder, f"--{CHECKPOINTING}", "true"]
    assert command("train", *given, "--output_dir", tmp_path / "run") == 2
    said = capsys.readouterr().err
    assert "checkpointing is for the layers of a text encoder" in said and not (tmp_path / "run").exists()


def test_processes_do_not_wait_for_what_a_batch_lacks(tmp_path):
    """With checkpointing, transformers would have them wait for the gradients of the encoders that one has not run."""
    options = arguments(tmp_path, **{CHECKPOINTING: True})
    trainer = SelfMMTrainer(bert_model(), options, train_dataset=corpus(), eval_dataset=corpus(9, 1))
    assert trainer.accelerator.ddp_handler.find_unused_parameters is True
    with pytest.raises(ValueError, match="ddp_find_unused_parameters must be True, got False: where a batch of one"):
        arguments(tmp_path, ddp_find_unused_parameters=False)
