"""Recognises data sets for research use by digests of their ids and labels, whatever their name."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pyarrow.parquet as pq
import yaml

from ..resources import CONFIGS

FILE = CONFIGS / "published" / "research.yaml"
# Videos of YouTube, by which CMU-MOSI and CMU-MOSEI name their clips, have ids of 11 letters.
WINDOW = re.compile(r"(?=([\w-]{11}))", re.ASCII)
NUMBER = re.compile(r"[\W_]*\d+[\W_]*$")  # of a clip, at the end of its id
FEWEST_CLIPS = 12  # of a video whose labels tell it from others of its name
FEWEST_VIDEOS = 2  # of these


def research_use(splits: Sequence[tuple[Sequence[str], Sequence[float]]]) -> str | None:
    """
    Finds the data set for research use that clips belong to.

    Known are all clips of CMU-MOSI and CMU-MOSEI whose id holds that of their video, be it a single one; all videos of
    CH-SIMS and CH-SIMS v2 that keep their name and their labels; and whole splits, or whole data sets, of CMU-MOSI,
    CH-SIMS and CH-SIMS v2 that keep their labels. Not known are clips under other ids whose labels were changed or of
    which some were left out, and clips of CMU-MOSEI under other ids.

    Args:
        splits: Ids and labels of the clips of each split.

    Returns:
        The title of the data set; `None` where they are of none.
    """
    found = {name: set(digests) for name, digests in content_digests(splits).items()}
    matches = {}
    for title, known in _known().items():
        counts = {kind: len(found[kind] & known[kind]) for kind in found}
        if counts["videos"] or counts["labels"] or counts["labelled_videos"] >= FEWEST_VIDEOS:
            matches[title] = sum(counts.values())
    return max(matches, key=matches.__getitem__, default=None)  # CH-SIMS v2 has videos of CH-SIMS


def research_use_of(files: dict[str, list[Path]]) -> str | None:
    """As [`research_use`], of Parquet files by split, of which only ids and labels are read."""
    columns = [pq.read_table(files[split], columns=["id", "label"]).to_pydict() for split in files]
    return research_use(
        [
            (list(map(str, one["id"])), [0 if isinstance(label, list) else label or 0 for label in one["label"]])
            for one in columns
        ]
    )


def content_digests(splits: Sequence[tuple[Sequence[str], Sequence[float]]]) -> dict[str, list[str]]:
    """
    Computes the digests by which content is recognised, see [`research_use`], each of 12 hexadecimal digits.

    Returns:
        `videos`: of every 11 letters in the ids; `labelled_videos`: of a video's name and its labels, sorted;
        `labels`: of those of each split and of all, sorted.
    """
    labels = [list(map(_label, labels)) for _, labels in splits]
    everything = [label for one in labels for label in one]
    videos: dict[str, list[str]] = {}
    for (ids, _), said in zip(splits, labels, strict=True):
        for one, label in zip(ids, said, strict=True):
            videos.setdefault(NUMBER.sub("", one), []).append(label)
    return {
        "videos": sorted({_digest("video", one) for one in _windows(splits)}),
        "labelled_videos": sorted(
            _digest("labelled video", name, *sorted(said)) for name, said in videos.items() if len(said) >= FEWEST_CLIPS
        ),
        "labels": sorted({_digest("labels", *sorted(one)) for one in [*labels, everything] if one}),
    }


def _windows(splits: Sequence[tuple[Sequence[str], Sequence[float]]]) -> Iterator[str]:
    yield from {window for ids, _ in splits for one in ids for window in WINDOW.findall(one)}


def _label(label: float) -> str:
    return f"{round(float(label), 2) + 0.0:.2f}"  # of -0 as of 0


def _digest(*parts: str) -> str:
    salted = "\0".join(("selfmm-hf: data for research use", *parts))
    return hashlib.sha256(salted.encode(errors="surrogatepass")).hexdigest()[:12]


@cache
def _known() -> dict[str, dict[str, set[str]]]:
    known = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    kinds = ("videos", "labelled_videos", "labels")
    return {title: {kind: set(one.get(kind, "").split()) for kind in kinds} for title, one in known.items()}
