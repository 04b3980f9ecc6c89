"""What `selfmm extract` does."""

import argparse
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

from .arguments import seconds
from .environment import cores
from .extraction import FAILURES, JOURNAL, TABLE, Extraction, extract_clips
from .feature_extraction_selfmm import SelfMMFeatureExtractor
from .hub_names import take_from_hub
from .picture_selfmm import FEW_FACES

LISTED = 10  # failures and warnings that are printed, of those in the files


def add_extract_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `selfmm extract`."""
    parser.add_argument("clips", help="folder of the media files")
    parser.add_argument(
        "--table", required=True, help="CSV or Parquet: id, label, split, and if there are any text and clip, the path "
        "of the media file; by default it is the id with any media ending"
    )  # fmt: skip
    parser.add_argument("--out", required=True, help="folder to write; one that was interrupted is gone on with")
    parser.add_argument("--audio", help="librosa33 (default), none, or the name of a speech model")
    parser.add_argument("--vision", help="face (default), none, or the name of an image model")
    parser.add_argument("--recipe", help="preprocessor_config.json, or the folder or repository of a model that has it")
    parser.add_argument("--transcriber", help="speech recognition model for clips without text, such as a Whisper")
    parser.add_argument("--workers", type=_whole, default=cores(), help="processes, by default one per core")
    parser.add_argument("--max_seconds", type=seconds, help="longer clips are refused; 300 by default")


def extract(options: argparse.Namespace) -> int:
    """Clips become a data set. Exit status 1 where some could not be read."""
    if options.transcriber is not None:
        take_from_hub(options.transcriber, "the transcriber", owner=False)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: its processes end with it
    try:
        result = extract_clips(
            options.clips, options.table, options.out, _extractor(options), options.transcriber, options.workers
        )
    finally:
        signal.signal(signal.SIGTERM, before)
    for line in _told(result, options.out):
        print(line)
    return 1 if result.failures else 0


def _extractor(options: argparse.Namespace) -> SelfMMFeatureExtractor:
    chosen: dict[str, Any] = {name: getattr(options, name) for name in ("audio", "vision")}
    if options.recipe and any(chosen.values()):
        raise ValueError("--recipe says what --audio and --vision are; leave either out.")
    if options.recipe:
        take_from_hub(options.recipe, "the recipe", here="file or folder")
        extractor = SelfMMFeatureExtractor.from_pretrained(options.recipe)
    else:
        recipes: dict[str, Any] = {}
        for name, known in (("audio", "librosa33"), ("vision", "face")):
            value = chosen[name] or known
            if value not in ("none", known):
                take_from_hub(value, f"the {name} model", owner=False)
            recipes[name] = {"none": None, known: known}.get(value, {"kind": "encoder", "model": value})
        extractor = SelfMMFeatureExtractor(**recipes)
    extractor.max_seconds = options.max_seconds or extractor.max_seconds
    return extractor


def _told(result: Extraction, out: str) -> Iterator[str]:
    """The result in lines."""
    records = result.done.values()
    hours = sum(record.seconds or 0.0 for record in records) / 3600
    yield f"{out}: {len(records)} clips, {hours:.2f} hours"
    if result.computed:
        before = f", {len(records) - result.computed} before" if len(records) > result.computed else ""
        speed = result.computed / result.seconds
        yield f"computed {result.computed} in {result.seconds:.0f} s, {speed:.2f} clips/s{before}"
    else:
        yield "nothing was left to compute; the table was written anew"
    if result.gone:
        yield f"{result.gone} have no media file any more and keep their features"
    if result.heard:
        yield f"{result.heard} have words by a transcriber"
    lacks = Counter(reason for record in records for reason in record.absent.values())
    lacks["no words"] = sum(not result.texts[clip].strip() for clip in result.done)
    if lacks := {reason: count for reason, count in sorted(lacks.items()) if count}:
        yield "clips with " + ", ".join(f"{reason}: {count}" for reason, count in lacks.items())
    if few := sum(record.face_share is not None and record.face_share < FEW_FACES for record in records):
        yield f"clips with a face in less than half of the picture: {few}, see face_share in {TABLE}"
    damaged = [(record.id, " ".join(record.warnings)) for record in records if record.warnings]
    failed = [(clip, reason) for clip, _, reason in result.failures]
    for what, file, clips in (("damaged", JOURNAL, damaged), ("FAILED, left out", FAILURES, failed)):
        if clips:
            yield f"{what}: {len(clips)}, all in {file}"
            yield from (f"  {clip!r:.99}: {reason}" for clip, reason in clips[:LISTED])
    yield "Use it by"
    yield f"  selfmm data inspect {out}"
    yield f"  selfmm train --dataset custom --data {out} --text_encoder NAME ..."


def _whole(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {text}")
    return number
