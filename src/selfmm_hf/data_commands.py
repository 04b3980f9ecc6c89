"""What `selfmm data` does."""

import argparse
import json
from pathlib import Path

from .data import find_builder, open_splits
from .data.columns import SPLITS
from .data.custom import is_custom
from .data.custom.folder import read_folder
from .data.demo import demo_corpus
from .data.inspection import Clips, DatasetClips
from .data.inspection import inspect as inspect_splits
from .data.inspection.table import format_table
from .data.mmsa import Rules, read_mmsa
from .data.prepare import prepare as prepare_folder
from .data.prepared import find_prepared, origins
from .data.verify import verify_file, verify_folder


def prepare(options: argparse.Namespace) -> None:
    """A feature file becomes a Parquet folder."""
    if options.label_range is not None and options.dataset != "custom":
        raise ValueError(f"--label_range is for custom data sets; that of {options.dataset} is known.")
    rules = {"not_finite": options.not_finite}
    builder = find_builder(options.dataset, options.file, options.config, options.label_range, **rules)
    if builder is None:
        raise ValueError(f"{options.file} is no feature file, and no folder with a table.csv or table.parquet.")
    prepare_folder(builder, Path(options.out), options.overwrite)
    origin = next(one for one in origins(Path(options.out)) if one["config"] == builder.config.name)
    rows = ", ".join(f"{split} {count}" for split, count in origin["rows"].items())
    if origin["research"] not in (None, builder.TITLE):
        print(
            f"These are clips of {origin['research']}, for research use: they are not pushed where everybody sees them."
        )
    print(f"{options.out}: {builder.TITLE}, {rows}. Use it by")
    print(f"  load_dataset({options.out!r}, {builder.config.name!r})")
    label_range = f" --label_range {builder.label_range:g}" if options.dataset == "custom" else ""
    print(f"  selfmm train --dataset {builder.name} --data {options.out}{label_range} ...")


def inspect(options: argparse.Namespace) -> None:
    """A table, and a picture, of what is in a data set."""
    if options.png and not Path(options.png).absolute().parent.is_dir():
        raise ValueError(f"There is no folder for the picture {options.png}.")
    inspection = inspect_splits(_clips(options.path, options.config))
    print(json.dumps(inspection.to_dict(), indent=2) if options.json else format_table(inspection))
    if options.png:
        from .data.inspection.plot import plot

        plot(inspection, Path(options.png))
        print(f"The picture: {options.png}")


def _clips(path: str, config: str | None) -> dict[str, Clips]:
    """The splits of whatever is there, with the values as they are."""
    if path == "demo":
        return {split: DatasetClips(rows) for split, rows in demo_corpus().items()}
    if Path(path).is_file():
        return read_mmsa(path, Rules("keep"))
    if is_custom(Path(path)):
        return read_folder(path, Rules("keep"))
    splits = find_prepared(path, config).load()
    opened = open_splits(splits, path, [split for split in SPLITS if split in splits])
    return {split: DatasetClips(samples) for split, samples in opened.items()}


def verify(options: argparse.Namespace) -> None:
    """What is wrong with a file or a folder; exit status 1 where anything is."""
    path = Path(options.path)
    if not path.exists():
        raise ValueError(f"There is no {path}.")
    source = None if options.file is None else Path(options.file)
    problems = 0
    for problem in verify_folder(path, source) if path.is_dir() else verify_file(path, options.dataset):
        problems += 1
        print(problem)
    print(f"{path}: {f'{problems} to look at' if problems else 'as it should be'}")
    raise SystemExit(1 if problems else 0)
