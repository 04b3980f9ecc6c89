from functools import cache

import numpy as np
import pytest

from selfmm_hf.data.synthetic.voice import HOP, PHONES, SAMPLING_RATE, _overlapped, _phones, _spectra, synthesise_voice
from selfmm_hf.model.audio_features_selfmm import librosa33
from selfmm_hf.model.decoding_selfmm import decode_audio

WORDS = [
    "honestly", "the", "whole", "plot", "was", "long", "and", "the", "first", "half", "of", "that", "old", "film",
    "felt", "typical",
]  # fmt: skip
SEEDS = range(24)


def voice(seed=0, sentiment=0.0, words=WORDS):
    return synthesise_voice(np.random.default_rng(seed), sentiment, words)


def levels(sound):
    """Of each 1/43 s, in dB."""
    frames = sound[: len(sound) // 512 * 512].reshape(-1, 512)
    return 20 * np.log10(np.sqrt((frames**2).mean(1)) + 1e-6)


def semitones(sound):
    """Pitch by autocorrelation, where the sound is periodic."""
    frames = np.lib.stride_tricks.sliding_window_view(sound, 1024)[::512] * np.hanning(1024)
    powers = abs(np.fft.rfft(frames, 2048)) ** 2
    powers[:, 1200 * 2048 // SAMPLING_RATE :] = 0
    correlations = np.fft.irfft(powers)[:, :512] / np.fft.irfft(abs(np.fft.rfft(np.hanning(1024), 2048)) ** 2)[:512]
    shortest, longest = SAMPLING_RATE // 500, SAMPLING_RATE // 60
    lags = correlations[:, shortest:longest]
    periodic = lags.max(1) > 0.8 * correlations[:, 0]
    pitch = -12 * np.log2(lags.argmax(1)[periodic] + shortest)
    return pitch[abs(pitch - np.median(pitch)) < 8]  # the rest are octaves mistaken


def measures(sentiment, seed):
    sound = voice(seed, sentiment).sound
    level = levels(sound)
    loud = level > np.percentile(level, 50)
    course = np.linspace(-0.5, 0.5, len(level))
    silent = "".join("s" if quiet else " " for quiet in level < np.percentile(level, 90) - 18).strip("s").split()
    powers = (abs(np.fft.rfft(sound[: len(level) * 512].reshape(-1, 512))) ** 2)[loud].mean(0)
    pitch = semitones(sound)
    return {
        "pitch": np.median(pitch),
        "pitch range": np.subtract(*np.percentile(pitch, [80, 20])),
        "rate": len(WORDS) / len(sound),
        "brightness": np.log(powers[23:70].sum() / powers[3:23].sum()),  # 1 to 3 kHz against what is below
        "rise": np.polyfit(course[loud], level[loud], 1)[0],
        "longest pause": -max(map(len, silent), default=0),
    }


@cache
def measured():
    """By measure, (sentiments, seeds)."""
    table = [[measures(sentiment, seed) for seed in SEEDS] for sentiment in (-3, 0, 3)]
    return {name: np.array([[cell[name] for cell in row] for row in table]) for name in table[0][0]}


@pytest.mark.parametrize("measure", ["pitch", "pitch range", "rate", "brightness", "rise", "longest pause"])
def test_the_pleased_sound_pleased(measure):
    """Every measure grows with the sentiment, on average well beyond chance, and not in every single speaker."""
    displeased, neutral, pleased = measured()[measure]
    for lower, higher in ((displeased, neutral), (neutral, pleased)):
        difference = higher - lower
        assert difference.mean() > 3 * difference.std() / np.sqrt(len(SEEDS))


def test_speakers_overlap():
    """No single measure tells for sure: some neutral speakers exceed some pleased ones."""
    for name, (_, neutral, pleased) in measured().items():
        assert neutral.max() > pleased.min(), name


@pytest.mark.parametrize("sentiment", [-3, -0.7, 0, 3])
def test_sound_and_openness(sentiment):
    levels_seen = []
    for seed in SEEDS:
        sound, openness = voice(seed, sentiment)
        assert sound.dtype == openness.dtype == np.float32 and sound.ndim == openness.ndim == 1
        assert np.isfinite(sound).all() and abs(sound).max() < 1
        assert 2 < len(sound) / SAMPLING_RATE < 8
        assert len(openness) == round(len(sound) / SAMPLING_RATE * 10)
        assert openness.min() == 0 and 0.7 < openness.max() <= 1
        rms = np.sqrt(np.mean(sound**2))
        levels_seen.append(rms)
        ends = np.concatenate([sound[:500], sound[-500:]])  # nobody speaks yet, or any more
        assert np.sqrt(np.mean(ends**2)) < 0.5 * rms
    assert 0.005 < min(levels_seen) < 0.02 and 0.06 < max(levels_seen) < 0.21


def test_durations():
    random = np.random.default_rng(0)
    for count, shortest, longest in ((5, 1.5, 2.7), (12, 2.4, 3.6), (20, 3, 4.6)):
        seconds = [
            len(synthesise_voice(random, 0, list(random.choice(WORDS, count))).sound) / SAMPLING_RATE for _ in range(20)
        ]
        assert shortest < np.mean(seconds) < longest
        assert min(seconds) > 1 and max(seconds) < 7


def test_the_mouth_opens_with_the_voice():
    agreements = []
    for seed in SEEDS:
        sound, openness = voice(seed)
        middles = np.minimum((np.arange(len(openness)) + 0.5) * SAMPLING_RATE / 10, len(sound) - 512).astype(int)
        level = np.concatenate([levels(sound[middle - 256 : middle + 256]) for middle in middles])
        agreements.append(np.corrcoef(openness, level)[0, 1])
    assert np.mean(agreements) > 0.4


def test_open_and_closed_sounds():
    for closed, opened in (("mmm", "aaa"), ("soon", "pot")):
        assert voice(words=[closed] * 10).openness.mean() < 0.5 * voice(words=[opened] * 10).openness.mean()


def test_the_same_state_gives_the_same_voice():
    one, again, other = voice(3), voice(3), voice(4)
    assert np.array_equal(one.sound, again.sound) and np.array_equal(one.openness, again.openness)
    assert not np.array_equal(one.sound[:10000], other.sound[:10000])
    assert not np.array_equal(one.sound[:10000], voice(3, words=WORDS[::-1]).sound[:10000])


@pytest.mark.parametrize(
    "words",
    [
        [], ["..."], ["", "'"], ["a"], ["k"], ["pst"], ["don't", "42", "1st"], ["naïve", "Straße", "映画", "🙂"],
        ["İ", "ﬁ", "x" * 40], ["HELLO"], ["a b", "well-known"], WORDS * 20,
    ],
    ids=lambda words: " ".join(words)[:20],
)  # fmt: skip
def test_any_words(words):
    for sentiment in (-3, 3):
        sound, openness = voice(words=words, sentiment=sentiment)
        assert np.isfinite(sound).all() and abs(sound).max() < 1 and sound.std() > 0.003
        assert len(sound) > 0.2 * SAMPLING_RATE and len(openness) >= 2
        assert openness.min() >= 0 and openness.max() <= 1


def test_any_letter_has_a_sound():
    random = np.random.default_rng(0)
    for _ in range(2000):
        word = "".join(map(chr, random.integers(32, 0x500, random.integers(1, 8))))
        assert set(_phones(word)) <= PHONES.keys()
        assert bool(_phones(word)) == any(character.isalnum() for character in word.lower())


def test_spelling():
    expected = {
        "theater": "th ee t e r", "scene": "s e n", "perfect": "p e r f e k t", "the": "th e", "acting": "a k t i ng",
        "funny": "f u n y", "cheese": "ch ee s", "queue": "k u e u e", "Photo": "f o t o", "good": "g oo d",
    }  # fmt: skip
    assert {word: " ".join(_phones(word)) for word in expected} == expected


@pytest.mark.parametrize("sentiment", [-3.1, 4, float("nan")])
def test_a_sentiment_out_of_range(sentiment):
    with pytest.raises(ValueError, match=r"expected a number in \[-3, 3\]"):
        voice(sentiment=sentiment)


def test_windows_add_up_to_the_sound():
    sound = np.random.default_rng(0).normal(size=40 * HOP)
    np.testing.assert_allclose(_overlapped(_spectra(sound))[: -2 * HOP], sound[: -2 * HOP], atol=1e-5)


def test_real_recordings_are_not_foreign_to_it(shared):
    random = np.random.default_rng(0)
    frames = np.concatenate([librosa33(voice(seed, random.uniform(-3, 3)).sound) for seed in range(15)])
    for clip in ("jfk.flac", "obama_speech.mp4"):
        sound = decode_audio(shared / "data" / "clips" / clip, SAMPLING_RATE)
        real = librosa33(sound[: 4 * SAMPLING_RATE])
        deviations = (real - frames.mean(0)) / frames.std(0)
        assert np.mean(abs(deviations) > 4) < 0.05
        assert abs(deviations.mean(0)).max() < 2.5
