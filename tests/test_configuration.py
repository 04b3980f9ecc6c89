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
        "output_dim": 16,
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
        ({"audio_dropout": 1.0}, "audio_dropout"),
        ({"vision_dropout": -0.1}, "vision_dropout"),
        ({"text_dim": 4, "text_output_dim": 0}, "text_output_dim"),
        ({"fusion_head_dim": 0}, "fusion_head_dim"),
        ({"audio_head_dim": 1.5}, "audio_head_dim"),
        ({"fusion_head_dropout": 1.5}, "fusion_head_dropout"),
        ({"text_config": tiny_text_config(), "text_head_dropout": float("nan")}, "text_head_dropout"),
        ({"vision_head_dropout": "0.1"}, "vision_head_dropout"),
    ],
)
def test_wrong_values_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        SelfMMConfig(**options)


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
