"""The processor: words, voice and face of clips as one batch, saved and loaded by `AutoProcessor`."""

import json
import os
import subprocess

import fresh
import numpy as np
import pytest
import torch
from conftest import assert_same_outputs
from datasets import Dataset
from transformers import AutoProcessor

from selfmm_hf import SelfMMConfig, SelfMMModel
from selfmm_hf.data import Samples
from selfmm_hf.data.synthetic.words import demo_text_config, demo_tokenizer
from selfmm_hf.model.decoding_selfmm import ClipWarning
from selfmm_hf.model.feature_extraction_selfmm import SelfMMFeatureExtractor
from selfmm_hf.model.processing_selfmm import SelfMMProcessor, windows
from selfmm_hf.training.collator import SelfMMCollator

for package in ("ai_edge_litert", "av", "librosa", "PIL", "soxr"):
    pytest.importorskip(package)

from test_decoding import voice, write_clip  # noqa: E402
from test_feature_extraction import RATE, clip, faces  # noqa: E402


@pytest.fixture(scope="module")
def processor():
    extractor = SelfMMFeatureExtractor()
    rows = [extractor.extract(clip(audio=voice(seconds, RATE)))[0] for seconds in (0.5, 1.0)]
    extractor.fit_normalization(rows)
    return SelfMMProcessor(extractor, demo_tokenizer(), max_text_tokens=6)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return SelfMMModel(SelfMMConfig(text_config=demo_text_config(), audio_dim=33, vision_dim=41)).eval()


def test_a_batch_is_what_the_model_takes(processor, model):
    short = clip(audio=voice(0.5, RATE), vision=None)
    batch = processor([clip(), short, {}], ["the movie was good", None, "this film is bad"])
    assert set(batch) == set(processor.model_input_names)
    assert batch["audio_lengths"].tolist() == [44, 22, 0] and batch["vision_lengths"].tolist() == [6, 0, 0]
    assert batch["attention_mask"].sum(1).tolist() == [6, 0, 6] and batch["input_ids"].shape == (3, 6)
    with torch.no_grad():
        together = model(**batch)
        alone = model(**processor(clip(), "the movie was good"))
    assert together.present["text"].tolist() == [True, False, True]
    assert together.present["vision"].tolist() == [True, False, False]
    assert_same_outputs(alone, together, slice(0, 1))


def test_what_is_absent_is_said(processor):
    features, absent = processor.extract({"text": "  "})
    assert absent == {"text": "no words", "audio": "no sound", "vision": "no picture"}
    assert features["text"] == "" and features["audio"].shape == (0, 33)
    assert processor.extract({"text": "qwertz uiop"})[1]["text"] == "no word that the model knows"
    assert "text" not in processor.extract({"text": "qwertz movie"})[1]
    assert "text" not in processor.extract(clip(), "the movie")[1]
    assert processor.extract(clip(text="the movie"), "other words")[0]["text"] == "the movie"


def test_a_long_text_is_read_in_parts(processor, model):
    """The mean of the parts, weighted by their tokens; those beside it are as they are alone."""
    halves = ["the movie was", "good this is bad"]
    with pytest.warns(ClipWarning, match="longer than the 6 tokens that this model reads at once: it was read in 2 pa"):
        batch = processor(text=["the movie", " ".join(halves), None, "\U0001f600"])
    assert batch["input_ids"].shape == (4, 2, 6)
    assert batch["attention_mask"].sum(-1).tolist() == [[4, 0], [5, 6], [0, 0], [0, 0]]
    tokens = [*processor.tokenizer.model_input_names]

    def states_of(batch):
        return model.encode_text(**{name: batch[name] for name in tokens})

    states = states_of(processor(text=halves))
    expected = (5 * states[0] + 6 * states[1]) / 11
    torch.testing.assert_close(states_of(batch)[1], expected, atol=1e-6, rtol=0)
    with torch.no_grad():
        together = model(**batch)
        assert together.present["text"].tolist() == [True, True, False, False]
        assert_same_outputs(model(**processor(text="the movie")), together, slice(0, 1))
        with_embeds = model(text_embeds=expected.unsqueeze(0))
    assert_same_outputs(with_embeds, together, slice(1, 2))
    assert processor.words(" ".join(halves)) == {"count": 7, "unknown": 0, "parts": 2}


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_score_does_not_depend_on_the_side_of_the_padding(processor, model, side):
    tokenizer = demo_tokenizer()
    tokenizer.padding_side = side
    texts = ["so", "the movie was good"]
    expected = model(**processor(text=texts))
    given = tokenizer(texts, padding=True, return_tensors="pt")
    assert given["attention_mask"][0, 0] == (side == "right")
    assert_same_outputs(model(**given), expected)
    assert_same_outputs(model(**SelfMMProcessor(processor.feature_extractor, tokenizer)(text=texts)), expected)


def test_training_reads_what_the_processor_reads(processor, model):
    texts = ["the movie was good", "", " ", "\U0001f600", "qwertz \U0001f600", "qwertz movie", "[UNK]", "..."]
    rows = {"id": [*map(str, range(len(texts)))], "text": texts, "label": [0.0] * len(texts)}
    samples = Samples(Dataset.from_dict(rows))
    samples.tokenize(processor.tokenizer, processor.max_text_tokens)
    trained = SelfMMCollator()([samples[row] for row in range(len(texts))])
    trained.pop("labels")
    output = model(**trained)
    assert output.present["text"].tolist() == [True, False, False, False, False, True, False, False]
    assert_same_outputs(output, model(**processor(text=texts)))
    absent = [processor.extract({"text": text})[1].get("text") for text in texts]
    unknown = "no word that the model knows"
    assert absent == [None, "no words", "no words", unknown, unknown, None, unknown, unknown]


def test_features_pass_as_they_are(processor):
    features, _ = processor.extract(clip(text="the movie"))
    again, absent = processor.extract(features)
    assert not absent and all(np.array_equal(again[name], features[name]) for name in features)
    for wrong, message in (
        ({"audio": np.zeros((3, 5), np.float32)}, r"audio is 5 wide, expected \(frames, 33\)"),
        ({"vision": np.full((3, 41), np.nan)}, "vision has values that are not finite"),
        ({"text": 3}, "text is int, expected a string"),
    ):
        with pytest.raises(ValueError, match=message):
            processor.extract(wrong)


def test_features_of_another_program(tmp_path):
    given = {"text": {"kind": "features", "dim": 7}, "audio": {"kind": "features", "dim": 5}, "vision": None}
    SelfMMProcessor(SelfMMFeatureExtractor(**given)).save_pretrained(tmp_path)
    processor = SelfMMProcessor.from_pretrained(tmp_path)
    assert processor.tokenizer is None and processor.modalities == ["text", "audio"]
    assert not (tmp_path / "face_networks").exists()
    frames = np.arange(10, dtype=np.float32).reshape(2, 5)
    batch = processor([{"audio": frames}, {"text": np.ones((3, 7))}])
    assert batch["audio"][0].tolist() == frames.tolist() and batch["text_lengths"].tolist() == [0, 3]
    for clip_ in ("clip.mp4", {"audio": voice(0.1, RATE), "sampling_rate": RATE}, {"text": "words"}):
        with pytest.raises(ValueError, match="come from another program and cannot be computed here; give them as an"):
            processor(clip_)


def test_texts_and_clips_belong_together(processor):
    with pytest.raises(ValueError, match="There are 2 clips, but 1 texts"):
        processor([{}, {}], ["the movie"])
    with pytest.raises(ValueError, match="Give clips, text, or both"):
        processor()
    with pytest.raises(ValueError, match="return_tensors='pt'"):
        processor({}, return_tensors="np")
    assert processor(text="the movie")["input_ids"].shape == (1, 4)
    assert processor(text=["the movie", "the story was good"])["input_ids"].shape == (2, 6)
    assert processor([clip(), clip()], ["the movie", "so"])["attention_mask"].sum(1).tolist() == [4, 3]
    with pytest.raises(ValueError, match="several clips, but text belongs to one of them: give a list of texts"):
        processor([clip(), clip()], "the movie")
    with pytest.raises(ValueError, match="There is no clip in the list"):
        processor([])
    for wrong in (0, 2, "50", None, 10**9):
        with pytest.raises(ValueError, match=f"max_text_tokens is {wrong!r}, expected 3 or more"):
            SelfMMProcessor(processor.feature_extractor, processor.tokenizer, wrong)


STRANGER = """
import sys
sys.modules["selfmm_hf"] = None
import numpy as np
from transformers import AutoProcessor
processor = AutoProcessor.from_pretrained(sys.argv[1], trust_remote_code=True)
assert type(processor).__module__.startswith("transformers_modules."), type(processor)
np.savez(sys.argv[3], **processor([sys.argv[2], {}], ["the movie was good", None]))
processor.save_pretrained(sys.argv[4])
AutoProcessor.from_pretrained(sys.argv[4], trust_remote_code=True)
"""


def test_a_stranger_computes_the_same(processor, tmp_path):
    path = tmp_path / "clip.mp4"
    write_clip(path, "mpeg4", "aac", seconds=1.0)
    processor.save_pretrained(tmp_path / "1")
    arguments = [str(one) for one in (tmp_path / "1", path, tmp_path / "batch.npz", tmp_path / "2")]
    environment = os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules")}
    process = subprocess.run(
        [fresh.python(), "-c", STRANGER, *arguments], capture_output=True, text=True, timeout=240, env=environment
    )
    assert process.returncode == 0, process.stderr[-2000:]
    expected = processor([path, {}], ["the movie was good", None])
    with np.load(tmp_path / "batch.npz") as found:
        assert set(found) == set(expected)
        for name in found:
            np.testing.assert_allclose(found[name], expected[name].numpy(), atol=1e-5)
    for folder in ("1", "2"):
        options = json.loads((tmp_path / folder / "processor_config.json").read_text())
        assert options["max_text_tokens"] == 6 and "AutoProcessor" in options["auto_map"]
        assert (tmp_path / folder / "face_networks" / "face_landmark.tflite").is_file()
    assert {file.name for file in (tmp_path / "1").glob("*.py")} == {
        file.name for file in (tmp_path / "2").glob("*.py")
    }


def test_with_the_package_no_remote_code_runs(processor, model, tmp_path):
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is SelfMMProcessor and loaded.feature_extractor.normalization


def test_windows_cut_all_modalities_alike():
    rates = {"audio": 43.0, "vision": 10.0}
    features = {"text": "the movie", "audio": np.arange(215)[:, None], "vision": np.arange(50)[:, None]}
    pieces = windows(features, rates, 2.0)
    assert [(begin, end) for begin, end, _ in pieces] == [(0.0, 2.0), (2.0, 5.0)]
    assert [part["audio"][0, 0] for *_, part in pieces] == [0, 86] and len(pieces[1][2]["vision"]) == 30
    for name in rates:
        assert np.array_equal(np.concatenate([part[name] for *_, part in pieces]), features[name])
    assert windows(features, rates, 60.0)[0][:2] == (0.0, 5.0)
    assert windows({"audio": np.zeros((0, 33))}, {"audio": 43.0}, 2.0) == []
    only_face = windows({"audio": np.zeros((0, 33)), "vision": np.ones((25, 41))}, rates, 1.0)
    assert [len(part["vision"]) for *_, part in only_face] == [10, 15] and not len(only_face[0][2]["audio"])


def test_faces_in_a_list_or_an_array(processor):
    as_list = processor.extract({"vision": faces()})[0]["vision"]
    assert np.array_equal(processor.extract({"vision": np.stack(faces())})[0]["vision"], as_list)
