"""
Opens local media files with PyAV (FFmpeg, in the process), and decodes their packets. This file travels to the Hub.

Uploads are not trusted: only a plain local file of a known media format is opened. FFmpeg's playlists (HLS, DASH,
concat...), which name further files and addresses, its devices, and every protocol but `file` are switched off.
"""

import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

try:
    import av
except ImportError:
    av = None

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

# A clip may pass `max_seconds` by this much: encoders pad a stream's end.
GRACE_SECONDS = 0.25
# A file that was written to a pipe claims a larger size than this.
MAX_RIFF = 2**31 - 2**16
# 8K. A file of a few kilobytes may claim larger frames, which would fill the memory.
MAX_PIXELS = 8192 * 4608
# Image models enlarge a frame by its shorter side: one of 8192 x 2 pixels would become 600 MB.
MAX_ASPECT_RATIO = 20
# Pixels in all frames of a clip, minutes of work for a core: 13 minutes of 1080p at 30 frames/s, 200 s of 4K, 50 of 8K.
MAX_CLIP_PIXELS = 50_000_000_000

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


@contextmanager
def opened(path: str | os.PathLike, max_seconds: float | None) -> Iterator[Any]:
    """Opens a file that may be read as a clip, as PyAV's `InputContainer`."""
    if av is None:
        raise ImportError("Clips are decoded by PyAV, which is not installed: pip install 'av>=17.1'")
    name, path = name_of(path), os.fsdecode(path)
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
        duration = stated_duration(container)
        if max_seconds is not None and duration is not None and duration > max_seconds + GRACE_SECONDS:
            raise too_long(path, max_seconds, duration)
        yield container


def decoded(container: Any, stream: Any, path: str | os.PathLike, deadline: Deadline | None) -> Iterator[Any]:
    """Yields the frames of a stream, except those in damaged packets."""
    kind = "sound" if stream.type == "audio" else "picture"
    if stream.codec_context is None:
        raise ClipError(f"{name_of(path)} has a {kind} in an unknown encoding; {CONVERT}")
    if stream.type == "video":
        width, height = stream.codec_context.width, stream.codec_context.height
        check_size(width, height, path)
        check_pixels(stream.frames * width * height, path)  # 0 where the file's head does not count its frames
    decoder = _Decoder(container, stream)
    # All packets are read, to learn how far the file goes, but only those of this stream are decoded.
    packets, packet, damage, found, reached = container.demux(), True, None, 0, 0.0
    while packet is not None:
        if deadline is not None:
            deadline.check(name_of(path))
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
    name = name_of(path)
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
    duration = timed and container.duration and stated_duration(container)
    return bool(duration) and reached - (container.start_time or 0) / 1e6 < duration - max(0.5, 0.05 * duration)


def first_frames(path: str | os.PathLike) -> dict[str, list[tuple[float, float]]]:
    """
    Returns when the first two frames of sound ("audio") and the first one of picture ("video") begin on the file's
    clock, and how long the sound lasts, in seconds; nothing where one of the streams is missing.
    """
    frames: dict[str, list[tuple[float, float]]] = {"audio": [], "video": []}
    wanted = {"audio": 2, "video": 1}
    with opened(path, None) as container:
        both = sound_stream(container), picture_stream(container)
        if any(stream is None or stream.codec_context is None for stream in both):
            return frames
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
    return frames


def sound_stream(container: Any) -> Any | None:
    """Returns the sound stream to read."""
    return _chosen(container.streams.audio)


def picture_stream(container: Any) -> Any | None:
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


def stated_duration(container: Any) -> float | None:
    """Returns the duration that the file states, in seconds."""
    formats = set(container.format.name.split(","))
    if container.duration is None or UNTIMED & formats:
        return None
    # Matroska states when the clip ends, the others how long it lasts.
    return (container.duration - (container.start_time or 0) * ("matroska" in formats)) / 1e6


def packets_duration(container: Any) -> float | None:
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


def check_size(width: int, height: int, path: str | os.PathLike, what: str = "a picture of") -> None:
    if width * height > MAX_PIXELS:
        raise ClipError(f"{name_of(path)} has {what} {width} x {height} pixels; scale it down")
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height) > 0:
        raise ClipError(f"{name_of(path)} has {what} {width} x {height} pixels; crop it")


def check_pixels(pixels: int, path: str | os.PathLike) -> None:
    """Checks the pixels of all frames, or of those so far."""
    if pixels > MAX_CLIP_PIXELS:
        raise ClipError(
            f"{name_of(path)} has more than {MAX_CLIP_PIXELS / 1e9:g} billion pixels in all its frames; scale it down, "
            "or cut it into shorter clips"
        )


def too_long(path: str | os.PathLike, max_seconds: float, duration: float | None = None) -> ClipError:
    lasts = "is longer" if duration is None else f"lasts {duration:.1f} s, longer"
    return ClipError(f"{name_of(path)} {lasts} than the {max_seconds:g} s that are allowed; cut it into shorter clips")


def name_of(path: str | os.PathLike) -> str:
    """Returns the file's name as it may be shown: quoted, with control characters escaped."""
    return repr(os.path.basename(os.path.normpath(os.fsdecode(path))))
