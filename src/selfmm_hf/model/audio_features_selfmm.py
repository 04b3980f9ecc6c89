"""
Audio sequences from sound: the 33 columns of CH-SIMS, or any Hugging Face speech encoder. This file travels to the Hub.
"""

import hashlib
import math
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoFeatureExtractor, AutoModel

from .layers_selfmm import WEIGHTED, chosen_states
from .loading_selfmm import commit_of, load

SAMPLING_RATE = 22050
HOP = 512
LIBROSA33_COLUMNS = (
    "zero_crossing_rate",
    *(f"mfcc_{number}" for number in range(20)),
    *(f"chroma_{note}" for note in ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")),
)
# Sound passes librosa in pieces of so many frames, 24 s, and so many more before and after: what a frame of the widest
# filter sees, that of the lowest octave, 1024 samples at a hop of 8.
PIECE = 1024
MARGIN = 64
TOP_DB = 80.0  # below the loudest point, where librosa's MFCC are cut
OCTAVES, BINS = 7, 36  # of librosa's chroma, from C1 on, and how many bins an octave has

# Filters of warnings and the threads of BLAS belong to the process: two threads that set them for a while would leave
# them wrong.
_LIBROSA = threading.Lock()


def librosa33(samples: np.ndarray, sampling_rate: int = SAMPLING_RATE) -> np.ndarray:
    """
    Zero-crossing rate, MFCC and CQT chroma, as the authors of CH-SIMS and Self-MM computed them.

    Source: `__getAudioEmbedding` in data/DataPre.py and data/getFeature.py of github.com/thuiar/Self-MM (commit
    1786283): sound as `librosa.load` gives it (mono, 22050 Hz), `zero_crossing_rate(y, hop_length=512)`,
    `mfcc(y, sr, hop_length=512, htk=True)` and `chroma_cqt(y, sr, hop_length=512)` side by side; all else is librosa's
    default. MFCC are cut 80 dB below the clip's loudest point and chroma are tuned to the clip as a whole, so a part of
    a clip has other features than the clip has in that part. Computed piece by piece, a
    long clip takes little more memory than a short one; to the rounding, they are what librosa makes of it at once.

    Any length will do, down to a single sample: librosa takes what a window lacks as silence. Digital silence has no
    zero crossings, one and the same MFCC throughout, and chroma of 0.

    Args:
        samples (`np.ndarray`): (samples,) float, mono, as [`decode_audio`] gives them.
        sampling_rate (`int`, defaults to 22050): Of `samples`, in Hz. No other is accepted.

    Returns:
        (frames, 33) float32, the `LIBROSA33_COLUMNS`; `frames = 1 + samples // 512`, 43.07 per second, frame `k` about
        sample `512 k`. No samples: (0, 33).

    Raises:
        ValueError: Another sampling rate, shape or type, or samples that are not finite.
        ImportError: librosa is not installed.
    """
    samples = checked(samples, sampling_rate, SAMPLING_RATE)
    if not samples.size:
        return np.zeros((0, len(LIBROSA33_COLUMNS)), np.float32)
    _compile_librosa()
    return _columns(samples)


def _columns(samples: np.ndarray) -> np.ndarray:
    # Here, not above: librosa takes seconds, for which those who use another recipe need not wait.
    try:
        import librosa
        from scipy.fft import fft  # it and the next come with librosa
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise ImportError("`librosa33` is computed by librosa, which is not installed: pip install librosa") from error

    # The arrays are small: more threads would only wait for each other, for twice the time.
    with _LIBROSA, warnings.catch_warnings(), threadpool_limits(1):
        warnings.filterwarnings("ignore", "Trying to estimate tuning from empty frequency set", UserWarning)  # silence
        warnings.filterwarnings("ignore", "n_fft=.* is too large for input signal", UserWarning)  # below 1.5 s
        crossings, mels = [], []
        for piece, own in _pieces(samples, HOP):
            crossings.append(librosa.feature.zero_crossing_rate(piece, hop_length=HOP)[:, own])
            mel = librosa.feature.melspectrogram(y=piece, sr=SAMPLING_RATE, hop_length=HOP, htk=True)
            mels.append(librosa.power_to_db(mel[:, own], top_db=None))
        faintest = max(mel.max() for mel in mels) - np.float32(TOP_DB)
        mfcc = [librosa.feature.mfcc(S=np.maximum(mel, faintest), sr=SAMPLING_RATE) for mel in mels]
        columns = [np.concatenate(crossings, axis=1), np.concatenate(mfcc, axis=1), _chroma(samples, librosa, fft)]
    return np.concatenate(columns).T.astype(np.float32)


def _pieces(samples: np.ndarray, hop: int) -> Iterator[tuple[np.ndarray, slice]]:
    """Parts of the sound, each with what its frames see around them, and which of its frames are its own."""
    for begin in range(0, 1 + len(samples) // hop, PIECE):
        first = max(begin - MARGIN, 0)
        yield samples[first * hop : (begin + PIECE + MARGIN) * hop], slice(begin - first, begin - first + PIECE)


def _chroma(samples: np.ndarray, librosa: Any, fft: Any) -> np.ndarray:
    """`librosa.feature.chroma_cqt`, (12, frames): octave by octave from the top, at half the sampling rate each."""
    filters, width, scale = _constant_q(_tuning(samples, librosa), librosa, fft)
    notes = librosa.filters.cq_to_chroma(OCTAVES * BINS, bins_per_octave=BINS)
    chroma, hop = np.zeros((len(notes), 1 + len(samples) // HOP), np.float32), HOP
    for octave in reversed(range(OCTAVES)):
        begin = 0
        for piece, own in _pieces(samples, hop):
            spectra = librosa.stft(piece, n_fft=width, hop_length=hop, window="ones", pad_mode="constant")
            magnitudes = np.abs(filters @ spectra[:, own] / scale)[:, : chroma.shape[1] - begin]
            end = begin + magnitudes.shape[1]
            chroma[:, begin:end] += notes[:, octave * BINS : (octave + 1) * BINS] @ magnitudes
            begin = end
        if octave:
            samples, hop = librosa.resample(samples, orig_sr=2, target_sr=1, res_type="soxr_hq", scale=True), hop // 2
    return librosa.util.normalize(chroma, axis=0)


@cache
def _constant_q(tuning: float, librosa: Any, fft: Any) -> tuple[Any, int, np.ndarray]:
    """
    The filters of an octave, which `librosa.cqt` computes anew for each octave of each clip, in most of its time. They
    are the same for all octaves, because the sampling rate halves from one to the next.

    Args:
        tuning: As librosa estimates it, in hundredths of a bin, so there are a hundred at most.
        fft: SciPy's, which librosa takes: another one rounds otherwise, and then other small values are left out.

    Returns:
        The filters of spectra, (36, 1 + width / 2), sparse; the width of a spectrum's frame in samples; and what the
        result is divided by, (36, 1).
    """
    lowest = librosa.note_to_hz("C1") * 2 ** (OCTAVES - 1)
    notes = librosa.cqt_frequencies(BINS, fmin=lowest, bins_per_octave=BINS, tuning=tuning)
    filters, lengths = librosa.filters.wavelet(freqs=notes, sr=SAMPLING_RATE)
    width = filters.shape[1]
    filters *= lengths[:, None] / width
    spectra = fft(filters)[:, : width // 2 + 1]
    return librosa.util.sparsify_rows(spectra, quantile=0.01, dtype=np.complex64), width, np.sqrt(lengths)[:, None]


def _tuning(samples: np.ndarray, librosa: Any) -> float:
    """`librosa.estimate_tuning` as `chroma_cqt` calls it: of the peaks of all frames, the louder half."""
    peaks = []
    for piece, own in _pieces(samples, HOP):
        pitches, magnitudes = (found[:, own] for found in librosa.piptrack(y=piece, sr=SAMPLING_RATE))
        peaks.append(np.stack([pitches[pitches > 0], magnitudes[pitches > 0]]))
    pitches, magnitudes = np.concatenate(peaks, axis=1)
    loud = magnitudes >= np.median(magnitudes) if magnitudes.size else []
    return librosa.pitch_tuning(pitches[loud], bins_per_octave=BINS)


@cache
def _compile_librosa() -> None:
    """
    Uses librosa once, alone among the user's processes.

    What its first use on a machine compiles goes into a cache. Two processes that fill it at the same time can leave it
    so that they and all that come after them crash (github.com/numba/numba/issues/10128).
    """
    try:
        from filelock import FileLock
        from huggingface_hub import constants

        folder = Path(constants.HF_HOME)
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "selfmm-librosa.lock").acquire()
    except (ImportError, OSError):  # a home that cannot be written to
        lock = nullcontext()
    with lock:
        _columns(np.sin(np.arange(SAMPLING_RATE, dtype=np.float32)))


class AudioEncoder:
    """
    Sound -> the hidden states of a pretrained speech model (HuBERT, wav2vec 2.0, WavLM, Whisper's encoder...).

    The sound is cut into the fewest windows that are not too long, all of one length, without overlap; each passes the
    model on its own. States that fall into the same `1 / frame_rate` seconds are averaged, so that an LSTM can read
    the sequence. Models that do not give one state after the other in time (Audio Spectrogram Transformer, CLAP) are
    not for this class.

    Args:
        name (`str` or `Path`): Repository or folder of the model, with its feature extractor.
        frame_rate (`float`, defaults to 10.0):
            Rows per second. Above the model's own rate, often 50, states are repeated.
        window_seconds (`float`, defaults to 20.0): Longest window. Whisper's take 30 s at most.
        revision (`str`, *optional*): Branch, tag or commit of the repository.
        layer (`int` or `str`, defaults to -1):
            Which hidden states to return: those of the last layer, of a layer by its number, from 1 on (0 is the input
            of the first layer), or `"weighted"`, all side by side, for a model that learns how much each counts.
        device (`str` or `torch.device`, defaults to `"cpu"`): Where the model runs, in float32.
        token (`str` or `bool`, *optional*): For the Hub; that of the user by default, none if `False`.
    """

    # A shorter sound is followed by silence up to this: the models' convolutions see 25 ms at least.
    MIN_SECONDS = 0.1

    def __init__(
        self,
        name: str | Path,
        frame_rate: float = 10.0,
        window_seconds: float = 20.0,
        revision: str | None = None,
        device: str | torch.device = "cpu",
        token: str | bool | None = None,
        layer: int | str = -1,
    ):
        self.name, self.layer = str(name), layer
        if not 0 < frame_rate < math.inf:
            raise ValueError(f"frame_rate is {frame_rate}, expected a positive number of rows per second")
        where = {"revision": revision, "token": token}
        self.extractor = load(AutoFeatureExtractor.from_pretrained, str(name), **where)
        self.sampling_rate = getattr(self.extractor, "sampling_rate", None)
        if self.sampling_rate is None:
            raise ValueError(f"{name} is no speech model: its feature extractor has no sampling rate")
        longest = getattr(self.extractor, "chunk_length", None) or math.inf
        if not self.MIN_SECONDS <= window_seconds <= longest:
            raise ValueError(f"window_seconds is {window_seconds}, expected {self.MIN_SECONDS} to {longest} for {name}")
        self.frame_rate, self.window_seconds = float(frame_rate), float(window_seconds)
        model, info = load(AutoModel.from_pretrained, str(name), **where, dtype=torch.float32, output_loading_info=True)
        self.commit = commit_of(str(name), **where)
        encoder = model.get_encoder() if model.config.is_encoder_decoder else model
        # What the file lacks is random, and another at each loading. `masked_spec_embed` serves in training only.
        missing = {key.removeprefix("encoder.") if encoder is not model else key for key in info["missing_keys"]}
        self._random = {key for key in missing if key in encoder.state_dict()}
        lacking = sorted(key for key in self._random if not key.endswith("masked_spec_embed"))
        if lacking:
            raise ValueError(
                f"{name} lacks weights of its encoder, such as {lacking[0]}: it is not a complete speech model"
            )
        self.model = encoder.eval().requires_grad_(False).to(device)

    @cached_property
    def checksum(self) -> str:
        """SHA-256 over the names, types, shapes and values of the encoder's weights, whatever files they came from."""
        digest = hashlib.sha256()
        for key, value in sorted(self.model.state_dict().items()):
            if key not in self._random:
                value = value.cpu().contiguous()
                digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
                digest.update(value.reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    @property
    def states(self) -> int:
        """How many hidden states a row consists of."""
        return self.model.config.num_hidden_layers + 1 if self.layer == WEIGHTED else 1

    @cached_property
    def width(self) -> int:
        """Columns of a row."""
        return self._encode(np.zeros(round(self.MIN_SECONDS * self.sampling_rate), np.float32)).shape[1]

    def __call__(self, samples: np.ndarray, sampling_rate: int | None = None) -> np.ndarray:
        """
        Args:
            samples (`np.ndarray`): (samples,) float, mono.
            sampling_rate (`int`, *optional*): Of `samples`, in Hz; it must be that of the model, `self.sampling_rate`.

        Returns:
            (frames, width) float32, `frames = round(seconds * frame_rate)`, at least 1. No samples: (0, width).

        Raises:
            ValueError: Another sampling rate, shape or type, or samples that are not finite.
        """
        samples = checked(samples, sampling_rate, self.sampling_rate)
        if not samples.size:
            return np.zeros((0, self.width), np.float32)
        frames = max(1, round(len(samples) / self.sampling_rate * self.frame_rate))
        samples = np.pad(samples, (0, max(0, round(self.MIN_SECONDS * self.sampling_rate) - len(samples))))
        windows = math.ceil(len(samples) / (self.window_seconds * self.sampling_rate))
        return pooled(self._states(np.array_split(samples, windows)), frames, self.frame_rate)

    def _states(self, windows: list[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The states of each window, (states, width) float32, and their times in seconds."""
        begin = 0
        for window in windows:
            states, seconds = self._encode(window), len(window) / self.sampling_rate
            yield states, begin + (np.arange(len(states)) + 0.5) / len(states) * seconds
            begin += seconds

    @torch.no_grad()
    def _encode(self, window: np.ndarray) -> np.ndarray:
        """The states of one window, (states, width) float32."""
        inputs = self.extractor(
            window, sampling_rate=self.sampling_rate, return_tensors="pt", return_attention_mask=True
        )
        values = inputs[self.extractor.model_input_names[0]].to(self.model.device)
        output = self.model(values, output_hidden_states=self.layer != -1)
        if self.layer == -1:
            states = output.last_hidden_state[0]
        else:
            states = torch.cat([state[0] for state in chosen_states(output.hidden_states, self.layer, self.name)], -1)
        # Whisper's extractor fills each window up to 30 s. The others' leave it as long as it is.
        real = inputs["attention_mask"].float().mean().item() if "attention_mask" in inputs else 1.0
        return states[: max(1, math.ceil(len(states) * real - 1e-3))].float().cpu().numpy()


def pooled(windows: Iterable[tuple[np.ndarray, np.ndarray]], frames: int, frame_rate: float) -> np.ndarray:
    """
    The mean of the states within each `1 / frame_rate` seconds; the nearest state where there is none. No more than a
    window's states are held.

    Args:
        windows: (states, width) float32 each, and (states,), the time of each state, in seconds, ascending through all
            windows. What is past the end joins the last row.

    Returns:
        (frames, width) float32.
    """
    means, counts, middles = None, np.zeros(frames, np.int64), (np.arange(frames) + 0.5) / frame_rate
    first, state, time = 0, None, None  # the row that the window before ended in, and its last state
    for states, times in windows:
        if means is None:
            means, total = np.zeros((frames, states.shape[1]), np.float32), np.zeros(states.shape[1])
            state, time = states[:0], times[:0]
        rows = np.minimum((times * frame_rate).astype(np.int64), frames - 1)
        span = slice(first, rows[-1] + 1)
        sums = np.zeros((span.stop - first, states.shape[1]))
        sums[0] = total
        np.add.at(sums, rows - first, states)
        counts += np.bincount(rows, minlength=frames)
        means[span] = sums / np.maximum(counts[span], 1)[:, None]
        near, near_times = np.concatenate([state, states]), np.concatenate([time, times])
        for row in first + np.flatnonzero(counts[span] == 0):
            means[row] = near[np.abs(near_times - middles[row]).argmin()]
        first, total, state, time = rows[-1], sums[-1].copy(), states[-1:].copy(), times[-1:]
    means[first + 1 :] = state
    return means


def checked(samples: np.ndarray, sampling_rate: int | None = None, expected: int | None = None) -> np.ndarray:
    """The samples as float32, if they are (samples,), of the sampling rate that is expected, and finite."""
    if sampling_rate is not None and sampling_rate != expected:
        raise ValueError(f"samples have {sampling_rate} Hz, expected {expected}: decode or resample them to that rate")
    samples = np.asarray(samples)
    if samples.ndim != 1:
        raise ValueError(f"samples have the shape {samples.shape}, expected (samples,): the mean of the channels")
    if samples.dtype.kind != "f":
        raise ValueError(f"samples are {samples.dtype}, expected floats: divide integers by their full scale")
    if not np.isfinite(samples).all():
        raise ValueError("samples hold values that are not finite")
    return samples.astype(np.float32, copy=False)
