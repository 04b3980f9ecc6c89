"""
Model folders of which one field is damaged: `selfmm predict` refuses each in one line, or says what the whole one says.
"""

import json
import resource
import struct
import sys

import numpy as np
import pytest
from conftest import command
from tokenizers import Regex, normalizers

from selfmm_hf import SelfMMConfig, SelfMMProcessor
from selfmm_hf.data.synthetic import demo_tokenizer
from selfmm_hf.hub.model_folder import save_loadable
from selfmm_hf.model.text_encoder_selfmm import check_tokenizer

for package in ("ai_edge_litert", "librosa", "PIL", "soxr"):  # of the model's recipe
    pytest.importorskip(package)

WORDS = "the movie was good and the music was not boring"
MISSING = object()
CONFIG, TOKENIZER, SETTINGS = "config.json", "tokenizer.json", "tokenizer_config.json"
RECIPE, PROCESSOR, WEIGHTS = "preprocessor_config.json", "processor_config.json", "model.safetensors"
INDEX, EXAMPLE = "model.safetensors.index.json", "example.json"


@pytest.fixture
def damaged(model_folder, tmp_path):
    """Makes a copy of a model folder in which some files have another content, or none."""

    def make(**files):
        folder = tmp_path / "damaged"
        folder.mkdir()
        for file in model_folder.iterdir():
            if file.name not in files:
                (folder / file.name).symlink_to(file)
        for name, content in files.items():
            if content is not MISSING:
                (folder / name).write_bytes(content)
        return folder

    return make


@pytest.fixture
def changed(model_folder, damaged):
    """Makes a copy in whose file one field has another value, or is gone; its name has a dot between the levels."""

    def make(file, field, value):
        content = json.loads((model_folder / file).read_text("utf-8"))
        *above, last = [int(one) if one.isdigit() else one for one in field.split(".")]
        within = content
        for one in above:
            within = within[one if isinstance(within, list) else str(one)]
        last = last if isinstance(within, list) else str(last)
        if value is MISSING:
            del within[last]
        else:
            within[last] = value
        return damaged(**{file: json.dumps(content).encode()})

    return make


def predict(folder, capfd):
    """Exit status, output and lines of errors of the command."""
    capfd.readouterr()
    code = command("predict", "--text", WORDS, "--model", folder, "--json")
    printed = capfd.readouterr()
    return code, printed.out, printed.err.splitlines()


def assert_refused(folder, capfd, message):
    code, out, lines = predict(folder, capfd)
    assert (code, out, len(lines)) == (2, "", 1), lines
    assert lines[0].startswith(f"selfmm: error: {folder} cannot be loaded as a model with its processor: ")
    assert message in lines[0]


def replacing(content, steps=1, pattern=None):
    step = {"type": "Replace", "pattern": pattern or {"Regex": "."}, "content": content}
    return {"type": "Sequence", "normalizers": [step] * steps}


def template(*pieces, **special):
    """A post-processor, as the tokenizer's own, but of these pieces, and with these numbers for special tokens."""
    numbers = {"[CLS]": [2], "[SEP]": [3], **special}
    piece = {"TEXT": {"Sequence": {"id": "A", "type_id": 0}}, "OTHER": {"Sequence": {"id": "B", "type_id": 0}}}
    return {
        "type": "TemplateProcessing",
        "single": [piece.get(one, {"SpecialToken": {"id": one, "type_id": 0}}) for one in pieces],
        "pair": [piece["TEXT"], piece["OTHER"]],
        "special_tokens": {
            name: {"id": name, "ids": ids, "tokens": [name] * len(ids)} for name, ids in numbers.items()
        },
    }


REFUSED = [
    (CONFIG, "id2label.0", None, "id2label must name targets by strings"),
    (CONFIG, "id2label.0", 5, "id2label must name targets by strings"),
    (CONFIG, "id2label.0", [], "id2label must name targets by strings"),
    (CONFIG, "id2label.0", "a" * 100_000, "id2label must name targets by strings"),
    (CONFIG, "id2label", {"0": "one", "1": "one"}, "id2label must give each target a different name"),
    (CONFIG, "id2label", {"7": "sentiment"}, "id2label must count the targets from 0 on"),
    (CONFIG, "id2label", {"x": "sentiment"}, "id2label must count the targets from 0 on"),
    (CONFIG, "label_range", True, "label_range must be a positive number"),
    (CONFIG, "label_range", 1e30, "label_range must be a positive number, at most 1,000,000"),
    (CONFIG, "freeze_text_encoder", "no", "freeze_text_encoder must be true or false"),
    (CONFIG, "text_config.chunk_size_feed_forward", 7, "The text encoder cannot be used: it does not read tokens"),
    (CONFIG, "text_pooling", ["mean"], "text_pooling must be 'cls', 'mean' or 'last', got ['mean']"),
    (CONFIG, "text_config.is_decoder", True, "is the same whatever words come after it, as in decoders"),
    (CONFIG, "text_config.layer_norm_eps", 0.5, "text_config: layer_norm_eps must be at most 0.01, got 0.5"),
    (CONFIG, "text_config.num_attention_heads", 0, "cannot be loaded as"),
    (CONFIG, "text_config.hidden_act", "nosuch", "the weights: "),
    (CONFIG, "text_config.hidden_size", "wide", "config.json: "),
    (CONFIG, "text_config.model_type", "gpt2", "the weights: "),
    (CONFIG, "_attn_implementation", "some/body", "code of a repository, which is not run"),
    (CONFIG, "text_config._attn_implementation", "some/body:evil", "code of a repository, which is not run"),
    (CONFIG, "attn_implementation", {"text_config": "some/body"}, "code of a repository, which is not run"),
    (CONFIG, "dtype", [], "config.json: "),
    (CONFIG, "modalities", 5, "modalities must be a list of names, got 5"),
    (CONFIG, "audio_num_layers", 1_000_000, "audio_num_layers must be a positive integer, at most 100"),
    (CONFIG, "audio_hidden_size", 33, "The weights are not those of config.json: "),
    (CONFIG, "text_config.num_hidden_layers", 10**6, "num_hidden_layers must be at most 1,000"),
    (CONFIG, "text_config.hidden_size", -4, "cannot be loaded as"),
    (CONFIG, "text_config", [], "text_config must be the configuration of a text encoder"),
    (SETTINGS, "model_max_length", "long", "The tokenizer: "),
    (SETTINGS, "cls_token", "movie", "The tokenizer: it has a cls_token and does not put it into texts"),
    (SETTINGS, "pad_token", None, "The tokenizer: it has no padding token"),
    (TOKENIZER, "model.vocab", {}, "The tokenizer: "),
    (TOKENIZER, "model.vocab", {"good": 0}, "The tokenizer: "),
    (TOKENIZER, "post_processor", None, "The tokenizer: it has a cls_token and does not put it into texts"),
    (TOKENIZER, "post_processor", template("TEXT"), "does not put it into texts"),
    (TOKENIZER, "post_processor", template("[CLS]", "TEXT"), "it has a sep_token and does not put it into texts"),
    (TOKENIZER, "post_processor", template("[CLS]", "OTHER", "[SEP]"), "The tokenizer: PanicException: "),
    (TOKENIZER, "post_processor", template("[CLS]", "TEXT", "[SEP]", **{"[CLS]": []}), "does not put it into texts"),
    (TOKENIZER, "post_processor", template("[CLS]", "TEXT", "[SEP]", **{"[CLS]": [5000]}), "does not put it into"),
    (TOKENIZER, "post_processor", template(*["[CLS]"] * 2000, "TEXT", "[SEP]"), "cannot read what its tokenizer makes"),
    (TOKENIZER, "post_processor.special_tokens", {}, "The tokenizer: "),
    (TOKENIZER, "normalizer", {"type": "NoSuch"}, "The tokenizer: "),
    (TOKENIZER, "normalizer", {"type": "Precompiled", "precompiled_charsmap": ""}, "The tokenizer: "),
    (TOKENIZER, "normalizer", replacing("x"), "it knows none of its own words"),
    (TOKENIZER, "pre_tokenizer", {"type": "FixedLength", "length": 0}, "The tokenizer: "),
    (TOKENIZER, "pre_tokenizer", {"type": "Digits", "individual_digits": True}, "it knows none of its own words"),
    (PROCESSOR, "has_tokenizer", "no", "processor_config.json: it is missing, or its has_tokenizer is neither true"),
    (PROCESSOR, "has_tokenizer", MISSING, "processor_config.json: it is missing, or its has_tokenizer is neither"),
    (PROCESSOR, "context_utterances", "two", "context_utterances is 'two', expected a number from 0 to 100"),
    (PROCESSOR, "context_utterances", 10**9, "context_utterances is 1000000000, expected a number from 0 to 100"),
    (PROCESSOR, "context_utterances", 100, "lower max_text_tokens or context_utterances"),
    (PROCESSOR, "max_text_tokens", MISSING, "max_text_tokens is None, expected 3 or more"),
    (PROCESSOR, "max_text_tokens", 10**9, "max_text_tokens is 1000000000, expected 3"),
    (RECIPE, "max_seconds", "long", "max_seconds is 'long'"),
    (RECIPE, "vision", {"kind": "face", "frame_rate": 1e9}, "frame_rate is 1000000000.0"),
    (RECIPE, "normalization", {"audio": 5}, "normalization of audio must have mean and std"),
    (RECIPE, "audio", {"kind": "nosuch"}, "preprocessor_config.json: The audio recipe is of kind 'nosuch'"),
    (RECIPE, "vision", MISSING, "preprocessor_config.json: This is no recipe"),
    (RECIPE, "text", {"kind": "features", "dim": 5}, "has a tokenizer and a recipe of word vectors"),
    (RECIPE, "normalization", [], "preprocessor_config.json: "),
    (RECIPE, "normalization.audio.std.0", 0, "preprocessor_config.json: The normalization of audio"),
]


@pytest.mark.parametrize(("file", "field", "value", "message"), REFUSED)
def test_a_wrong_field_is_refused_in_one_line(changed, capfd, file, field, value, message):
    assert_refused(changed(file, field, value), capfd, message)


# Fields whose other values are as good in themselves.
OTHERWISE = [
    (CONFIG, "audio_pooling", "mean", "its output differs from its output when it was saved"),
    (CONFIG, "text_pooling", "mean", "its output differs from its output when it was saved"),
    (CONFIG, "label_range", 0.1, "scales of the targets are not those that the model was saved with"),
    (CONFIG, "id2label", {"0": "calm"}, "scales of the targets are not those that the model was saved with"),
    (CONFIG, "text_config.hidden_act", "relu", "its output differs from its output when it was saved"),
    (CONFIG, "text_config.layer_norm_eps", 0.01, "its output differs from its output when it was saved"),
    (CONFIG, "text_config.model_type", "roberta", "its output differs from its output when it was saved"),
    (CONFIG, "text_config.num_attention_heads", 8, "its output differs from its output when it was saved"),
    (RECIPE, "normalization", MISSING, "its output differs from its output when it was saved"),
    (RECIPE, "normalization.audio.std.0", 0.5, "its output differs from its output when it was saved"),
    (TOKENIZER, "normalizer", replacing("book", pattern={"String": "movie"}), "the tokenizer is not the one"),
    (TOKENIZER, "normalizer", replacing("b", pattern={"Regex": "(a|a)*$"}), "the tokenizer is not the one"),
    (TOKENIZER, "model.vocab.movie", 60, "the tokenizer is not the one"),
    (TOKENIZER, "post_processor", template(*["[CLS]", "TEXT", "[SEP]"] * 2), "the tokenizer is not the one"),
    (TOKENIZER, "post_processor", template("[SEP]", "TEXT", "[CLS]"), "the tokenizer is not the one"),
    (EXAMPLE, "numbers", "text", "example.json: "),
    (EXAMPLE, "numbers", MISSING, "example.json: "),
    (EXAMPLE, "text", 5, "example.json: "),
]


@pytest.mark.parametrize(("file", "field", "value", "message"), OTHERWISE)
def test_a_folder_that_says_something_else_than_when_it_was_saved_is_refused(
    changed, capfd, file, field, value, message
):
    assert_refused(changed(file, field, value), capfd, message)


def test_whole_numbers_for_weights_are_refused(model_folder, damaged, capfd):
    content = rewritten((model_folder / WEIGHTS).read_bytes(), of_one(dtype="I32"))
    assert_refused(damaged(**{WEIGHTS: content}), capfd, "its output differs from its output when it was saved")


@pytest.mark.parametrize(("limit", "loads"), [(3.0, True), (1.0, False)])
def test_an_example_of_an_earlier_version_still_counts(model_folder, damaged, capfd, limit, loads):
    example = json.loads((model_folder / EXAMPLE).read_text("utf-8"))
    del example["task"]
    folder = damaged(**{EXAMPLE: json.dumps({**example, "label_range": limit}).encode()})
    if loads:
        assert answer(folder, capfd)["transcript"] == WORDS
    else:
        assert_refused(folder, capfd, "label_range is not the one that the model was saved with")


@pytest.mark.parametrize(
    ("task", "field", "value"),
    [
        ("classes", "id2label", {"0": "happy", "1": "neutral", "2": "sad", "3": "angry"}),
        ("classes", "problem_type", "multi_label_classification"),
        ("scores", "label_scales", [[1, 5], [-1, 1]]),
    ],
)
def test_other_names_kinds_and_scales_than_when_it_was_saved_are_refused(model_of, tmp_path, capfd, task, field, value):
    save_loadable(tmp_path / "model", *model_of(task))
    assert answer(tmp_path / "model", capfd)["task"] == model_of(task)[0].config.task.problem_type
    file = tmp_path / "model" / CONFIG
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | {field: value}), encoding="utf-8")
    assert_refused(tmp_path / "model", capfd, "the names, kind or scales of the targets are not those")


def test_a_folder_without_an_example_loads(damaged, capfd):
    assert answer(damaged(**{EXAMPLE: MISSING}), capfd)["transcript"] == WORDS


@pytest.mark.parametrize("pattern", [{"Regex": "."}, {"Regex": "(?<=a)"}, {"Regex": ""}, {"String": "a"}])
def test_a_normalizer_that_blows_texts_up_is_refused_before_it_sees_one(changed, capfd, pattern):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    folder = changed(TOKENIZER, "normalizer", replacing("a" * 10, 12, pattern))
    assert_refused(folder, capfd, "its normalizer may make a text more than 1,000 times as long")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < (500 << 20 if sys.platform == "darwin" else 500 << 10)


def test_normalizers_in_use_are_taken():
    tokenizer = demo_tokenizer()
    # ALBERT, T5 and XLM-R quote and space so, beside Unicode's own forms.
    steps = [normalizers.Replace(*one) for one in (("``", '"'), ("''", '"'), (" ", "\u2581"), (Regex(" {2,}"), " "))]
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence(
        [*steps, normalizers.NFKC(), normalizers.Lowercase(), normalizers.Prepend("\u2581")]
    )
    check_tokenizer(tokenizer)


@pytest.mark.parametrize("file", [CONFIG, TOKENIZER, SETTINGS, RECIPE, PROCESSOR, WEIGHTS])
@pytest.mark.parametrize("content", [b"", b"{", b"null", b"[5]", b"\xff\xfe{}", b"[" * 100_000], ids=repr)
def test_a_file_that_is_none_is_refused_in_one_line(damaged, capfd, file, content):
    assert_refused(damaged(**{file: content}), capfd, "")


@pytest.mark.parametrize("file", [CONFIG, TOKENIZER, RECIPE, PROCESSOR, WEIGHTS])
def test_a_missing_file_is_refused_in_one_line(damaged, capfd, file):
    assert_refused(damaged(**{file: MISSING}), capfd, "")


NAME = "encoders.audio.lstm.bias_hh_l0"


def rewritten(content, change):
    """A safetensors file with a header, or the raw bytes of one, that `change` has made of its own."""
    size = struct.unpack("<Q", content[:8])[0]
    header = change(json.loads(content[8 : 8 + size]))
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + size :]


def of_one(**options):
    return lambda header: {**header, NAME: {**header[NAME], **options}}


HEADERS = {
    "no JSON": lambda header: b"x" * 100,
    "a list": lambda header: [],
    "no tensors": lambda header: {},
    "deep": lambda header: b"[" * 100_000,
    "metadata": lambda header: {**header, "__metadata__": []},
    "a missing tensor": lambda header: {name: one for name, one in header.items() if name != NAME},
    "another name": lambda header: {name if name != NAME else "other": one for name, one in header.items()},
    "an unknown dtype": of_one(dtype="F3"),
    "half as wide": of_one(dtype="F16"),
    "another shape": of_one(shape=[8, 16]),
    "a huge shape": of_one(shape=[2**62]),
    "a negative shape": of_one(shape=[-1]),
    "no numbers": of_one(shape=["a"]),
    "beyond the end": of_one(data_offsets=[0, 2**62]),
    "backwards": of_one(data_offsets=[512, 0]),
}


@pytest.mark.parametrize("change", HEADERS)
def test_a_header_of_weights_is_refused_in_one_line(model_folder, damaged, capfd, change):
    content = rewritten((model_folder / WEIGHTS).read_bytes(), HEADERS[change])
    assert_refused(damaged(**{WEIGHTS: content}), capfd, "")


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:100],
        lambda whole: whole[:-100],
        lambda whole: whole + b"x",
        lambda whole: struct.pack("<Q", 2**62) + whole[8:],
        lambda whole: struct.pack("<Q", 2**30) + whole[8:],
        lambda whole: whole[:-4] + np.float32("nan").tobytes(),
        lambda whole: b"\x80\x04K\x01.",
    ],
)
def test_damaged_weights_are_refused_in_one_line(model_folder, damaged, capfd, damage):
    assert_refused(damaged(**{WEIGHTS: damage((model_folder / WEIGHTS).read_bytes())}), capfd, "the weights: ")


@pytest.mark.parametrize(
    "weight_map", [None, [], {}, {NAME: 5}, {NAME: "nosuch.safetensors"}, {NAME: "/etc/passwd"}, {NAME: "config.json"}]
)
def test_a_wrong_index_of_weights_is_refused_in_one_line(damaged, capfd, weight_map):
    index = json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}).encode()
    assert_refused(damaged(**{INDEX: index, WEIGHTS: MISSING}), capfd, "")


HARMLESS = [
    (CONFIG, "dtype", MISSING),
    (CONFIG, "transformers_version", "99"),
    (CONFIG, "nosuch", {"a": [1]}),
    (CONFIG, "text_config.initializer_range", 1.0),
    (CONFIG, "text_config.pad_token_id", None),
    (SETTINGS, "padding_side", "left"),
    (SETTINGS, "nosuch", {"a": [1]}),
    (TOKENIZER, "padding", {
        "strategy": {"Fixed": 10_000}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "[PAD]",
    }),
    (PROCESSOR, "chat_template", 5),
    (PROCESSOR, "processor_class", 5),
]  # fmt: skip


def answer(folder, capfd):
    code, out, lines = predict(folder, capfd)
    assert (code, lines) == (0, [])
    return json.loads(out)


@pytest.mark.parametrize(("file", "field", "value"), HARMLESS)
def test_what_changes_nothing_changes_no_answer_and_prints_nothing(model_folder, changed, capfd, file, field, value):
    said, expected = answer(changed(file, field, value), capfd), answer(model_folder, capfd)
    assert said.pop("score") == pytest.approx(expected.pop("score"), abs=1e-6)
    assert said.pop("unimodal") == pytest.approx(expected.pop("unimodal"), abs=1e-6)
    assert said == expected


def test_an_adapter_is_refused(damaged, capfd):
    adapter = json.dumps({"base_model_name_or_path": "some/body", "peft_type": "LORA"}).encode()
    assert_refused(damaged(**{"adapter_config.json": adapter}), capfd, "it holds an adapter")


def test_every_command_loads_a_model_in_the_same_way(changed, tmp_path, capfd):
    for package in ("matplotlib", "onnx", "onnxruntime"):
        pytest.importorskip(package)
    folder = changed(TOKENIZER, "post_processor", None)
    robustness = ["robustness", folder, "--output_dir", tmp_path / "out", "--dataset", "demo"]
    for arguments in (robustness, ["export", folder, "--output", tmp_path / "model.onnx"]):
        code = command(*arguments)
        lines = capfd.readouterr().err.splitlines()
        assert code == 2 and len(lines) == 1 and "does not put it into texts" in lines[0], lines


def test_a_panic_is_an_error_in_python_too(changed):
    folder = changed(TOKENIZER, "post_processor", template("[CLS]", "OTHER", "[SEP]"))
    with pytest.raises(ValueError, match="The tokenizer: PanicException"):
        SelfMMProcessor.from_pretrained(folder)


@pytest.mark.parametrize("id2label", [{0: "a", 1: "b"}, {"0": "a", "1": "b"}])
def test_targets_by_numbers_or_their_text(id2label):
    assert SelfMMConfig(id2label=id2label).id2label == {0: "a", 1: "b"}
