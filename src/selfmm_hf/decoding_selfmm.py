"""
Sound and picture of a local media file, by PyAV (FFmpeg's libraries, in the process). This file travels to the Hub.

Uploads are not trusted: only a plain local file of a known media format is opened. FFmpeg's playlists (HLS, DASH,
concat...), which name further files and addresses, its devices, and every protocol but `file` are switched off.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

try:
    import av
    from av.sidedata.sidedata import SideDataContainer
except ImportError:
    av = None
try:
    import soxr
except ImportError:
    soxr = None

# FFmpeg's names of the formats that are read. All hold their own media: none names other files.
FORMATS = (
    "aac", "ac3", "aiff", "amr", "amrnb", "amrwb", "ape", "asf", "au", "avi", "caf", "dv", "eac3", "flac", "flv", "gif",
    "h264", "hevc", "ivf", "m4v", "matroska", "mjpeg", "mov", "mp3", "mpeg", "mpegts", "mpegvideo", "mxf", "ogg", "rm",
    "tta", "w64", "wav", "wv",
)  # fmt: skip

# Of these, FFmpeg guesses the duration from the file's size.
UNTIMED = {"aac", "ac3", "amr", "amrnb", "amrwb", "eac3", "h264", "hevc", "m4v", "mjpeg", "mpegvideo"}
# These write it down: where less than that can be decoded, the file is cut off.
TIMED = {"flac", "matroska", "mov"}

# A clip may pass `max_seconds` by this much: encoders pad a stream's end.
GRACE_SECONDS = 0.25
# A frame counts from this long before its time: Matroska rounds times to milliseconds, MP4 does not.
TIME_TOLERANCE = 1e-3
# Beyond 8K: a file of a few kilobytes may claim frames that fill the memory.
MAX_PIXELS = 8192 * 4608
# Image models enlarge a frame by its shorter side: one of 8192 x 2 pixels would become 600 MB.
MAX_ASPECT_RATIO = 20
# Pixels per second, 8K at 60 frames: a file of a few megabytes may hold frames for an hour of decoding in a second.
MAX_PIXEL_RATE = 60 * 8192 * 4608
# Loudest sample; full scale is 1. Unscaled 32-bit samples pass, what would overflow float32 in a spectrum does not.
MAX_AMPLITUDE = 2.0**31

CONVERT = "convert it, for instance to MP4 with H.264 and AAC"


class ClipError(ValueError):
    """A file that cannot be read as a clip; the message names the file, what is wrong, and how to mend it."""


class ClipWarning(UserWarning):
    """Something to bear in mind about a clip: that a part of it could not be read, for instance."""


@dataclass
class ClipFacts:
    """
    What a file says about itself; nothing is decoded.

    Args:
        duration (`float`, *optional*):
            Seconds; `None` where neither the file nor its packets tell.
        has_audio (`bool`): Whether there is a sound stream, which may still be empty.
        has_video (`bool`): Whether there is a moving picture; the cover of a music file is none.
        sampling_rate (`int`, *optional*): Of the sound, Hz.
        frame_rate (`float`, *optional*): Of the picture, frames per second, on average.
        width (`int`, *optional*): Of the coded picture, pixels, before it is turned upright.
        height (`int`, *optional*): Likewise.
    """

    duration: float | None
    has_audio: bool
    has_video: bool
    sampling_rate: int | None = None
    frame_rate: float | None = None
    width: int | None = None
    height: int | None = None


def decode_audio(path: str | os.PathLike, sampling_rate: int, max_seconds: float | None = None) -> np.ndarray | None:
    """
    The first sound stream of a file: the mean of its channels, resampled by soxr ("HQ"), as `librosa.load` does.

    Time runs from the first sample, wherever the file's clock stands then. Integer samples are scaled to [-1, 1);
    float samples stay as they are, but those that are not finite become 0.

    Args:
        path (`str` or `os.PathLike`): A local file of one of the `FORMATS`.
        sampling_rate (`int`): Wanted, Hz.
        max_seconds (`float`, *optional*): Refuse a longer clip, if possible before anything is decoded.

    Returns:
        (samples,) float32; `None` where there is no sound stream, or nothing in it.

    Raises:
        ClipError: The file cannot be read, nothing in its sound stream can be decoded, or it is too long. Where a part
            can be decoded, that part is returned, with a [`ClipWarning`].
        ImportError: PyAV or soxr is not installed.
    """
    if sampling_rate < 1:
        raise ValueError(f"sampling_rate is {sampling_rate}, expected 1 Hz or more")
    chunks, resampler, seconds = [], None, 0.0
    with _opened(path, max_seconds) as container:
        for stream in container.streams.audio[:1]:
            for frame in _decoded(container, stream, path):
                seconds += frame.samples / frame.sample_rate
                if max_seconds is not None and seconds > max_seconds + GRACE_SECONDS:
                    raise _too_long(path, max_seconds)
                if resampler is None or resampler.rate != frame.sample_rate:  # some streams change their rate
                    if resampler is not None:
                        chunks.append(resampler.rest())
                    resampler = _Resampler(frame.sample_rate, sampling_rate)
                chunks.append(resampler(_mono(frame)))
    if resampler is None:
        return None
    samples = np.concatenate([*chunks, resampler.rest()])
    return samples if samples.size else None


def resample(samples: np.ndarray, sampling_rate: int, new_rate: int) -> np.ndarray:
    """
    Sound as [`decode_audio`] would give it of a file that holds these samples.

    Args:
        samples (`np.ndarray`): (samples,) float, mono.
        sampling_rate (`int`): What they have, Hz.
        new_rate (`int`): Wanted, Hz.

    Returns:
        (samples,) float32.

    Raises:
        ImportError: soxr is not installed.
    """
    resampler = _Resampler(sampling_rate, new_rate)
    return np.concatenate([resampler(samples.astype(np.float32)), resampler.rest()])


def decode_video(path: str | os.PathLike, frame_rate: float, max_seconds: float | None = None) -> Iterator[np.ndarray]:
    """
    The first moving picture of a file at a steady rate: at each time `k / frame_rate` the frame then shown.

    Time runs from the first frame, wherever the file's clock stands then, to the end of the last one. Frames are turned
    upright, and mirrored, as the file demands. They are decoded as they are asked for. A frame that is shown at several
    times is yielded as the very same array: do not change it.

    Args:
        path (`str` or `os.PathLike`): A local file of one of the `FORMATS`.
        frame_rate (`float`): Wanted, frames per second.
        max_seconds (`float`, *optional*): Refuse a longer clip, if possible before anything is decoded.

    Yields:
        (height, width, 3) uint8, RGB, of the size that the frame has in the file; nothing where there is no picture.

    Raises:
        ClipError: As [`decode_audio`] does, when the first frame is asked for, or where a clip turns out too long.
        ImportError: PyAV is not installed.
    """
    if not 0 < frame_rate < float("inf"):
        raise ValueError(f"frame_rate is {frame_rate}, expected a positive number of frames per second")
    with _opened(path, max_seconds) as container:
        number, image = 0, None
        converter = av.video.reformatter.VideoReformatter()  # one for all frames: each has threads of its own
        for frame, begin, end in _shown(container, path):
            if max_seconds is not None and begin > max_seconds + GRACE_SECONDS:
                raise _too_long(path, max_seconds)
            if max_seconds is not None:
                end = min(end, max_seconds + GRACE_SECONDS)
            image = None
            while number / frame_rate < end - TIME_TOLERANCE or number == 0:
                if image is None:
                    image = _upright_rgb(frame, converter, path)
                yield image
                number += 1


def clip_facts(path: str | os.PathLike) -> ClipFacts:
    """
    Args:
        path (`str` or `os.PathLike`): A local file of one of the `FORMATS`.

    Raises:
        ClipError: The file cannot be read, or holds neither sound nor picture.
        ImportError: PyAV is not installed.
    """
    with _opened(path, None) as container:
        audio, video = container.streams.audio, _pictures(container)
        facts = ClipFacts(_duration(container), bool(audio), bool(video))
        if audio and audio[0].codec_context is not None:
            facts.sampling_rate = audio[0].codec_context.sample_rate or None
        if video:
            facts.frame_rate = float(video[0].average_rate) if video[0].average_rate else None
        if video and video[0].codec_context is not None:
            facts.width, facts.height = video[0].codec_context.width or None, video[0].codec_context.height or None
        if facts.duration is None:
            facts.duration = _packets_duration(container)
    return facts


@contextmanager
def _opened(path: str | os.PathLike, max_seconds: float | None) -> Iterator[Any]:
    """The file's `av.container.InputContainer`."""
    if av is None:
        raise ImportError("Clips are decoded by PyAV, which is not installed: pip install 'selfmm-hf[clips]'")
    name, path = _name(path), os.fsdecode(path)
    if "\0" in path or not os.path.exists(path):
        raise ClipError(f"there is no local file {name}; {'download it first' if '://' in path else 'check the path'}")
    if not os.path.isfile(path):
        raise ClipError(f"{name} is a folder or a device, not a file; name the clip itself")
    if os.path.getsize(path) == 0:
        raise ClipError(f"{name} is empty (0 bytes); copy or record it again")
    try:
        container = av.open(
            f"file:{os.path.abspath(path)}",  # whatever the name looks like, it is a path
            metadata_errors="replace",
            options={"protocol_whitelist": "file", "format_whitelist": ",".join(FORMATS)},
        )
    except PermissionError as error:
        raise ClipError(f"{name} may not be read by this user; change its permissions") from error
    except av.error.FFmpegError as error:
        raise ClipError(
            f"{name} is no sound or video file of a kind that is read here, or it is damaged or cut off; "
            f"copy it again, or {CONVERT}"
        ) from error
    with container:
        if not container.streams.audio and not container.streams.video:
            raise ClipError(f"{name} holds neither sound nor picture; choose another file")
        duration = _duration(container)
        if max_seconds is not None and duration is not None and duration > max_seconds + GRACE_SECONDS:
            raise _too_long(path, max_seconds, duration)
        yield container


def _decoded(container: Any, stream: Any, path: str | os.PathLike) -> Iterator[Any]:
    """The frames of a stream, less those in damaged packets."""
    kind = "sound" if stream.type == "audio" else "picture"
    if stream.codec_context is None:
        raise ClipError(f"{_name(path)} has a {kind} in an unknown encoding; {CONVERT}")
    stream.codec_context.thread_type = "NONE"  # one thread: clips are extracted side by side
    if stream.type == "video":
        _check_size(stream.codec_context, path)
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    # All packets are read, for how far the file goes, but only those of this stream are decoded.
    packets, packet, damage, found, reached = container.demux(), True, None, 0, 0.0
    while packet is not None:
        try:
            packet = None
            packet = next(packets, None)
        except av.error.FFmpegError as error:
            damage = error
        except IndexError:
            pass  # PyAV, at the end, where a stream turned up that the file's head does not name
        if packet is not None:
            reached = max(reached, _end(packet))
            if packet.stream.index != stream.index:
                continue
        frames = []
        try:
            frames = stream.codec_context.decode(packet)  # None: what the decoder still holds
        except av.error.EOFError:
            pass  # it holds nothing
        except av.error.FFmpegError as error:
            damage = error
        for frame in frames:
            if stream.type == "video" or (frame.samples and frame.sample_rate):
                found += 1
                yield frame
    timed = container.duration and TIMED & set(container.format.name.split(","))
    cut = timed and reached < 0.9 * container.duration / 1e6 - 0.5
    name = _name(path)
    if not found and (damage or cut):
        raise ClipError(f"nothing of the {kind} of {name} can be decoded; copy it again, or {CONVERT}") from damage
    if damage or cut:
        message = f"{name} is damaged or cut off: only a part of its {kind} is used"
        warnings.warn(message, ClipWarning, stacklevel=2)


def _shown(container: Any, path: str | os.PathLike) -> Iterator[tuple[Any, float, float]]:
    """Each frame of the picture, and from when to when it is shown, in seconds since the first."""
    for stream in _pictures(container)[:1]:
        step = 1 / float(stream.average_rate or 25)
        start, before, begin, pixels = None, None, 0.0, 0
        for frame in _decoded(container, stream, path):
            pixels += frame.width * frame.height
            if pixels > MAX_PIXEL_RATE * (begin + 1):
                raise ClipError(f"{_name(path)} has more frames per second than can be read; lower its frame rate")
            now = begin + step
            if frame.pts is not None:
                stamp = float(frame.pts * (frame.time_base or stream.time_base))
                start = stamp if start is None else start
                now = stamp - start
            if before is not None:
                now = max(now, begin)  # damaged clocks run backwards
                yield before, begin, now
                step, begin = now - begin or step, now
            before = frame
        if before is not None:
            duration = float((before.duration or 0) * (before.time_base or stream.time_base))
            yield before, begin, begin + (duration or step)


def _upright_rgb(frame: Any, converter: Any, path: str | os.PathLike) -> np.ndarray:
    """A frame as it is to be seen: (height, width, 3) uint8."""
    _check_size(frame, path)
    try:
        image = converter.reformat(frame, format="rgb24").to_ndarray()
    except (av.error.FFmpegError, ValueError) as error:
        raise ClipError(f"{_name(path)} has a picture in an unusual pixel format; {CONVERT}") from error
    # Not `frame.side_data`, which holds the frame that holds it: each would stay until the garbage collector comes by.
    side_data = SideDataContainer(frame)
    matrix = next((bytes(data) for data in side_data if data.type.name == "DISPLAYMATRIX"), None)
    if matrix is not None:
        # libavutil/display.h: (x, y) is shown at (a x + c y, b x + d y).
        a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].astype(np.int64)
        if abs(b) + abs(c) > abs(a) + abs(d):
            image, a, d = image.swapaxes(0, 1), c, b
        image = image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    return np.ascontiguousarray(image)


def _mono(frame: Any) -> np.ndarray:
    """The mean of a sound frame's channels, (samples,) float32."""
    samples = frame.to_ndarray()  # (channels, samples), or (1, samples * channels) where they are interleaved
    if not frame.format.is_planar:
        samples = samples.reshape(frame.samples, -1).T
    if samples.dtype.kind in "iu":
        full_scale = 2.0 ** (8 * samples.itemsize - 1)
        samples = samples.astype(np.float32) / np.float32(full_scale) - (samples.dtype.kind == "u")
    else:
        samples = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0).clip(-MAX_AMPLITUDE, MAX_AMPLITUDE)
    return samples.astype(np.float32, copy=False).mean(axis=0)


class _Resampler:
    """Resamples a stream chunk by chunk, with the very result of resampling it at once."""

    def __init__(self, rate: int, new_rate: int):
        if soxr is None:
            raise ImportError("Sound is resampled by soxr, which is not installed: pip install 'selfmm-hf[clips]'")
        self.rate, self.new_rate, self.read, self.written = rate, new_rate, 0, 0
        self.stream = None if rate == new_rate else soxr.ResampleStream(rate, new_rate, 1, "float32", "HQ")

    def __call__(self, samples: np.ndarray, last: bool = False) -> np.ndarray:
        resampled = samples if self.stream is None else self.stream.resample_chunk(samples, last=last)
        self.read += len(samples)
        self.written += len(resampled)
        return resampled

    def rest(self) -> np.ndarray:
        """What is still to come; all in all `ceil(read * new_rate / rate)` samples, as librosa has it."""
        rest = self(np.zeros(0, np.float32), last=True)
        missing = -(-self.read * self.new_rate // self.rate) - self.written
        return rest[: len(rest) + missing] if missing < 0 else np.pad(rest, (0, missing))


def _pictures(container: Any) -> list[Any]:
    """The video streams that move."""
    still = av.stream.Disposition.attached_pic
    return [stream for stream in container.streams.video if not stream.disposition & still]


def _duration(container: Any) -> float | None:
    """What the file says, in seconds."""
    formats = set(container.format.name.split(","))
    if container.duration is None or UNTIMED & formats:
        return None
    # Matroska writes the time of the end, the others how long the clip lasts.
    return (container.duration - (container.start_time or 0) * ("matroska" in formats)) / 1e6


def _packets_duration(container: Any) -> float | None:
    """Until when the packets last, in seconds: browsers record WebM without a duration."""
    begin, end = None, 0.0
    try:
        for packet in container.demux():
            if packet.pts is not None:
                stamp = float(packet.pts * packet.time_base)
                begin, end = stamp if begin is None else min(begin, stamp), max(end, _end(packet))
    except (av.error.FFmpegError, IndexError):
        pass  # as far as it can be read
    return None if begin is None else end - begin


def _end(packet: Any) -> float:
    """When a packet ends on the file's clock, in seconds; 0 where it does not say."""
    return 0.0 if packet.pts is None else float((packet.pts + (packet.duration or 0)) * packet.time_base)


def _check_size(picture: Any, path: str | os.PathLike) -> None:
    if picture.width * picture.height > MAX_PIXELS:
        raise ClipError(f"{_name(path)} has a picture of {picture.width} x {picture.height} pixels; scale it down")
    if max(picture.width, picture.height) > MAX_ASPECT_RATIO * min(picture.width, picture.height) > 0:
        raise ClipError(f"{_name(path)} has a picture of {picture.width} x {picture.height} pixels; crop it")


def _too_long(path: str | os.PathLike, max_seconds: float, duration: float | None = None) -> ClipError:
    lasts = "is longer" if duration is None else f"lasts {duration:.1f} s, longer"
    return ClipError(f"{_name(path)} {lasts} than the {max_seconds:g} s that are allowed; cut it into shorter clips")


def _name(path: str | os.PathLike) -> str:
    """The file's name as it may be shown: quoted, control characters escaped."""
    return repr(os.path.basename(os.path.normpath(os.fsdecode(path))))
