"""What `selfmm predict` does."""

import argparse
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers.utils import logging

from .decoding_selfmm import ClipWarning
from .modeling_selfmm import SelfMMModel
from .picture_selfmm import disagreement, sentiment_html
from .pipeline_selfmm import MultimodalSentimentPipeline
from .processing_selfmm import SelfMMProcessor

DEMO_MODEL = "runs/demo/model"
WINDOW_SECONDS = 2.0


def load_pipeline(options: argparse.Namespace) -> MultimodalSentimentPipeline:
    """
    The pipeline of a model, by the package's own code: none is taken from the repository.

    Raises:
        ValueError: No clip, no model, one that cannot be loaded, or what was asked does not go together.
    """
    if not options.clips and options.text is None:
        raise ValueError("Name at least one clip, or give words by --text.")
    if options.text is not None and len(options.clips) > 1:
        raise ValueError(
            f"--text is what is said in one clip, but there are {len(options.clips)}; take them one by one."
        )
    if options.html and not Path(options.html).absolute().parent.is_dir():
        raise ValueError(f"There is no folder for the page {options.html}.")
    if options.model is None and not Path(DEMO_MODEL).is_dir():
        raise ValueError(f"There is no {DEMO_MODEL} here: train one by `selfmm demo`, or name a --model.")
    model, processor = load_model(options.model or DEMO_MODEL, options.revision)
    window_seconds = options.window_seconds or (WINDOW_SECONDS if options.html else None)
    return MultimodalSentimentPipeline(
        model, processor=processor, transcriber=options.transcriber, window_seconds=window_seconds
    )


def load_model(name: str, revision: str | None) -> tuple[SelfMMModel, SelfMMProcessor]:
    """
    A model in eval mode and its processor, by the package's own code: none is taken from the repository.

    Args:
        name: A folder, or a repository on the Hub.
        revision: Of the repository.

    Raises:
        ValueError: There is no such thing, or it cannot be loaded.
    """
    if not Path(name).is_dir() and (Path(name).is_absolute() or name.count("/") != 1):
        raise ValueError(f"There is no folder {name}, and it is no name of a repository either.")
    logging.disable_progress_bar()
    try:
        model = SelfMMModel.from_pretrained(name, revision=revision)
        processor = SelfMMProcessor.from_pretrained(name, revision=revision)
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(f"{name} cannot be loaded as a model with its processor: {error}") from error
    return model, processor


def predict(options: argparse.Namespace, pipe: MultimodalSentimentPipeline) -> int:
    """
    Scores the clips, each on its own: one that cannot be read leaves the others alone.

    Returns:
        How many could not be scored.
    """
    failed, rows = 0, []
    for clip in options.clips or [None]:
        name = "(words)" if clip is None else str(clip)
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", ClipWarning)
                result = pipe({"text": options.text}) if clip is None else pipe(clip, text=_words(clip, options))
        except ValueError as error:
            failed += 1
            if options.json:
                print(json.dumps({"clip": name, "error": str(error)}), flush=True)
            print(f"selfmm: error: {name}: {error}", file=sys.stderr)
            continue
        notes = [str(one.message) for one in caught if issubclass(one.category, ClipWarning)]
        for note in notes:
            print(f"selfmm: warning: {note}", file=sys.stderr)
        if options.json:
            print(json.dumps({"clip": name, **result, **({"warnings": notes} if notes else {})}), flush=True)
        rows.append((name, result))
    if not options.json and rows:
        print(format_table(rows))
    if options.html and rows:
        _write(Path(options.html), sentiment_html([(os.path.basename(name), result) for name, result in rows]))
        print(f"The page: {options.html}", file=sys.stderr)
    return failed


def _words(clip: str, options: argparse.Namespace) -> str | None:
    """What a clip says: as given, or where no transcriber shall find it, what stands in `a.txt` beside `a.mp4`."""
    beside = Path(clip).with_suffix(".txt")
    if options.text is None and options.transcriber is None and Path(clip).is_file() and beside.is_file():
        try:
            return beside.read_text("utf-8").strip() or None
        except UnicodeDecodeError as error:
            raise ValueError(f"{beside}, the words of {clip}, is no UTF-8 text: {error}") from error
    return options.text


def format_table(rows: list[tuple[str, dict[str, Any]]]) -> str:
    """One line for each clip: score, label, each modality, and what was said, absent or odd."""
    modalities = list(dict.fromkeys(name for _, result in rows for name in result["present"]))
    cells = [["clip", "score", "", *modalities, ""]]
    for name, result in rows:
        alone = [result["unimodal"].get(modality) for modality in modalities]
        remarks = [(disagreement(result) or "").rstrip("."), *(dict.fromkeys(result["absent"].values()))]
        cells.append([
            os.path.basename(name), _signed(result["score"]), result.get("label", ""), *map(_signed, alone),
            "; ".join(filter(None, remarks)),
        ])  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    left = {0, 2, len(widths) - 1}
    return "\n".join(
        "  ".join(
            cell.ljust(width) if number in left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def _signed(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name} {one:+.2f}" for name, one in value.items())
    return "-" if value is None else f"{value:+.2f}"


def _write(file: Path, text: str) -> None:
    beside = file.with_name(f".{file.name}.part")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, file)
