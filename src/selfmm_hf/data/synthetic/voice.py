"""
The voice of the synthetic corpus: a small source-filter synthesiser babbles words as a pleased or displeased speaker.

Pulses of the vocal folds and noise (the source) pass through the resonances of a vocal tract (the filter), which moves
as the letters say. It filters overlapping windows in the frequency domain, so nothing clicks.

The sentiment follows what Banse and Scherer (1996, Acoustic profiles in vocal emotion expression), Scherer (2003,
Vocal communication of emotion) and Juslin and Laukka (2003, Communication of emotions in vocal expression and music
performance) report of joy, in contrast to sadness and boredom. Pleased voices are higher and faster, with more movement
in pitch and loudness, rising contours, fewer and shorter pauses, more energy at high frequencies and smoother pulses.
Breath is a sign of sadness (Gobl and Ni Chasaide, 2003, The role of voice quality in communicating emotion, mood and
attitude), higher formants are a sign of a smile (Tartter, 1980, Happy talk). Hot anger, as loud and bright as joy, is
left out: the voice is monotone in the sentiment.
"""

import re
from typing import NamedTuple

import numpy as np

SAMPLING_RATE = 22050
OPENNESS_RATE = 10
# Samples from one position of the vocal tract to the next. Windows are twice as long, spectra four times.
HOP = 256
FRAME_RATE = SAMPLING_RATE / HOP
FREQUENCIES = np.fft.rfftfreq(4 * HOP, 1 / SAMPLING_RATE).astype(np.float32)

# Standard deviation of each cue between speakers, in units of the effect of a sentiment of 3.
SPREAD = 0.2

# Milliseconds; loudness of the voice, of breath and of a hiss; the hiss's frequency and the first three formants, Hz.
# Vowels are those of men in Peterson and Barney (1952), Control methods used in a study of the vowels.
PHONES = {
    "a": (95, 1.0, 0.0, 0.0, 5000, 660, 1720, 2410),
    "e": (85, 1.0, 0.0, 0.0, 5000, 530, 1840, 2480),
    "i": (80, 1.0, 0.0, 0.0, 5000, 390, 1990, 2550),
    "o": (95, 1.0, 0.0, 0.0, 5000, 730, 1090, 2440),
    "u": (85, 1.0, 0.0, 0.0, 5000, 640, 1190, 2390),
    "ee": (105, 1.0, 0.0, 0.0, 5000, 270, 2290, 3010),
    "oo": (105, 1.0, 0.0, 0.0, 5000, 300, 870, 2240),
    "w": (55, 0.6, 0.0, 0.0, 5000, 300, 700, 2200),
    "y": (55, 0.7, 0.0, 0.0, 5000, 280, 2200, 2900),
    "l": (50, 0.7, 0.0, 0.0, 5000, 360, 1000, 2700),
    "r": (50, 0.7, 0.0, 0.0, 5000, 400, 1250, 1650),
    "m": (60, 0.5, 0.0, 0.0, 5000, 250, 1000, 2200),
    "n": (55, 0.5, 0.0, 0.0, 5000, 250, 1600, 2600),
    "ng": (60, 0.5, 0.0, 0.0, 5000, 250, 2000, 2700),
    "h": (50, 0.0, 0.3, 0.0, 5000, 500, 1500, 2500),
    "f": (75, 0.0, 0.0, 0.4, 5000, 250, 1100, 2300),
    "v": (50, 0.4, 0.0, 0.2, 5000, 250, 1100, 2300),
    "th": (55, 0.3, 0.0, 0.2, 6000, 280, 1400, 2600),
    "s": (85, 0.0, 0.0, 1.5, 6500, 280, 1700, 2600),
    "z": (60, 0.4, 0.0, 0.9, 6000, 280, 1700, 2600),
    "sh": (85, 0.0, 0.0, 1.8, 3200, 280, 1900, 2500),
    "b": (15, 0.4, 0.0, 0.4, 900, 250, 900, 2300),
    "d": (15, 0.4, 0.0, 0.8, 3800, 250, 1700, 2600),
    "g": (20, 0.4, 0.0, 0.8, 2000, 250, 2000, 2500),
    "j": (45, 0.3, 0.0, 1.2, 3000, 250, 1900, 2500),
    "p": (25, 0.0, 0.2, 0.9, 900, 250, 900, 2300),
    "t": (30, 0.0, 0.2, 1.5, 4000, 250, 1700, 2600),
    "k": (30, 0.0, 0.2, 1.4, 2000, 250, 2000, 2500),
    "ch": (60, 0.0, 0.1, 1.8, 3400, 250, 1900, 2500),
}
SILENCE = (0.0, 0.0, 0.0, 5000, 250, 1500, 2500)
# How many milliseconds a stop is shut at first, and how loud voiced ones hum meanwhile.
CLOSURES = {**dict.fromkeys("bdgj", (45, 0.1)), **dict.fromkeys(["p", "t", "k", "ch"], (50, 0.0))}
# From spelling to sound, roughly.
RESPELLINGS = {
    "ph": "f",
    "c(?=[eiy])": "s",
    "c(?!h)|q": "k",
    "x": "ks",
    "ea": "ee",
    "(?<=[aeiou][^aeiou])e$": "",
    r"([^eo])\1+": r"\1",
}
SHUT, OPEN = 250, 700  # the first formant of a closed and of a wide open mouth, Hz


class Voice(NamedTuple):
    """
    A synthesised voice.

    Args:
        sound (`np.ndarray`): (samples,) float32, mono, 22050 Hz, within (-1, 1).
        openness (`np.ndarray`):
            (frames,) float32, 10 per second, `frames = round(10 * seconds)`: how far the mouth is open in the middle of
            each tenth of a second, from 0 (pauses, closed consonants) to 1 (the most open vowels).
    """

    sound: np.ndarray
    openness: np.ndarray


def synthesise_voice(random: np.random.Generator, sentiment: float, words: list[str]) -> Voice:
    """
    Babbles the words as a speaker drawn at random, who shows the sentiment in each respect more or less.

    Pitch, size of the vocal tract, pace, breath, room, microphone and recording level are each speaker's own, as varied
    as in real recordings: RMS of 0.01 to 0.2, noise 20 to 65 dB below, a band that ends anywhere from 4 kHz on. A high
    or bright voice may thus be a small speaker or a good microphone.

    Args:
        random (`np.random.Generator`): The same state gives the same voice.
        sentiment (`float`): In [-3, 3].
        words (`list[str]`): Any; those without letters and digits are left out, and if nothing remains, it says "um".

    Returns:
        [`Voice`], about 3 s for 12 words; the more words, the faster.

    Raises:
        ValueError: A sentiment out of range.
    """
    if not -3 <= sentiment <= 3:
        raise ValueError(f"sentiment is {sentiment}, expected a number in [-3, 3]")

    def shown(strength: float) -> float:
        """Returns the effect of the sentiment in one respect: about `strength` at 3."""
        return strength * (sentiment / 3 + random.normal(0, SPREAD))

    spoken = [phones for word in words if (phones := _phones(word))] or [_phones("um")]
    pace = 0.78 * 2 ** (random.normal(0, 0.08) - shown(0.2)) * (10 / len(spoken)) ** 0.55
    positions, seconds, accents = _score(random, spoken, pace, pauses=2 ** -shown(0.8))
    time = np.arange(int(seconds.sum() * FRAME_RATE) + 1) / FRAME_RATE
    tract = positions[np.searchsorted(np.cumsum(seconds), time).clip(max=len(positions) - 1)]
    voice, breath, hiss = (_smooth(column, 3) for column in tract[:, :3].T)
    hiss_at, *formants = (_smooth(column, 5) for column in tract[:, 3:].T)

    accent = _smooth(np.interp(time, *accents), 13)
    course = time / time[-1] - 0.5
    liveliness = 2 ** shown(1.1)
    effort = (shown(13) - 2) * course + 5 * liveliness * (accent - 0.7)  # dB
    size = random.uniform()  # from large to small, mostly men to mostly women
    semitones = shown(5) + random.normal(0, 1) + (shown(2) - 0.5) * course + 4.5 * liveliness * accent
    semitones += _smooth(random.normal(size=len(time)), 9)
    pitch = (95 * 2 ** (size + semitones / 12)).clip(50, 600)
    slope = -9.5 + shown(4.2) + random.normal(0, 0.5) + 0.15 * effort  # dB per octave; louder voices sound brighter
    scale = 2 ** (0.25 * size + shown(0.05) + random.normal(0, 0.03))
    roughness = max(0.001, 0.006 - shown(0.004))
    breathiness = 0.08 * 2 ** (random.normal(0, 0.7) - shown(1.5))

    pulses = _spectra(_pulses(random, pitch, roughness))
    noise = _spectra(random.standard_normal(len(time) * HOP, np.float32))
    octaves = np.log2(FREQUENCIES.clip(50) / 500)
    loudness = _amplitude(effort)[:, None]
    throat = loudness * _amplitude(np.multiply.outer(slope, octaves)) * _resonances(formants, scale)
    constriction = 1.5 * hiss[:, None] / (1 + ((FREQUENCIES / hiss_at[:, None] - 1) / 0.4) ** 2)
    spectra = throat * (voice[:, None] * pulses + (breath + breathiness * voice)[:, None] * noise)
    spectra += loudness * constriction * noise
    room = noise * _amplitude(random.uniform(-9, 0) * octaves)
    spectra += room * (_rms(spectra) / _rms(room) * _amplitude(-random.uniform(20, 65)))

    sound = _recorded(random, _overlapped(spectra))
    sound *= min(0.01 * 20 ** random.uniform() / _rms(sound), 0.98 / abs(sound).max())
    tenths = (np.arange(max(1, round(len(sound) / SAMPLING_RATE * OPENNESS_RATE))) + 0.5) / OPENNESS_RATE
    openness = np.interp(tenths, time, ((formants[0] - SHUT) / (OPEN - SHUT)).clip(0, 1))
    return Voice(sound.astype(np.float32), openness.astype(np.float32))


def _phones(word: str) -> list[str]:
    """Returns the sounds of a word, keys of `PHONES`. Digits and letters beyond a to z are mapped to a to z."""
    spelling = "".join(
        character if "a" <= character <= "z" else chr(97 + ord(character) % 26)
        for character in word.lower()
        if character.isalnum()
    )
    for letters, sounds in RESPELLINGS.items():
        spelling = re.sub(letters, sounds, spelling)
    return re.findall("ee|oo|sh|ch|th|ng|[a-z]", spelling)


def _score(
    random: np.random.Generator, spoken: list[list[str]], pace: float, pauses: float
) -> tuple[np.ndarray, np.ndarray, tuple[list[float], list[float]]]:
    """
    Returns the positions of the vocal tract, (positions, 7), `PHONES` without the time; their seconds, (positions,);
    and the times and heights of the stress: a hill over each word.
    """
    positions, seconds = [SILENCE], [random.uniform(0.08, 0.2)]
    times, heights = [], []
    for number, phones in enumerate(spoken):
        if number and random.random() < 0.14 * pauses:
            positions.append(SILENCE)
            seconds.append(0.15 * pauses * random.uniform(0.5, 1.5))
        begin = sum(seconds)
        for phone in phones:
            milliseconds, *position = PHONES[phone]
            if phone in CLOSURES:
                shut, hum = CLOSURES[phone]
                positions.append((hum, 0.0, 0.0, *position[3:]))
                seconds.append(shut / 1000 * pace)
            positions.append(position)
            seconds.append(milliseconds / 1000 * pace * random.lognormal(0, 0.15))
        times += [begin, (begin + sum(seconds)) / 2, sum(seconds)]
        heights += [0.2, random.uniform(0.6, 1.4) if len(phones) > 3 else random.uniform(0.2, 0.8), 0.2]
    positions.append(SILENCE)
    seconds.append(random.uniform(0.08, 0.2))
    return np.array(positions, np.float32), np.array(seconds), (times, heights)


def _pulses(random: np.random.Generator, pitch: np.ndarray, roughness: float) -> np.ndarray:
    """Makes pulses at a pitch in Hz, one value for `HOP` samples; `roughness` shifts each by a share of its period."""
    samples, frames = np.arange(len(pitch) * HOP), np.arange(len(pitch))
    cycles = np.cumsum(np.interp(samples / HOP, frames, pitch)) / SAMPLING_RATE
    at = np.interp(np.arange(1, int(cycles[-1])), cycles, samples)
    period = SAMPLING_RATE / np.interp(at / HOP, frames, pitch)
    at = (at + roughness * period * random.normal(size=len(at))).clip(0, len(samples) - 2)
    heights = np.sqrt(period) * (1 + 3 * roughness * random.normal(size=len(at)))  # the power of white noise
    before, after = at.astype(int), at % 1
    pulses = np.bincount(before, heights * (1 - after), len(samples))
    return pulses + np.bincount(before + 1, heights * after, len(samples))


def _resonances(formants: list[np.ndarray], scale: float) -> np.ndarray:
    """Returns a tube, open at one end, with its first three formants moved to `formants`; (frames, bins) complex."""
    response = 1 / np.cos(np.pi / (1000 * scale) * (FREQUENCIES + 1j * (50 + 0.02 * FREQUENCIES)))
    response = response.astype(np.complex64)
    for neutral, formant, width in zip((500, 1500, 2500), formants, (80, 110, 170), strict=True):
        moved = _resonance(formant[:, None] * np.float32(scale), width)
        response = response * (moved / _resonance(np.float32(neutral * scale), width))
    return response


def _resonance(frequency: np.ndarray, width: float) -> np.ndarray:
    """Returns a peak, 1 at 0 Hz, with a `width` in Hz; (..., bins) complex64."""
    ratio = FREQUENCIES / frequency
    return 1 / (1 - ratio**2 + np.complex64(1j) * (ratio * (width / frequency)))


def _spectra(samples: np.ndarray) -> np.ndarray:
    """Returns spectra of overlapping windows that add up to the samples, (`samples // HOP`, bins) complex64."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(samples.astype(np.float32), 2 * HOP), 4 * HOP)[:-1:HOP]
    return np.fft.rfft(windows * np.pad(np.hanning(2 * HOP + 1)[:-1].astype(np.float32), HOP)).astype(np.complex64)


def _overlapped(spectra: np.ndarray) -> np.ndarray:
    """Turns spectra back into sound, (frames * HOP,). What a filter adds at the ends of a window is faded out."""
    fade = np.interp(np.arange(4 * HOP), [0, HOP, 3 * HOP, 4 * HOP], [0, 1, 1, 0]).astype(np.float32)
    pieces = (np.fft.irfft(spectra) * fade).reshape(len(spectra), 4, HOP)
    sound = np.zeros((len(spectra) + 3, HOP))
    for part in range(4):
        sound[part : part + len(spectra)] += pieces[:, part]
    return sound[2:-1].reshape(-1)


def _recorded(random: np.random.Generator, sound: np.ndarray) -> np.ndarray:
    """Records sound by a microphone with a band and a response of its own."""
    size = ((len(sound) + 8 * HOP) // 2**14 + 1) * 2**14  # so that the end does not wrap around to the beginning
    frequencies = np.fft.rfftfreq(size, 1 / SAMPLING_RATE)
    course = np.log2(frequencies.clip(60) / 60) / np.log2(SAMPLING_RATE / 2 / 60)
    response = sum(random.normal(0, 1.4) * np.cos(np.pi * wave * course) for wave in range(1, 6))  # dB
    low, high = random.uniform(40, 150), 4000 * 3.4 ** random.uniform()
    band = frequencies**2 / (frequencies**2 + low**2) / np.sqrt(1 + (frequencies / high) ** 10)
    return np.fft.irfft(np.fft.rfft(sound, size) * band * _amplitude(response), size)[: len(sound)]


def _smooth(values: np.ndarray, width: int) -> np.ndarray:
    """Averages values over windows of `width`, which is odd; returns as many values."""
    window = np.hanning(width + 2)[1:-1]
    return np.convolve(np.pad(values, width // 2, "edge"), window / window.sum(), "valid").astype(np.float32)


def _amplitude(decibels: np.ndarray | float) -> np.ndarray:
    """Turns decibels into a factor."""
    return np.exp(np.asarray(decibels, np.float32) * np.float32(np.log(10) / 20))


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(abs(values) ** 2)))
