"""`selfmm predict`."""

import csv
import json
import os
import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from .cluster import ENGINE, GPUS, RAY_ADDRESS, Engine, check_engine, on_cluster
from .errors import end_in_one_line, need
from .extract import check_seconds
from .terminal import ClipProgress, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from selfmm_hf import MultimodalSentimentPipeline, SelfMMConfig
    from selfmm_hf.clips.predictions import Clip, Said

    Outcomes = Iterator[tuple[int, "Said | str"]]

DEMO_MODEL = "runs/demo/model"
WINDOW_SECONDS = 2.0
MEDIA = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ts",
         ".wav", ".mp3", ".m4a", ".flac", ".ogg", ".opus", ".aac"}  # fmt: skip


def predict(
    clips: Annotated[
        list[str] | None,
        Argument(metavar="[CLIP]...", help="Files or URLs with sound, picture or both, or folders of such files."),
    ] = None,
    text: Annotated[
        str | None, Option(help="The words of the one clip, or words alone; by default those in a.txt beside a.mp4.")
    ] = None,
    context: Annotated[
        list[str] | None,
        Option(
            metavar="TEXT",
            help="What was said before in the same video, of the one clip or words, for a model that reads it; for "
            "several utterances, give the option again, the last one at the end.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        Option(help=f"Folder of a model or of its run, or a Hub repository; by default {DEMO_MODEL} of `selfmm demo`."),
    ] = None,
    revision: Annotated[str | None, Option(help="Revision of the repository.")] = None,
    transcriber: Annotated[
        str | None, Option(help="Speech recognition model that fills in the words, such as a Whisper.")
    ] = None,
    window_seconds: Annotated[
        float | None, Option("--window_seconds", help="Score pieces of this length too, 0.1 or more.")
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
        Option(help="For --engine ray: CSV or Parquet with clip, the path within the one folder [CLIP], id and text."),
    ] = None,
    output_dir: Annotated[
        str | None, Option("--output_dir", help="For --engine ray: folder to write. It is resumed.")
    ] = None,
    workers: Annotated[
        int | None,
        Option(
            min=1, help="Processes that work side by side. By default there is one; on a cluster, one for each core."
        ),
    ] = None,
    ray_address: Annotated[str | None, Option("--ray_address", help=RAY_ADDRESS)] = None,
    gpus_per_worker: Annotated[float, Option("--gpus_per_worker", min=0, help=GPUS)] = 0,
    time_limit: Annotated[
        float, Option("--time_limit", min=1, help="With --workers: seconds that one clip may take; then it fails.")
    ] = 1800.0,
) -> None:
    """Predict the sentiment or the emotions of clips from words, voice and face, for each of them and all together."""
    with end_in_one_line():
        check_seconds(max_seconds)
        check_engine(engine, ray_address, gpus_per_worker)
        if engine == Engine.ray:
            if table is None or output_dir is None or len(clips or []) != 1:
                raise ValueError("--engine ray needs one folder of clips, --table and --output_dir.")
            from selfmm_hf.cluster.predictions import Prediction

            work = Prediction(model or DEMO_MODEL, revision, transcriber, max_seconds, time_limit)
            raise typer.Exit(on_cluster(clips[0], table, output_dir, work, ray_address, workers, gpus_per_worker))
        if workers is not None:
            need("pebble", "clips")
        if table is not None or output_dir is not None:
            raise ValueError("--table and --output_dir are for --engine ray; on one machine, take --output FILE.")
        names = _files(clips or [])
        if not names and text is None:
            raise ValueError("Name at least one clip, or give words by --text.")
        if text is not None and len(names) > 1:
            raise ValueError(
                f"--text holds the words of one clip, but there are {len(names)} clips. Predict each alone."
            )
        if context and len(names) > 1:
            raise ValueError(f"--context is of one clip, but there are {len(names)} clips. Predict each alone.")
        _check_files(output, html)
        if model is None and not Path(DEMO_MODEL).is_dir():
            raise ValueError(f"There is no model at {DEMO_MODEL}. Train one with `selfmm demo`, or pass --model.")
        if html and window_seconds is None:
            window_seconds = WINDOW_SECONDS
        from transformers.utils import logging

        from selfmm_hf.hub.saved_model import load_pipeline

        logging.disable_progress_bar()
        load = partial(load_pipeline, model or DEMO_MODEL, revision, transcriber, window_seconds, max_seconds)
        scored = Scored(load(), names, text, transcribes=transcriber is not None, as_json=as_json, context=context)
        scored.run(None if workers is None else partial(side_by_side, load, workers, time_limit))
        scored.write(output, html)
    raise typer.Exit(1 if scored.failed else 0)


def _files(clips: list[str]) -> list[str]:
    """The clips, and those within what are folders, in the order of their names."""
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


def _check_files(output: Path | None, html: Path | None) -> None:
    if output is not None and output.suffix not in (".csv", ".jsonl"):
        raise ValueError(f"--output must end with .csv or .jsonl, got {output}.")
    for option, file in (("--output", output), ("--html", html)):
        if file is not None and file.is_dir():
            raise ValueError(f"{option} {str(file)!r} is a folder; name the file to write.")
        if file is not None and not file.absolute().parent.is_dir():
            raise ValueError(f"There is no folder for the file {file}.")


class Scored:
    """
    Scores clips, each on its own, and prints each as soon as it is done: one that cannot be read leaves the others
    alone.

    Attributes:
        answers: For each clip, its name as `clip`, and what the pipeline says of it, or an `error`.
    """

    def __init__(
        self,
        pipe: "MultimodalSentimentPipeline",
        clips: list[str],
        text: str | None,
        transcribes: bool,
        as_json: bool,
        context: list[str] | None = None,
    ):
        self.context = context or None
        self.pipe, self.text, self.transcribes, self.as_json = pipe, text, transcribes, as_json
        self.clips: list[tuple[str, str | None]] = [(clip, clip) for clip in clips] or [("(words)", None)]
        self.answers: list[dict[str, Any]] = []

    @property
    def failed(self) -> bool:
        return any("error" in answer for answer in self.answers)

    def run(self, side_by_side: "Callable[[list[Clip]], Outcomes] | None" = None) -> None:
        """
        Args:
            side_by_side: Scores clips in other processes, and gives them as they are done.
        """
        table = Table([name for name, _ in self.clips], self.pipe.model.config)
        answers: dict[int, dict[str, Any]] = {}
        with ClipProgress(len(self.clips)) as progress:
            outcomes = self._one_by_one(progress) if side_by_side is None else self._side_by_side(side_by_side)
            for number, outcome in outcomes:
                name, rows = self.clips[number][0], []
                if isinstance(outcome, str):
                    answers[number] = {"clip": name, "error": outcome}
                    progress.print(f"selfmm: error: {printable(name)}: {printable(outcome)}", sys.stderr)
                else:
                    for note in outcome.warnings:
                        progress.print(f"selfmm: warning: {printable(note)}", sys.stderr)
                    notes = {"warnings": outcome.warnings} if outcome.warnings else {}
                    answers[number] = {"clip": name, **outcome.result, **notes}
                    rows = table.lines(name, outcome.result)
                for line in [json.dumps(answers[number])] if self.as_json else rows:
                    progress.print(line)
                progress.next()
        self.answers = [answers[number] for number in range(len(self.clips))]

    def _one_by_one(self, progress: ClipProgress) -> "Outcomes":
        from selfmm_hf.clips.predictions import predict

        for number, clip in self._given():
            yield number, clip if isinstance(clip, str) else predict(clip, self.pipe, progress.within)

    def _side_by_side(self, work: "Callable[[list[Clip]], Outcomes]") -> "Outcomes":
        given = list(self._given())
        yield from ((number, clip) for number, clip in given if isinstance(clip, str))
        yield from work([clip for _, clip in given if not isinstance(clip, str)])

    def _given(self) -> "Iterator[tuple[int, Clip | str]]":
        """The clips with their words, or why these cannot be read."""
        from selfmm_hf.clips.predictions import Clip

        for number, (_, clip) in enumerate(self.clips):
            try:
                yield number, Clip(clip, self.text if clip is None else self._words(clip), self.context, number)
            except ValueError as error:
                yield number, str(error)

    def _words(self, clip: str) -> str | None:
        """What a clip says: as given, or where no transcriber shall find it, what stands in `a.txt` beside `a.mp4`."""
        beside = Path(clip).with_suffix(".txt")
        if self.text is None and not self.transcribes and Path(clip).is_file() and beside.is_file():
            try:
                return beside.read_text("utf-8-sig").strip() or None
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{beside}, the words of {clip}, is not UTF-8 text: {error}; save it as UTF-8."
                ) from error
        return self.text

    def write(self, output: Path | None, html: Path | None) -> None:
        """Writes the files, as far as they are wanted."""
        from selfmm_hf.pages.predictions import sentiment_html
        from selfmm_hf.storage.whole_files import whole, write_text

        if output is not None and output.suffix == ".jsonl":
            write_text(output, "".join(f"{json.dumps(answer)}\n" for answer in self.answers))
        elif output is not None:
            with whole(output) as part, part.open("w", encoding="utf-8", newline="") as file:
                self._write_csv(file)
        scored = [(_shown(answer["clip"]), answer) for answer in self.answers if "error" not in answer]
        if html is not None and scored:
            write_text(html, sentiment_html(scored))
            print(f"The page: {html}", file=sys.stderr)

    def _write_csv(self, file: Any) -> None:
        from selfmm_hf.clips.predictions import WORDS, prediction_columns, prediction_row
        from selfmm_hf.storage.tables import plain_cell

        columns = prediction_columns(self.pipe.model.config)
        writer = csv.writer(file)
        writer.writerow(["clip", *columns, "error"])
        for answer in self.answers:
            row = {} if "error" in answer else prediction_row(answer)
            cells = {"clip": answer["clip"], **row, "error": answer.get("error")}
            names = ["clip", *columns, "error"]
            writer.writerow([plain_cell(cells.get(name)) if name in WORDS else cells.get(name) for name in names])


def side_by_side(
    load: "Callable[[], MultimodalSentimentPipeline]", workers: int, time_limit: float, clips: "list[Clip]"
) -> "Outcomes":
    """Scores clips in processes of one thread each, and gives them as they are done."""
    from selfmm_hf.clips.predictions import PredictionJob
    from selfmm_hf.clips.processes import Processes

    with TemporaryDirectory() as folder:
        job = PredictionJob(load, Path(folder), time_limit)
        with closing(Processes(job, workers)) as processes:
            yield from ((clip.number, outcome) for clip, outcome in processes.work(clips))


class Table:
    """
    One line for each clip: what all together and each modality say, and what is to be said of it.

    Args:
        names: Of all the clips to come: a line is written before the next clip is read.
        config: Of the model.
    """

    def __init__(self, names: list[str], config: "SelfMMConfig"):
        from selfmm_hf.model.pipeline_selfmm import CLASSES

        self.modalities, self.begun, task = config.modalities, False, config.task
        self.one = task.label_range is not None
        clip = max(len(_shown(name)) for name in ("clip", *names))
        if self.one:
            self.head, number, label = ["score", ""], len(_signed(0.0)), [-max(map(len, CLASSES.values()))]
        elif task.scales:
            number = len("/".join(max((f"{end:.2f}" for end in scale), key=len) for scale in task.scales))
            self.head, label = ["/".join(task.names)], []
        else:
            self.head, number, label = ["label"], max(map(len, task.names)) + len(" 100%"), []
        number = max(number, len(self.head[0]))
        self.widths = [-clip, number, *label, *(max(len(name), number) for name in self.modalities)]  # left: negative

    def lines(self, name: str, result: dict[str, Any]) -> list[str]:
        """The line of a clip, and before the first one the names of the columns."""
        from selfmm_hf.model.picture_selfmm import disagreement

        alone = [result["unimodal"][modality] for modality in self.modalities]
        if self.one:
            cells = [_signed(result["score"]), result["label"], *map(_signed, alone)]
        else:
            cells = [_said(result, scores) for scores in (result["scores"], *alone)]
        remarks = [disagreement(result), *result["remarks"], *dict.fromkeys(result["absent"].values())]
        row = [_shown(name), *cells, "; ".join(remark.rstrip(".") for remark in remarks if remark)]
        rows = [row] if self.begun else [["clip", *self.head, *self.modalities, ""], row]
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


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"


def _said(result: dict[str, Any], scores: dict[str, float] | None) -> str:
    """What all together or one modality say, as short as a table needs it."""
    from selfmm_hf.model.chart_selfmm import SINGLE_LABEL, said

    if scores is None:
        return "-"
    if "scales" in result:
        return "/".join(f"{value:.2f}" for value in scores.values())
    label = said(result, scores)
    return f"{label} {scores[label]:.0%}" if result["task"] == SINGLE_LABEL else label
