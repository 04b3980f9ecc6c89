"""The recipe: what is computed, saved with the extractor, and refused when it is another's."""

import copy
import json
import pickle
import subprocess
from concurrent.futures import ThreadPoolExecutor

import fresh
import numpy as np
import pytest
import torch
from no_float64 import DEVICE, NoFloat64
from transformers import HubertConfig, HubertModel, ViTConfig, ViTImageProcessor, ViTModel, Wav2Vec2FeatureExtractor

from selfmm_hf.model.feature_extraction_selfmm import SelfMMFeatureExtractor

for package in ("ai_edge_litert", "av", "librosa", "PIL", "soxr"):
    pytest.importorskip(package)

from test_decoding import voice, write_clip  # noqa: E402
from test_face_landmarks import draw_face  # noqa: E402

RATE = 22050


def faces(count=6):
    return [draw_face(smile=number / count) for number in range(count)]


def clip(**changes):
    return {"audio": voice(1.0, RATE), "sampling_rate": RATE, "vision": faces()} | changes


@pytest.fixture(scope="module")
def extractor():
    return SelfMMFeatureExtractor()


@pytest.fixture
def encoders(tmp_path):
    """Recipes of tiny speech and image models."""
    torch.manual_seed(0)
    options = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=9)
    speech = HubertConfig(
        **options, conv_dim=(4, 4), conv_stride=(5, 64), conv_kernel=(10, 64), num_feat_extract_layers=2,
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    HubertModel(speech).save_pretrained(tmp_path / "speech")
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "speech")
    ViTModel(ViTConfig(**options, image_size=32, patch_size=16)).save_pretrained(tmp_path / "image")
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "image")
    return {
        "audio": {"kind": "encoder", "model": str(tmp_path / "speech")},
        "vision": {"kind": "encoder", "model": str(tmp_path / "image"), "face_only": True},
    }


def test_sound_and_faces(extractor):
    features, absent = extractor.extract(clip())
    assert absent == {} and extractor.widths == {"audio": 33, "vision": 41}
    assert features["audio"].shape == (1 + RATE // 512, 33) and features["vision"].shape == (6, 41)
    assert (features["vision"][:, 0] == 1).all()
    assert all(frames.dtype == np.float32 for frames in features.values())


def test_a_file_is_its_sound_and_its_picture(extractor, tmp_path):
    path = tmp_path / "clip.mp4"
    write_clip(path, "mpeg4", "aac", seconds=1.0)
    together, absent = extractor.extract(path)
    assert absent == {"vision": "no face"} and len(together["audio"]) > 40
    apart, _ = extractor.extract({"audio": str(path), "vision": str(path)})
    assert all(np.array_equal(apart[name], together[name]) for name in together)


@pytest.mark.parametrize(
    ("changes", "absent"),
    [
        ({"audio": None}, {"audio": "no sound"}),
        ({"audio": np.zeros(0, np.float32)}, {"audio": "no sound"}),
        ({"audio": np.zeros(RATE, np.float32)}, {"audio": "no voice"}),
        ({"audio": np.ones(1, np.float32)}, {"audio": "no voice"}),
        ({"audio": voice(0.01, RATE)}, {"audio": "no voice"}),
        ({"audio": np.pad(voice(0.06, RATE), RATE // 4)}, {"audio": "no voice"}),
        ({"vision": None}, {"vision": "no picture"}),
        ({"vision": []}, {"vision": "no picture"}),
        ({"vision": [np.zeros((48, 64, 3), np.uint8)] * 3}, {"vision": "no face"}),
        ({"audio": None, "vision": None}, {"audio": "no sound", "vision": "no picture"}),
    ],
)
def test_what_a_clip_lacks_is_stated(extractor, changes, absent):
    features, stated = extractor.extract(clip(**changes))
    assert stated == absent
    assert {name for name, frames in features.items() if not len(frames)} == set(absent)
    assert {name: frames.shape[1] for name, frames in features.items()} == {"audio": 33, "vision": 41}


def test_edges_without_voice_or_movement_are_cut(extractor):
    """Silence and noise around the voice; a picture that stands still, and black."""
    plain, _ = extractor.extract(clip())
    noise = np.random.default_rng(0).normal(0, 1e-4, RATE).astype(np.float32)
    still, black = faces()[-1:] * 10, [np.zeros((256, 256, 3), np.uint8)] * 10
    long = clip(
        audio=np.concatenate([np.zeros(RATE, np.float32), voice(1.0, RATE), noise, noise]),
        vision=[*black, *faces()[:1] * 10, *faces(), *still, *black],
    )
    found, absent = extractor.extract(long)
    assert absent == {} and len(plain["audio"]) <= len(found["audio"]) <= len(plain["audio"]) + 10  # the margins
    assert len(found["vision"]) == 6
    expression = slice(1, 31)  # motion differs by where the face has been before, and landmarks a little
    np.testing.assert_allclose(found["vision"][:, expression], plain["vision"][:, expression], atol=0.05)


def test_batches_are_padded_and_normalised(extractor):
    short = clip(audio=voice(0.5, RATE), vision=None)
    rows = [extractor.extract(one)[0] for one in (clip(), short)]
    normal = SelfMMFeatureExtractor()
    normal.fit_normalization(rows)
    batch = normal([clip(), short])
    assert batch["audio"].shape == (2, 44, 33) and batch["vision"].shape == (2, 6, 41)
    assert batch["audio_lengths"].tolist() == [44, 22] and batch["vision_lengths"].tolist() == [6, 0]
    assert (batch["audio"][1, 22:] == 0).all() and (batch["vision"][1] == 0).all()
    frames = torch.cat([batch["audio"][0], batch["audio"][1, :22]])
    torch.testing.assert_close(frames.mean(0), torch.zeros(33), atol=1e-4, rtol=0)
    varies = frames.std(0) > 0.1
    torch.testing.assert_close(frames.std(0, correction=0)[varies], torch.ones(int(varies.sum())), atol=1e-3, rtol=0)
    assert (batch["vision"][0, :, 0] == 1).all()  # the column `face` stays what it is
    assert normal(clip())["audio"].shape == (1, 44, 33)


def test_frames_without_a_face_stay_zero_and_do_not_count(extractor):
    mixed = extractor.extract(clip(vision=[*faces(), np.zeros((256, 256, 3), np.uint8)]))[0]
    alone = extractor.extract(clip())[0]
    both = [SelfMMFeatureExtractor(), SelfMMFeatureExtractor()]
    for one, features in zip(both, (mixed, alone), strict=True):
        one.fit_normalization([features])
    assert not mixed["vision"][-1].any()
    expression = slice(1, 31)  # motion differs where the face is lost
    for key in ("mean", "std"):
        found, expected = (one.normalization["vision"][key][expression] for one in both)
        assert found == pytest.approx(expected, abs=1e-6)
    assert (both[0].normalize("vision", mixed["vision"])[-1] == 0).all()


def test_extractors_of_one_normalization_are_independent(extractor):
    given = {"audio": {"mean": [0.0] * 33, "std": [1.0] * 33}}
    one, other = (SelfMMFeatureExtractor(normalization=given) for _ in range(2))
    one.fit_normalization([extractor.extract(clip())[0]])
    assert other.normalization == given == {"audio": {"mean": [0.0] * 33, "std": [1.0] * 33}}


def test_encoders_by_name(encoders):
    extractor = SelfMMFeatureExtractor(**encoders)
    features, absent = extractor.extract(clip(audio=voice(1.0, 16000), sampling_rate=16000))
    assert absent == {} and features["audio"].shape == (10, 8) and features["vision"].shape == (6, 9)
    assert len(extractor.recipe["audio"]["checksum"]) == len(extractor.recipe["vision"]["checksum"]) == 64


def test_encoders_run_on_the_device_that_is_named(encoders):
    extractor = SelfMMFeatureExtractor(**encoders)
    expected, _ = extractor.extract(clip())
    with NoFloat64():
        moved = extractor.to(DEVICE)
        found, _ = moved.extract(clip())
    assert {moved._tool(name).model.device for name in found} == {DEVICE}
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-6)
    assert moved.to_dict() == extractor.to_dict() and extractor.to("cpu") is extractor


def test_other_weights_are_refused(encoders, tmp_path):
    extractor = SelfMMFeatureExtractor(**encoders)
    extractor.save_pretrained(tmp_path / "saved")
    torch.manual_seed(1)
    HubertModel(HubertModel.from_pretrained(tmp_path / "speech").config).save_pretrained(tmp_path / "speech")
    with pytest.raises(ValueError, match=r"has other weights than the recipe was made with: .* Pin its revision"):
        SelfMMFeatureExtractor.from_pretrained(tmp_path / "saved").extract(clip())


def test_features_of_another_recipe_are_refused(extractor):
    extractor.check_recipe(json.loads(json.dumps(extractor.recipe)))
    slower = SelfMMFeatureExtractor(vision={"kind": "face", "frame_rate": 5.0})
    with pytest.raises(
        ValueError, match=r"another recipe: vision frame_rate is 5.0, expected 10.0. Extract them again"
    ):
        extractor.check_recipe(slower.recipe)
    with pytest.raises(ValueError, match=r"another recipe: vision .* is None, expected"):
        extractor.check_recipe(SelfMMFeatureExtractor(vision=None).recipe)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"audio": "librosa34"}, "audio recipe is of kind 'librosa34', expected one of features, librosa33, encoder"),
        ({"audio": {"kind": "librosa33", "hop": 256}}, "librosa33 has no hop; it has silence_db"),
        (
            {"audio": {"kind": "librosa33", "silence_db": -40.0}},
            "silence_db is -40.0, expected a number from 0.01 to 1000, or none",
        ),
        ({"vision": {"kind": "face", "still_change": "little"}}, "still_change is 'little', expected a number from"),
        (
            {"vision": {"kind": "face", "frame_rate": 1e9}},
            "vision recipe's frame_rate is 1000000000.0, expected a number",
        ),
        ({"vision": {"kind": "face", "frame_rate": 0}}, "frame_rate is 0, expected a number from 0.1 to 240"),
        ({"vision": {"kind": "face", "frame_rate": float("nan")}}, "frame_rate is nan"),
        ({"vision": {"kind": "face", "frame_rate": "10"}}, "frame_rate is '10'"),
        ({"vision": {"kind": "face", "frame_rate": True}}, "frame_rate is True"),
        ({"audio": {"kind": "encoder", "model": "a", "frame_rate": 1e-9}}, "audio recipe's frame_rate is 1e-09"),
        ({"audio": {"kind": "encoder", "model": "a", "window_seconds": 1e9}}, "window_seconds is 1000000000.0"),
        ({"audio": {"kind": "encoder", "model": ["a"]}}, "model is .*, expected the name or folder of a model"),
        ({"audio": {"kind": "encoder", "model": "a", "revision": 5}}, "revision is 5, expected a string, or none"),
        ({"vision": {"kind": "encoder", "model": "a", "face_only": "no"}}, "face_only is 'no', expected true or false"),
        ({"audio": {"kind": "features", "dim": 10**9}}, "dim is 1000000000, expected a number of columns, 1 to 65,536"),
        ({"audio": {"kind": "features", "dim": -1}}, "dim is -1"),
        ({"audio": {"kind": "features", "dim": "74"}}, "dim is '74'"),
        ({"audio": {"kind": ["features"]}}, r"kind \['features'\], expected one of"),
        ({"audio": ["librosa33"]}, "expected its kind, or a dict that has one"),
        ({"max_seconds": 1e9}, "max_seconds is 1000000000.0, expected a positive number of seconds, at most 86,400"),
        ({"max_seconds": float("inf")}, "max_seconds is inf"),
        ({"normalization": {"smell": {}}}, "normalization must be a dict by modality, of audio, vision at most"),
        ({"normalization": {"audio": {"mean": [0.0]}}}, "normalization of audio must have mean and std"),
        ({"normalization": {"audio": {"mean": ["a"], "std": [1]}}}, "normalization of audio is no list of numbers"),
        ({"normalization": {"audio": {"mean": [0.0], "std": [1.0]}}}, "1 means and 1 deviations, expected 33"),
        ({"normalization": {"audio": {"mean": [0.0] * 33, "std": [0.0] * 33}}}, "its deviations above 0"),
        ({"normalization": {"audio": {"mean": [float("nan")] * 33, "std": [1.0] * 33}}}, "must be finite"),
        ({"vision": {"kind": "face", "fps": 3}}, "face has no fps; it has frame_rate, checksums"),
        ({"vision": "encoder"}, "needs the name or folder of its model"),
        ({"vision": {"kind": "face", "checksums": {}}}, "made with other face models"),
    ],
)
def test_recipes_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        SelfMMFeatureExtractor(**options)
    with pytest.raises(ValueError, match=message):
        SelfMMFeatureExtractor.from_dict({"audio": "librosa33", "vision": "face", **options})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sampling_rate": None}, "The sampling_rate of the audio is None, expected its samples per second"),
        ({"sampling_rate": 0}, "The sampling_rate of the audio is 0, expected"),
        ({"sampling_rate": 50}, "longer than the 300 s that are allowed"),
        ({"audio": np.zeros((2, 3, 4), np.float32)}, r"shape \(2, 3, 4\), expected \(samples,\)"),
        ({"audio": np.zeros(9, np.int16)}, "samples are int16, expected floats"),
        ({"audio": np.array([0.5, np.nan])}, "samples hold values that are not finite"),
        ({"words": "hello"}, "got words"),
    ],
)
def test_clips_are_checked(extractor, change, message):
    with pytest.raises(ValueError, match=message):
        extractor.extract(clip(**change))
    with pytest.raises(ValueError, match="there are only torch's"):
        extractor(clip(), return_tensors="np")


@pytest.mark.parametrize("given", [None, 5, b"clip.mp4", np.zeros(RATE, np.float32)])
def test_what_is_no_clip_is_refused(extractor, given):
    with pytest.raises(ValueError, match=r"A clip is \w+, expected the path of a file, or a dict"):
        extractor.extract(given)


@pytest.mark.parametrize("rate", [16000, 44100, 48000])
def test_samples_of_any_rate_are_those_of_their_file(extractor, rate, tmp_path):
    path = write_clip(tmp_path / "clip.wav", audio="pcm_f32le", seconds=0.7, rate=rate)
    found, _ = extractor.extract({"audio": voice(0.7, rate), "sampling_rate": rate})
    np.testing.assert_allclose(found["audio"], extractor.extract(path)[0]["audio"], atol=1e-5)


STRANGER = """
import sys
sys.modules["selfmm_hf"] = None
import numpy as np
from transformers import AutoFeatureExtractor
extractor = AutoFeatureExtractor.from_pretrained(sys.argv[1], trust_remote_code=True)
batch = extractor(sys.argv[2])
np.savez(sys.argv[3], **batch)
extractor.save_pretrained(sys.argv[4])
"""


def test_a_stranger_computes_the_same(extractor, tmp_path):
    path = tmp_path / "clip.mp4"
    write_clip(path, "mpeg4", "aac", seconds=1.0)
    normal = SelfMMFeatureExtractor()
    normal.fit_normalization([extractor.extract(path)[0], extractor.extract(clip())[0]])
    normal.save_pretrained(tmp_path / "1")
    arguments = [str(one) for one in (tmp_path / "1", path, tmp_path / "batch.npz", tmp_path / "2")]
    process = subprocess.run([fresh.python(), "-c", STRANGER, *arguments], capture_output=True, text=True, timeout=240)
    assert process.returncode == 0, process.stderr[-2000:]
    expected = normal(path)
    with np.load(tmp_path / "batch.npz") as found:
        assert set(found) == set(expected)
        for name in found:
            np.testing.assert_allclose(found[name], expected[name].numpy(), atol=1e-5)
    assert (tmp_path / "2" / "face_networks" / "face_landmark.tflite").is_file()
    assert SelfMMFeatureExtractor.from_pretrained(tmp_path / "2").to_dict() | {"auto_map": None} == normal.to_dict() | {
        "auto_map": None
    }
    assert str(tmp_path) not in (tmp_path / "1" / "preprocessor_config.json").read_text()


def test_the_real_clip(shared, extractor):
    features, absent = extractor.extract(shared / "data" / "clips" / "obama_speech.mp4")
    assert absent == {} and len(features["vision"]) == 88 and features["vision"][:, 0].mean() > 0.9
    assert extractor.extract(shared / "data" / "clips" / "jfk.flac")[1] == {"vision": "no picture"}


def test_encoders_are_loaded_once_for_all_threads(encoders):
    extractor, made = SelfMMFeatureExtractor(**encoders), []
    extractor._encoder, make = lambda name, recipe: made.append(name) or make(name, recipe), extractor._encoder
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: extractor.extract(clip())[0], range(8)))
    assert sorted(made) == ["audio", "vision"]
    expected, _ = SelfMMFeatureExtractor(**encoders).extract(clip())
    assert all(np.array_equal(one[name], expected[name]) for one in found for name in expected)


def test_an_extractor_that_was_used_can_be_copied(extractor):
    expected, _ = extractor.extract(clip())
    for copied in (pickle.loads(pickle.dumps(extractor)), copy.deepcopy(extractor)):
        found, _ = copied.extract(clip())
        assert all(np.array_equal(found[name], expected[name]) for name in expected)
