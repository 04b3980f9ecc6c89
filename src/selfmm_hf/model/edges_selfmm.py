"""
Finds when somebody speaks in a clip, and when a moving face is visible. This file travels to the Hub.

The last state of an LSTM, or the mean of its states, says little about a speaker if most frames are silence at the end
of a recording. Edges in which nothing happens are therefore cut, to the length that is usual around a sentence.
"""

from dataclasses import dataclass

import numpy as np

# An edge in which nothing happens is left alone up to the first length, and cut to the second where it is longer.
EDGE_SECONDS = 0.25
MARGIN_SECONDS = 0.1

# What is active for less than this, and for less than half of a clip or a window, is no voice and no face.
SHORTEST_SECONDS = 0.1

# Loudness is told for each of these, between two frequencies that leave out hum, rumble and a constant offset.
STEP_SECONDS = 0.02
BAND = (200.0, 8000.0)  # Hz
PIECE_STEPS = 500  # are looked at at once, 10 s: memory does not grow with the clip
FAINTEST = -90.0  # dB of full scale: rounding noise of 16 bits
CLICK_STEPS = 5  # the median of so many steps knows nothing of a click, nor of a sound below 60 ms
LOUD_STEPS = 13  # the loudest quarter of a second, in the median, is how loud somebody speaks
# Noise is what stays as loud as it is for 0.6 s, and is so much below the speech.
NOISE_STEPS = 30
STEADY_DB = 4.0  # from the 10th to the 90th percentile; white, pink and brown noise have 0.8, 1.8 and 3.8 dB
BELOW_SPEECH_DB = 15.0
ABOVE_NOISE_DB = 4.0
ONLY_NOISE_STEPS = 50  # a whole clip of at least 1 s that stays as loud as it is

# Of the frames of a clip or a window, so many have to show a face, or there is none. Of 120 drawn speakers of three
# seconds, those with a clear expression are scored with the other sign by a thirtieth of their frames in 7 % of the
# clips, by a tenth in 3 %, by a fifth in none.
MIN_FACE_SHARE = 0.2

STILL_GRID = 24  # blocks along each side of a picture, whose means are compared
JUMP_FRAMES = 3  # a change between so many that are still, on either side, is a cut, and no movement


@dataclass
class Track:
    """
    The frames of one modality of a clip, on the clip's clock.

    Args:
        frames (`np.ndarray`): (frames, width) float32.
        frame_rate (`float`): Frames per second.
        active (`np.ndarray`, *optional*): (frames,) bool: somebody speaks, or a face is to be seen; all by default.
        begin (`float`): When the first frame is, in seconds.
        end (`float`, *optional*): When the sound or the picture ends; with the last frame by default.
        margin (`float`, *optional*):
            Of edges without anything active, seconds that are kept; `None` leaves the frames as they are.
        faces (`np.ndarray`, *optional*):
            (pictures,) bool: which pictures show a face, where faces are looked for. Their number is that of the frames
            if any does.
    """

    frames: np.ndarray
    frame_rate: float
    active: np.ndarray | None = None
    begin: float = 0.0
    end: float | None = None
    margin: float | None = None
    faces: np.ndarray | None = None

    def __post_init__(self):
        if self.active is None:
            self.active = np.ones(len(self.frames), bool)
        if self.end is None:
            self.end = self.begin + len(self.frames) / self.frame_rate

    @property
    def whole(self) -> np.ndarray:
        """
        The frames without the edges in which nothing is active; none at all where hardly anything is (see
        `SHORTEST_SECONDS`), or where less than `MIN_FACE_SHARE` of the pictures show a face.
        """
        return self._trimmed(slice(0, len(self.frames)))

    def between(self, begin: float, end: float) -> np.ndarray:
        """The same from one second to another, of what is in between; of a moment, the frame that is there."""
        first, last = (round((time - self.begin) * self.frame_rate) for time in (begin, end))
        return self._trimmed(slice(max(first, 0), max(last, first + 1, 0)))

    def face_share(self, part: slice = slice(None)) -> float | None:
        """The share of pictures that show a face, in [0, 1]; `None` without pictures, or where faces do not matter."""
        return None if self.faces is None or not len(self.faces[part]) else float(self.faces[part].mean())

    def _trimmed(self, part: slice) -> np.ndarray:
        frames, active, share = self.frames[part], self.active[part], self.face_share(part)
        least = min(SHORTEST_SECONDS * self.frame_rate, len(active) / 2)
        if not active.any() or active.sum() < least or (share is not None and share < MIN_FACE_SHARE):
            return frames[:0]
        if self.margin is None:
            return frames
        first, last = kept(active, self.frame_rate, self.margin)
        return frames[first:last]


class Features(dict):
    """
    The features of a whole clip by modality, and its words as `text`, a dict; and the `tracks` that they come from, for
    parts of the clip, by modality too.
    """

    def __init__(self, tracks: dict[str, Track]):
        super().__init__({name: track.whole for name, track in tracks.items()})
        self.tracks = tracks

    @property
    def face_share(self) -> float | None:
        """See [`Track.face_share`]."""
        return self.tracks["vision"].face_share() if "vision" in self.tracks else None


def kept(active: np.ndarray, rate: float, margin: float) -> tuple[int, int]:
    """
    From where to where a sequence is kept.

    Args:
        active: (frames,) bool, at least one of them true.
        rate: Frames per second.
        margin: Seconds that are kept of an edge that is longer than `EDGE_SECONDS`.
    """
    where = np.flatnonzero(active)
    before, after = where[0], len(active) - 1 - where[-1]
    if before > EDGE_SECONDS * rate:
        before = round(margin * rate)
    if after > EDGE_SECONDS * rate:
        after = round(margin * rate)
    return int(where[0] - before), int(where[-1] + 1 + after)


def voice_activity(samples: np.ndarray, sampling_rate: int, silence_db: float) -> np.ndarray:
    """
    Finds when somebody speaks: where the sound is louder than silence and than the clip's own noise.

    Loudness is relative to the loudest quarter of a second. Silence is what is `silence_db` below it. Noise is what
    keeps its loudness, within 4 dB, for 0.6 s, and is 15 dB below: all that is not 4 dB above such noise is no voice,
    which holds for a room as for a tail of noise; what keeps its loudness throughout is noise too. A click is no voice.

    Args:
        samples (`np.ndarray`): (samples,) float, mono; full scale is 1.
        sampling_rate (`int`): Hz.
        silence_db (`float`): Above 0.

    Returns:
        (steps,) bool, one for each 20 ms; the last one may be shorter.
    """
    loudness = _loudness(samples, sampling_rate)
    if not len(loudness) or (len(loudness) >= ONLY_NOISE_STEPS and _spread(loudness[None])[0] <= STEADY_DB):
        return np.zeros(len(loudness), bool)
    speech = _running_median(loudness, LOUD_STEPS).max()
    threshold = max(speech - silence_db, FAINTEST)
    if len(loudness) >= NOISE_STEPS:
        stretches = np.lib.stride_tricks.sliding_window_view(loudness, NOISE_STEPS)
        levels = np.median(stretches, axis=1)
        noise = levels[(_spread(stretches) <= STEADY_DB) & (levels <= speech - BELOW_SPEECH_DB)]
        threshold = max(threshold, noise.max(initial=-np.inf) + ABOVE_NOISE_DB)
    return _running_median(loudness, CLICK_STEPS) > threshold


def _loudness(samples: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Of each step within the band, (steps,) dB of full scale."""
    size = max(1, round(STEP_SECONDS * sampling_rate))
    window = np.hanning(size + 2)[1:-1].astype(np.float32)
    frequencies = np.fft.rfftfreq(size, 1 / sampling_rate)
    heard = (frequencies >= BAND[0]) & (frequencies <= BAND[1])
    count = -(-len(samples) // size)
    pieces, powers = -(-count // PIECE_STEPS), [np.zeros(0, np.float32)]
    for number in range(pieces):  # of nearly one length: numpy adds up a lone step in another order
        first, last = number * count // pieces, (number + 1) * count // pieces
        piece = samples[first * size : last * size].astype(np.float32)
        steps = np.pad(piece, (0, -len(piece) % size)).reshape(-1, size)
        spectra = np.fft.rfft(steps * window)[:, heard]
        power = 2 * (np.abs(spectra) ** 2).sum(axis=1) / (size * (window**2).sum())
        powers.append(power.astype(np.float32))  # before version 2, NumPy transforms in float64
    return 10 * np.log10(np.maximum(np.concatenate(powers), 1e-12))


def _spread(stretches: np.ndarray) -> np.ndarray:
    low, high = np.percentile(stretches, [10, 90], axis=1)
    return high - low


def _running_median(values: np.ndarray, width: int) -> np.ndarray:
    """Of as many values as there are, with silence before and after them."""
    padded = np.pad(values, width // 2, constant_values=-120.0)
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, width), axis=1)


def is_voiced(activity: np.ndarray, frames: int, frame_rate: float) -> np.ndarray:
    """
    Which frames of a sequence have a voice.

    Args:
        activity: (steps,) bool, as [`voice_activity`] gives them.
        frames: How many there are; frame `k` is about `k / frame_rate`.
    """
    times = np.arange(frames) / frame_rate
    steps = (times[:, None] + np.linspace(0, 1 / frame_rate, 1 + round(1 / frame_rate / STEP_SECONDS))) / STEP_SECONDS
    return activity[steps.astype(np.int64).clip(max=len(activity) - 1)].any(axis=1)


class Movement:
    """Detects whether the picture moves. It takes frame after frame, and keeps only the last one, small."""

    def __init__(self):
        self.changes: list[float] = []
        self._before, self._blocks = None, None

    def see(self, frame: np.ndarray | None) -> None:
        """Takes the next frame, (height, width, 3) uint8; `None` where there is no picture."""
        if frame is None or frame is self._before:
            self.changes.append(0.0)
            return
        blocks = _block_means(frame)
        alike = self._blocks is not None and self._blocks.shape == blocks.shape
        self.changes.append(float(np.abs(blocks - self._blocks).max()) if alike else 255.0)
        self._before, self._blocks = frame, blocks

    def moving(self, still_change: float) -> np.ndarray:
        """
        (frames,) bool: false at either end, where frames are copies of each other or of what a cut shows, but true
        throughout for a picture that never moves.

        Args:
            still_change: By how much, of 255, a copy may differ: the mean of one of 24 x 24 blocks.
        """
        moves = np.array(self.changes[1:]) > still_change  # from each frame to the next
        where = np.flatnonzero(moves)
        after = np.diff(where, append=len(moves) + JUMP_FRAMES)
        before = np.diff(where, prepend=-1 - JUMP_FRAMES)
        where = where[np.minimum(before, after) <= JUMP_FRAMES]
        active = np.ones(len(self.changes), bool)
        if len(where):
            active[: where[0]] = active[where[-1] + 2 :] = False
        return active


def _block_means(frame: np.ndarray) -> np.ndarray:
    """(rows, columns) float32, of the green channel."""
    green = frame[..., 1]
    for axis in (0, 1):
        starts = np.unique(np.linspace(0, green.shape[axis], STILL_GRID, endpoint=False).astype(int))
        green = np.add.reduceat(green, starts, axis=axis, dtype=np.float32)
        counts = np.diff([*starts, frame.shape[axis]])
        green /= np.expand_dims(counts, 1 - axis).astype(np.float32)
    return green
