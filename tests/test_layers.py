"""Which hidden layers of an encoder are read: one of them, or all, by learned weights; of texts, sound and pictures."""

import json

import numpy as np
import pytest
import torch
import transformers
from conftest import assert_same_outputs, command
from datasets import Dataset
from test_audio_features import save as save_speech
from test_text_pooling import DECODERS, decoder_config, save_bert
from transformers import AutoConfig, AutoModel

from selfmm_hf import SelfMMConfig, SelfMMFeatureExtractor, SelfMMModel, SelfMMProcessor
from selfmm_hf.data import Samples
from selfmm_hf.data.synthetic.words import demo_text_config, demo_tokenizer
from selfmm_hf.model.audio_features_selfmm import AudioEncoder
from selfmm_hf.model.loading_selfmm import load
from selfmm_hf.runs.options import read_options
from selfmm_hf.training.collator import SelfMMCollator
from selfmm_hf.training.frozen_text import FrozenText

SIZES = dict(
    vocab_size=50, hidden_size=12, num_hidden_layers=4, num_attention_heads=2, intermediate_size=17,
    max_position_embeddings=20,
)  # fmt: skip
SPECIAL = dict(pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2)
OLD_JIT = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


def saved_encoder(folder, kind):
    torch.manual_seed(0)
    options = {"modernbert": SPECIAL, "qwen2": {"num_key_value_heads": 2}, "longformer": {"attention_window": [4] * 4}}
    options = options.get(kind, {})
    model = AutoModel.from_config(AutoConfig.for_model(kind, **SIZES, **options)).eval()
    model.save_pretrained(folder)
    return model


def by_hand(model, tokens, layer):
    with torch.no_grad():
        return model(tokens, output_hidden_states=True).hidden_states[layer]


TOKENS = torch.tensor([[3, 9, 7, 30, 12], [3, 11, 41, 8, 20]])


@OLD_JIT
@pytest.mark.parametrize("layer", [2, -3, "2"])
@pytest.mark.parametrize("kind", ["bert", "roberta", "mpnet", "longformer", "modernbert", "qwen2"])
def test_a_text_is_read_by_a_layer(tmp_path, kind, layer, caplog):
    whole = saved_encoder(tmp_path, kind)
    caplog.clear()
    model = SelfMMModel.from_text_encoder(str(tmp_path), text_layer=layer, text_pooling="mean", modalities=["text"])
    assert not caplog.text, "of the layers that were dropped"
    assert model.config.text_layer == 2 == model.config.text_config.num_hidden_layers
    assert len(list(model.encoders["text"].parameters())) < len(list(whole.parameters()))
    states = by_hand(whole, TOKENS, 2)
    if kind in ("modernbert", "qwen2"):  # the normalisation after the last layer stands after the second now
        states = (whole.final_norm if kind == "modernbert" else whole.norm)(states)
    torch.testing.assert_close(model.encode_text(TOKENS), states.mean(1), rtol=1e-4, atol=1e-5)
    model.save_pretrained(tmp_path / "saved")
    loaded, report = SelfMMModel.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not any(report.values()) and loaded.config.text_layer == 2
    assert_same_outputs(loaded(TOKENS), model(TOKENS))


def test_the_last_layer_by_its_number_is_the_last_layer(tmp_path):
    saved_encoder(tmp_path, "bert")
    last, fourth = (SelfMMModel.from_text_encoder(str(tmp_path), text_layer=layer) for layer in (-1, 4))
    assert (last.encode_text(TOKENS) == fourth.encode_text(TOKENS)).all()
    assert (last.config.text_layer, fourth.config.text_layer) == (-1, 4)


@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
@pytest.mark.parametrize("kind", ["bert", "mpnet", "llama"])
def test_weights_of_all_layers(tiny_model, kind, pooling):
    config = decoder_config(kind) if kind in DECODERS else AutoConfig.for_model(kind, **SIZES)
    model = tiny_model(text_config=config, text_layer="weighted", text_pooling=pooling, modalities=["text"])
    assert model.layer_weights["text"].tolist() == [0.0] * (config.num_hidden_layers + 1)
    lengths = [5, 2, 4]
    mask = (torch.arange(5) < torch.tensor(lengths).unsqueeze(1)).long()
    tokens = torch.randint(5, 50, (3, 5)) * mask
    with torch.no_grad():
        model.layer_weights["text"].copy_(torch.arange(config.num_hidden_layers + 1) / 3)
        weights = model.layer_weights["text"].softmax(0)
        expected = []
        for row, length in enumerate(lengths):
            states = model.encoders["text"](tokens[row : row + 1, :length], output_hidden_states=True).hidden_states
            read = {"cls": lambda one: one[0, 0], "mean": lambda one: one[0].mean(0), "last": lambda one: one[0, -1]}
            expected.append(sum(weight * read[pooling](one) for weight, one in zip(weights, states, strict=True)))
        found = model.heads["text"](torch.stack(expected))[1]
    torch.testing.assert_close(model(tokens, mask).unimodal_logits["text"], found, rtol=1e-4, atol=1e-5)


def test_weights_learn_and_come_back(tiny_model, tiny_batch, tmp_path):
    model, batch = tiny_model(text_layer="weighted", freeze_text_encoder=True).train(), tiny_batch(targets=1)
    model(**batch).loss.backward()
    assert model.layer_weights["text"].grad.any()
    torch.nn.init.normal_(model.layer_weights["text"])
    model.eval().save_pretrained(tmp_path)
    loaded, report = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    assert_same_outputs(loaded(**batch), model(**batch))
    parts = {name: value.unsqueeze(1) for name, value in batch.items() if name.endswith(("ids", "mask"))}
    assert_same_outputs(model(**{**batch, **parts}), model(**batch))


@pytest.mark.parametrize("batch_size", [1, 128])
def test_a_frozen_encoder_reads_all_layers_once(tiny_model, batch_size):
    model = tiny_model(
        text_config=demo_text_config(), text_layer="weighted", modalities=["text"], absent_modality="learned"
    )
    torch.nn.init.normal_(model.layer_weights["text"])
    torch.nn.init.normal_(model.absent["text"])
    texts = ["the food is great", "", "the movie was wonderful and the food is great"]
    samples = Samples(Dataset.from_dict({"id": list("abc"), "text": texts, "label": [1.0, 0.0, 2.0]}))
    samples.tokenize(demo_tokenizer(), 20)
    frozen, collate = FrozenText(samples), SelfMMCollator(sequences=())
    frozen.read(model, collate, batch_size, progress=False)
    found, expected = (model(**collate([one[clip] for clip in range(3)])) for one in (frozen, samples))
    assert_same_outputs(found, expected)
    with pytest.raises(ValueError, match=r"text_embeds must be of shape \(batch, 3, 64\), got \(3, 64\)"):
        model(text_embeds=torch.zeros(3, 64))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (5, "text_layer is 5, and the text encoder has 4 layers"),
        (-5, "text_layer is -5, and the text encoder has 4 layers"),
        (0, "text_layer must be 'weighted', -1, or the number of a layer from 1 on, got 0"),
        ("all", "from 1 on, got 'all'"),
        (True, "from 1 on, got True"),
        (2.0, "from 1 on, got 2.0"),
        ([2], "from 1 on, got"),
    ],
)
def test_a_layer_that_is_not_there_is_refused(tmp_path, layer, message):
    saved_encoder(tmp_path, "bert")
    for make in (
        lambda: SelfMMModel.from_text_encoder(str(tmp_path), text_layer=layer),
        lambda: SelfMMConfig(text_config=AutoConfig.for_model("bert", **SIZES), text_layer=layer),
    ):
        with pytest.raises(ValueError, match=message):
            make()


@pytest.mark.parametrize(("given", "read"), [("-2", -2), ("3", 3), ("weighted", "weighted")])
def test_layers_of_the_command_line_and_of_a_file(tmp_path, given, read):
    (tmp_path / "options.yaml").write_text(f"text_layer: {given}")
    config = AutoConfig.for_model("bert", **SIZES)
    for options in (["--text_layer", given], ["--config", str(tmp_path / "options.yaml")]):
        _, options, _ = read_options(["--output_dir", str(tmp_path), *options])
        found = SelfMMConfig(text_config=config, **options).text_layer
        assert found == (3 if read == -2 else read)


def test_a_layer_needs_a_text_encoder():
    with pytest.raises(ValueError, match="text_layer is 2, but there is no text encoder"):
        SelfMMConfig(text_dim=7, text_layer=2)
    assert SelfMMConfig(modalities=["audio"], text_layer=2).text_layer == 2  # of what a preset says and is left out


def test_the_configuration_that_is_given_stays_whole():
    given = AutoConfig.for_model("bert", **SIZES)
    assert SelfMMConfig(text_config=given, text_layer=1).text_config.num_hidden_layers == 1
    assert given.num_hidden_layers == 4


# Sound and pictures

SPEECH = ["wavlm", "hubert", "data2vec-audio", "whisper"]


@pytest.mark.parametrize("kind", SPEECH)
def test_layers_of_speech_models(tmp_path, kind):
    folder = save_speech(tmp_path, kind)
    sound = np.random.default_rng(0).normal(size=16000).astype(np.float32)
    encoders = {layer: AudioEncoder(folder, window_seconds=3, layer=layer) for layer in (-1, 1, 2, -2, "weighted")}
    rows = {layer: encoder(sound) for layer, encoder in encoders.items()}
    model = load(AutoModel.from_pretrained, str(folder)).eval()
    model = model.get_encoder() if kind == "whisper" else model
    inputs = encoders[1].extractor(sound, sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        states = model(next(iter(inputs.values())), output_hidden_states=True).hidden_states[1][0].numpy()
    times = (np.arange(len(states)) + 0.5) / len(states) * (3 if kind == "whisper" else 1)
    expected = [states[(times >= row / 10) & (times < (row + 1) / 10)].mean(0) for row in range(10)]
    np.testing.assert_allclose(rows[1], expected, atol=1e-4)
    np.testing.assert_array_equal(rows[1], rows[-2])
    assert np.abs(rows[1] - rows[2]).max() > 1e-3
    np.testing.assert_allclose(rows["weighted"][:, 12:], np.concatenate([rows[1], rows[2]], 1), atol=1e-5)
    assert (encoders["weighted"].states, encoders["weighted"].width) == (3, 36) and encoders[1].states == 1
    assert len({encoder.checksum for encoder in encoders.values()}) == 1


def save_image(folder, kind):
    torch.manual_seed(0)
    small = dict(
        hidden_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=9, image_size=32, patch_size=16
    )
    if kind in ("clip", "siglip"):
        text = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=9, vocab_size=20)
        config = AutoConfig.for_model(kind, vision_config=small, text_config=text)
    else:
        config = AutoConfig.for_model(kind, **small)
    AutoModel.from_config(config).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("kind", ["clip", "siglip", "dinov2", "vit"])
def test_layers_of_image_models(tmp_path, kind):
    pytest.importorskip("PIL")
    from selfmm_hf.model.vision_features_selfmm import ImageEncoder

    folder = save_image(tmp_path, kind)
    frames = [np.full((32, 32, 3), value, np.uint8) for value in (0, 90, 255)]
    encoders = {layer: ImageEncoder(folder, layer=layer) for layer in (-1, 1, 3, -3, "weighted")}
    rows = {layer: encoder(frames)[0] for layer, encoder in encoders.items()}
    assert rows[1].shape == (3, 8) and np.abs(rows[1] - rows[3]).max() > 1e-3
    np.testing.assert_array_equal(rows[1], rows[-3])
    assert rows["weighted"].shape == (3, 32) and (encoders["weighted"].states, encoders["weighted"].width) == (4, 32)
    np.testing.assert_allclose(rows["weighted"][:, 8:16], rows[1], atol=1e-6)
    np.testing.assert_allclose(rows["weighted"][:, 24:], rows[3], atol=1e-6)

    model = load(AutoModel.from_pretrained, folder).eval()
    pixels = encoders[1].processor(images=frames, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        states = getattr(model, "vision_model", model)(pixels, output_hidden_states=True).hidden_states[1]
    expected = states.mean(1) if kind == "siglip" else states[:, 0]
    np.testing.assert_allclose(rows[1], expected, atol=1e-5)


def test_layers_that_are_not_there_are_refused(tmp_path):
    pytest.importorskip("PIL")
    from selfmm_hf.model.vision_features_selfmm import ImageEncoder

    speech, image = save_speech(tmp_path / "speech", "hubert"), save_image(tmp_path / "image", "vit")
    for encoder, folder, layers in ((AudioEncoder, speech, 2), (ImageEncoder, image, 3)):
        for layer in (9, -9):
            with pytest.raises(ValueError, match=f"layer is {layer}, and .* has {layers} layers"):
                _ = encoder(folder, layer=layer).width
    config = transformers.ConvNextConfig(hidden_sizes=[4, 8, 8, 12], depths=[1, 1, 1, 1], image_size=32)
    transformers.ConvNextModel(config).save_pretrained(tmp_path / "pictures")
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "pictures")
    with pytest.raises(ValueError, match="do not give one kind of hidden states"):
        _ = ImageEncoder(tmp_path / "pictures", layer="weighted").width


def test_weights_of_stacked_states(tiny_model, tiny_batch):
    """The column `face` comes first; the model is as one that reads the mean of the states."""
    stacked = tiny_model(vision_dim=13, vision_states=3, audio_states=1)
    plain = tiny_model(vision_dim=5)
    weights = {name: value for name, value in stacked.state_dict().items() if not name.startswith("layer_weights")}
    plain.load_state_dict(weights)
    assert set(stacked.layer_weights) == {"vision"}
    batch = tiny_batch(vision=13, targets=1)
    with torch.no_grad():
        stacked.layer_weights["vision"].copy_(torch.tensor([0.0, 1.0, -1.0]))
    shares = torch.tensor([0.0, 1.0, -1.0]).softmax(0)
    first, second, third = batch["vision"][..., 1:].split(4, -1)
    mixed = torch.cat([batch["vision"][..., :1], shares[0] * first + shares[1] * second + shares[2] * third], -1)
    assert_same_outputs(stacked(**batch), plain(**batch | {"vision": mixed}))
    stacked.train()(**batch).loss.backward()
    assert stacked.layer_weights["vision"].grad.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"audio_states": 0}, "audio_states must be a positive integer"),
        ({"audio_states": 6}, "audio_states is 6, but audio has only 5 columns"),
        ({"vision_states": "2"}, "vision_states must be a positive integer"),
    ],
)
def test_states_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SelfMMConfig(**options)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"layer": 0}, "recipe's layer is 0, expected the number of a layer"),
        ({"layer": "2"}, "recipe's layer is '2', expected"),
        ({"layer": True}, "recipe's layer is True, expected"),
        ({"states": 0}, "recipe's states is 0, expected"),
    ],
)
def test_recipes_of_other_layers_are_refused(recipe, message):
    for name in ("audio", "vision"):
        with pytest.raises(ValueError, match=message):
            SelfMMFeatureExtractor(**{name: {"kind": "encoder", "model": "a/b", **recipe}})


def test_a_recipe_from_before_there_were_layers_is_of_the_last_one(tmp_path):
    recipe = {"kind": "encoder", "model": "a/b", "checksum": "c"}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"audio": recipe, "vision": None}))
    extractor = SelfMMFeatureExtractor.from_pretrained(tmp_path)
    assert extractor.audio["layer"] == -1
    extractor.check_recipe({"audio": {**extractor.audio, "states": 5}})
    with pytest.raises(ValueError, match="audio layer is 3, expected -1"):
        extractor.check_recipe({"audio": {**extractor.audio, "layer": 3}})


def test_layers_travel_from_the_clips_to_a_prediction(tmp_path, forked_workers):
    for package in ("av", "PIL", "soxr"):
        pytest.importorskip(package)
    from test_decoding import voice

    from selfmm_hf.data.synthetic.clip import write_clip

    speech, image = save_speech(tmp_path / "speech", "wavlm"), save_image(tmp_path / "image", "dinov2")
    clips, out, run = tmp_path / "clips", tmp_path / "out", tmp_path / "run"
    clips.mkdir()
    rows = ["id,text,label,split"]
    for number, split in enumerate(["train"] * 4 + ["validation"] * 2 + ["test"] * 2):
        pictures = [np.full((48, 48, 3), 30 * number + 5 * (frame % 3), np.uint8) for frame in range(10)]
        write_clip(clips / f"{number}.mp4", voice(1.0, 22050), pictures)
        rows.append(f"{number},good film,{3 * (number % 3 - 1)},{split}")
    (clips / "labels.csv").write_text("\n".join(rows))
    given = ["extract", clips, "--table", clips / "labels.csv", "--output_dir", out, "--workers", 1]
    assert command(*given, "--audio", speech, "--audio_layer", "weighted", "--vision", image, "--vision_layer", 2) == 0
    recipe = json.loads((out / "preprocessor_config.json").read_text())
    assert (recipe["audio"]["layer"], recipe["audio"]["states"]) == ("weighted", 3)
    assert (recipe["vision"]["layer"], recipe["vision"]["states"]) == (2, 1)

    options = ["--num_train_epochs", 1, "--disable_tqdm", "true", "--use_cpu", "true", "--text_layer", "weighted"]
    encoder = tmp_path / "text"
    encoder.mkdir()
    data = ["--dataset", "custom", "--data", out, "--text_encoder", save_bert(encoder), "--output_dir", run]
    assert command("train", *data, *options) == 0
    model, processor = (one.from_pretrained(run / "model") for one in (SelfMMModel, SelfMMProcessor))
    assert (model.config.audio_states, model.config.audio_dim, model.config.vision_states) == (3, 36, 1)
    assert set(model.layer_weights) == {"text", "audio"} and model.config.text_layer == "weighted"
    assert processor.feature_extractor.audio["layer"] == "weighted"
    features, _ = processor.extract(str(clips / "0.mp4"), "good film")
    np.testing.assert_allclose(features["audio"], np.load(out / "audio" / "0.npy"), atol=1e-4)
    assert model(**processor(str(clips / "0.mp4"), "good film")).logits.isfinite().all()
    card = (run / "model" / "README.md").read_text()
    assert "layer weighted" in card and "all layers (`text_layer: weighted`)" in card


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--audio_layer", "2"], "--audio_layer is for a model, and --audio is librosa33"),
        (["--vision", "none", "--vision_layer", "2"], "--vision_layer is for a model, and --vision is none"),
        (["--audio", "FOLDER", "--audio_layer", "0"], "--audio_layer must be 'weighted', -1, or"),
        (["--recipe", "FOLDER", "--audio_layer", "2"], "--recipe sets --audio, --vision and their layers"),
    ],
)
def test_options_of_layers_that_say_nothing_are_refused(tmp_path, capsys, options, message):
    options = [tmp_path if one == "FOLDER" else one for one in options]
    assert command("extract", tmp_path, "--table", tmp_path / "t.csv", "--output_dir", tmp_path / "out", *options) == 2
    assert message in capsys.readouterr().err
