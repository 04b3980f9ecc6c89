"""`pipeline("multimodal-sentiment")`: clips, words, URLs, batches, timelines and speech recognition."""

import contextlib
import functools
import http.server
import json
import os
import re
import subprocess
import tempfile
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import fresh
import numpy as np
import pytest
import torch
from datasets import Dataset
from no_float64 import DEVICE, NoFloat64
from transformers import (
    AutoModel,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    pipeline,
)
from transformers.pipelines.pt_utils import KeyDataset

from selfmm_hf import SelfMMConfig, SelfMMModel
from selfmm_hf.hub.model_folder import save_loadable
from selfmm_hf.model.decoding_selfmm import ClipWarning, decode_audio
from selfmm_hf.model.download_selfmm import quoted
from selfmm_hf.model.feature_extraction_selfmm import SelfMMFeatureExtractor
from selfmm_hf.model.pipeline_selfmm import MultimodalSentimentPipeline, label_of

for package in ("ai_edge_litert", "av", "librosa", "PIL", "soxr"):
    pytest.importorskip(package)

from conftest import TASKS  # noqa: E402
from test_decoding import voice, write_clip  # noqa: E402
from test_face_landmarks import draw_face  # noqa: E402
from test_feature_extraction import RATE, clip  # noqa: E402


def load(folder, **options):
    # The class is named, so that the package's own code runs, not the folder's.
    return pipeline("multimodal-sentiment", model=str(folder), pipeline_class=MultimodalSentimentPipeline, **options)


@pytest.fixture(scope="module")
def folder(model_folder):
    return model_folder


@pytest.fixture(scope="module")
def pipe(folder):
    return load(folder)


def test_features_are_computed_where_the_model_is(pipe, folder):
    with NoFloat64():
        model = SelfMMModel.from_pretrained(folder)
        moved = MultimodalSentimentPipeline(model, processor=pipe.processor, device=DEVICE)
    assert moved.processor.feature_extractor.device == moved.model.device == DEVICE
    assert pipe.processor.feature_extractor.device == torch.device("cpu")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "a clip; $(touch oops) 'it'.mp4"
    write_clip(path, "mpeg4", "aac", seconds=3.0)
    return path


def test_a_clip(pipe, path):
    result = pipe(str(path))
    keys = {"score", "label", "label_range", "unimodal", "present", "absent", "transcript", "words", "remarks"}
    keys |= {"face_share"}
    assert keys <= set(result) and result["words"] is None and result["remarks"] == []
    assert result["present"] == {"text": False, "audio": True, "vision": False}
    assert result["absent"] == {"text": "no words", "vision": "no face"}
    assert [name for name, value in result["unimodal"].items() if value is not None] == ["audio"]
    assert result["transcript"] is None and result["label"] == label_of(result["score"])
    json.dumps(result)
    spoken = pipe(str(path), text="the movie was good")
    assert spoken["present"]["text"] and spoken["transcript"] == "the movie was good"
    assert spoken["unimodal"]["audio"] == pytest.approx(result["unimodal"]["audio"], abs=1e-5)
    assert pipe({"audio": str(path), "text": "the movie was good"})["score"] == pytest.approx(spoken["score"], abs=1e-5)


def test_progress_is_told_within_a_clip(pipe, path):
    reports = []
    for one in (str(path), {"vision": str(path)}):
        pipe(one, text="so", progress=lambda *report: reports.append(report))
    seconds, total = [seconds for what, seconds, _ in reports if what == "picture"], reports[-1][2]
    assert seconds == [pytest.approx((number % 30 + 1) / 10) for number in range(60)]
    assert total == pytest.approx(3.0, abs=0.1) and {what for what, *_ in reports} == {"picture"}


def test_the_scores_are_the_models(pipe):
    result = pipe(clip(text="the movie was good"))
    model, processor = pipe.model, pipe.processor
    with torch.no_grad():
        output = model(**processor(clip(), "the movie was good"))
    assert result["score"] == pytest.approx(output.logits.item(), abs=1e-5)
    for name, value in output.unimodal_logits.items():
        assert result["unimodal"][name] == pytest.approx(value.item(), abs=1e-5)
    assert all(result["present"].values()) and result["absent"] == {}


def test_lists_generators_and_batches(pipe, path):
    clips = [
        clip(text="the movie was good"),
        str(path),
        {"text": "this film is bad"},
        clip(vision=None),
        {"text": "so"},
    ]
    alone = [pipe(one, window_seconds=0.5) for one in clips]
    assert [len(one["timeline"]) for one in alone] == [2, 6, 0, 2, 0]
    ways = [pipe(clips, window_seconds=0.5, batch_size=batch_size) for batch_size in (1, 2, 8)]
    ways.append(list(pipe((one for one in clips), window_seconds=0.5, batch_size=3)))
    for found in ways:
        assert len(found) == len(clips)
        for one, expected in zip(found, alone, strict=True):
            assert one["score"] == pytest.approx(expected["score"], abs=1e-5)
            assert one["unimodal"] == pytest.approx(expected["unimodal"], abs=1e-5)
            assert one["present"] == expected["present"] and one["absent"] == expected["absent"]
            assert one["transcript"] == expected["transcript"]
            for piece, other in zip(one["timeline"], expected["timeline"], strict=True):
                assert piece["begin"] == other["begin"] and piece["score"] == pytest.approx(other["score"], abs=1e-5)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_column_of_a_dataset(pipe, path, workers):
    """Also read by processes that are forked from one that has decoded clips already."""
    expected = pipe(str(path))
    clips = Dataset.from_dict({"clip": [str(path)] * 3})
    found = list(pipe(KeyDataset(clips, "clip"), batch_size=2, num_workers=workers))
    assert [one["score"] for one in found] == pytest.approx([expected["score"]] * 3, abs=1e-5)
    words = Dataset.from_dict({"clip": [{"text": "the movie was good"}, {"text": "so"}]})
    assert [one["transcript"] for one in pipe(KeyDataset(words, "clip"))] == ["the movie was good", "so"]
    with pytest.raises(ValueError, match="A clip is Dataset, expected the path of a file, or a dict"):
        pipe(clips)


class Busy:
    """Answers in its own time, and not to two at once."""

    type, feature_extractor, at_work = "ctc", Wav2Vec2FeatureExtractor(), False

    def __call__(self, inputs, return_timestamps):
        assert not self.at_work, "called by two threads at once"
        self.at_work = True
        time.sleep(0.005)
        self.at_work = False
        return {"text": "the movie was " + ("good" if inputs["raw"][0] else "bad")}


def test_four_threads_get_what_one_gets(folder):
    clips = [
        clip(audio=voice(0.5 + number / 5, RATE), vision=[draw_face(smile=number - 1, size=96 + 32 * number)] * 3)
        for number in range(3)
    ]
    clips[1]["text"], clips[2]["audio"] = "so", np.zeros(RATE, np.float32)
    clips.append({"text": "the movie was good and this film is bad"})
    pipe = load(folder, transcriber=Busy())  # its tools are not made yet: the threads make them
    settings = list(warnings.filters), torch.get_num_threads()
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda number: pipe(clips[number % 4], window_seconds=0.5), range(16)))
    assert (list(warnings.filters), torch.get_num_threads()) == settings
    alone = load(folder, transcriber=Busy())
    for number, result in enumerate(found):
        assert result == alone(clips[number % 4], window_seconds=0.5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_model_of_half_precision(folder, pipe, path, dtype):
    expected = pipe(str(path), text="the movie was good", window_seconds=1.0)
    half = load(folder, dtype=dtype, device="cpu")
    assert half.model.dtype == getattr(torch, dtype)
    found = half(str(path), text="the movie was good", window_seconds=1.0)
    assert found["score"] == pytest.approx(expected["score"], abs=0.02)
    assert found["unimodal"] == pytest.approx(expected["unimodal"], abs=0.02)
    json.dumps(found)
    several = half([{"text": "so"}, str(path), {"text": "the movie was good"}], batch_size=2)
    assert [one["present"]["audio"] for one in several] == [False, True, False]


def test_a_long_text_is_read_to_its_end(pipe):
    halves = "the food is great " * 15, "the movie was terrible " * 15
    with pytest.warns(ClipWarning, match="longer than the 50 tokens") as caught:
        result = pipe({"text": "".join(halves)}, window_seconds=1.0)
    assert len(caught) == 1 and result["remarks"] == [str(caught[0].message)]
    assert result["words"] == {"count": 120, "unknown": 0, "parts": 4} and result["transcript"] == "".join(halves)
    with pytest.warns(ClipWarning):
        first, second = (pipe({"text": half})["unimodal"]["text"] for half in halves)
    assert min(first, second) < result["unimodal"]["text"] < max(first, second)
    with pytest.warns(ClipWarning):
        short, long = pipe([{"text": "the food is great"}, {"text": "".join(halves)}], batch_size=2)
    assert long["score"] == pytest.approx(result["score"], abs=1e-5) and short["remarks"] == []
    assert short["score"] == pytest.approx(pipe({"text": "the food is great"})["score"], abs=1e-5)


def test_unknown_words_are_told(pipe):
    result = pipe({"text": "The board approved quarterly dividends"})
    assert result["words"] == {"count": 5, "unknown": 4, "parts": 1}
    assert result["remarks"] == ["4 of 5 words are unknown to this model."]
    assert pipe({"text": "the movie was zany"})["remarks"] == ["1 of 4 words is unknown to this model."]
    assert pipe({"text": "the movie was good!"})["remarks"] == []


def test_a_timeline_scores_the_pieces(pipe):
    whole = clip(audio=voice(2.0, RATE), text="the movie was good")
    result = pipe(whole, window_seconds=1.0)
    assert [(piece["begin"], round(piece["end"])) for piece in result["timeline"]] == [(0.0, 1), (1.0, 2)]
    features, _ = pipe.processor.extract(whole)
    first = pipe({"audio": features["audio"][:43], "vision": features["vision"]})
    assert result["timeline"][0]["score"] == pytest.approx(first["score"], abs=1e-5)
    assert result["timeline"][0]["present"] == {"text": False, "audio": True, "vision": True}
    assert result["timeline"][1]["present"]["vision"] is False  # the face is seen for 0.6 s
    assert "timeline" not in pipe(whole) and pipe({"text": "so"}, window_seconds=1.0)["timeline"] == []


def faces_in(*pictures):
    empty = np.full((256, 256, 3), 120, np.uint8)
    return [draw_face(smile=number / 25) if there else empty for number, there in enumerate(pictures)]


def test_a_face_in_too_few_pictures_is_none_and_in_less_than_half_is_told(pipe):
    def said(*pictures):
        return pipe({"vision": faces_in(*pictures), "text": "the movie was good"}, window_seconds=1.0)

    def seen(result):
        return [piece["present"]["vision"] for piece in result["timeline"]]

    often = said(*[True] * 18 + [False] * 2)
    assert often["face_share"] == 0.9 and often["remarks"] == [] and seen(often) == [True, True]
    few = said(*[False] * 16, *[True] * 4)  # a fifth
    assert few["face_share"] == 0.2 and few["present"]["vision"] and seen(few) == [False, True]
    assert few["remarks"] == ["A face is seen in only 20% of the frames."]
    assert few["timeline"][0]["unimodal"]["vision"] is None
    one = said(*[False] * 24, True)
    assert one["face_share"] == 0.04 and one["remarks"] == ["A face is seen in only 4% of the frames."]
    assert not one["present"]["vision"] and one["absent"]["vision"] == "no face" and seen(one) == [False, False]
    none = said(*[False] * 20)
    assert none["face_share"] == 0 and none["remarks"] == [] and none["absent"]["vision"] == "no face"
    brief = said(*[False] * 40, *[True] * 5, *[False] * 5)  # too little of the whole, but much of one piece
    assert not brief["present"]["vision"] and seen(brief) == [False, False, False, False, True]


def test_without_pictures_there_is_no_share_of_faces(pipe):
    assert pipe({"text": "so"})["face_share"] is None
    assert pipe(clip(vision=None))["face_share"] is None
    several = pipe([{"text": "so"}, clip(), {"vision": faces_in(True, False), "text": "so"}], batch_size=2)
    assert [one["face_share"] for one in several] == [None, 1.0, 0.5]
    features, _ = pipe.processor.extract(clip())
    assert pipe(dict(features))["face_share"] == 1.0


def test_a_clip_that_stands_on_its_head_says_what_it_says_upright(pipe):
    pictures = [draw_face(smile=number / 8, opening=0.3) for number in range(8)]
    upright, *turned = (
        pipe({"vision": [np.rot90(picture, quarters) for picture in pictures]})["unimodal"]["vision"]
        for quarters in range(4)
    )
    assert turned == pytest.approx([upright] * 3, abs=0.02)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "nothing in this clip that the model can judge: no words, no sound, no picture"),
        ({"text": "qwertz"}, "no word that the model knows"),
        ("/nowhere/clip.mp4", "there is no local file 'clip.mp4'"),
        ({"words": "hello"}, "got words"),
        ({"audio": np.zeros(40 * RATE, np.float32), "sampling_rate": RATE}, "longer than the 20 s that are allowed"),
    ],
)
def test_what_cannot_be_judged_is_said(pipe, given, message):
    with pytest.raises(ValueError, match=message):
        pipe(given)


def test_unknown_options_are_refused(pipe):
    with pytest.raises(TypeError, match=r"has no windows; it has text, context, .* and public_urls"):
        pipe({"text": "so"}, windows=3)
    for seconds in (0, -1, float("nan"), "2"):
        with pytest.raises(ValueError, match=re.escape(f"max_work_seconds is {seconds!r}, expected a positive number")):
            pipe({"text": "so"}, max_work_seconds=seconds)
    for seconds in (0, -1, 1e-9, float("nan"), float("inf"), 10**400, "2", True, [1.0]):
        message = re.escape(f"window_seconds is {seconds!r}, expected a number of seconds, 0.1 or more")
        with pytest.raises(ValueError, match=message):
            pipe({"text": "so"}, window_seconds=seconds)


def test_a_clip_that_takes_too_long_is_given_up(pipe, path):
    pictures = [np.zeros((48, 64, 3), np.uint8)] * 2
    for given, name in ((str(path), re.escape(repr(path.name))), ({"vision": pictures}, "the clip")):
        with pytest.raises(ValueError, match=rf"^{name} takes longer to read than the 1e-09 s that are allowed"):
            pipe(given, max_work_seconds=1e-9)
    assert pipe(str(path), max_work_seconds=3600) == pipe(str(path))
    assert pipe({"text": "the movie was good"}, max_work_seconds=1e-9)["present"]["text"]  # nothing is decoded
    features = {"audio": np.zeros((100, 33), np.float32)}
    with pytest.raises(ValueError, match="takes longer to read"):  # its pieces take long, too
        pipe(features, window_seconds=0.1, max_work_seconds=1e-9)


@pytest.mark.parametrize(
    ("score", "label_range", "label"),
    [
        (3.4, 3.0, "highly positive"), (2.4, 3.0, "positive"), (0.6, 3.0, "weakly positive"), (-0.4, 3.0, "neutral"),
        (-1.2, 3.0, "weakly negative"), (-9.0, 3.0, "highly negative"), (0.8, 1.0, "positive"),
        (0.5, 1.0, "weakly positive"), (0.0, 1.0, "neutral"), (-0.4, 1.0, "weakly negative"), (-1.0, 1.0, "negative"),
    ],
)  # fmt: skip
def test_labels_are_those_of_the_field(score, label_range, label):
    assert label_of(score, label_range) == label


@pytest.fixture
def server(path, tmp_path):
    (tmp_path / "clip.mp4").write_bytes(path.read_bytes())
    (tmp_path / "page.mp4").write_text("<html>")

    def drip(file):
        with contextlib.suppress(OSError):
            for _ in range(200):
                file.write(b"x")
                time.sleep(0.1)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            if self.path == "/broken.mp4":  # it promises more than it sends
                self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: 9999\r\n\r\nclip")
            elif self.path == "/elsewhere.mp4":
                self.wfile.write(b"HTTP/1.0 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n")
            elif self.path == "/slow-body.mp4":
                self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: 9999\r\n\r\n")
                drip(self.wfile)
            elif self.path == "/slow-head.mp4":
                self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Type: ")
                drip(self.wfile)
            elif self.path == "/to-slow.mp4":
                self.wfile.write(b"HTTP/1.0 302 Found\r\nLocation: /slow-head.mp4\r\n\r\n")
            elif self.path == "/babble.mp4":
                self.wfile.write(b"babble\r\n")
            else:
                super().do_GET()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_urls_are_downloaded_and_leave_nothing(pipe, path, server, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "downloads"))
    (tmp_path / "downloads").mkdir()
    expected = pipe(str(path))["score"]
    assert pipe(f"{server}/clip.mp4")["score"] == pytest.approx(expected, abs=1e-6)
    assert pipe({"audio": f"{server}/clip.mp4"})["score"] == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match=r"cannot be downloaded: .*404"):
        pipe(f"{server}/nothing.mp4")
    with pytest.raises(ValueError, match="not a sound or video file"):
        pipe(f"{server}/page.mp4")
    with pytest.raises(ValueError, match=r"broken.mp4 broke off after 4 of 9999 bytes; try again"):
        pipe(f"{server}/broken.mp4")
    for address in ("elsewhere.mp4", "babble.mp4", "no such clip.mp4"):
        with pytest.raises(ValueError, match=rf"{address} cannot be downloaded: .*Check the address"):
            pipe(f"{server}/{address}")
    for address in ("http://[bad", "http://", "http://a..b/clip.mp4", "HTTP://127.0.0.1:1/clip.mp4"):
        with pytest.raises(ValueError, match="cannot be downloaded"):
            pipe(address)
    for address in ("file:///etc/passwd", "ftp://127.0.0.1/clip.mp4", "//[clip.mp4"):
        with pytest.raises(ValueError, match="there is no local file"):
            pipe(address)
    monkeypatch.setattr("selfmm_hf.model.download_selfmm.MAX_DOWNLOAD", 1000)
    with pytest.raises(ValueError, match="is larger than"):
        pipe(f"{server}/clip.mp4")
    assert not list((tmp_path / "downloads").iterdir())


def test_a_url_that_drips_ends_at_one_limit(pipe, server, monkeypatch):
    """Whether the head or the body of the answer drips, or that of the address to which it leads."""
    monkeypatch.setattr("selfmm_hf.model.download_selfmm.MAX_DOWNLOAD_SECONDS", 0.5)
    seen = []
    for address, received in (("slow-body", r"[1-9]\d*"), ("slow-head", "0"), ("to-slow", "0")):
        with pytest.raises(ValueError, match=f"{address}.mp4 takes too long: {received} bytes came within the 0.5 s"):
            pipe(f"{server}/{address}.mp4", progress=lambda *report: seen.append(report))
    assert seen[0] == ("download", 1, 9999) and len(seen) > 1
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


def test_what_a_url_may_not_contain_is_escaped(pipe, path, server, tmp_path):
    for name in ("ein Fl\u00fcgel 100%.mp4", "a?b.mp4"):
        (tmp_path / name).write_bytes(path.read_bytes())
    expected = pipe(str(path))["score"]
    for address in ("ein Fl\u00fcgel 100%.mp4", "ein%20Fl%C3%BCgel%20100%25.mp4", "a%3Fb.mp4", "clip.mp4?q=\u00fc b#c"):
        assert pipe(f"{server}/{address}")["score"] == pytest.approx(expected, abs=1e-6)
    assert quoted("http://b\u00fccher.example/\u00e4?\u00e4=%41") == "http://xn--bcher-kva.example/%C3%A4?%C3%A4=%41"
    plain = "https://me:pw@[::1]:80/a;b/~c(d)'e!,*?f=g&h=i+j/k"
    assert quoted(plain) == plain


def test_texts_of_several_clips(pipe):
    clips = [clip(), clip()]
    found = pipe(clips, text=["the movie was good", None], batch_size=2)
    assert [one["transcript"] for one in found] == ["the movie was good", None]
    assert pipe([], text=[]) == pipe([]) == []
    assert pipe(clips[:1], text="the movie")[0]["transcript"] == "the movie"
    for several in (clips, (one for one in clips), KeyDataset(clips, "audio")):
        with pytest.raises(ValueError, match="several clips, but text belongs to one of them: give a list"):
            pipe(several, text="the movie")
    with pytest.raises(ValueError, match="There are 2 clips, but 1 texts"):
        pipe(clips, text=["the movie"])
    for text in (["the movie"], 3):
        with pytest.raises(ValueError, match=f"text is {type(text).__name__}, expected a string"):
            pipe(clips[0], text=text)


@pytest.fixture
def recogniser(tmp_path):
    """A tiny speech recogniser; it babbles."""
    folder = tmp_path / "asr"
    folder.mkdir()
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"the movie was".replace(" ", "")]
    vocabulary = folder / "vocabulary.json"
    vocabulary.write_text(json.dumps({letter: index for index, letter in enumerate(dict.fromkeys(letters))}))
    torch.manual_seed(3)
    config = Wav2Vec2Config(
        vocab_size=len(set(letters)), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=9,
        conv_dim=(4, 4), conv_stride=(5, 64), conv_kernel=(10, 64), num_feat_extract_layers=2, pad_token_id=0,
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, initializer_range=1.0,
    )  # fmt: skip
    Wav2Vec2ForCTC(config).save_pretrained(folder)
    Wav2Vec2CTCTokenizer(vocabulary).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
    return folder


@pytest.mark.filterwarnings("ignore:The text is longer than:UserWarning")  # it babbles longer with some builds of torch
def test_a_recogniser_by_name_fills_in_the_words(folder, recogniser, path):
    pipe = load(folder, transcriber=str(recogniser))
    heard = pipe.transcriber({"raw": decode_audio(path, 16000), "sampling_rate": 16000})["text"].strip()
    assert heard
    seen = []
    pipe.processor.extract, extract = (
        lambda one, text=None, *more, **options: seen.append(text) or extract(one, text, *more, **options),
        pipe.processor.extract,
    )
    pipe(str(path), window_seconds=1.0)
    assert seen[0] == heard and len(seen) == 4
    assert pipe(str(path), text="the movie was good")["transcript"] == "the movie was good"
    assert pipe({"text": "the movie"})["transcript"] == "the movie"
    assert heard not in seen[4:]


class Recogniser:
    """Answers as a pipeline "automatic-speech-recognition" does, and keeps what it was asked."""

    type = "seq2seq_whisper"
    feature_extractor = Wav2Vec2FeatureExtractor()
    asked = None

    def __call__(self, inputs, return_timestamps):
        self.asked = inputs, return_timestamps
        return {
            "text": " the movie was good. it is bad",
            "chunks": [
                {"text": " the movie was good.", "timestamp": (0.2, 0.9)},
                {"text": " it is bad", "timestamp": (1.1, None)},
            ],
        }


def test_what_was_heard_when_is_in_the_timeline(folder, path):
    recogniser = Recogniser()
    pipe = load(folder, transcriber=recogniser)
    result = pipe(str(path), window_seconds=1.0)
    (sound, times) = recogniser.asked
    assert times is True and sound["sampling_rate"] == 16000 and abs(len(sound["raw"]) - 48000) < 3000
    assert result["transcript"] == "the movie was good. it is bad"
    assert [piece["present"]["text"] for piece in result["timeline"]] == [True, True, False]
    expected = pipe({"text": "it is bad"})["unimodal"]["text"]
    assert result["timeline"][1]["unimodal"]["text"] == pytest.approx(expected, abs=1e-5)
    assert pipe({"audio": str(path), "text": ""})["transcript"] == result["transcript"]
    recogniser.asked = None
    assert pipe(clip(audio=None, sampling_rate=None))["transcript"] is None and recogniser.asked is None
    pipe(clip())
    assert recogniser.asked[0]["sampling_rate"] == RATE


@pytest.mark.parametrize("task", TASKS)
def test_a_task_of_any_kind(task, model_of):
    """All that a user sees follows the task: alone, in a batch, in half precision, and where modalities are missing."""
    model, processor = model_of(task)
    pipe = MultimodalSentimentPipeline(model, processor=processor)
    random = np.random.default_rng(0)
    clips = [
        {"text": "the movie was good", "audio": random.normal(size=(7, 5)), "eye": random.normal(size=(3, 4))},
        {"text": "this film is bad", "eye": random.normal(size=(2, 4))},
    ]
    results = [pipe(one) for one in clips]
    names = tuple(TASKS[task]["id2label"].values())
    for result, one in zip(results, clips, strict=True):
        with torch.no_grad():
            output = model(**processor(one))
        for found, logits in (
            (result["scores"], output.logits),
            *((result["unimodal"][name], output.unimodal_logits[name]) for name in one),
        ):
            assert tuple(found) == names
            assert list(found.values()) == pytest.approx(model.config.task.predictions(logits)[0].tolist(), abs=1e-5)
        assert "score" not in result and "label_range" not in result and result["remarks"] == []
        assert result["transcript"] == one["text"] and result["words"]["unknown"] == 0
        json.dumps(result)
    assert results[1]["unimodal"]["audio"] is None and results[1]["absent"] == {"audio": "no sound"}
    assert pipe({"text": "so"})["absent"] == {"audio": "no sound", "eye": "no eye"}
    scores = results[0]["scores"]
    if task == "classes":
        assert results[0]["task"] == "single_label_classification" and sum(scores.values()) == pytest.approx(1)
        assert scores[results[0]["label"]] == max(scores.values())
    elif task == "emotions":
        assert results[0]["task"] == "multi_label_classification"
        assert results[0]["label"] == [name for name in names if scores[name] > 0.5]
    else:
        scales = dict(zip(names, TASKS[task]["label_scales"], strict=True))
        assert results[0]["task"] == "regression" and results[0]["scales"] == scales and "label" not in results[0]
    together = pipe(clips, batch_size=2)
    for found, expected in zip(together, results, strict=True):
        assert found["scores"] == pytest.approx(expected["scores"], abs=1e-5) and found["absent"] == expected["absent"]
        assert found.get("label") == expected.get("label") and found["present"] == expected["present"]
    model.to(torch.bfloat16)
    assert pipe(clips[0])["scores"] == pytest.approx(scores, abs=0.3)


@pytest.mark.parametrize("task", TASKS)
def test_numbers_that_are_not_finite_are_no_scores(task, model_of):
    """A class of them would be the first one."""
    model, processor = model_of(task)
    pipe = MultimodalSentimentPipeline(model.half(), processor=processor)
    too_large = np.resize([1e5, -1e5], (4, 5))
    with pytest.raises(ValueError, match=r"no finite numbers .* torch.float16. Check them"):
        pipe({"text": "so", "audio": too_large})


def test_a_timeline_of_classes(model_folder):
    pipe = load(model_folder)
    torch.manual_seed(0)
    heads = SelfMMModel(SelfMMConfig(**(pipe.model.config.to_dict() | TASKS["classes"] | {"label2id": None}))).eval()
    result = MultimodalSentimentPipeline(heads, processor=pipe.processor)(clip(text="so"), window_seconds=0.5)
    assert [sum(piece["scores"].values()) for piece in result["timeline"]] == pytest.approx([1, 1])
    for piece in result["timeline"]:
        assert piece["scores"][piece["label"]] == max(piece["scores"].values()) and "task" not in piece
        assert set(piece["unimodal"]["audio"]) == set(piece["scores"]) and piece["unimodal"]["text"] is None


def test_pipelines_of_one_processor_are_independent(model_of):
    model, processor = model_of("classes")
    text_config = model.config.text_config.to_dict() | {"max_position_embeddings": 8}
    short = SelfMMModel(SelfMMConfig(**(model.config.to_dict() | {"text_config": text_config}))).eval()
    lengths = [
        MultimodalSentimentPipeline(one, processor=processor).processor.max_text_tokens for one in (short, model)
    ]
    assert lengths == [8, 50] and processor.max_text_tokens == 50


def test_modalities_of_other_names_are_given_as_features(model_of, tmp_path):
    model, processor = model_of("classes")
    MultimodalSentimentPipeline(model, processor=processor).save_pretrained(tmp_path)
    pipe = load(tmp_path)
    assert pipe.processor.modalities == ["text", "audio", "eye"] and pipe.processor.feature_extractor.widths["eye"] == 4
    frames = np.ones((3, 4), np.float32)
    expected = MultimodalSentimentPipeline(model, processor=processor)({"eye": frames})
    assert pipe({"eye": frames})["scores"] == pytest.approx(expected["scores"], abs=1e-5)
    for wrong, message in (
        ({"eye": np.ones((3, 5))}, r"eye is 5 wide, expected \(frames, 4\)"),
        ({"eye": "clip.mp4"}, "eye features that this was made for come from another program"),
        ({"ear": frames}, "has text, audio, sampling_rate, vision and eye; got ear"),
    ):
        with pytest.raises(ValueError, match=message):
            pipe(wrong)
    with pytest.raises(ValueError, match="The eye recipe is of kind 'face', expected one of features"):
        SelfMMFeatureExtractor(eye={"kind": "face"})


def test_it_draws_what_it_says(pipe, path):
    svg = pipe.draw(pipe(str(path), text="the movie was good", window_seconds=1.0), title="<clip>")
    assert svg.startswith("<svg") and "&lt;clip&gt;" in svg and "no face" in svg


STRANGER = """
import json, sys
sys.modules["selfmm_hf"] = None
from transformers import pipeline
pipe = pipeline("multimodal-sentiment", model=sys.argv[1], trust_remote_code=True)
assert type(pipe).__module__.startswith("transformers_modules."), type(pipe)
result = pipe(sys.argv[2], text="the movie was good", window_seconds=1.0)
assert pipe.draw(result).startswith("<svg")
other = pipeline("multimodal-sentiment", model=sys.argv[3], trust_remote_code=True)
assert type(other).__module__.startswith("transformers_modules."), type(other)
result["other"] = other({"text": "the movie was good"})
assert other.draw(result["other"]).startswith("<svg") and other.disagreement(result["other"]) is None
try:
    pipe("/nowhere/clip.mp4")
except ValueError as error:
    result["error"] = str(error)
print(json.dumps(result))
"""


def test_a_stranger_gets_the_same(folder, pipe, path, tmp_path, model_of):
    save_loadable(tmp_path / "other", *model_of("classes"))
    environment = os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules")}
    process = subprocess.run(
        [fresh.python(), "-c", STRANGER, str(folder), str(path), str(tmp_path / "other")], capture_output=True,
        text=True, timeout=240, env=environment, cwd=tmp_path,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr[-2000:]
    found = json.loads(process.stdout.splitlines()[-1])
    assert "there is no local file" in found.pop("error")
    assert sum(found.pop("other")["scores"].values()) == pytest.approx(1)
    expected = pipe(str(path), text="the movie was good", window_seconds=1.0)
    assert found["score"] == pytest.approx(expected["score"], abs=1e-5) and found.keys() == expected.keys()
    assert not (tmp_path / "oops").exists()


def test_the_folder_is_complete(folder):
    config = json.loads((folder / "config.json").read_text())
    assert config["custom_pipelines"]["multimodal-sentiment"]["impl"] == "pipeline_selfmm.MultimodalSentimentPipeline"
    code = {file.name for file in folder.glob("*.py")}
    assert {"pipeline_selfmm.py", "processing_selfmm.py", "picture_selfmm.py", "modeling_selfmm.py"} <= code
    assert type(AutoModel.from_pretrained(folder)) is SelfMMModel
