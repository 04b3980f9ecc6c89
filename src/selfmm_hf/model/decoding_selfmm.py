"""
Decodes sound and picture of a local media file with PyAV (FFmpeg, in the process). This file travels to the Hub.

Both share one clock, which starts with the first of them, as in a player. Sound that is missing, at the start or on the
way, is silence; a missing picture is `None`. Streams that begin within 50 ms of each other count as beginning together,
because containers round times, and encoders put a frame in front of the sound (AAC at 44.1 kHz: 23 ms).

Uploads are not trusted: only a plain local file of a known media format is opened. FFmpeg's playlists (HLS, DASH,
concat...), which name further files and addresses, its devices, and every protocol but `file` are switched off.
"""

import math
import os
import time
import warnings
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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

# Metadata in another encoding than UTF-8 is no error. PyAV 19 never takes it for one, and has no such option.
ANY_METADATA = {"metadata_errors": "replace"} if av and int(av.__version__.partition(".")[0]) < 19 else {}
# FFmpeg's names of the formats that are read. All hold their own media: none names other files.
FORMATS = (
    "aac", "ac3", "aiff", "amr", "amrnb", "amrwb", "ape", "asf", "au", "avi", "caf", "dv", "eac3", "flac", "flv", "gif",
    "h264", "hevc", "ivf", "m4v", "matroska", "mjpeg", "mov", "mp3", "mpeg", "mpegts", "mpegvideo", "mxf", "ogg", "rm",
    "tta", "w64", "wav", "wv",
)  # fmt: skip

# For these, FFmpeg guesses the duration from the file's size.
UNTIMED = {"aac", "ac3", "amr", "amrnb", "amrwb", "eac3", "h264", "hevc", "m4v", "mjpeg", "mpegvideo"}
# These state it: if less can be decoded, the file is cut off.
TIMED = {"aiff", "asf", "au", "flac", "flv", "matroska", "mov", "tta"}

# Streams that begin this close to each other count as beginning together.
TOGETHER_SECONDS = 0.05
# If the next frame's time is later than the sound so far by more than this, packets were lost; less is jitter.
SOUND_HOLE_SECONDS = 0.05
# Frames were lost after a frame that would last longer than this and longer than so many mean frames of its clip. The
# frames of a slideshow are all long, so they pass; a single still has nothing to be compared with.
STILL_SECONDS = 1.0
STILL_FRAMES = 4
# A clock that jumps back by more than this was reset, as where files were joined.
BACK_SECONDS = 1.0
# A jump ahead by more than this, beyond the file's stated duration, is a damaged time.
HOLE_SECONDS = 60.0

# A clip may pass `max_seconds` by this much: encoders pad a stream's end.
GRACE_SECONDS = 0.25
# A frame counts from this long before its time: Matroska rounds times to milliseconds, MP4 does not.
TIME_TOLERANCE = 1e-3
# A file that was written to a pipe claims a larger size than this.
MAX_RIFF = 2**31 - 2**16
# 8K. A file of a few kilobytes may claim larger frames, which would fill the memory.
MAX_PIXELS = 8192 * 4608
# Image models enlarge a frame by its shorter side: one of 8192 x 2 pixels would become 600 MB.
MAX_ASPECT_RATIO = 20
# Pixels may be this far from square: sizes are rounded.
SQUARE_TOLERANCE = 0.01
# Pixels per second, 8K at 60 frames: without a limit, one second of a small file may take an hour to decode.
MAX_PIXEL_RATE = 60 * 8192 * 4608
# Pixels in all frames of a clip, minutes of work for a core: 13 minutes of 1080p at 30 frames/s, 200 s of 4K, 50 of 8K.
MAX_CLIP_PIXELS = 50_000_000_000
# Loudest sample; full scale is 1. Unscaled 32-bit samples pass; what would overflow float32 in a spectrum is clipped.
MAX_AMPLITUDE = 2.0**31

CONVERT = "convert it, for instance to MP4 with H.264 and AAC"


class ClipError(ValueError):
    """A file that cannot be read as a clip; the message names the file, what is wrong, and how to mend it."""


class ClipWarning(UserWarning):
    """A remark about a clip, for instance that a part of it could not be read."""


class Deadline:
    """
    The time limit for one clip, for a service that strangers use. It is checked between frames.

    Args:
        seconds (`float`): From now on, above 0.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.end = time.monotonic() + seconds

    def check(self, name: str = "the clip") -> None:
        """
        Args:
            name: The clip's name, as it may be shown.

        Raises:
            ClipError: The time is up.
        """
        if time.monotonic() > self.end:
            raise ClipError(
                f"{name} takes longer to read than the {self.seconds:g} s that are allowed; cut it, or scale it down"
            )


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
    kept, resampler = _Kept(), None
    with _opened(path, max_seconds) as container:
        for sound, rate in _heard(container, path, max_seconds, deadline):
            if resampler is None or not resampler.takes(sound, rate):  # some streams change on the way
                if resampler is not None:
                    kept.add(resampler.rest())
                resampler = _Resampler(rate, sampling_rate, sound.shape[1])
            kept.add(resampler(sound))
    if resampler is None:
        return None
    kept.add(resampler.rest())
    if kept.cancels:
        message = f"the two sound channels of {_name(path)} cancel each other: the second is turned over"
        warnings.warn(message, ClipWarning, stacklevel=2)
    samples = kept.samples
    return samples if samples.size else None


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
    resampler, kept = _Resampler(sampling_rate, new_rate, 1), _Kept()
    for begin in range(0, len(samples), sampling_rate):
        kept.add(resampler(samples[begin : begin + sampling_rate].astype(np.float32)[:, None]))
    kept.add(resampler.rest())
    return kept.samples


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
    with _opened(path, max_seconds) as container:
        number, stream = 0, _picture(container)
        if stream is None:
            return
        converter = av.video.reformatter.VideoReformatter()  # one for all frames: each has threads of its own
        for frame, begin, end in _shown(container, stream, path, deadline):
            if max_seconds is not None:
                if begin > max_seconds + GRACE_SECONDS:
                    raise _too_long(path, max_seconds)
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
    with _opened(path, None) as container:
        audio, video = _sound(container), _picture(container)
        facts = ClipFacts(_duration(container), audio is not None, video is not None)
        if audio and audio.codec_context is not None:
            facts.sampling_rate = audio.codec_context.sample_rate or None
        if video:
            facts.frame_rate = float(video.average_rate) if video.average_rate else None
        if video and video.codec_context is not None:
            facts.width, facts.height = video.codec_context.width or None, video.codec_context.height or None
        if facts.duration is None:
            facts.duration = _packets_duration(container)
    return facts


@contextmanager
def _opened(path: str | os.PathLike, max_seconds: float | None) -> Iterator[Any]:
    """Opens a file that may be read as a clip, as PyAV's `InputContainer`."""
    if av is None:
        raise ImportError("Clips are decoded by PyAV, which is not installed: pip install 'av>=17.1'")
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
            options={"protocol_whitelist": "file", "format_whitelist": ",".join(FORMATS)},
            **ANY_METADATA,
        )
    except PermissionError as error:
        raise ClipError(f"{name} may not be read by this user; change its permissions") from error
    except av.error.FFmpegError as error:
        raise ClipError(
            f"{name} is not a sound or video file of a supported kind, or it is damaged or cut off; "
            f"copy it again, or {CONVERT}"
        ) from error
    with container:
        if not container.streams.audio and not container.streams.video:
            raise ClipError(f"{name} holds neither sound nor picture; choose another file")
        duration = _duration(container)
        if max_seconds is not None and duration is not None and duration > max_seconds + GRACE_SECONDS:
            raise _too_long(path, max_seconds, duration)
        yield container


def _decoded(container: Any, stream: Any, path: str | os.PathLike, deadline: Deadline | None) -> Iterator[Any]:
    """Yields the frames of a stream, except those in damaged packets."""
    kind = "sound" if stream.type == "audio" else "picture"
    if stream.codec_context is None:
        raise ClipError(f"{_name(path)} has a {kind} in an unknown encoding; {CONVERT}")
    if stream.type == "video":
        width, height = stream.codec_context.width, stream.codec_context.height
        _check_size(width, height, path)
        _check_pixels(stream.frames * width * height, path)  # 0 where the file's head does not count its frames
    decoder = _Decoder(container, stream)
    # All packets are read, to learn how far the file goes, but only those of this stream are decoded.
    packets, packet, damage, found, reached = container.demux(), True, None, 0, 0.0
    while packet is not None:
        if deadline is not None:
            deadline.check(_name(path))
        try:
            packet = None
            packet = next(packets, None)
        except av.error.FFmpegError as error:
            damage = error
        except IndexError:
            pass  # PyAV raises it at the end if a stream turned up that the file's head does not name
        if packet is not None:
            reached = max(reached, _end(packet))
            if packet.stream.index != stream.index:
                continue
        frames = []
        try:
            frames = decoder(packet)  # None flushes what the decoder still holds
        except av.error.EOFError:
            pass  # it holds nothing
        except av.error.FFmpegError as error:
            damage = error
        for frame in frames:
            found += 1
            yield frame
    cut = _cut_off(container, path, reached)
    name = _name(path)
    if not found and (damage or cut):
        raise ClipError(f"nothing of the {kind} of {name} can be decoded; copy it again, or {CONVERT}") from damage
    if damage or cut:
        message = f"{name} is damaged or cut off: only a part of its {kind} is used"
        warnings.warn(message, ClipWarning, stacklevel=2)


class _Decoder:
    """
    Decodes the packets of one stream.

    AVI states when a picture is decoded, not when it is shown. FFmpeg guesses that, and errs where pictures are stored
    in another order. So pictures are timed as they leave the decoder, minus the packets that it needs to begin.
    """

    def __init__(self, container: Any, stream: Any):
        self.context = stream.codec_context
        self.context.thread_type = "NONE"  # one thread: clips are extracted side by side
        self.untold, self.read, self.delay = False, 0, None
        if stream.type == "video":
            self.context.options = {"max_pixels": str(MAX_PIXELS)}
            self.untold = container.format.name == "avi"

    def __call__(self, packet: Any | None) -> list[Any]:
        """Returns the frames that come out; for `None`, all that remain. Raises FFmpeg's errors."""
        if packet is not None and packet.dts is not None:
            self.read += 1
        frames = [frame for frame in self.context.decode(packet) if _holds_something(frame)]
        if self.untold and frames:
            self.delay = max(self.read - 1, 0) if self.delay is None else self.delay  # a packet is a unit of time
            for frame in frames:
                frame.pts = None if frame.dts is None else frame.dts - self.delay
        return frames


def _holds_something(frame: Any) -> bool:
    return isinstance(frame, av.VideoFrame) or bool(frame.samples and frame.sample_rate)


def _cut_off(container: Any, path: str | os.PathLike, reached: float) -> bool:
    """Checks whether a file, whose packets end at `reached` on its own clock, ends before its head says."""
    formats = set(container.format.name.split(","))
    with open(path, "rb") as file:
        head = file.read(10)
        if formats & {"avi", "wav"}:  # FFmpeg goes by the file's size, not by its head
            size = int.from_bytes(head[4:8], "little")
            return size < MAX_RIFF and os.path.getsize(path) < 0.95 * size
        timed = TIMED & formats
        if "mp3" in formats:  # without one of these marks, FFmpeg guesses the duration
            if head.startswith(b"ID3"):
                file.seek(10 + int("".join(f"{byte:07b}" for byte in head[6:10]), 2))
            start = file.read(4096)
            timed = any(mark in start for mark in (b"Xing", b"Info", b"VBRI"))
    duration = timed and container.duration and _duration(container)
    return bool(duration) and reached - (container.start_time or 0) / 1e6 < duration - max(0.5, 0.05 * duration)


class _Clock:
    """
    Converts the times of a stream's frames to seconds of the clip.

    Args:
        zero: When the clip begins on the file's clock; `None` if that is with the stream's first frame.
        duration: Duration of the file, if it states one.
    """

    def __init__(self, zero: float | None, duration: float | None):
        self.zero, self.duration = zero, duration or math.inf

    def __call__(self, frame: Any, reached: float, step: float = 0.0) -> float:
        """
        Returns when a frame begins. The one before began, or the sound so far ends, at `reached`. If the frame's time
        is missing or absurd, it begins at `reached + step`.
        """
        expected = reached + step
        if frame.pts is None:
            return expected
        stamp = float(frame.pts * frame.time_base)
        now = expected if self.zero is None else stamp - self.zero
        lost = now > max(expected + HOLE_SECONDS, self.duration + 1)
        back = reached > max(now + BACK_SECONDS, 0)
        if self.zero is None or lost or back:
            self.zero, now = stamp - expected, expected
        return now


def _zero(path: str | os.PathLike, kind: str) -> float | None:
    """
    Returns when the clip begins on the file's clock, for its sound ("audio") or its picture ("video"). The two differ
    where streams begin a little apart but count as beginning together. `None` means: with the first frame of this kind.
    """
    frames: dict[str, list[tuple[float, float]]] = {"audio": [], "video": []}  # begin and length of each
    wanted = {"audio": 2, "video": 1}
    with _opened(path, None) as container:
        both = _sound(container), _picture(container)
        if any(stream is None or stream.codec_context is None for stream in both):
            return None
        decoders = {stream.type: _Decoder(container, stream) for stream in both}
        with suppress(av.error.FFmpegError, IndexError):  # damage is reported where the whole stream is decoded
            for packet in container.demux(*both):
                found = frames[packet.stream.type]
                if len(found) < wanted[packet.stream.type]:
                    with suppress(av.error.FFmpegError):
                        for frame in decoders[packet.stream.type](packet):
                            if frame.pts is not None:
                                length = frame.samples / frame.sample_rate if found is frames["audio"] else 0.0
                                found.append((float(frame.pts * frame.time_base), length))
                if all(len(frames[kind]) >= count for kind, count in wanted.items()):
                    break
    if not all(frames.values()):
        return None
    begins = {kind: found[0][0] for kind, found in frames.items()}
    if len(frames["audio"]) > 1:  # without edit lists, a fragmented MP4 stretches its first frame back to 0
        (_, length), (following, _) = frames["audio"][:2]
        begins["audio"] = max(begins["audio"], following - length)
    late = begins[kind] - min(begins.values())
    return begins[kind] - (late if late > TOGETHER_SECONDS + TIME_TOLERANCE else 0.0)


def _heard(
    container: Any, path: str | os.PathLike, max_seconds: float | None, deadline: Deadline | None
) -> Iterator[tuple[np.ndarray, int]]:
    """
    Yields the sound of a file from the start of the clip, with holes filled by silence.

    Yields:
        (samples, 1) float32, or (samples, 2): the mean of two channels and half their difference; and the rate, Hz.
    """
    stream = _sound(container)
    if stream is None:
        return
    clock, seconds, mixers = _Clock(_zero(path, "audio"), _duration(container)), 0.0, {}
    for frame in _decoded(container, stream, path, deadline):
        rate, hole = frame.sample_rate, clock(frame, seconds) - seconds
        silent = round(hole * rate) if hole > SOUND_HOLE_SECONDS else 0
        seconds += (silent + frame.samples) / rate
        if max_seconds is not None and seconds > max_seconds + GRACE_SECONDS:
            raise _too_long(path, max_seconds)
        sound = _mixed(frame, mixers)
        for begin in range(0, silent, rate):
            yield np.zeros((min(rate, silent - begin), sound.shape[1]), np.float32), rate
        yield sound, rate


def _shown(
    container: Any, stream: Any, path: str | os.PathLike, deadline: Deadline | None
) -> Iterator[tuple[Any, float, float]]:
    """Yields each frame of a video stream, and from when to when it is shown, in seconds since the clip began."""
    clock = _Clock(_zero(path, "video"), _duration(container))
    step = 1 / float(stream.average_rate or 25)
    before, begin, pixels = None, 0.0, 0
    steps, seconds = 0, 0.0  # frames that another one followed without a hole, and their total duration
    for frame in _decoded(container, stream, path, deadline):
        pixels += frame.width * frame.height
        _check_pixels(pixels, path)
        if pixels > MAX_PIXEL_RATE * (begin + 1):
            raise ClipError(f"{_name(path)} has more frames per second than can be read; lower its frame rate")
        now = clock(frame, begin, step if before else 0.0)
        if before is not None:
            now = max(now, begin)  # damaged clocks run backwards
            end = _until(begin, now, steps, seconds)
            yield before, begin, end
            if end == now:
                steps, seconds = steps + 1, seconds + now - begin
            step = now - begin or step
        before, begin = frame, now
    if before is not None:
        duration = float((before.duration or 0) * (before.time_base or stream.time_base))
        yield before, begin, _until(begin, begin + (duration or step), steps, seconds)


def _until(begin: float, end: float, steps: int, seconds: float) -> float:
    """Returns when a frame ends that would last from `begin` to `end`; `steps` frames before took `seconds` in all."""
    hole = steps and end - begin > max(STILL_SECONDS, STILL_FRAMES * seconds / steps)
    return begin + seconds / steps if hole else end


def _aspect(stream: Any) -> float:
    """Returns the width of a pixel over its height, as the container says, else the picture itself."""
    return float(stream.sample_aspect_ratio or 1)


def _upright_rgb(frame: Any, converter: Any, aspect: float, path: str | os.PathLike) -> np.ndarray:
    """Returns a frame as it is to be seen, (height, width, 3) uint8; `aspect` is a pixel's width over its height."""
    width, height = frame.width, frame.height
    _check_size(width, height, path)
    if abs(aspect - 1) > SQUARE_TOLERANCE:  # to the larger size, so that nothing is lost
        width, height = round(width * max(aspect, 1)), round(height / min(aspect, 1))
        _check_size(
            width, height, path, f"pixels that are not square: {frame.width} x {frame.height} are to be seen as"
        )
    try:
        image = converter.reformat(frame, width, height, "rgb24").to_ndarray()
    except (av.error.FFmpegError, ValueError) as error:
        raise ClipError(f"{_name(path)} has a picture in an unusual pixel format; {CONVERT}") from error
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


def _mixed(frame: Any, mixers: dict[tuple, Any]) -> np.ndarray:
    """Mixes a frame to (samples, 1) or (samples, 2) as [`_heard`] yields it. `mixers` keeps mixers of many channels."""
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


class _Kept:
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


class _Resampler:
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


def _sound(container: Any) -> Any | None:
    """Returns the sound stream to read."""
    return _chosen(container.streams.audio)


def _picture(container: Any) -> Any | None:
    """Returns the video stream to read: one that moves."""
    kinds = av.stream.Disposition
    still = kinds.attached_pic | kinds.timed_thumbnails
    return _chosen([stream for stream in container.streams.video if not stream.disposition & still])


def _chosen(streams: Any) -> Any | None:
    """Chooses the default stream, as players do; else one without commentary or the like; else the first."""
    kinds = av.stream.Disposition
    others = kinds.comment | kinds.visual_impaired | kinds.karaoke | kinds.clean_effects | kinds.descriptions

    def rank(stream: Any) -> tuple[bool, bool]:
        return not stream.disposition & kinds.default, bool(stream.disposition & others)

    return min(streams, key=rank, default=None)


def _duration(container: Any) -> float | None:
    """Returns the duration that the file states, in seconds."""
    formats = set(container.format.name.split(","))
    if container.duration is None or UNTIMED & formats:
        return None
    # Matroska states when the clip ends, the others how long it lasts.
    return (container.duration - (container.start_time or 0) * ("matroska" in formats)) / 1e6


def _packets_duration(container: Any) -> float | None:
    """Returns how long the packets last, in seconds: browsers record WebM without a duration."""
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
    """Returns when a packet ends on the file's clock, in seconds; 0 if it does not say."""
    return 0.0 if packet.pts is None else float((packet.pts + (packet.duration or 0)) * packet.time_base)


def _check_size(width: int, height: int, path: str | os.PathLike, what: str = "a picture of") -> None:
    if width * height > MAX_PIXELS:
        raise ClipError(f"{_name(path)} has {what} {width} x {height} pixels; scale it down")
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height) > 0:
        raise ClipError(f"{_name(path)} has {what} {width} x {height} pixels; crop it")


def _check_pixels(pixels: int, path: str | os.PathLike) -> None:
    """Checks the pixels of all frames, or of those so far."""
    if pixels > MAX_CLIP_PIXELS:
        raise ClipError(
            f"{_name(path)} has more than {MAX_CLIP_PIXELS / 1e9:g} billion pixels in all its frames; scale it down, "
            "or cut it into shorter clips"
        )


def _too_long(path: str | os.PathLike, max_seconds: float, duration: float | None = None) -> ClipError:
    lasts = "is longer" if duration is None else f"lasts {duration:.1f} s, longer"
    return ClipError(f"{_name(path)} {lasts} than the {max_seconds:g} s that are allowed; cut it into shorter clips")


def _name(path: str | os.PathLike) -> str:
    """Returns the file's name as it may be shown: quoted, with control characters escaped."""
    return repr(os.path.basename(os.path.normpath(os.fsdecode(path))))
