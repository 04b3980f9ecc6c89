"""When somebody speaks, when a picture moves, and what is kept of a clip."""

import numpy as np
import pytest

from selfmm_hf.data.synthetic.voice import synthesise_voice
from selfmm_hf.model import edges_selfmm
from selfmm_hf.model.edges_selfmm import EDGE_SECONDS, STEP_SECONDS, Movement, Track, kept, voice_activity

RATE = 16000
WORDS = ["the", "movie", "was", "a", "wonderful", "surprise", "from", "the", "first", "minute", "on"]


def seconds(length):
    return np.zeros(round(length * RATE), np.float32)


def noise(length, level, seed=1):
    """White, `level` dB of full scale."""
    return np.random.default_rng(seed).normal(0, 10 ** (level / 20), round(length * RATE)).astype(np.float32)


def hum(length, frequency, loudness=0.1):
    return (loudness * np.sin(2 * np.pi * frequency * np.arange(round(length * RATE)) / RATE)).astype(np.float32)


def click(length, at):
    sound = seconds(length)
    sound[round(at * RATE)] = 1.0
    return sound


def joined(*parts):
    return np.concatenate(parts).astype(np.float32)


def spoken(sound, silence_db=40.0):
    """From when to when somebody speaks, in seconds; `None` where nobody does."""
    where = np.flatnonzero(voice_activity(sound, RATE, silence_db))
    return (where[0] * STEP_SECONDS, (where[-1] + 1) * STEP_SECONDS) if len(where) else None


@pytest.fixture(scope="module", params=[0, 1, 2])
def speech(request):
    """A sentence, about as loud as -20 dB, from its first loud sound to its last."""
    soxr = pytest.importorskip("soxr")
    sound = synthesise_voice(np.random.default_rng(request.param), 0.0, WORDS).sound
    sound = soxr.resample(sound * (0.1 / np.sqrt(np.mean(sound**2))), 22050, RATE)
    begin, end = spoken(sound, silence_db=20.0)
    return sound[round(begin * RATE) : round(end * RATE)]


# When somebody speaks


TAILS = {
    "silence": seconds(2.0), "-60 dB": noise(2.0, -60), "-50 dB": noise(2.0, -50), "-40 dB": noise(2.0, -40),
    "hum": hum(2.0, 100), "short": seconds(0.5), "click": joined(seconds(1.0), click(1.0, 0.5)),
}  # fmt: skip


@pytest.mark.parametrize("tail", TAILS.values(), ids=TAILS)
def test_silence_and_noise_around_speech_are_no_voice(speech, tail):
    after, before = len(speech) / RATE, len(tail) / RATE
    assert spoken(joined(speech, tail)) == pytest.approx((0, after), abs=0.1)
    assert spoken(joined(tail, speech)) == pytest.approx((before, before + after), abs=0.1)


@pytest.mark.parametrize("level", [None, -60, -50])
def test_a_room_that_hums_throughout_is_no_voice(speech, level):
    whole = joined(seconds(1.0), speech, seconds(2.0))
    whole += hum(len(whole) / RATE, 50, 0.05)
    if level is not None:
        whole += noise(len(speech) / RATE + 3, level)[: len(whole)]
    assert spoken(whole) == pytest.approx((1, 1 + len(speech) / RATE), abs=0.1)


@pytest.mark.parametrize("level", [-60, -50, -40, -20])
@pytest.mark.parametrize("length", [1.0, 3.0])
def test_a_clip_of_noise_has_no_voice(level, length):
    assert spoken(noise(length, level)) is None


@pytest.mark.parametrize(
    "sound",
    [seconds(0), seconds(0.01), np.ones(1, np.float32), seconds(1), hum(2, 50), hum(2, 300), click(1, 0.5),
     click(0.5, 0.2), np.full(RATE, 0.5, np.float32), joined(seconds(0.4), noise(0.01, -20), seconds(0.4))],
    ids=["nothing", "10 ms of silence", "one sample", "silence", "hum", "tone", "click", "click in a short clip",
         "constant", "10 ms of noise"],
)  # fmt: skip
def test_what_is_no_voice(sound):
    activity = voice_activity(sound, RATE, 40.0)
    assert activity.shape == (-(-len(sound) // 320),) and not activity.any()


def test_how_loud_a_clip_is_does_not_matter(speech):
    whole = joined(speech, seconds(2.0))
    for factor in (0.3, 0.1, 0.03):
        assert spoken(whole * np.float32(factor)) == spoken(whole)


def test_a_pause_is_within_the_voice(speech):
    assert spoken(joined(speech, seconds(1.0), speech)) == pytest.approx((0, 2 * len(speech) / RATE + 1), abs=0.1)


def test_loudness_is_looked_at_in_pieces(monkeypatch, peak_memory):
    sound = noise(7.013, -30)
    whole = edges_selfmm._loudness(sound, RATE)
    for steps in (3, 70, 351):
        monkeypatch.setattr(edges_selfmm, "PIECE_STEPS", steps)
        np.testing.assert_array_equal(edges_selfmm._loudness(sound, RATE), whole)
    assert len(whole) == 351 and whole.dtype == np.float32
    monkeypatch.undo()
    short, long = (peak_memory(edges_selfmm._loudness, noise(length, -30), RATE) for length in (20, 80))
    assert (long - short) / 60 < 2e3  # bytes a second; the sound itself has 64 kB


def test_the_threshold_is_below_the_loudest():
    syllables = noise(2.0, -20) * (0.55 + 0.45 * np.sin(2 * np.pi * 3 * np.arange(2 * RATE) / RATE))
    whole = joined(syllables, seconds(1.0), 0.03 * syllables)  # 30 dB fainter
    assert spoken(whole, silence_db=20.0) == pytest.approx((0, 2), abs=0.1)
    assert spoken(whole, silence_db=50.0) == pytest.approx((0, 5), abs=0.1)


def test_short_clips(speech):
    """A word on its own is a voice, however short the clip."""
    middle = len(speech) // 2
    for length in (0.1, 0.3, 0.6):
        part = speech[middle : middle + round(length * RATE)]
        assert spoken(part) is not None and spoken(joined(part, seconds(0.2))) is not None


# What is kept


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [(0, 0, (0, 20)), (25, 25, (0, 70)), (26, 25, (16, 71)), (25, 26, (0, 55)), (300, 200, (290, 330))],
)
def test_long_edges_are_cut_to_a_margin(before, after, expected):
    rate = 100
    assert EDGE_SECONDS * rate == 25
    active = np.r_[
        np.zeros(before, bool), np.ones(5, bool), np.zeros(10, bool), np.ones(5, bool), np.zeros(after, bool)
    ]
    assert kept(active, rate, margin=0.1) == expected


def track(*runs, rate=10.0, margin=0.1, faces=None):
    """A track of runs of frames, those at odd places active; each frame is its number."""
    active = np.concatenate([np.full(run, bool(place % 2)) for place, run in enumerate(runs)])
    return Track(np.arange(len(active), dtype=np.float32)[:, None], rate, active, margin=margin, faces=faces)


def test_the_whole_and_its_parts():
    one = track(10, 20, 10)
    assert one.whole[:, 0].tolist() == list(range(9, 31))
    assert one.between(0.5, 1.5)[:, 0].tolist() == list(range(9, 15))
    assert len(one.between(0.0, 0.9)) == 0 and len(one.between(3.2, 4.0)) == 0
    assert track(10, 20, 10, margin=None).whole.shape == (40, 1)


@pytest.mark.parametrize(
    ("runs", "kept_frames"),
    [
        ((100, 3, 100), 0),
        ((100, 8, 100), 0),
        ((100, 10, 100), 30),
        ((0, 6), 6),
        ((5, 6), 11),
        ((8, 5), 0),
        ((0, 2, 1), 3),
    ],
)
def test_a_moment_is_no_voice_but_in_a_clip_that_is_one(runs, kept_frames):
    """Frames of 10 ms: a tenth of a second, or half of the clip."""
    assert len(track(*runs, rate=100.0).whole) == kept_frames


def test_a_moment_of_a_track_is_the_frame_that_is_there():
    one = track(100, 100, rate=100.0)
    assert one.between(1.5, 1.5).tolist() == [[150]] and len(one.between(0.5, 0.5)) == 0


def test_too_few_faces_are_none():
    faces = np.arange(20) < 3
    assert len(track(0, 3, 17, faces=faces).whole) == 0 and track(0, 3, 17, faces=faces).face_share() == 0.15
    faces = np.arange(20) < 4
    assert len(track(0, 4, 16, faces=faces).whole) == 5


# When a picture moves


def pictures(*runs):
    """Frames of runs of (what, how many): `moves`, `still`, or a level of grey; with a little noise."""
    random, frames, shown = np.random.default_rng(0), [], random_picture(0)
    for what, count in runs:
        for _ in range(count):
            if what == "moves":
                shown = random_picture(len(frames) + 1)
            elif what != "still":
                shown = np.full((48, 64, 3), what, np.uint8)
            frames.append((shown + random.integers(0, 3, shown.shape)).astype(np.uint8))
    return frames


def random_picture(seed):
    """A grey picture with a lighter patch somewhere."""
    picture = np.full((48, 64, 3), 90, np.uint8)
    y, x = np.random.default_rng(seed).integers(0, [36, 52])
    picture[y : y + 12, x : x + 12] = 190
    return picture


def moving(frames):
    movement = Movement()
    for frame in frames:
        movement.see(frame)
    return movement.moving(3.0)


def first_and_last(active):
    where = np.flatnonzero(active)
    assert active[where[0] : where[-1] + 1].all(), "what moves is one stretch"
    return int(where[0]), int(where[-1])


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([("moves", 20)], (0, 19)),
        ([("moves", 20), ("still", 20)], (0, 19)),
        ([("still", 10), ("moves", 20)], (9, 29)),
        ([("still", 10), ("moves", 20), ("still", 15)], (9, 29)),
        ([("moves", 20), ("still", 10), ("moves", 10)], (0, 39)),  # a pause is no edge
        ([("moves", 20), (0, 20)], (0, 20)),  # black, which is no face
        ([("moves", 20), ("still", 10), (0, 10)], (0, 19)),
        ([("moves", 20), ("still", 10), (0, 10), (60, 10)], (0, 19)),
        ([(0, 10), ("still", 10), ("moves", 20)], (19, 39)),
        ([("still", 20), (0, 10)], (0, 29)),  # nothing moves
        ([("still", 10), (0, 10), ("still", 1), (60, 10)], (0, 30)),
        ([("still", 20)], (0, 19)),
        ([(0, 1)], (0, 0)),
    ],
)
def test_edges_that_stand_still_do_not_move(runs, expected):
    assert first_and_last(moving(pictures(*runs))) == expected


def test_a_slow_picture_moves_all_the_time():
    """One new picture in three frames, or in ten: never still, or nothing but cuts."""
    for held in (3, 10):
        frames = [frame for frame in pictures(("moves", 10)) for _ in range(held)]
        assert moving(frames)[held - 1 : len(frames) - held + 1].all()


def test_missing_pictures_and_those_of_another_size():
    small = random_picture(0)[:16, :16]
    assert first_and_last(moving([None, *pictures(("moves", 5)), None, None, None])) == (0, 5)
    assert moving([small, *pictures(("still", 3))]).all()
    assert len(moving([])) == 0
