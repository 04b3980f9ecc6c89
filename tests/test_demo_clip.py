import numpy as np
import pytest

pytest.importorskip("av")
pytest.importorskip("soxr")

import av

from selfmm_hf.data.synthetic import clip as clip_module
from selfmm_hf.data.synthetic.clip import write_clip
from selfmm_hf.data.synthetic.face import face_motion
from selfmm_hf.data.synthetic.face_drawing import draw_face
from selfmm_hf.model.decoding_selfmm import clip_facts, decode_audio, decode_video

RATE = 22050


@pytest.fixture(scope="module")
def sound():
    """Two seconds of gliding harmonics in syllables."""
    time = np.arange(2 * RATE) / RATE
    phase = 2 * np.pi * (140 * time + 8 * np.sin(2 * np.pi * 0.7 * time))
    tones = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 20))
    return (0.15 * tones * (0.55 + 0.45 * np.sin(2 * np.pi * 3 * time))).astype(np.float32)


@pytest.fixture(scope="module")
def pictures():
    openness = 0.5 + 0.5 * np.sin(np.arange(20))
    faces = face_motion(np.random.default_rng(1), 2.0, openness)
    return [draw_face(face) for face in faces if face is not None]


@pytest.fixture(scope="module")
def clip(sound, pictures, tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_clip(path, sound, iter(pictures))
    return path


def test_sound_and_pictures_come_back(clip, sound, pictures):
    heard = decode_audio(clip, RATE)
    assert len(heard) == pytest.approx(len(sound), abs=2048)
    assert np.corrcoef(heard[: len(sound)], sound[: len(heard)])[0, 1] > 0.95  # also in time
    seen = list(decode_video(clip, 10.0))
    assert len(seen) == len(pictures)
    for found, expected in zip(seen, pictures, strict=True):
        assert np.abs(found.astype(float) - expected).mean() < 6
    moved = np.abs(pictures[3].astype(float) - pictures[4]).mean()
    assert np.abs(seen[4].astype(float) - pictures[4]).mean() < moved  # each in its place


def test_what_browsers_need(clip, pictures):
    with av.open(str(clip)) as container:
        (video,), (audio,) = container.streams.video, container.streams.audio
        assert (video.codec_context.name, video.pix_fmt, audio.codec_context.name) == ("h264", "yuv420p", "aac")
    content = clip.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # it begins before all of it is there
    assert len(content) < 40_000
    facts = clip_facts(clip)
    assert (facts.width, facts.height, facts.frame_rate, facts.sampling_rate) == (256, 256, 10, RATE)
    assert facts.duration == pytest.approx(max(2.0, len(pictures) / 10), abs=0.1)


def test_the_same_again_is_the_same_file(clip, sound, pictures, tmp_path):
    path = tmp_path / "again.mp4"
    path.write_bytes(b"something old")
    write_clip(str(path), sound, pictures)
    assert path.read_bytes() == clip.read_bytes()


@pytest.mark.parametrize("rate, frame_rate, size", [(16000, 25.0, (64, 48)), (44100, 29.97, (90, 160))])
def test_other_rates_and_sizes(rate, frame_rate, size, tmp_path):
    greys = [np.full((*size, 3), 20 + 10 * number, np.uint8) for number in range(20)]
    path = tmp_path / "clip.mp4"
    write_clip(path, np.zeros(rate // 2, np.float32), greys, rate, frame_rate)
    facts = clip_facts(path)
    assert (facts.height, facts.width, facts.sampling_rate) == (*size, rate)
    assert facts.frame_rate == pytest.approx(frame_rate, rel=1e-3)
    found = [frame.mean() for frame in decode_video(path, frame_rate)]
    np.testing.assert_allclose(found, [grey.mean() for grey in greys], atol=4)


@pytest.mark.parametrize(
    "sound, pictures, message",
    [
        (np.zeros((2, 100)), [np.zeros((4, 4, 3), np.uint8)], r"sound has the shape \(2, 100\)"),
        (np.zeros(0), [np.zeros((4, 4, 3), np.uint8)], r"sound has the shape \(0,\)"),
        (np.zeros(100), [], "no pictures"),
        (np.zeros(100), [np.zeros((5, 4, 3), np.uint8)], "even"),
        (np.zeros(100), [np.zeros((4, 4), np.uint8)], r"\(height, width, 3\)"),
        (np.zeros(100), [np.zeros((4, 4, 3))], "uint8"),
        (np.zeros(100), [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 6, 3), np.uint8)], "alike"),
    ],
)
def test_what_is_refused(sound, pictures, message, tmp_path):
    path = tmp_path / "clip.mp4"
    with pytest.raises(ValueError, match=message):
        write_clip(path, sound, pictures)
    assert not path.exists()


def test_without_pyav(monkeypatch, tmp_path):
    monkeypatch.setattr(clip_module, "av", None)
    with pytest.raises(ImportError, match="pip install 'av>="):
        write_clip(tmp_path / "clip.mp4", np.zeros(10), [np.zeros((4, 4, 3), np.uint8)])
