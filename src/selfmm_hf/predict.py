"""What `selfmm predict` does."""

import argparse
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from transformers.utils import logging

from .configuration_selfmm import SelfMMConfig
from .decoding_selfmm import ClipWarning
from .hub_names import take_from_hub
from .picture_selfmm import disagreement, sentiment_html
from .pipeline_selfmm import CLASSES, MultimodalSentimentPipeline
from .saved_model import load_model
from .terminal import ClipProgress, printable
from .whole_files import write_text

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
    if options.html is not None and Path(options.html).is_dir():
        raise ValueError(f"--html {options.html!r} is a folder; name the file to write.")
    if options.html is not None and not Path(options.html).absolute().parent.is_dir():
        raise ValueError(f"There is no folder for the page {options.html}.")
    if options.model is None and not Path(DEMO_MODEL).is_dir():
        raise ValueError(f"There is no {DEMO_MODEL} here: train one by `selfmm demo`, or name a --model.")
    if options.transcriber is not None:
        take_from_hub(options.transcriber, "the transcriber", owner=False)
    logging.disable_progress_bar()
    model, processor = load_model(DEMO_MODEL if options.model is None else options.model, options.revision)
    if options.max_seconds is not None:
        processor.feature_extractor.max_seconds = options.max_seconds
    window_seconds = options.window_seconds
    if window_seconds is None and options.html:
        window_seconds = WINDOW_SECONDS
    return MultimodalSentimentPipeline(
        model, processor=processor, transcriber=options.transcriber, window_seconds=window_seconds
    )


def predict(options: argparse.Namespace, pipe: MultimodalSentimentPipeline) -> int:
    """
    Scores the clips, each on its own, and prints each as soon as it is done: one that cannot be read leaves the others
    alone.

    Returns:
        How many could not be scored.
    """
    failed, results = 0, []
    clips = [(clip, clip) for clip in options.clips] or [("(words)", None)]
    table = Table([name for name, _ in clips], pipe.model.config)
    with ClipProgress(len(clips)) as progress:
        for name, clip in clips:
            try:
                result, notes = _scored(pipe, clip, options, progress)
            except (ValueError, OSError) as error:
                failed += 1
                lines = [json.dumps({"clip": name, "error": str(error)})] if options.json else []
                progress.print(f"selfmm: error: {printable(name)}: {printable(str(error))}", sys.stderr)
            else:
                for note in notes:
                    progress.print(f"selfmm: warning: {printable(note)}", sys.stderr)
                told = {"clip": name, **result, **({"warnings": notes} if notes else {})}
                lines = [json.dumps(told)] if options.json else table.lines(name, result)
                results.append((name, result))
            for line in lines:
                progress.print(line)
            progress.next()
    if options.html and results:
        write_text(Path(options.html), sentiment_html([(_shown(name), result) for name, result in results]))
        print(f"The page: {options.html}", file=sys.stderr)
    return failed


def _scored(
    pipe: MultimodalSentimentPipeline, clip: str | None, options: argparse.Namespace, progress: ClipProgress
) -> tuple[dict[str, Any], list[str]]:
    """What the pipeline says of a clip, or of words alone, and what it warns of, but for what stands in the result."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ClipWarning)
        if clip is None:
            result = pipe({"text": options.text})
        else:
            result = pipe(clip, text=_words(clip, options), progress=progress.within)
    notes = dict.fromkeys(str(one.message) for one in caught if issubclass(one.category, ClipWarning))
    return result, [note for note in notes if note not in result["remarks"]]


def _words(clip: str, options: argparse.Namespace) -> str | None:
    """What a clip says: as given, or where no transcriber shall find it, what stands in `a.txt` beside `a.mp4`."""
    beside = Path(clip).with_suffix(".txt")
    if options.text is None and options.transcriber is None and Path(clip).is_file() and beside.is_file():
        try:
            return beside.read_text("utf-8-sig").strip() or None
        except UnicodeDecodeError as error:
            raise ValueError(f"{beside}, the words of {clip}, is not UTF-8 text: {error}; save it as UTF-8.") from error
    return options.text


class Table:
    """
    One line for each clip: score, label, each modality, and what is to be said of it.

    Args:
        names: Of all the clips to come: a line is written before the next clip is read.
        config: Of the model.
    """

    def __init__(self, names: list[str], config: SelfMMConfig):
        self.modalities, self.begun = config.modalities, False
        several = {config.id2label[number]: 0.0 for number in range(config.num_labels)}
        number = len(_signed(0.0 if len(several) == 1 else several))
        label = max(map(len, CLASSES.values())) if len(several) == 1 else 0
        clip = max(len(_shown(name)) for name in ("clip", *names))
        self.widths = [-clip, number, -label, *(max(len(name), number) for name in self.modalities)]  # left: negative

    def lines(self, name: str, result: dict[str, Any]) -> list[str]:
        """The line of a clip, and before the first one the names of the columns."""
        alone = [result["unimodal"][modality] for modality in self.modalities]
        remarks = [disagreement(result), *result["remarks"], *dict.fromkeys(result["absent"].values())]
        told = "; ".join(remark.rstrip(".") for remark in remarks if remark)
        row = [_shown(name), _signed(result["score"]), result.get("label", ""), *map(_signed, alone), told]
        rows = [row] if self.begun else [["clip", "score", "", *self.modalities, ""], row]
        self.begun = True
        return [self._line(row) for row in rows]

    def _line(self, cells: list[str]) -> str:
        cells = [printable(cell) for cell in cells]
        padded = [
            cell.ljust(-width) if width <= 0 else cell.rjust(width)
            for cell, width in zip(cells, [*self.widths, 0], strict=True)
        ]
        return "  ".join(padded).rstrip()


def _shown(name: str) -> str:
    """A clip's name in a table or on a page."""
    return printable(os.path.basename(name) or name)


def _signed(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name} {one:+.2f}" for name, one in value.items())
    return "-" if value is None else f"{value:+.2f}"
