"""Writes sound and pictures as a clip that every browser plays: MP4 with H.264 and AAC, by PyAV."""

import os
from collections.abc import Iterable
from fractions import Fraction

import numpy as np

from . import Utterance
from .face_drawing import draw_face

try:
    import av
except ImportError:
    av = None

# With these, drawn faces look right, and 3 s of them take some 40 kB.
VIDEO_OPTIONS = {"crf": "23", "preset": "slow", "tune": "animation"}
AUDIO_BIT_RATE = 48_000


def write_clip(
    path: str | os.PathLike,
    sound: np.ndarray,
    pictures: Iterable[np.ndarray],
    sampling_rate: int = 22050,
    frame_rate: float = 10.0,
) -> None:
    """
    Writes an MP4 file. The same sound and pictures give the same file, with the same PyAV.

    Args:
        path (`str` or `os.PathLike`): The file; one that is there is replaced.
        sound (`np.ndarray`): (samples,) float32, full scale is 1.
        pictures (iterable of `np.ndarray`): (height, width, 3) uint8, RGB, all of one size, with even sides.
        sampling_rate (`int`, defaults to 22050): Sampling rate of the sound, Hz.
        frame_rate (`float`, defaults to 10.0): Pictures per second.

    Raises:
        ImportError: PyAV is not installed.
        ValueError: Sound or pictures are of another shape or type, or there are none. No file is written.
    """
    if av is None:
        raise ImportError("Clips are written by PyAV, which is not installed: pip install 'av>=17.1'")
    sound, pictures = np.asarray(sound, dtype=np.float32), list(pictures)
    if sound.ndim != 1 or not sound.size:
        raise ValueError(f"sound has the shape {sound.shape}, expected (samples,): take the mean of its channels")
    if not pictures:
        raise ValueError("there are no pictures, expected one or more")
    shape = pictures[0].shape
    if len(shape) != 3 or shape[2] != 3 or shape[0] % 2 or shape[1] % 2:
        raise ValueError(f"pictures have the shape {shape}, expected (height, width, 3), height and width even")
    if any(picture.shape != shape or picture.dtype != np.uint8 for picture in pictures):
        raise ValueError(f"pictures differ in shape or type, expected {shape} and uint8 for all: make them alike")

    with av.open(os.fspath(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        rate = Fraction(frame_rate).limit_denominator(1001)
        video = container.add_stream("libx264", rate=rate, options=VIDEO_OPTIONS)
        video.height, video.width, _ = shape
        video.pix_fmt = "yuv420p"  # what every browser shows
        video.codec_context.thread_count = 1  # clips are written side by side
        audio = container.add_stream("aac", rate=sampling_rate, layout="mono")
        audio.bit_rate = AUDIO_BIT_RATE

        packets = []
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.time_base, frame.pts = 1 / rate, number
            packets += video.encode(frame)
        samples = av.AudioFrame.from_ndarray(sound.clip(-1, 1)[None], format="fltp", layout="mono")
        samples.sample_rate, samples.time_base, samples.pts = sampling_rate, Fraction(1, sampling_rate), 0
        packets += [*video.encode(), *audio.encode(samples), *audio.encode()]
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)


def render(utterance: Utterance, path: str | os.PathLike) -> None:
    """Renders an utterance of the corpus as a clip, with its face drawn."""
    speaker = len(utterance.sound)  # any number that depends on the utterance alone
    seen = next(landmarks for landmarks in utterance.landmarks if landmarks is not None)
    pictures = []
    for landmarks in utterance.landmarks:
        seen = seen if landmarks is None else landmarks  # a lost face stands still
        pictures.append(draw_face(seen, speaker=speaker))
    write_clip(path, utterance.sound, pictures)
