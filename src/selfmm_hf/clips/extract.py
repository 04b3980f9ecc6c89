"""Makes a data set of features from a folder of clips and a table of labels."""

import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets.utils import tqdm

from ..data.custom.table import SPLITS
from ..model.feature_extraction_selfmm import SelfMMFeatureExtractor
from .folder import FAILURES, TABLE, Extracted, ExtractionError, ExtractionFolder
from .job import TIME_LIMIT
from .one_clip import Job, Task, work
from .table import find_clips, read_clips


@dataclass
class Extraction:
    """
    The result of an extraction.

    Args:
        texts: Words by id.
        done: The clips of the data set by id.
        gone: How many of them no longer have a media file.
        heard: How many have words from a transcriber.
        computed: How many were computed now.
        failures: Id, media file if there is one, and reason of each clip that is left out.
        seconds: How long it took.
    """

    texts: dict[str, str]
    done: dict[str, Extracted] = field(default_factory=dict)
    gone: int = 0
    heard: int = 0
    computed: int = 0
    failures: list[tuple[str, str, str]] = field(default_factory=list)
    seconds: float = 0.0


def extract_clips(
    clips: str | Path,
    table: str | Path,
    out: str | Path,
    extractor: SelfMMFeatureExtractor,
    transcriber: str | None = None,
    workers: int = 1,
    device: str = "cpu",
    time_limit: float = TIME_LIMIT,
) -> Extraction:
    """
    Makes a data set of your own, see [`read_folder`], of media files. Started again, it resumes where it stopped: only
    a clip whose media file has changed is computed again.

    Clips that cannot be read or have no media file are left out, and listed in `failures.csv`.

    Args:
        clips: The folder of the media files.
        table: See [`read_clips`].
        out: A new folder, or one to resume. `table.csv` is written last.
        extractor: Computes the features; its recipe is kept in the folder.
        transcriber: A model for "automatic-speech-recognition", for clips without `text`. Without it, what an earlier
            run heard stays.
        workers: Number of processes.
        device: Where the encoders and the transcriber run; all processes share it.
        time_limit: Seconds that one clip may take. A clip that takes longer fails.

    Raises:
        DataError: The table is wrong; nothing is written.
        ExtractionError: No row has a media file; the folder holds something else or features of another recipe; a
            package or a model is missing; or a split has no clip left.
        WorkError: The processes died before they had a clip in hand.
        CannotWrite: A file cannot be written, or another process is at work in the folder.
    """
    begin, clips, table, out = time.monotonic(), Path(clips), Path(table), Path(out)
    if (out / TABLE).exists() and table.exists() and table.samefile(out / TABLE):
        raise ExtractionError(f"{table} is the output of this command; name the table from which it was made.")
    columns, folder = read_clips(table, out), ExtractionFolder(out)
    files, missing = find_clips(table, columns, clips)
    if not files and not folder.records():
        first, what = next(iter(missing.items()))
        raise ExtractionError(
            f"{clips}: none of the {len(missing)} rows of {table} has a clip here; for the first, id {first!r:.80}, "
            f"{what}. The ids are the paths of the files in that folder without their endings, or a column 'clip' "
            "names the files."
        )
    extractor = recipe_alone(extractor)
    with folder.locked():
        folder.check_recipe(extractor)
        folder.copy_task(table)
        result = Extraction(dict(zip(columns["id"], columns["text"], strict=True)))
        before, tasks = folder.records(), []
        for clip in columns["id"]:
            file, record = files.get(clip), before.get(clip)
            is_there = record is not None and folder.has_features(record)
            if is_there and (file is None or record.is_of(file, clips / file)):
                result.done[clip] = record
            if file is None:
                result.gone += is_there
                if not is_there:
                    result.failures.append((clip, "", missing[clip]))
                continue
            known = result.done.get(clip)
            wordless = transcriber is not None and not result.texts[clip].strip()
            wordless = wordless and (known is None or known.transcriber != transcriber)
            if known is None or wordless:
                tasks.append(Task(clip, file, known, wordless))
        folder.begin(extractor, result.done, [task.id for task in tasks])
        _compute(tasks, Job(clips, out, extractor, transcriber, device, time_limit), workers, folder, result)
        _finish(columns, transcriber, folder, result)
        result.seconds = time.monotonic() - begin
    return result


def recipe_alone(extractor: SelfMMFeatureExtractor) -> SelfMMFeatureExtractor:
    """Returns the extractor without what belongs to a model or takes memory, but with the checksums of its encoders."""
    if not extractor.recipe:
        raise ExtractionError("Neither audio nor vision is to be computed; name a recipe for one of them.")
    for name, recipe in extractor.recipe.items():
        if recipe["kind"] == "features":
            raise ExtractionError(
                f"The {name} features of this recipe were computed by another program and cannot be computed here; "
                "take a recipe of librosa33, face or encoders."
            )
    _ = extractor.widths  # loads the encoders
    alone = type(extractor)(audio=extractor.audio, vision=extractor.vision, max_seconds=extractor.max_seconds)
    alone.source = extractor.source
    return alone


def _compute(tasks: list[Task], job: Job, workers: int, folder: ExtractionFolder, result: Extraction) -> None:
    total = len(result.done.keys() | {task.id for task in tasks})
    bar = tqdm(total=total, initial=total - len(tasks), unit="clip", desc="Extracting", disable=not tasks)
    with bar, closing(work(tasks, job, workers)) as outcomes:
        for task, outcome in outcomes:
            if isinstance(outcome, Extracted):
                folder.append(outcome)
                result.done[task.id] = outcome
                result.computed += 1
            else:
                folder.remove(job.extractor.recipe, task.id)
                result.done.pop(task.id, None)
                result.failures.append((task.id, task.clip, outcome))
                bar.set_postfix(failed=len(result.failures), refresh=False)
            bar.update()


def _finish(
    columns: dict[str, list[Any]], transcriber: str | None, folder: ExtractionFolder, result: Extraction
) -> None:
    """Puts everything in the order of the table, and writes the table of the clips that are left."""
    order = {clip: row for row, clip in enumerate(columns["id"])}
    result.done = {clip: result.done[clip] for clip in order if clip in result.done}
    result.failures.sort(key=lambda failure: order[failure[0]])
    folder.write_journal(result.done.values())
    folder.write_failures(result.failures)
    for clip, record in result.done.items():
        by = record.transcriber
        if by is not None and by == (transcriber or by) and not result.texts[clip].strip():
            result.texts[clip] = record.transcript
            result.heard += 1
    rows = [order[clip] for clip in result.done]
    left = {SPLITS[columns["split"][row]] for row in rows}
    problem = next((f"split {split!r} has no clip left" for split in SPLITS.values() if split not in left), None)
    if problem is None and not any(any(record.frames.values()) for record in result.done.values()):
        problem = f"no clip has any {' or '.join(sorted(next(iter(result.done.values())).frames))}"
    if problem:
        reasons = f"; {len(result.failures)} clips failed, see {FAILURES}" if result.failures else ""
        folder.remove_table()
        raise ExtractionError(f"{folder.root} is not a data set yet: {problem}{reasons}.")
    source = columns | {"text": [result.texts[clip] for clip in order]}
    shares = [result.done[clip].face_share if clip in result.done else None for clip in order]
    if any(share is not None for share in shares):
        source["face_share"] = shares
    folder.write_table({name: [values[row] for row in rows] for name, values in source.items()})
