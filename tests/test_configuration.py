import json

import pytest
from conftest import tiny_text_config
from transformers import AutoConfig, BertConfig, DistilBertConfig

from selfmm_hf import SelfMMConfig


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"text_config": tiny_text_config()},
        {"text_config": DistilBertConfig(dim=32, n_layers=1, n_heads=2, hidden_dim=37)},
        {"text_dim": 7, "text_hidden_size": 9, "text_bidirectional": True, "text_pooling": "mean"},
        {"modalities": ["vision", "eye"], "eye_dim": 6, "eye_num_layers": 2, "eye_dropout": 0.25, "eye_head_dim": 3},
        {"id2label": {0: "valence", 1: "arousal"}, "label_range": 1.0},
        {"num_labels": 3},
        {"absent_modality": "learned", "freeze_text_encoder": True, "audio_bidirectional": True, "vision_dropout": 0.5},
        {"text_config": tiny_text_config(), "text_pooling": "mean"},
    ],
)
def test_a_saved_config_comes_back(tmp_path, options):
    config = SelfMMConfig(**options)
    config.save_pretrained(tmp_path)
    for loaded in (SelfMMConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert type(loaded) is SelfMMConfig
        expected, found = config.to_dict(), loaded.to_dict()
        assert found | {"_name_or_path": ""} == expected | {"_name_or_path": ""}
        assert type(loaded.text_config) is type(config.text_config)
        for name, value in options.items():
            if name != "text_config":
                assert getattr(loaded, name) == value


def test_text_config_as_a_dict_or_an_object():
    given = tiny_text_config().to_dict()
    before = json.dumps(given, default=str)
    config = SelfMMConfig(text_config=given)
    assert json.dumps(given, default=str) == before  # the caller's dict is left alone
    assert type(config.text_config) is BertConfig
    assert config.text_config.to_dict() == SelfMMConfig(text_config=tiny_text_config()).text_config.to_dict()
    assert SelfMMConfig(text_config={"hidden_size": 24, "num_attention_heads": 2}).text_config.model_type == "bert"
    other = SelfMMConfig(text_config={"model_type": "distilbert", "dim": 24, "n_heads": 2}).text_config
    assert (other.model_type, other.hidden_size) == ("distilbert", 24)


@pytest.mark.parametrize(
    ("options", "modalities"),
    [
        ({}, ["audio", "vision"]),
        ({"text_config": tiny_text_config()}, ["text", "audio", "vision"]),
        ({"text_dim": 7}, ["text", "audio", "vision"]),
        ({"modalities": ("vision", "text"), "text_dim": 7}, ["vision", "text"]),
        ({"modalities": ["vision", "eye"], "eye_dim": 6}, ["vision", "eye"]),
    ],
)
def test_modalities(options, modalities):
    assert SelfMMConfig(**options).modalities == modalities


def test_options_of_a_modality_that_has_no_named_ones():
    config = SelfMMConfig(modalities=["vision", "eye"], eye_dim=6, eye_hidden_size=9, eye_head_dropout=0.5)
    assert config.sequence_options("eye") == {
        "input_dim": 6, "hidden_size": 9, "num_layers": 1, "bidirectional": False, "dropout": 0.0, "pooling": "last",
        "output_dim": 16, "states": 1,
    }  # fmt: skip
    assert config.head_options("eye") == {"dim": 16, "dropout": 0.5}
    assert config.head_options("vision") == {"dim": 32, "dropout": 0.1}
    assert config.is_sequence("eye")


def test_text_is_a_sequence_only_as_word_vectors():
    assert SelfMMConfig(text_dim=7).is_sequence("text")
    assert not SelfMMConfig(text_config=tiny_text_config()).is_sequence("text")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modalities": []}, "modalities"),
        ({"modalities": ["audio", "audio"]}, "modalities"),
        ({"modalities": ["audio", "fusion"], "fusion_dim": 3}, "fusion"),
        ({"modalities": ["audio"], "text_config": tiny_text_config()}, "text_config"),
        ({"modalities": ["text", "audio"]}, "text_dim"),
        ({"modalities": ["vision", "eye"]}, "eye_dim"),
        ({"absent_modality": "mean"}, "absent_modality"),
        ({"label_range": 0}, "label_range"),
        ({"label_range": -1.0}, "label_range"),
        ({"label_range": float("nan")}, "label_range"),
        ({"audio_dim": 0}, "audio_dim"),
        ({"audio_dim": False}, "audio_dim"),
        ({"audio_dim": None}, "audio_dim"),
        ({"vision_dim": 2.5}, "vision_dim"),
        ({"audio_hidden_size": -1}, "audio_hidden_size"),
        ({"vision_num_layers": 0}, "vision_num_layers"),
        ({"vision_output_dim": "9"}, "vision_output_dim"),
        ({"audio_bidirectional": "yes"}, "audio_bidirectional"),
        ({"audio_bidirectional": 2}, "audio_bidirectional"),
        ({"audio_pooling": "max"}, "audio_pooling must be 'last' or 'mean', got 'max'"),
        ({"modalities": ["eye"], "eye_dim": 6, "eye_pooling": True}, "eye_pooling must be 'last' or 'mean', got True"),
        ({"text_config": tiny_text_config(), "text_pooling": "max"}, "text_pooling must be 'cls', 'mean' or 'last'"),
        ({"text_dim": 4, "text_pooling": "cls"}, "text_pooling must be 'last' or 'mean', got 'cls'"),
        ({"audio_dropout": 1.0}, "audio_dropout"),
        ({"vision_dropout": -0.1}, "vision_dropout"),
        ({"text_dim": 4, "text_output_dim": 0}, "text_output_dim"),
        ({"fusion_head_dim": 0}, "fusion_head_dim"),
        ({"audio_head_dim": 1.5}, "audio_head_dim"),
        ({"fusion_head_dropout": 1.5}, "fusion_head_dropout"),
        ({"text_config": tiny_text_config(), "text_head_dropout": float("nan")}, "text_head_dropout"),
        ({"vision_head_dropout": "0.1"}, "vision_head_dropout"),
        ({"label_range": float("inf")}, "label_range"),
        ({"label_range": "3"}, "label_range"),
        ({"modalities": "audio"}, "modalities must be a list of names"),
        ({"modalities": [["audio"]]}, "modalities must be a list of names"),
        ({"text_config": 5}, "text_config must be"),
        ({"text_config": {"hidden_size": "wide"}}, "text_config is no configuration"),
        ({"text_config": {"model_type": "no-such-model"}}, "text_config is no configuration"),
    ],
)
def test_wrong_values_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        SelfMMConfig(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"audio_num_layers": 1_000_000}, "audio_num_layers must be a positive integer, at most 100, got 1000000"),
        ({"vision_hidden_size": 10**9}, "vision_hidden_size must be a positive integer, at most 65,536"),
        ({"audio_dim": 10**9}, "audio_dim"),
        ({"fusion_head_dim": 10**9}, "fusion_head_dim"),
        ({"audio_hidden_size": 50_000}, "LSTMs and heads would have 10,0.* parameters, expected 1,000,000,000 at most"),
        ({"fusion_head_dim": 2**16}, "LSTMs and heads"),
        ({"num_labels": 10**9}, "num_labels must be 1 to 1,000"),
        ({"id2label": {number: "a" for number in range(1001)}}, "id2label must name 1 to 1,000 targets"),
        ({"modalities": [f"m{number}" for number in range(1001)]}, "modalities must be 1 to 1,000 names"),
        ({"text_config": {"num_hidden_layers": 1_000_000}}, "text_config: num_hidden_layers must be at most 1,000"),
        ({"text_config": {"model_type": "modernbert", "num_hidden_layers": 10**9}}, "num_hidden_layers"),
        ({"text_config": {"model_type": "distilbert", "n_layers": 10**9}}, "n_layers"),
        ({"text_config": {"hidden_size": 10**9}}, "text_config: hidden_size must be at most 131,072"),
        ({"text_config": {"hidden_size": float("nan")}}, "text_config: hidden_size"),
        ({"text_config": {"intermediate_size": 10**9}}, "intermediate_size"),
        ({"text_config": {"vocab_size": 10**12}}, "vocab_size"),
        ({"text_config": {"max_position_embeddings": 10**12}}, "max_position_embeddings"),
        ({"text_config": {"num_labels": 10**9}}, "num_labels"),
        ({"text_config": {"model_type": "t5", "d_ff": 10**9}}, "d_ff"),
        ({"text_config": {"hidden_size": 120_000, "num_attention_heads": 8}}, "have about .* expected 20,000,000,000"),
    ],
)
def test_what_would_fill_the_memory_is_refused_when_it_is_read(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        SelfMMConfig(**options)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_the_parameters_of_lstms_and_heads_are_counted_as_they_are(tiny_model):
    model = tiny_model(audio_num_layers=3, audio_bidirectional=True, num_labels=3)
    counted = sum(one.numel() for name, one in model.named_parameters() if not name.startswith("encoders.text."))
    assert model.config._parameters() == counted


@pytest.mark.parametrize(
    "text_config",
    [
        {"model_type": "xlm-roberta-xl", "hidden_size": 4096, "num_hidden_layers": 48, "intermediate_size": 16384,
         "num_attention_heads": 32, "vocab_size": 250_880},
        {"model_type": "t5", "d_model": 1024, "d_ff": 65_536, "d_kv": 128, "num_heads": 128, "num_layers": 24},
        {"model_type": "modernbert", "global_rope_theta": 1_000_000, "max_position_embeddings": 1_000_000},
    ],
)  # fmt: skip
def test_the_largest_text_encoders_there_are_are_within_the_bounds(text_config):
    assert SelfMMConfig(text_config=text_config).text_config.model_type == text_config["model_type"]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["sentiment"]),
        ({"id2label": {0: "valence", 1: "arousal"}}, ["valence", "arousal"]),
        ({"id2label": {"0": "valence", "1": "arousal"}}, ["valence", "arousal"]),
        ({"num_labels": 3}, ["LABEL_0", "LABEL_1", "LABEL_2"]),
    ],
)
def test_targets(options, names):
    config = SelfMMConfig(**options)
    assert config.num_labels == len(names)
    assert config.id2label == dict(enumerate(names))
    assert config.label2id == {name: index for index, name in enumerate(names)}


def test_auto_config_makes_one_by_name():
    config = AutoConfig.for_model("selfmm", audio_dim=74)
    assert type(config) is SelfMMConfig
    assert config.audio_dim == 74
