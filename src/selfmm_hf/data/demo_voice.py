"""
Sound for the embedded corpus: a small source-filter synthesiser that babbles words in a voice that shows a sentiment.

Pulses of the vocal folds and noise (the source) pass formants, the colour of a constriction and a microphone (the
filter), which change with the letters. All filters act on overlapping windows of the spectrum, so nothing clicks.

What is pleased and what is not follows the findings on happiness as against sadness and boredom in Banse and Scherer
(1996), "Acoustic profiles in vocal emotion expression", Juslin and Laukka (2003), "Communication of emotions in vocal
expression and music performance", and Scherer (2003), "Vocal communication of emotion": pleased voices are higher,
their pitch and loudness move more and rise, they are faster, with fewer and shorter pauses, and have more energy at
high frequencies; sad and bored ones are the reverse, with rougher pulses. Smiling shortens the vocal tract and so
raises its formants (Tartter, 1980). Anger, displeased but as loud and bright as joy, is left out: voices here are
monotone in the sentiment.
"""

import re
from typing import NamedTuple

import numpy as np

SAMPLING_RATE = 22050
OPENNESS_RATE = 10
# Samples from one frame of the controls to the next; windows are twice, spectra four times as long.
HOP = 256
FRAME_RATE = SAMPLING_RATE / HOP
FREQUENCIES = np.fft.rfftfreq(4 * HOP, 1 / SAMPLING_RATE).astype(np.float32)

# Milliseconds, levels of voice, breath and hiss, where the hiss is, and three formants, Hz. Vowels are those of men in
# Peterson and Barney (1952), "Control methods used in a study of the vowels"; the rest are usual textbook values.
PHONES = {
    "a": (95, 1.0, 0.0, 0.0, 0, 660, 1720, 2410),
    "e": (85, 1.0, 0.0, 0.0, 0, 530, 1840, 2480),
    "i": (80, 1.0, 0.0, 0.0, 0, 390, 1990, 2550),
    "o": (95, 1.0, 0.0, 0.0, 0, 730, 1090, 2440),
    "u": (85, 1.0, 0.0, 0.0, 0, 640, 1190, 2390),
    "ee": (105, 1.0, 0.0, 0.0, 0, 270, 2290, 3010),
    "oo": (105, 1.0, 0.0, 0.0, 0, 300, 870, 2240),
    "w": (55, 0.6, 0.0, 0.0, 0, 300, 700, 2200),
    "y": (55, 0.7, 0.0, 0.0, 0, 280, 2200, 2900),
    "l": (50, 0.7, 0.0, 0.0, 0, 360, 1000, 2700),
    "r": (50, 0.7, 0.0, 0.0, 0, 400, 1250, 1650),
    "m": (60, 0.5, 0.0, 0.0, 0, 250, 1000, 2200),
    "n": (55, 0.5, 0.0, 0.0, 0, 250, 1600, 2600),
    "ng": (60, 0.5, 0.0, 0.0, 0, 250, 2000, 2700),
    "h": (50, 0.0, 0.3, 0.0, 0, 500, 1500, 2500),
    "f": (75, 0.0, 0.0, 0.3, 5000, 250, 1100, 2300),
    "v": (50, 0.4, 0.0, 0.15, 5000, 250, 1100, 2300),
    "th": (55, 0.3, 0.0, 0.15, 6000, 280, 1400, 2600),
    "s": (85, 0.0, 0.0, 1.0, 6500, 280, 1700, 2600),
    "z": (60, 0.4, 0.0, 0.6, 6000, 280, 1700, 2600),
    "sh": (85, 0.0, 0.0, 1.2, 3200, 280, 1900, 2500),
    "b": (15, 0.4, 0.0, 0.3, 900, 250, 900, 2300),
    "d": (15, 0.4, 0.0, 0.5, 3800, 250, 1700, 2600),
    "g": (20, 0.4, 0.0, 0.5, 2000, 250, 2000, 2500),
    "j": (45, 0.3, 0.0, 0.8, 3000, 250, 1900, 2500),
    "p": (25, 0.0, 0.2, 0.6, 900, 250, 900, 2300),
    "t": (30, 0.0, 0.2, 1.0, 4000, 250, 1700, 2600),
    "k": (30, 0.0, 0.2, 0.9, 2000, 250, 2000, 2500),
    "ch": (60, 0.0, 0.1, 1.2, 3400, 250, 1900, 2500),
}  # fmt: skip
# Before the release of a stop the mouth is shut; voiced ones hum meanwhile.
CLOSURES = {**dict.fromkeys("bdgj", (45, 0.1)), **dict.fromkeys(["p", "t", "k", "ch"], (50, 0.0))}
RESPELLED = {
    "(.)\\1": "\\1\\1",
    "ph": "f",
    "c(?=[eiy])": "s",
    "c(?!h)|q": "k",
    "x": "ks",
    "ea": "ee",
    "(?<=[^aeiou])e$": "",
}
CLOSED, OPEN = 250, 700  # the first formant of a mouth that is shut, Hz, and of one wide open


class Voice(NamedTuple):
    """
    Args:
        sound (`np.ndarray`): (samples,) float32, mono, 22050 Hz, within (-1, 1).
        openness (`np.ndarray`):
            (frames,) float32, 10 a second: how open the mouth is, from 0 (pauses, closed consonants) to 1 (open vowels),
            in the middle of each tenth of a second of the sound, of which the last may be incomplete.
    """

    sound: np.ndarray
    openness: np.ndarray


def synthesise_voice(random: np.random.Generator, sentiment: float, words: list[str]) -> Voice:
    if not -3 <= sentiment <= 3:
        raise ValueError(f"sentiment is {sentiment}, expected -3 to 3")

    def shown(strength: float) -> float:
        """What of the sentiment this speaker shows in one respect."""
        return strength * (sentiment / 3 + random.normal(0, SPREAD))

    spelled = [phones for word in words if (phones := _phones(word))] or [_phones("um")]
    pace = 2 ** (random.normal(0, 0.12) - shown(0.25)) * (10 / len(spelled)) ** 0.35
    rows, seconds, bumps = _segments(random, spelled, pace, 2 ** -shown(0.8))
    frames = int(seconds.sum() * FRAME_RATE) + 1
    time = np.arange(frames) / FRAME_RATE
    controls = rows[np.searchsorted(np.cumsum(seconds), time).clip(max=len(rows) - 1)]
    voice, breath, hiss = (_smooth(column, 3) for column in controls[:, :3].T)
    hiss_at, first, second, third = (_smooth(column, 5) for column in controls[:, 3:].T)

    accent = np.interp(time, *bumps)
    course = time / time[-1] - 0.5
    liveliness = 2 ** shown(1.0)
    effort = (shown(12) - 2) * course + 5 * liveliness * (accent - 0.7)  # dB
    size = random.uniform()  # of the speaker, from the largest, mostly men, to the smallest
    semitones = shown(4.5) + random.normal(0, 1) + (shown(4) - 2) * course + 4 * liveliness * accent
    semitones += _smooth(random.normal(0, 1, frames), 9)
    pulses = _pulses(random, 95 * 2 ** (1.0 * size + semitones / 12), max(0.001, 0.006 - shown(0.004)))
    noise = random.normal(size=len(pulses))

    octaves = np.log2(np.maximum(FREQUENCIES, 50) / 500)
    slope = -7 + shown(3.5) + random.normal(0, 0.6) + 0.15 * effort  # dB per octave
    tract = 2 ** (0.25 * size + shown(0.05) + random.normal(0, 0.03))
    throat = np.exp(np.log(10) / 20 * (np.multiply.outer(slope, octaves) + effort[:, None])).astype(np.float32)
    throat = throat * _tube(tract)
    for neutral, formant, width in ((500, first, 80), (1500, second, 110), (2500, third, 170)):
        throat = throat * _formant(formant[:, None] * tract, width) / _formant(neutral * tract, width)
    constriction = hiss[:, None] / (1 + ((FREQUENCIES - hiss_at[:, None]) / (0.35 * hiss_at[:, None] + 300)) ** 2)
    breathiness = 0.08 * 2 ** (random.normal(0, 0.7) - shown(1.5))
    spectrum = throat * (voice[:, None] * _spectra(pulses) + (breath + breathiness * voice)[:, None] * _spectra(noise))
    spectrum += 1.5 * constriction * _spectra(noise) * 10 ** (effort[:, None] / 20)

    room = 10 ** (random.uniform(-9, 0) * octaves / 20) * _spectra(random.normal(size=len(pulses)))
    below = 10 ** (-random.uniform(15, 65) / 20)
    spectrum += room * below * np.sqrt(np.mean(abs(spectrum) ** 2) / np.mean(abs(room) ** 2))
    sound = _recorded(random, _overlapped(spectrum))
    sound *= min(0.01 * 20 ** random.uniform() / np.sqrt(np.mean(sound**2)), 0.98 / abs(sound).max())

    middles = (np.arange(max(1, round(len(sound) / SAMPLING_RATE * OPENNESS_RATE))) + 0.5) / OPENNESS_RATE
    openness = np.interp(middles, time, ((first - CLOSED) / (OPEN - CLOSED)).clip(0, 1))
    return Voice(sound.astype(np.float32), openness.astype(np.float32))


def _phones(word: str) -> list[str]:
    letters = "".join(c if "a" <= c <= "z" else chr(97 + ord(c) % 26) for c in word.lower() if c.isalnum())
    for pattern, sounds in RESPELLED.items():
        letters = re.sub(pattern, sounds, letters)
    return re.findall("ee|oo|sh|ch|th|ng|[a-z]", letters)


def _segments(random, spelled, pace, hesitation):
    silence = (0.0, 0.0, 0.0, 5000, CLOSED, 1500, 2500)
    rows, seconds, times, heights = [silence], [random.uniform(0.08, 0.2)], [], []
    for number, phones in enumerate(spelled):
        if number and random.random() < 0.16 * hesitation:
            rows.append(silence)
            seconds.append(0.16 * hesitation * random.uniform(0.5, 1.5))
        begin = sum(seconds)
        for phone in phones:
            milliseconds, *row = PHONES[phone]
            if phone in CLOSURES:
                closed, hum = CLOSURES[phone]
                rows.append((hum, 0.0, 0.0, *row[3:]))
                seconds.append(closed / 1000 * pace * 0.8)
            rows.append(row)
            seconds.append(milliseconds / 1000 * pace * 0.8 * random.lognormal(0, 0.15))
        end = sum(seconds)
        times += [begin, (begin + end) / 2, end]
        heights += [0.2, random.uniform(0.6, 1.4) if len(phones) > 3 else random.uniform(0.2, 0.8), 0.2]
    rows.append(silence)
    seconds.append(random.uniform(0.08, 0.2))
    return np.array(rows, np.float32), np.array(seconds), (times, heights)


def _smooth(values, width):
    window = np.hanning(width + 2)[1:-1]
    padded = np.pad(values, width // 2, mode="edge")
    return np.convolve(padded, window / window.sum(), mode="valid").astype(np.float32)


def _pulses(random, pitch, roughness):
    samples = len(pitch) * HOP
    phase = np.cumsum(np.interp(np.arange(samples) / HOP, np.arange(len(pitch)), pitch)) / SAMPLING_RATE
    at = np.interp(np.arange(1, int(phase[-1])), phase, np.arange(samples))
    period = SAMPLING_RATE / np.interp(at / HOP, np.arange(len(pitch)), pitch)
    at = (at + roughness * period * random.normal(size=len(at))).clip(0, samples - 2)
    heights = np.sqrt(period) * (1 + 3 * roughness * random.normal(size=len(at)))
    whole = at.astype(int)
    pulses = np.bincount(whole, heights * (1 - at + whole), samples)
    return pulses + np.bincount(whole + 1, heights * (at - whole), samples)


def _formant(at, width):
    return (1 / (1 - (FREQUENCIES / at) ** 2 + 1j * (FREQUENCIES * width / at**2))).astype(np.complex64)


def _tube(scale):
    return (1 / np.cos(np.pi / (1000 * scale) * (FREQUENCIES + 1j * (50 + 0.02 * FREQUENCIES)))).astype(np.complex64)


def _spectra(samples):
    padded = np.pad(samples.astype(np.float32), HOP)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * HOP)[::HOP][: len(samples) // HOP]
    return np.fft.rfft(windows * np.hanning(2 * HOP + 1)[:-1].astype(np.float32), 4 * HOP)


def _overlapped(spectra):
    pieces = np.fft.irfft(spectra).reshape(len(spectra), 4, HOP)
    sound = np.zeros((len(spectra) + 3, HOP))
    for part in range(4):
        sound[part : part + len(spectra)] += pieces[:, part]
    return sound[1:-2].reshape(-1)


def _recorded(random, sound):
    """What a microphone makes of it: a band and a response of its own."""
    size = len(sound) + 8 * HOP  # behind the end, so that nothing comes round to the beginning
    frequencies = np.fft.rfftfreq(size, 1 / SAMPLING_RATE)
    along = np.log2(frequencies.clip(60) / 60) / np.log2(SAMPLING_RATE / 120)
    decibels = sum(random.normal(0, 1.6) * np.cos(np.pi * wave * along) for wave in range(1, 6))
    low, high = random.uniform(40, 150), 3400 * 4 ** random.uniform()
    band = frequencies**2 / (frequencies**2 + low**2) / np.sqrt(1 + (frequencies / high) ** 10)
    return np.fft.irfft(np.fft.rfft(sound, size) * 10 ** (decibels / 20) * band)[: len(sound)]


SPREAD = 0.3
