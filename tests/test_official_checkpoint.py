import pickle
from collections import OrderedDict

import pytest
import torch
from conftest import assert_same_outputs, tiny_text_config
from safetensors.torch import load_file
from torch import nn
from transformers import BertConfig, DistilBertConfig, ElectraConfig, RobertaConfig

from selfmm_hf.conversion.from_official import convert_state_dict, load_official_checkpoint, model_from_official

RENAMES = [
    ("encoders.text.", "text_model.model."),
    ("encoders.audio.lstm.", "audio_model.rnn."),
    ("encoders.audio.projection.", "audio_model.linear_1."),
    ("encoders.vision.lstm.", "video_model.rnn."),
    ("encoders.vision.projection.", "video_model.linear_1."),
    *(
        (f"heads.{ours}.{layer}.", f"post_{theirs}_layer_{number}.")
        for ours, theirs in (("fusion", "fusion"), ("text", "text"), ("audio", "audio"), ("vision", "video"))
        for number, layer in ((1, "dense_1"), (2, "dense_2"), (3, "out"))
    ),
]


def official_names(model, prefix=""):
    """The state dict of `model` as the official code names it."""
    official = OrderedDict()
    for name, value in model.state_dict().items():
        ours, theirs = next(pair for pair in RENAMES if name.startswith(pair[0]))
        official[prefix + theirs + name.removeprefix(ours)] = value
    return official


def one_headed(tiny_model, **options):
    """Heads 64 wide, as in every published BERT, so that no tensor need show their number."""
    return tiny_model(text_config=tiny_text_config(num_attention_heads=1), **options)


def mmsa_names(model):
    official = official_names(model, "Model.")
    width = model.config.text_config.hidden_size
    official["Model.text_model.model.pooler.dense.weight"] = torch.zeros(width, width)
    official["Model.text_model.model.pooler.dense.bias"] = torch.zeros(width)
    official["Model.text_model.model.embeddings.position_ids"] = torch.arange(19).unsqueeze(0)
    return official


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    "names",
    [
        official_names,
        lambda model: official_names(model, "Model."),
        lambda model: official_names(model, "module.Model."),
        mmsa_names,
        lambda model: dict(mmsa_names(model)),
    ],
    ids=["bare", "official", "parallel", "mmsa", "dict"],
)
def test_a_checkpoint_gives_the_same_outputs(tiny_model, tiny_batch, tmp_path, names, zipped):
    model = one_headed(tiny_model, audio_num_layers=2)
    torch.save(names(model), tmp_path / "selfmm.pth", _use_new_zipfile_serialization=zipped)
    loaded = load_official_checkpoint(tmp_path / "selfmm.pth", label_range=1.0, fusion_head_dropout=0.25)
    assert_same_outputs(loaded.eval()(**tiny_batch()), model(**tiny_batch()))
    assert (loaded.config.label_range, loaded.config.fusion_head_dropout) == (1.0, 0.25)
    assert loaded.heads["fusion"].dropout.p == 0.25


def test_names_of_the_recorded_official_run(shared, tiny_model):
    official = load_file(shared / "parity" / "initial_weights.safetensors")
    text = BertConfig(
        vocab_size=120, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=64,
    )  # fmt: skip
    state = model_from_official(official, text).state_dict()
    # The names made above for the other tests are those of a real run.
    renamed = official_names(tiny_model())
    assert {name for name in official if "pooler" not in name} == set(renamed)
    assert len(state) == len(renamed)
    for name, value in convert_state_dict(official).items():
        assert torch.equal(state[name], value), name


def test_another_text_encoder_by_its_folder(tiny_model, tiny_batch, tmp_path):
    config = DistilBertConfig(vocab_size=50, dim=32, n_layers=2, n_heads=2, hidden_dim=37, max_position_embeddings=19)
    model = tiny_model(text_config=config)
    config.save_pretrained(tmp_path / "text")
    torch.save(official_names(model), tmp_path / "selfmm.pth")
    loaded = load_official_checkpoint(tmp_path / "selfmm.pth", str(tmp_path / "text"))
    assert_same_outputs(loaded.eval()(**tiny_batch()), model(**tiny_batch()))
    with pytest.raises(ValueError, match="lacks"):
        load_official_checkpoint(tmp_path / "selfmm.pth")


def test_roberta_is_not_taken_for_bert(tiny_model, tmp_path):
    """Its parameters have the same names, but its positions begin at 2."""
    config = RobertaConfig(**{**tiny_text_config(num_attention_heads=1).to_diff_dict(), "type_vocab_size": 1})
    model = tiny_model(text_config=config)
    torch.save(official_names(model), tmp_path / "selfmm.pth")
    with pytest.raises(ValueError, match=r"as RoBERTa has.*--text_encoder"):
        load_official_checkpoint(tmp_path / "selfmm.pth")
    config.save_pretrained(tmp_path / "text")
    loaded = load_official_checkpoint(tmp_path / "selfmm.pth", str(tmp_path / "text"))
    assert loaded.config.text_config.model_type == "roberta"


class Hostile:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle"])
def test_code_in_a_file_is_refused_and_does_not_run(tiny_model, tmp_path, how):
    path, marker = tmp_path / "selfmm.pth", tmp_path / "ran"
    official = official_names(one_headed(tiny_model)) | {"Model.text_model.extra": Hostile(marker)}
    if how == "pickle":
        path.write_bytes(pickle.dumps(Hostile(marker), protocol=2))
    else:
        torch.save(official, path, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(ValueError, match=r"selfmm\.pth cannot be read as a file of tensors alone"):
        load_official_checkpoint(path)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Hostile(marker))).close()
    assert marker.exists()  # it would have


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_truncated_file_is_one_clear_error(tiny_model, tmp_path, zipped):
    path = tmp_path / "selfmm.pth"
    torch.save(official_names(one_headed(tiny_model)), path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    lengths = {0, 1, 2, 3, 5, 11, 100, 101, 150, 1000, 2000, 5000, len(whole) // 2, len(whole) - 1000, len(whole) - 1}
    for length in sorted(lengths):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"selfmm\.pth cannot be read"):
            load_official_checkpoint(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"not a checkpoint\n", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", b"<!DOCTYPE html>",
     b"PK\x03\x04", bytes(range(256)), b"\x80\x02}q\x00.", "Emotionsanalyse für Ä\n".encode() * 9],
)  # fmt: skip
def test_other_files_are_one_clear_error(tmp_path, content):
    path = tmp_path / "selfmm.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"selfmm\.pth cannot be read"):
        load_official_checkpoint(path)


def test_a_missing_file(tmp_path):
    for path in (tmp_path / "no.pth", tmp_path):
        with pytest.raises(ValueError, match="There is no checkpoint"):
            load_official_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda official: {"layer.weight": torch.ones(2)}, "another model"),
        (lambda official: official | {"criterion.weight": torch.ones(2)}, "another model"),
        (lambda official: {0: torch.ones(2)}, "must hold a state_dict"),
        (lambda official: {"state_dict": official}, "must hold a state_dict"),
        (lambda official: list(official.values()), "must hold a state_dict"),
        (lambda official: torch.ones(2), "must hold a state_dict"),
        (lambda official: {}, "lacks"),
        (lambda official: {name: one for name, one in official.items() if "text_model" not in name}, "lacks"),
        (lambda official: {name: one for name, one in official.items() if "video_model.rnn" not in name}, "lacks"),
        (lambda official: {name: one for name, one in official.items() if "fusion_layer_1" not in name}, "lacks"),
        (lambda official: {name: one for name, one in official.items() if "fusion_layer_2" not in name}, "dense_2"),
        (lambda official: official | {"post_fusion_layer_2.bias": torch.ones(3)}, "fusion.dense_2.bias"),
        (lambda official: official | {"post_fusion_layer_1.bias": torch.tensor(3.0)}, "shapes"),
        (lambda official: official | {"audio_model.rnn.weight_hh_l0": torch.ones(3)}, "shapes"),
    ],
)
def test_what_is_no_whole_model_is_one_clear_error(tiny_model, tmp_path, change, message):
    torch.save(change(dict(official_names(one_headed(tiny_model)))), tmp_path / "selfmm.pth")
    with pytest.raises(ValueError, match=message):
        load_official_checkpoint(tmp_path / "selfmm.pth")


@pytest.mark.parametrize(
    "config",
    [
        tiny_text_config(num_hidden_layers=1),
        tiny_text_config(vocab_size=51),
        tiny_text_config(hidden_size=24),
        ElectraConfig(vocab_size=50, embedding_size=24, hidden_size=32, num_hidden_layers=1, num_attention_heads=2),
    ],
)
def test_a_text_encoder_that_does_not_fit_is_one_clear_error(tiny_model, config):
    with pytest.raises(ValueError, match="does not fit the text encoder"):
        model_from_official(official_names(tiny_model()), config)


def test_a_plain_module_is_another_model():
    with pytest.raises(ValueError, match="another model"):
        model_from_official(nn.Linear(2, 3).state_dict())
