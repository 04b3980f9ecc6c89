"""
When the frames of a clip begin and end. This file travels to the Hub.

Sound and picture share one clock, which starts with the first of them, as in a player. Streams that begin within 50 ms
of each other count as beginning together, because containers round times, and encoders put a frame in front of the
sound (AAC at 44.1 kHz: 23 ms).
"""

import math
from typing import Any

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
# A frame counts from this long before its time: Matroska rounds times to milliseconds, MP4 does not.
TIME_TOLERANCE = 1e-3


class Clock:
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


def zero(frames: dict[str, list[tuple[float, float]]], kind: str) -> float | None:
    """
    Returns when the clip begins on the file's clock, for its sound ("audio") or its picture ("video"). The two differ
    where streams begin a little apart but count as beginning together. `None` means: with the first frame of this kind.

    Args:
        frames: Of each kind, when the first frames begin on the file's clock, and how long they last, in seconds.
    """
    if not all(frames.values()):
        return None
    begins = {kind: found[0][0] for kind, found in frames.items()}
    if len(frames["audio"]) > 1:  # without edit lists, a fragmented MP4 stretches its first frame back to 0
        (_, length), (following, _) = frames["audio"][:2]
        begins["audio"] = max(begins["audio"], following - length)
    late = begins[kind] - min(begins.values())
    return begins[kind] - (late if late > TOGETHER_SECONDS + TIME_TOLERANCE else 0.0)


def until(begin: float, end: float, steps: int, seconds: float) -> float:
    """Returns when a frame ends that would last from `begin` to `end`; `steps` frames before took `seconds` in all."""
    hole = steps and end - begin > max(STILL_SECONDS, STILL_FRAMES * seconds / steps)
    return begin + seconds / steps if hole else end
