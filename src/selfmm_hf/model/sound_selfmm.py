"""Mixes the channels of decoded sound, and resamples it. This file travels to the Hub."""

from array import array
from typing import Any

import numpy as np

try:
    import av
except ImportError:
    av = None
try:
    import soxr
except ImportError:
    soxr = None

# Loudest sample; full scale is 1. Unscaled 32-bit samples pass; what would overflow float32 in a spectrum is clipped.
MAX_AMPLITUDE = 2.0**31


def resample(samples: np.ndarray, sampling_rate: int, new_rate: int) -> np.ndarray:
    """
    Resamples sound as [`decode_audio`] would resample that of a file with these samples.

    Args:
        samples (`np.ndarray`): (samples,) float, mono.
        sampling_rate (`int`): Their sampling rate, Hz.
        new_rate (`int`): Wanted sampling rate, Hz.

    Returns:
        (samples,) float32.

    Raises:
        ImportError: soxr is not installed.
    """
    resampler, kept = Resampler(sampling_rate, new_rate, 1), Kept()
    for begin in range(0, len(samples), sampling_rate):
        kept.add(resampler(samples[begin : begin + sampling_rate].astype(np.float32)[:, None]))
    kept.add(resampler.rest())
    return kept.samples


def mixed(frame: Any, mixers: dict[tuple, Any]) -> np.ndarray:
    """
    Mixes a frame to (samples, 1) float32, or (samples, 2): the mean of two channels and half their difference.
    `mixers` keeps mixers of many channels.
    """
    known = all(channel.name != "NONE" for channel in frame.layout.channels)
    if known and frame.layout.nb_channels > 2:
        key = frame.format.name, frame.layout.name, frame.sample_rate
        mixer = mixers.setdefault(key, av.AudioResampler("fltp", "mono", frame.sample_rate))
        (frame,) = mixer.resample(frame)
    samples = frame.to_ndarray()  # (channels, samples), or (1, samples * channels) where they are interleaved
    if not frame.format.is_planar:
        samples = samples.reshape(frame.samples, -1).T
    if samples.dtype.kind in "iu":
        full_scale = 2.0 ** (8 * samples.itemsize - 1)
        samples = samples.astype(np.float32) / np.float32(full_scale) - (samples.dtype.kind == "u")
    else:
        samples = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0).clip(-MAX_AMPLITUDE, MAX_AMPLITUDE)
    samples = samples.astype(np.float32, copy=False)
    mean = samples.mean(axis=0)
    return np.stack([mean, mean - samples[1]], axis=1) if len(samples) == 2 else mean[:, None]


class Kept:
    """Keeps sound of one or two columns, chunk by chunk, with each sample once in memory."""

    def __init__(self):
        self.columns = [array("f")]
        self.count, self.sums, self.squares = 0, 0.0, 0.0  # of chunks with two columns

    def add(self, chunk: np.ndarray) -> None:
        """Adds (samples, 1) or (samples, 2) float32; a single column counts for both."""
        if chunk.shape[1] == 2:
            self.count += len(chunk)
            self.sums += chunk.sum(axis=0, dtype=np.float64)
            self.squares += (chunk.astype(np.float64) ** 2).sum(axis=0)
            if len(self.columns) == 1:
                self.columns.append(self.columns[0][:])
        for number, column in enumerate(self.columns):
            column.frombytes(chunk[:, min(number, chunk.shape[1] - 1)].tobytes())

    @property
    def cancels(self) -> bool:
        """Checks whether half the difference of two channels has over twice the energy of their mean."""
        if not self.count:
            return False
        energy = self.squares / self.count - (self.sums / self.count) ** 2
        return bool(energy[1] > 2 * energy[0])

    @property
    def samples(self) -> np.ndarray:
        """(samples,) float32."""
        return np.frombuffer(self.columns[self.cancels], np.float32)


class Resampler:
    """Resamples a stream, (samples, columns), chunk by chunk, with the same result as resampling it at once."""

    def __init__(self, rate: int, new_rate: int, columns: int):
        if soxr is None:
            raise ImportError("Sound is resampled by soxr, which is not installed: pip install soxr")
        self.rate, self.new_rate, self.columns, self.read, self.written = rate, new_rate, columns, 0, 0
        self.stream = None if rate == new_rate else soxr.ResampleStream(rate, new_rate, columns, "float32", "HQ")

    def takes(self, samples: np.ndarray, rate: int) -> bool:
        return (rate, samples.shape[1]) == (self.rate, self.columns)

    def __call__(self, samples: np.ndarray, last: bool = False) -> np.ndarray:
        resampled = samples if self.stream is None else self.stream.resample_chunk(samples, last=last)
        self.read += len(samples)
        self.written += len(resampled)
        return resampled

    def rest(self) -> np.ndarray:
        """Returns what is still to come; in all, that makes `ceil(read * new_rate / rate)` samples, as in librosa."""
        rest = self(np.zeros((0, self.columns), np.float32), last=True)
        missing = -(-self.read * self.new_rate // self.rate) - self.written
        return rest[: len(rest) + missing] if missing < 0 else np.pad(rest, ((0, missing), (0, 0)))
