"""`selfmm predict`."""

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from .cluster import ENGINE, GPUS, RAY_ADDRESS, Engine, check_engine, on_cluster
from .errors import end_in_one_line, need
from .extract import check_seconds
from .prediction_table import Table, shown
from .terminal import ClipProgress, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selfmm_hf import SelfMMConfig
    from selfmm_hf.clips.predictions import Said

DEMO_MODEL = "runs/demo/model"
WINDOW_SECONDS = 2.0


def predict(
    clips: Annotated[
        list[str] | None,
        Argument(
            metavar="[CLIP]...", help="Files or URLs of clips with sound, picture or both, or folders of such files."
        ),
    ] = None,
    text: Annotated[
        str | None,
        Option(help="The words of a single clip, or words without a clip; by default those in a.txt beside a.mp4."),
    ] = None,
    context: Annotated[
        list[str] | None,
        Option(
            metavar="TEXT",
            help="What was said before a single clip in the same video, for a model that was trained with it. Repeat "
            "the option for several utterances, the last one at the end.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        Option(help=f"Folder of a model or of its run, or a Hub repository; by default {DEMO_MODEL} of `selfmm demo`."),
    ] = None,
    revision: Annotated[str | None, Option(help="Revision of the repository.")] = None,
    transcriber: Annotated[
        str | None, Option(help="Speech recognition model that transcribes the words, such as a Whisper.")
    ] = None,
    window_seconds: Annotated[
        float | None, Option("--window_seconds", help="Also score windows of this length; at least 0.1.")
    ] = None,
    max_seconds: Annotated[
        float | None,
        Option("--max_seconds", help="Longer clips are refused; by default the model's own limit, usually 300."),
    ] = None,
    as_json: Annotated[bool, Option("--json", help="Print one line of JSON for each clip.")] = False,
    output: Annotated[
        Path | None, Option(metavar="FILE", help="Write the predictions to a file, too: .csv or .jsonl.")
    ] = None,
    html: Annotated[Path | None, Option(metavar="FILE", help="Write a page with a picture of each prediction.")] = None,
    engine: Annotated[Engine, Option(help=ENGINE)] = Engine.local,
    table: Annotated[
        str | None,
        Option(help="For --engine ray: CSV or Parquet with clip, the path within the folder [CLIP], and id and text."),
    ] = None,
    output_dir: Annotated[
        str | None, Option("--output_dir", help="For --engine ray: folder to write. The same command resumes it.")
    ] = None,
    workers: Annotated[
        int | None,
        Option(min=1, help="Number of parallel processes. By default one; on a cluster, one for each core."),
    ] = None,
    ray_address: Annotated[str | None, Option("--ray_address", help=RAY_ADDRESS)] = None,
    gpus_per_worker: Annotated[float, Option("--gpus_per_worker", min=0, help=GPUS)] = 0,
    time_limit: Annotated[
        float, Option("--time_limit", min=1, help="With --workers: seconds that one clip may take; a slower one fails.")
    ] = 1800.0,
) -> None:
    """Predict the sentiment or the emotions of clips from words, voice and face, for each alone and all together."""
    with end_in_one_line():
        check_seconds(max_seconds)
        check_engine(engine, ray_address, gpus_per_worker)
        if engine == Engine.ray:
            if table is None or output_dir is None or len(clips or []) != 1:
                raise ValueError("--engine ray needs one folder of clips, --table and --output_dir.")
            others = {
                "--text": text, "--context": context, "--window_seconds": window_seconds, "--json": as_json,
                "--output": output, "--html": html,
            }  # fmt: skip
            if unused := next((option for option, value in others.items() if value not in (None, False, [])), None):
                raise ValueError(
                    f"{unused} does nothing with --engine ray, which takes the words from --table and writes to "
                    f"--output_dir: leave {unused} out."
                )
            from selfmm_hf.cluster.predictions import Prediction

            work = Prediction(model or DEMO_MODEL, revision, transcriber, max_seconds, time_limit)
            raise typer.Exit(on_cluster(clips[0], table, output_dir, work, ray_address, workers, gpus_per_worker))
        if workers is not None:
            need("pebble", "clips")
        if table is not None or output_dir is not None:
            raise ValueError("--table and --output_dir are for --engine ray; on one machine, take --output FILE.")
        if not clips and text is None:
            raise ValueError("Name at least one clip, or give words with --text.")
        _check_files(output, html)
        from transformers.utils import logging

        from selfmm_hf.clips.media import media_files
        from selfmm_hf.clips.prediction_rows import prediction_columns, write_predictions
        from selfmm_hf.clips.predictions import Clip, clips_with_words, one_by_one, side_by_side
        from selfmm_hf.hub.saved_model import load_pipeline
        from selfmm_hf.pages.predictions import sentiment_html
        from selfmm_hf.storage.whole_files import write_text

        names = media_files(clips or [])
        for option, value in (("--text", text), ("--context", context)):
            if value not in (None, []) and len(names) > 1:
                raise ValueError(f"{option} is for one clip, but there are {len(names)} clips. Predict each alone.")
        if model is None and not Path(DEMO_MODEL).is_dir():
            raise ValueError(f"There is no model at {DEMO_MODEL}. Train one with `selfmm demo`, or pass --model.")
        spoken = clips_with_words(names, text, context or None, beside=transcriber is None)
        names, spoken = names or ["(words)"], spoken or [Clip(None, text, context or None)]
        seconds = WINDOW_SECONDS if html and window_seconds is None else window_seconds
        logging.disable_progress_bar()
        load = partial(load_pipeline, model or DEMO_MODEL, revision, transcriber, seconds, max_seconds)
        pipe = load()
        if output is not None and output.suffix == ".csv":
            prediction_columns(pipe.model.config)  # names that clash are told before any work
        with ClipProgress(len(names)) as progress:
            if workers is None:
                outcomes = one_by_one(spoken, pipe, progress.within)
            else:
                outcomes = side_by_side(spoken, load, workers, time_limit)
            answers = _print(outcomes, names, pipe.model.config, as_json, progress)
        if output is not None:
            write_predictions(output, answers, pipe.model.config)
        shown_as = shown(names)
        scored = [(shown_as[answer["clip"]], answer) for answer in answers if "error" not in answer]
        if html is not None and scored:
            write_text(html, sentiment_html(scored))
            print(f"The page: {html}", file=sys.stderr)
    raise typer.Exit(1 if len(scored) < len(answers) else 0)


def _check_files(output: Path | None, html: Path | None) -> None:
    if output is not None and output.suffix not in (".csv", ".jsonl"):
        raise ValueError(f"--output must end with .csv or .jsonl, got {output}.")
    for option, file in (("--output", output), ("--html", html)):
        if file is not None and file.is_dir():
            raise ValueError(f"{option} {str(file)!r} is a folder; name the file to write.")
        if file is not None and not file.absolute().parent.is_dir():
            raise ValueError(f"There is no folder for the file {file}.")


def _print(
    outcomes: "Iterator[tuple[int, Said | str]]", names: list[str], config: "SelfMMConfig", as_json: bool,
    progress: ClipProgress,
) -> list[dict[str, Any]]:  # fmt: skip
    """
    Prints the prediction for each clip as soon as it is done.

    Returns:
        For each clip, its name as `clip`, and the result of the pipeline or an `error`.
    """
    table = Table(names, config)
    answers: dict[int, dict[str, Any]] = {}
    for number, outcome in outcomes:
        name, rows = names[number], []
        if isinstance(outcome, str):
            answers[number] = {"clip": name, "error": outcome}
            progress.print(f"selfmm: error: {printable(name)}: {printable(outcome)}", sys.stderr)
        else:
            for note in outcome.warnings:
                progress.print(f"selfmm: warning: {printable(note)}", sys.stderr)
            notes = {"warnings": outcome.warnings} if outcome.warnings else {}
            answers[number] = {"clip": name, **outcome.result, **notes}
            rows = table.lines(name, outcome.result)
        for line in [json.dumps(answers[number])] if as_json else rows:
            progress.print(line)
        progress.next()
    return [answers[number] for number in range(len(names))]
