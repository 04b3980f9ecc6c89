"""Checks that a file or a prepared folder is what it should be."""

import glob
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from datasets.utils import tqdm

from ..metrics import METRICS
from ..model.task_selfmm import REGRESSION
from . import BUILDERS, find_builder
from .builder import FeatureBuilder, checksums, published_as, shared_ids
from .columns import odd_column, unimodal_labels
from .custom import is_custom
from .mmsa import DataError, FeatureTable, Rules, read_mmsa
from .prepare import card_fault
from .prepared import origins, split_files, task_of_origin
from .recipe import RECIPE_FILE, read_recipe
from .samples import Samples
from .targets import check_reach


def verify_file(file: Path, dataset: str | None = None) -> Iterator[str]:
    """
    Reads a feature file whole.

    Args:
        file: In the MMSA layout.
        dataset: What it should be: `mosi`, `mosei`, `sims`, `simsv2` or `custom`; by default any published one.

    Yields:
        What is wrong, or at least odd, in sentences; nothing if the file is a published one without faults.

    Raises:
        DataError: It cannot be used at all.
    """
    found = checksums(file)
    published = published_as(found)
    builder = BUILDERS[dataset] if dataset else published and published[0]
    if published is None:
        yield f"{file} is none of the published files: its SHA-256 is {found['sha256']}"
    elif builder is not published[0]:
        raise DataError(f"{file} is the published file of {published[0].TITLE}, {published[1]}, not of {dataset}.")
    task = None if builder in (None, BUILDERS["custom"]) else builder.task_of()
    tables = read_mmsa(file, Rules("keep", task, builder and builder.VOCABULARY))
    if task is not None:
        check_reach(task, [table.columns["label"] for table in tables.values()], file)
    for table in tables.values():
        for _ in tqdm(table.samples(), total=len(table), desc=f"Reading {table.where.rpartition(' ')[2]}"):
            pass
        yield from table.notices()
    for shared in shared_ids({split: table.ids for split, table in tables.items()}):
        yield f"{file}: {shared}"


def verify_folder(
    folder: Path, source: Path | None = None, dataset: str | None = None, **options: Any
) -> Iterator[str]:
    """
    Checks a folder that `selfmm data prepare` has made: checksums, rows, columns, labels, ids, values.

    Args:
        source: The file that it was made from; every clip is then held against it.
        dataset: What it should hold; by default any data set.
        options: Fields of [`FeatureConfig`] that say what else it was made from, such as `emotions`.

    Yields:
        What is wrong, in sentences.

    Raises:
        DataError: It is no such folder, or holds another data set, or the source cannot be one of it.
    """
    facts = origins(folder)
    if not facts:
        raise DataError(f"{folder} is not a data set of `selfmm data prepare`.")
    if (found := facts[0]["dataset"]) not in BUILDERS:
        raise DataError(f"{folder} holds {found!r:.40}; expected one of {', '.join(BUILDERS)}.")
    if dataset not in (None, found):
        raise DataError(f"{folder} holds {found}, not {dataset}.")
    if options and found != "mosei":
        raise DataError(f"{folder} holds {found}, and emotions are joined to mosei alone.")
    if fault := card_fault(folder, facts):
        yield fault
    builders = {}
    if source is not None:
        builders = {origin["config"]: _builder_of(origin, source, **options) for origin in facts}
        if not any(builder.config.name == config for config, builder in builders.items()):
            made_of = builders[facts[0]["config"]].config.name
            yield f"{source} has the configuration {made_of}, which is not in {folder}"
        recipe, expected = read_recipe(folder), read_recipe(source)
        if recipe is not None and expected is not None and recipe != expected:
            yield f"{folder / RECIPE_FILE}: another recipe than that of the source, {source / RECIPE_FILE}"
    for origin in facts:
        made, damaged = folder / origin["config"], False
        for name, expected in origin["files"].items():
            if not (made / name).is_file() or checksums(made / name)["sha256"] != expected:
                damaged = True
                yield f"{made / name} is not the file that was made: its SHA-256 should be {expected}"
        if damaged:  # what else there is would only repeat it
            continue
        tables = {}
        builder = builders.get(origin["config"])
        if builder is not None and builder.config.name == origin["config"]:
            tables = builder.tables(Path(builder.file()))
        ids = {}
        for split, rows in origin["rows"].items():
            files = [glob.escape(str(made / name)) for name in split_files(origin, split)]
            clips = Dataset.from_parquet(files, keep_in_memory=False)
            where = f"{made}, split {split!r}"
            if len(clips) != rows:
                yield f"{where}: {len(clips)} rows, expected {rows}"
            if odd := odd_column(clips.features, task_of_origin(origin)):
                yield f"{where}, {odd}"
                continue
            try:
                samples = Samples(clips, task=task_of_origin(origin))
            except DataError as error:
                yield f"{where}, {error}"
                continue
            ids[split] = samples["id"]
            yield from _faults(samples, where, origin)
            if tables:
                yield from _differences(samples, where, tables[split])
        for shared in shared_ids(ids):
            yield f"{made}: {shared}"


def _builder_of(origin: dict[str, Any], source: Path, **options: Any) -> FeatureBuilder:
    """
    That which made the configuration, for the file or folder that it was made from. Its own configuration is that of
    the source, which may be another one.

    Raises:
        DataError: `source` is neither.
    """
    kind = task_of_origin(origin).problem_type
    options["problem_type"] = None if kind == REGRESSION else kind
    limit = origin["label_range"] if origin["label_range"] in METRICS else None  # another one stands in the source
    config = origin["config"] if is_custom(source) else None  # which fold, as a table has all of them
    builder = find_builder(
        origin["dataset"], str(source), config, label_range=limit, not_finite=origin["not_finite"], **options
    )
    if builder is None:
        raise DataError(f"{source} is neither a feature file nor a folder with a table.csv or table.parquet.")
    return builder


def _faults(clips: Samples, where: str, origin: dict[str, Any]) -> Iterator[str]:
    labels = [name for name in ("label", *unimodal_labels(clips.widths).values()) if name in clips.column_names]
    for fault in clips.faults(origin["not_finite"] != "keep", labels):
        yield f"{where}, {fault}"


def _differences(clips: Samples, where: str, table: FeatureTable) -> Iterator[str]:
    if len(clips) != len(table):
        yield f"{where}: {len(clips)} rows, but {len(table)} in the source"
        return
    if odd := sorted({*clips.column_names} ^ {*table.columns, *table.widths}):
        yield f"{where}: other columns than in the source, {', '.join(odd)} only in one of them"
    others = {name: clips[name] for name in clips.column_names if name not in clips.widths}
    for row, expected in enumerate(
        tqdm(table.samples(), total=len(table), desc=f"Checking {where.rpartition(' ')[2]}")
    ):
        for name, value in expected.items():
            if name in odd:
                continue
            found = clips.frames(name, row) if name in clips.widths else others[name][row]
            is_label = name.startswith("label")
            same = np.array_equal(np.float32(found), np.float32(value)) if is_label else np.array_equal(found, value)
            if not same and not (name in clips.widths and np.array_equal(found, value, equal_nan=True)):
                yield f"{where}, column {name!r}, row {row} (id {expected['id']!r:.80}): not as in the source"
