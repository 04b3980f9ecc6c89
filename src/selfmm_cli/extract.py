"""`selfmm extract`."""

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from .cluster import ENGINE, GPUS, RAY_ADDRESS, Engine, check_engine, on_cluster
from .errors import end_in_one_line

if TYPE_CHECKING:
    from selfmm_hf import SelfMMFeatureExtractor
    from selfmm_hf.clips.extract import Extraction

LISTED = 10  # failures and warnings that are printed; the files have all


def extract(
    clips: Annotated[str, Argument(help="Folder of the media files.")],
    table: Annotated[
        str,
        Option(
            help="CSV or Parquet with id, label and split, and optionally text and clip, the path of the media file. "
            "By default, the path is the id with the extension of a media file."
        ),
    ],
    output_dir: Annotated[
        str, Option("--output_dir", help="Folder to write. The same command resumes an interrupted extraction.")
    ],
    audio: Annotated[str | None, Option(help="librosa33 (default), none, or the name of a speech model.")] = None,
    vision: Annotated[str | None, Option(help="face (default), none, or the name of an image model.")] = None,
    audio_layer: Annotated[
        str | None,
        Option(
            "--audio_layer",
            help="Layer of the speech model: -1 for the last (default), 6 for the sixth, or weighted for all of them: "
            "the training then learns the weight of each.",
        ),
    ] = None,
    vision_layer: Annotated[str | None, Option("--vision_layer", help="Layer of the image model, likewise.")] = None,
    recipe: Annotated[
        str | None,
        Option(help="Recipe of the features: preprocessor_config.json, or the folder or Hub repository of a model."),
    ] = None,
    transcriber: Annotated[
        str | None, Option(help="Speech recognition model for clips without text, such as a Whisper.")
    ] = None,
    workers: Annotated[int | None, Option(min=1, help="Processes; by default one for each core.")] = None,
    device: Annotated[
        str | None,
        Option(
            help="Where the models run: cpu, cuda, cuda:1 or mps. By default cuda with --gpus_per_worker, else cpu. "
            "All processes share it."
        ),
    ] = None,
    max_seconds: Annotated[
        float | None, Option("--max_seconds", help="Longer clips are refused; 300 by default.")
    ] = None,
    time_limit: Annotated[
        float, Option("--time_limit", min=1, help="Seconds that one clip may take; a slower one fails.")
    ] = 1800.0,
    engine: Annotated[Engine, Option(help=ENGINE)] = Engine.local,
    ray_address: Annotated[str | None, Option("--ray_address", help=RAY_ADDRESS)] = None,
    gpus_per_worker: Annotated[float, Option("--gpus_per_worker", min=0, help=GPUS)] = 0,
) -> None:
    """Compute the features of a folder of clips, and write them as a data set."""
    with end_in_one_line():
        check_engine(engine, ray_address, gpus_per_worker)
        from selfmm_hf.clips.extract import extract_clips
        from selfmm_hf.environment import cores
        from selfmm_hf.storage.hub_names import take_from_hub

        check_seconds(max_seconds)
        device = device or ("cuda" if gpus_per_worker else "cpu")
        if engine == Engine.local:
            check_device(device)
        if transcriber is not None:
            take_from_hub(transcriber, "the transcriber", owner=False)
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C: its processes end with it
        try:
            layers = {"audio": audio_layer, "vision": vision_layer}
            extractor = _extractor(audio, vision, layers, recipe, max_seconds)
            if engine == Engine.ray:
                from selfmm_hf.cluster.features import Extraction

                work = Extraction(extractor, transcriber, device, time_limit)
                raise typer.Exit(on_cluster(clips, table, output_dir, work, ray_address, workers, gpus_per_worker))
            result = extract_clips(
                clips, table, output_dir, extractor, transcriber, workers or cores(), device, time_limit
            )
        finally:
            signal.signal(signal.SIGTERM, before)
        for line in _told(result, Path(output_dir)):
            print(line)
    raise typer.Exit(1 if result.failures else 0)


def check_seconds(seconds: float | None) -> None:
    """
    Checks a length of time.
    Raises:
        ValueError: It is not a positive number.
    """
    if seconds is not None and not 0 < seconds < float("inf"):
        raise ValueError(f"--max_seconds must be a positive number of seconds, got {seconds:g}.")


def check_device(name: str) -> None:
    """
    Checks that PyTorch can use a device.
    Raises:
        ValueError: PyTorch has no such device here.
    """
    import torch

    try:
        torch.empty(1, device=name)
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device {name} cannot be used: {reason}. Expected cpu, cuda, cuda:1 or mps.") from error


def _extractor(
    audio: str | None,
    vision: str | None,
    layers: dict[str, str | None],
    recipe: str | None,
    max_seconds: float | None,
) -> "SelfMMFeatureExtractor":
    from selfmm_hf import SelfMMFeatureExtractor
    from selfmm_hf.model.layers_selfmm import read_layer
    from selfmm_hf.storage.hub_names import take_from_hub

    if recipe and (audio or vision or any(layers.values())):
        raise ValueError("--recipe sets --audio, --vision and their layers; leave it out, or leave them out.")
    if recipe:
        take_from_hub(recipe, "the recipe", here="file or folder")
        extractor = SelfMMFeatureExtractor.from_pretrained(recipe)
    else:
        recipes: dict[str, Any] = {}
        for name, chosen, known in (("audio", audio, "librosa33"), ("vision", vision, "face")):
            value = chosen or known
            if value not in ("none", known):
                take_from_hub(value, f"the {name} model", owner=False)
            layer = read_layer(layers[name] or -1, f"--{name}_layer")
            if value in ("none", known) and layers[name]:
                raise ValueError(f"--{name}_layer is for a model, and --{name} is {value}: leave one of them out.")
            encoder = {"kind": "encoder", "model": value, "layer": layer}
            recipes[name] = {"none": None, known: known}.get(value, encoder)
        extractor = SelfMMFeatureExtractor(**recipes)
    extractor.max_seconds = max_seconds or extractor.max_seconds
    return extractor


def _told(result: "Extraction", out: Path) -> Iterator[str]:
    """Yields the result in lines."""
    from selfmm_hf.clips.folder import FAILURES, JOURNAL, TABLE
    from selfmm_hf.model.picture_selfmm import FEW_FACES

    records = result.done.values()
    hours = sum(record.seconds or 0.0 for record in records) / 3600
    yield f"{out}: {len(records)} clips, {hours:.2f} hours"
    if result.computed:
        before = f", {len(records) - result.computed} before" if len(records) > result.computed else ""
        speed = result.computed / result.seconds
        yield f"computed {result.computed} in {result.seconds:.0f} s, {speed:.2f} clips/s{before}"
    else:
        yield "nothing was left to compute; the table was written again"
    if result.gone:
        yield f"{result.gone} no longer have a media file and keep their features"
    if result.heard:
        yield f"{result.heard} have words from a transcriber"
    lacks = Counter(reason for record in records for reason in record.absent.values())
    lacks["no words"] = sum(not result.texts[clip].strip() for clip in result.done)
    if lacks := {reason: count for reason, count in sorted(lacks.items()) if count}:
        yield "clips with " + ", ".join(f"{reason}: {count}" for reason, count in lacks.items())
    if few := sum(record.face_share is not None and record.face_share < FEW_FACES for record in records):
        yield f"clips with a face in fewer than half of the frames: {few}, see face_share in {TABLE}"
    damaged = [(record.id, " ".join(record.warnings)) for record in records if record.warnings]
    failed = [(clip, reason) for clip, _, reason in result.failures]
    for what, file, clips in (("damaged", JOURNAL, damaged), ("FAILED, left out", FAILURES, failed)):
        if clips:
            yield f"{what}: {len(clips)}, all in {file}"
            yield from (f"  {clip!r:.99}: {reason}" for clip, reason in clips[:LISTED])
    yield "Use it with"
    yield f"  selfmm data inspect {out}"
    yield f"  selfmm train --dataset custom --data {out} --text_encoder NAME ..."
