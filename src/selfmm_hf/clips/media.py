"""Finds clips, and the words beside them."""

import os
from collections.abc import Iterable
from pathlib import Path

# The endings by which clips are found, of files that `decode_audio` and `decode_video` read.
MEDIA = {
    ".3g2", ".3gp", ".aac", ".ac3", ".aif", ".aiff", ".amr", ".ape", ".asf", ".au", ".avi", ".caf", ".dv", ".eac3",
    ".flac", ".flv", ".gif", ".ivf", ".m2ts", ".m4a", ".m4v", ".mjpeg", ".mka", ".mkv", ".mov", ".mp3", ".mp4", ".mpeg",
    ".mpg", ".mts", ".mxf", ".oga", ".ogg", ".ogv", ".opus", ".rm", ".ts", ".tta", ".vob", ".w64", ".wav", ".webm",
    ".wma", ".wmv", ".wv",
}  # fmt: skip


def media_files(clips: Iterable[str]) -> list[str]:
    """
    Returns the clips; a folder is replaced by the clips in it, in the order of their names.

    Args:
        clips: Files, URLs or folders.

    Raises:
        ValueError: A folder has none.
    """
    files = []
    for clip in clips:
        if not os.path.isdir(clip):
            files.append(clip)
            continue
        found = sorted(str(path) for path in Path(clip).rglob("*") if path.suffix.lower() in MEDIA and path.is_file())
        if not found:
            raise ValueError(f"There are no clips in the folder {clip}.")
        files += found
    return files


def words_beside(clip: str) -> str | None:
    """
    Reads `a.txt` beside `a.mp4`, if it is there.

    Raises:
        ValueError: It is not UTF-8 text.
    """
    beside = Path(clip).with_suffix(".txt")
    if not Path(clip).is_file() or not beside.is_file():
        return None
    try:
        return beside.read_text("utf-8-sig").strip() or None
    except UnicodeDecodeError as error:
        raise ValueError(f"{beside}, the words of {clip}, is not UTF-8 text: {error}; save it as UTF-8.") from error
