"""
Decodes sound and picture of a local media file. This file travels to the Hub.

Both share one clock, which starts with the first of them, as in a player. Sound that is missing, at the start or on the
way, is silence; a missing picture is `None`. `container_selfmm.py` opens the file and decodes its packets,
`frame_times_selfmm.py` has the clock, and `sound_selfmm.py` mixes and resamples the sound.
"""

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .container_selfmm import (
    CONVERT,
    FORMATS,
    GRACE_SECONDS,
    ClipError,
    ClipWarning,
    Deadline,
    check_pixels,
    check_size,
    decoded,
    first_frames,
    name_of,
    opened,
    packets_duration,
    picture_stream,
    sound_stream,
    stated_duration,
    too_long,
)
from .frame_times_selfmm import SOUND_HOLE_SECONDS, TIME_TOLERANCE, Clock, until, zero
from .sound_selfmm import Kept, Resampler, mixed, resample

try:
    import av
    from av.sidedata.sidedata import SideDataContainer
except ImportError:
    av = None

# Pixels may be this far from square: sizes are rounded.
SQUARE_TOLERANCE = 0.01
# Pixels per second, 8K at 60 frames: without a limit, one second of a small file may take an hour to decode.
MAX_PIXEL_RATE = 60 * 8192 * 4608


@dataclass
class ClipFacts:
    """
    The facts that a file states about itself; nothing is decoded.

    Args:
        duration (`float`, *optional*):
            Seconds; `None` where neither the file nor its packets tell.
        has_audio (`bool`): Whether there is a sound stream, which may still be empty.
        has_video (`bool`): Whether there is a moving picture; the cover of a music file is none.
        sampling_rate (`int`, *optional*): Sampling rate of the sound, Hz.
        frame_rate (`float`, *optional*): Mean number of frames per second.
        width (`int`, *optional*): Width of the coded picture, pixels, before it is turned upright.
        height (`int`, *optional*): Its height.
    """

    duration: float | None
    has_audio: bool
    has_video: bool
    sampling_rate: int | None = None
    frame_rate: float | None = None
    width: int | None = None
    height: int | None = None


def decode_audio(
    path: str | os.PathLike, sampling_rate: int, max_seconds: float | None = None, deadline: Deadline | None = None
) -> np.ndarray | None:
    """
    Decodes the sound of a file to mono, resampled by soxr ("HQ"), as `librosa.load` does.

    Of several tracks the default one is read. Two channels become their mean, or half their difference where they
    cancel each other, with a [`ClipWarning`]. More channels are mixed as ITU-R BS.775 has it: the centre keeps its
    level, left and right have a weight of 0.71, surround channels 0.5, and the low-frequency channel is left out; where
    the file does not say which channel is which, they become their mean. Integer samples are scaled to [-1, 1); float
    samples stay as they are, but those that are not finite become 0.

    Time runs from where sound or picture begins, whichever is first. Silence stands for sound that begins later, and
    for holes of more than 50 ms, which lost packets leave.

    Args:
        path (`str` or `os.PathLike`): A local file of one of the `FORMATS`.
        sampling_rate (`int`): Wanted sampling rate, Hz.
        max_seconds (`float`, *optional*): Refuse a longer clip, if possible before anything is decoded.
        deadline ([`Deadline`], *optional*): Refuse a clip that is not read by then.

    Returns:
        (samples,) float32; `None` where there is no sound stream, or nothing in it.

    Raises:
        ClipError: The file cannot be read, nothing in its sound stream can be decoded, or it is too long, or takes too
            long. Where a part can be decoded, that part is returned, with a [`ClipWarning`].
        ImportError: PyAV or soxr is not installed.
    """
    if sampling_rate < 1:
        raise ValueError(f"sampling_rate is {sampling_rate}, expected 1 Hz or more")
    kept, resampler = Kept(), None
    with opened(path, max_seconds) as container:
        for sound, rate in _heard(container, path, max_seconds, deadline):
            if resampler is None or not resampler.takes(sound, rate):  # some streams change on the way
                if resampler is not None:
                    kept.add(resampler.rest())
                resampler = Resampler(rate, sampling_rate, sound.shape[1])
            kept.add(resampler(sound))
    if resampler is None:
        return None
    kept.add(resampler.rest())
    if kept.cancels:
        message = f"the two sound channels of {name_of(path)} cancel each other: the second is turned over"
        warnings.warn(message, ClipWarning, stacklevel=2)
    samples = kept.samples
    return samples if samples.size else None


def decode_video(
    path: str | os.PathLike, frame_rate: float, max_seconds: float | None = None, deadline: Deadline | None = None
) -> Iterator[np.ndarray | None]:
    """
    Decodes the picture of a file at a steady rate: at each time `k / frame_rate`, the frame that is shown then.

    Time runs from where sound or picture begins, whichever is first, to the end of the last frame. `None` stands where
    there is no picture: before one that begins later than the sound, and in a hole. A hole follows a frame that would
    otherwise last longer than 1 s and longer than four times the mean frame of the clip so far.

    Of several streams the default one is read; the cover of a music file is none. Frames are turned upright, mirrored,
    and stretched to square pixels, as the file demands. They are decoded only when they are asked for. A frame that is
    shown at several times is the same array each time: do not change it.

    Args:
        path (`str` or `os.PathLike`): A local file of one of the `FORMATS`.
        frame_rate (`float`): Wanted frames per second.
        max_seconds (`float`, *optional*): Refuse a longer clip, if possible before anything is decoded.
        deadline ([`Deadline`], *optional*): Refuse a clip that is not read by then.

    Yields:
        (height, width, 3) uint8, RGB, of the size at which the file wants the frame to be seen, or `None`; nothing
        where there is no picture at all.

    Raises:
        ClipError: As [`decode_audio`] does, when the first frame is asked for, or where a clip turns out too long; or
            its frames have more than 50 billion pixels in all.
        ImportError: PyAV is not installed.
    """
    if not 0 < frame_rate < float("inf"):
        raise ValueError(f"frame_rate is {frame_rate}, expected a positive number of frames per second")
    with opened(path, max_seconds) as container:
        number, stream = 0, picture_stream(container)
        if stream is None:
            return
        converter = av.video.reformatter.VideoReformatter()  # one for all frames: each has threads of its own
        for frame, begin, end in _shown(container, stream, path, deadline):
            if max_seconds is not None:
                if begin > max_seconds + GRACE_SECONDS:
                    raise too_long(path, max_seconds)
                end = min(end, max_seconds + GRACE_SECONDS)
            while number / frame_rate < begin - TIME_TOLERANCE:
                yield None
                number += 1
            image = None
            while number / frame_rate < end - TIME_TOLERANCE or number == 0:
                if image is None:
                    image = _upright_rgb(frame, converter, _aspect(stream), path)
                yield image
                number += 1


def clip_facts(path: str | os.PathLike) -> ClipFacts:
    """
    Reads the facts that a file states about itself.

    Args:
        path (`str` or `os.PathLike`): A local file of one of the `FORMATS`.

    Raises:
        ClipError: The file cannot be read, or holds neither sound nor picture.
        ImportError: PyAV is not installed.
    """
    with opened(path, None) as container:
        audio, video = sound_stream(container), picture_stream(container)
        facts = ClipFacts(stated_duration(container), audio is not None, video is not None)
        if audio and audio.codec_context is not None:
            facts.sampling_rate = audio.codec_context.sample_rate or None
        if video:
            facts.frame_rate = float(video.average_rate) if video.average_rate else None
        if video and video.codec_context is not None:
            facts.width, facts.height = video.codec_context.width or None, video.codec_context.height or None
        if facts.duration is None:
            facts.duration = packets_duration(container)
    return facts


def _heard(
    container: Any, path: str | os.PathLike, max_seconds: float | None, deadline: Deadline | None
) -> Iterator[tuple[np.ndarray, int]]:
    """
    Yields the sound of a file from the start of the clip, with holes filled by silence.

    Yields:
        (samples, 1) float32, or (samples, 2): the mean of two channels and half their difference; and the rate, Hz.
    """
    stream = sound_stream(container)
    if stream is None:
        return
    clock, seconds, mixers = Clock(zero(first_frames(path), "audio"), stated_duration(container)), 0.0, {}
    for frame in decoded(container, stream, path, deadline):
        rate, hole = frame.sample_rate, clock(frame, seconds) - seconds
        silent = round(hole * rate) if hole > SOUND_HOLE_SECONDS else 0
        seconds += (silent + frame.samples) / rate
        if max_seconds is not None and seconds > max_seconds + GRACE_SECONDS:
            raise too_long(path, max_seconds)
        sound = mixed(frame, mixers)
        for begin in range(0, silent, rate):
            yield np.zeros((min(rate, silent - begin), sound.shape[1]), np.float32), rate
        yield sound, rate


def _shown(
    container: Any, stream: Any, path: str | os.PathLike, deadline: Deadline | None
) -> Iterator[tuple[Any, float, float]]:
    """Yields each frame of a video stream, and from when to when it is shown, in seconds since the clip began."""
    clock = Clock(zero(first_frames(path), "video"), stated_duration(container))
    step = 1 / float(stream.average_rate or 25)
    before, begin, pixels = None, 0.0, 0
    steps, seconds = 0, 0.0  # frames that another one followed without a hole, and their total duration
    for frame in decoded(container, stream, path, deadline):
        pixels += frame.width * frame.height
        check_pixels(pixels, path)
        if pixels > MAX_PIXEL_RATE * (begin + 1):
            raise ClipError(f"{name_of(path)} has more frames per second than can be read; lower its frame rate")
        now = clock(frame, begin, step if before else 0.0)
        if before is not None:
            now = max(now, begin)  # damaged clocks run backwards
            end = until(begin, now, steps, seconds)
            yield before, begin, end
            if end == now:
                steps, seconds = steps + 1, seconds + now - begin
            step = now - begin or step
        before, begin = frame, now
    if before is not None:
        duration = float((before.duration or 0) * (before.time_base or stream.time_base))
        yield before, begin, until(begin, begin + (duration or step), steps, seconds)


def _aspect(stream: Any) -> float:
    """Returns the width of a pixel over its height, as the container says, else the picture itself."""
    return float(stream.sample_aspect_ratio or 1)


def _upright_rgb(frame: Any, converter: Any, aspect: float, path: str | os.PathLike) -> np.ndarray:
    """Returns a frame as it is to be seen, (height, width, 3) uint8; `aspect` is a pixel's width over its height."""
    width, height = frame.width, frame.height
    check_size(width, height, path)
    if abs(aspect - 1) > SQUARE_TOLERANCE:  # to the larger size, so that nothing is lost
        width, height = round(width * max(aspect, 1)), round(height / min(aspect, 1))
        check_size(width, height, path, f"pixels that are not square: {frame.width} x {frame.height} are to be seen as")
    try:
        image = converter.reformat(frame, width, height, "rgb24").to_ndarray()
    except (av.error.FFmpegError, ValueError) as error:
        raise ClipError(f"{name_of(path)} has a picture in an unusual pixel format; {CONVERT}") from error
    # Not `frame.side_data`: it holds the frame that holds it, and each would stay until the garbage collector runs.
    side_data = SideDataContainer(frame)  # ty: ignore[too-many-positional-arguments]
    matrix = side_data.get("DISPLAYMATRIX")
    if matrix is not None:
        # libavutil/display.h: (x, y) is shown at (a x + c y, b x + d y).
        a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].astype(np.int64)
        if abs(b) + abs(c) > abs(a) + abs(d):
            image, a, d = image.swapaxes(0, 1), c, b
        image = image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    return np.ascontiguousarray(image)


__all__ = [
    "FORMATS",
    "ClipError",
    "ClipFacts",
    "ClipWarning",
    "Deadline",
    "clip_facts",
    "decode_audio",
    "decode_video",
    "resample",
]
