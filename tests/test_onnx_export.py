"""`selfmm export`: the file says what the model says, whatever the batch; and there is none where it does not."""

import importlib.util
import json
import sys
from collections import Counter

import pytest
import torch
from conftest import TASKS, WIDTHS, tiny_text_config
from transformers import AutoConfig, DistilBertConfig, RobertaConfig

import selfmm_cli as cli
from selfmm_hf.data.synthetic.words import demo_tokenizer
from selfmm_hf.hub.model_folder import save_loadable
from selfmm_hf.model.feature_extraction_selfmm import SelfMMFeatureExtractor
from selfmm_hf.model.processing_selfmm import SelfMMProcessor

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from selfmm_hf.conversion import to_onnx as onnx_export  # noqa: E402

SMALL = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=37, initializer_range=0.2)
ENCODERS = {
    "bert": (tiny_text_config(num_hidden_layers=1), True),
    "roberta": (RobertaConfig(vocab_size=50, max_position_embeddings=21, **SMALL), False),
    "distilbert": (DistilBertConfig(vocab_size=50, dim=32, n_layers=1, n_heads=2, hidden_dim=37), True),
}


def processor_of(model, token_types=False):
    tokenizer = None
    if model.config.text_config is not None:
        tokenizer = demo_tokenizer()
        tokenizer.model_input_names = ["input_ids", "attention_mask", *(["token_type_ids"] if token_types else [])]
    widths = {name: {"kind": "features", "dim": WIDTHS[name]} for name in model.config.sequences if name in WIDTHS}
    return SelfMMProcessor(SelfMMFeatureExtractor(**{"audio": None, "vision": None, **widths}), tokenizer, 16)


@pytest.fixture
def folder(tmp_path, tiny_model):
    """A model folder of all three modalities."""
    model = tiny_model(text_config=tiny_text_config(vocab_size=len(demo_tokenizer()), num_hidden_layers=1))
    save_loadable(tmp_path / "model", model, processor_of(model))
    return tmp_path / "model"


def export(*arguments):
    cli.main(["export", *map(str, arguments)])


def says_the_same(session, model, batch):
    names = [one.name for one in session.get_inputs()]
    found = session.run(None, {name: batch[name].numpy() for name in names})
    with torch.no_grad():
        output = model(**batch)
    expected = {"logits": output.logits, **{f"{name}_logits": one for name, one in output.unimodal_logits.items()}}
    assert [one.name for one in session.get_outputs()] == list(expected)
    for one, other in zip(found, expected.values(), strict=True):
        torch.testing.assert_close(torch.from_numpy(one), other, atol=1e-5, rtol=0)


def written(file, model, processor):
    onnx_export.write_onnx(file, model, processor)
    assert not model.training
    assert onnx_export.largest_difference(file, model, processor) < 1e-5
    return onnxruntime.InferenceSession(str(file))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_encoders_and_batches(encoder, tiny_model, tiny_batch, tmp_path):
    text_config, token_types = ENCODERS[encoder]
    model = tiny_model(text_config=text_config, absent_modality="learned")
    torch.nn.init.normal_(model.absent["text"])
    session = written(tmp_path / "model.onnx", model, processor_of(model, token_types))
    inputs = {one.name: one.shape for one in session.get_inputs()}
    assert inputs["audio"] == ["batch", "audio_frames", 5] and inputs["input_ids"] == ["batch", "tokens"]
    assert ("token_type_ids" in inputs) == (encoder == "bert")
    for clips in (1, 2, 9):
        batch = tiny_batch(clips, seed=clips)
        if encoder != "bert":
            del batch["token_type_ids"]
        says_the_same(session, model, batch)
        batch["attention_mask"][0] = 0  # no words
        batch["audio_lengths"][-1] = 0
        batch |= {"vision": torch.zeros(clips, 0, 4), "vision_lengths": torch.zeros(clips, dtype=torch.long)}
        says_the_same(session, model, batch)


@pytest.mark.parametrize(
    ("encoder", "pooling", "layer"),
    [
        ("bert", "mean", -1),
        ("bert", "last", "weighted"),
        ("distilbert", "mean", "weighted"),
        ("gpt2", "last", -1),
        ("gpt2", "last", "weighted"),
        ("llama", "mean", "weighted"),
    ],
)
def test_poolings_and_layers(encoder, pooling, layer, tiny_model, tmp_path):
    text_config = ENCODERS[encoder][0] if encoder in ENCODERS else AutoConfig.for_model(encoder, vocab_size=50, **SMALL)
    options = {"text_config": text_config, "text_pooling": pooling, "text_layer": layer, "audio_states": 2}
    model = tiny_model(**options, modalities=["text", "audio"])
    written(tmp_path / "model.onnx", model, processor_of(model))


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_utterances_before(pooling, tiny_model, tmp_path):
    model = tiny_model(text_config=ENCODERS["bert"][0], text_pooling=pooling, modalities=["text"])
    processor = processor_of(model)
    processor.context_utterances = 2
    session = written(tmp_path / "model.onnx", model, processor)
    assert [one.name for one in session.get_inputs()] == ["input_ids", "attention_mask", "context_mask"]


@pytest.mark.parametrize(
    ("options", "widths"),
    [
        ({"modalities": ["text"]}, {"audio": None, "vision": None}),
        ({"modalities": ["vision", "text"]}, {"audio": None}),
        ({"modalities": ["audio"], "text_config": None, "id2label": {0: "a", 1: "b"}}, {"vision": None}),
        ({"modalities": ["eye", "audio"], "text_config": None, "eye_dim": 6},
         {"vision": None, "eye": 6}),
        ({"audio_bidirectional": True, "vision_bidirectional": True, "vision_num_layers": 2}, {}),
        ({"audio_bidirectional": True, "audio_pooling": "mean", "vision_pooling": "mean"}, {}),
    ],
    ids=["text", "two", "audio, two targets", "eyes", "both ways", "means"],
)  # fmt: skip
def test_modalities_and_sequences(options, widths, tiny_model, tiny_batch, tmp_path, capfd):
    model = tiny_model(**{"text_config": ENCODERS["bert"][0], **options})
    session = written(tmp_path / "model.onnx", model, processor_of(model))
    assert capfd.readouterr() == ("", "")
    for clips in (1, 5):
        text = model.config.text_config is not None
        batch = tiny_batch(clips, text=text, **{name: width for name, width in widths.items() if width})
        batch.pop("token_type_ids", None)
        for name in (name for name, width in widths.items() if width is None):
            del batch[name], batch[f"{name}_lengths"]
        says_the_same(session, model, batch)


def test_eight_bits_are_of_the_text_encoder_alone(folder, tmp_path, capfd):
    export(folder, "--output", tmp_path / "whole.onnx")
    names = "input_ids, attention_mask, audio, audio_lengths, vision, vision_lengths"
    assert capfd.readouterr().out.endswith(f"whole.onnx: of {names}\n")
    export(folder, "--output", tmp_path / "small.onnx", "--int8")
    printed = capfd.readouterr()
    assert [line.split(":")[0] for line in printed.out.splitlines()[:2]] == ["float32", "int8"] and not printed.err
    difference = float(printed.out.splitlines()[1].partition("by ")[2].split()[0])
    assert 1e-6 < difference < 0.3

    whole, small = (onnx.load(tmp_path / f"{name}.onnx").graph for name in ("whole", "small"))
    operators, reduced = (Counter(node.op_type for node in graph.node) for graph in (whole, small))
    assert operators["LSTM"] == reduced["LSTM"] == 2
    assert reduced["MatMulInteger"] == 6  # a layer of query, key, value, output and two of the feed-forward part
    eight = [one.name for one in small.initializer if one.name.endswith("_quantized")]
    assert any("word_embeddings" in name for name in eight)
    assert not [name for name in eight if "heads" in name or "projection" in name or "lstm" in name.lower()]


@pytest.mark.parametrize("task", TASKS)
def test_a_file_tells_its_task(task, model_of, tmp_path, capfd):
    model, processor = model_of(task)
    save_loadable(tmp_path / "model", model, processor)
    inputs = processor([{"text": "the movie was good", "eye": torch.ones(3, 4).numpy()}, {"text": "so"}])
    # What a smaller file tells is written in one place, whatever the task.
    for name, more in (("whole", ()), ("small", ("--int8",)))[: 2 if task == "emotions" else 1]:
        export(tmp_path / "model", "--output", tmp_path / f"{name}.onnx", *more)
        session = onnxruntime.InferenceSession(str(tmp_path / f"{name}.onnx"))
        told = session.get_modelmeta().custom_metadata_map
        assert told["problem_type"] == model.config.task.problem_type
        assert json.loads(told["names"]) == list(model.config.task.names)
        assert json.loads(told["scales"]) == [list(scale) for scale in model.config.task.scales]
        outputs = session.run(["logits"], {one.name: inputs[one.name].numpy() for one in session.get_inputs()})
        with torch.no_grad():
            expected = model(**inputs).logits
        assert outputs[0].shape == expected.shape == (2, len(model.config.task.names))
        if name == "whole":
            torch.testing.assert_close(torch.from_numpy(outputs[0]), expected, atol=1e-4, rtol=0)
    capfd.readouterr()


def test_the_smallest_scale_counts(model_of, tmp_path, monkeypatch, capfd):
    model, processor = model_of("scores")
    model.config.label_scales = [[-1000, 1000], [0, 0.001]]
    save_loadable(tmp_path / "model", model, processor)
    monkeypatch.setattr(onnx_export, "largest_difference", lambda *_: 1e-6)
    fail(tmp_path / "model", "--output", tmp_path / "model.onnx")
    assert "predictions differ from the model's by 1e-06" in capfd.readouterr().err


def test_a_file_is_replaced_and_nothing_else_is_left(folder, tmp_path):
    (tmp_path / "model.onnx").write_text("an earlier one")
    export(folder, "--output", tmp_path / "model.onnx")
    onnx.checker.check_model(tmp_path / "model.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.onnx"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_saved_in_half_precision(dtype, tiny_model, tmp_path, capfd):
    model = tiny_model(text_config=tiny_text_config(vocab_size=len(demo_tokenizer()), num_hidden_layers=1)).to(dtype)
    processor = processor_of(model)
    save_loadable(tmp_path / "model", model, processor)
    export(tmp_path / "model", "--output", tmp_path / "model.onnx")
    assert onnx_export.largest_difference(tmp_path / "model.onnx", model.float(), processor) < 1e-5


def fail(*arguments, code=2):
    with pytest.raises(SystemExit) as exit_info:
        export(*arguments)
    assert exit_info.value.code == code or code is None
    return str(exit_info.value)


def test_a_file_that_says_something_else_is_an_error(folder, tmp_path, monkeypatch, capsys):
    flat = onnx_export._Flat.forward
    monkeypatch.setattr(onnx_export._Flat, "forward", lambda self, *v: tuple(one * 1.01 for one in flat(self, *v)))
    (tmp_path / "model.onnx").write_text("an earlier one")
    fail(folder, "--output", tmp_path / "model.onnx")
    assert "predictions differ from the model's by" in capsys.readouterr().err
    assert (tmp_path / "model.onnx").read_text() == "an earlier one" and len(list(tmp_path.iterdir())) == 2


def test_a_file_for_one_size_alone_is_an_error(folder, tmp_path, monkeypatch, capfd):
    def fixed(self, *values):
        one = self.model(**dict(zip(self.names, values, strict=True)))
        return tuple(logits.view(3, 1) for logits in (one.logits, *one.unimodal_logits.values()))

    monkeypatch.setattr(onnx_export._Flat, "forward", fixed)
    fail(folder, "--output", tmp_path / "model.onnx")
    assert "does not run on all batches" in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_torch_cannot_write_is_said(folder, tmp_path, monkeypatch, capfd):
    def determinants(self, *values):
        return (
            torch.linalg.matrix_exp(self.model(**dict(zip(self.names, values, strict=True))).logits @ values[2][0, :1]),
        )

    monkeypatch.setattr(onnx_export._Flat, "forward", determinants)
    fail(folder, "--output", tmp_path / "model.onnx")
    printed = capfd.readouterr()
    assert "torch cannot write this model as ONNX" in printed.err and not printed.out
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_is_wrong_is_said(folder, tmp_path, tiny_model, monkeypatch, capsys):
    def said(*arguments):
        fail(*arguments)
        return capsys.readouterr().err

    model = tiny_model(text_config=None)
    save_loadable(tmp_path / "mute", model, processor_of(model))
    out = tmp_path / "model.onnx"
    assert "--int8 is for the text encoder, and this model has none" in said(
        tmp_path / "mute", "--output", out, "--int8"
    )
    assert "There is no folder nowhere" in said("nowhere", "--output", out)
    assert "cannot be loaded as a model with its processor" in said("some/body", "--output", out)
    assert "is a folder, or would lie in one that does not exist" in said(folder, "--output", tmp_path)
    assert "is a folder, or would lie in one that does not exist" in said(
        folder, "--output", tmp_path / "no" / "a.onnx"
    )
    monkeypatch.setattr(onnx_export, "MOST_BYTES", 1000)
    assert "An ONNX file holds less than 2 GiB" in said(folder, "--output", out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "mute"]


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_what_is_not_installed_is_named(package, folder, tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else found(name))
    message = fail(folder, "--output", tmp_path / "model.onnx", code=None)
    assert message == f"selfmm: error: this command needs {package}: pip install 'onnx>=1.21' 'onnxruntime>=1.19'"


def test_onnxscript_is_not_needed(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)  # the exporter of `dynamo=True` wants it
    model = tiny_model()
    written(tmp_path / "model.onnx", model, processor_of(model))
