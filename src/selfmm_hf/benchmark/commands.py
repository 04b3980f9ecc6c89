"""`selfmm benchmark` and `selfmm search`: what their options mean, and what they print."""

import argparse
import json
from pathlib import Path

from ..one_training import FolderInUse, occupied
from ..whole_files import write_text
from . import search as searching
from .sweep import Sweep, prepare, read_configurations, run_sweep
from .table import markdown, read_table

ONE_CONFIGURATION = {"base": {}}


def prepare_sweep(options: argparse.Namespace, training: list[str]) -> Sweep:
    configurations = ONE_CONFIGURATION if options.sweep is None else read_configurations(options.sweep)
    return prepare(Path(options.out), configurations, options.seeds, training)


def run(options: argparse.Namespace, sweep: Sweep, training: list[str]) -> int:
    """Does the runs, and leaves `table.md` and `table.json`. Returns how many runs are not done."""
    folder = Path(options.out)
    undone = run_sweep(folder, sweep, training, _tell)
    try:
        table = read_table(folder)
    except ValueError as error:  # not a single one is done
        _tell(str(error))
        return undone
    for name, text in (("table.md", markdown(table)), ("table.json", _as_json(table))):
        write_text(folder / name, text)
    print(f"\n{markdown(table)}\n{folder / 'table.md'}, {folder / 'table.json'}")
    return undone


def table(options: argparse.Namespace) -> str:
    content = read_table(Path(options.folder), options.against)
    return _as_json(content) if options.json else markdown(content)


def prepare_search(options: argparse.Namespace, training: list[str]) -> dict[str, list]:
    if options.trials < 1:
        raise ValueError(f"--trials must be at least 1, got {options.trials}.")
    space = searching.read_space(options.space)
    searching.prepare(Path(options.out), space, training)
    return space


def search(options: argparse.Namespace, space: dict[str, list], training: list[str]) -> bool:
    """Prints the best trials; returns whether there is any."""
    folder = Path(options.out)
    try:
        with occupied(folder):
            trials = list(searching.search(folder, space, options.trials, training, _tell))
    except FolderInUse as error:
        raise SystemExit(f"selfmm: error: {error} A search is the work of one process.") from None
    done = [trial for trial in trials if trial.loss is not None]
    if not done:
        return False
    varied = [name for name, choices in space.items() if len(choices) > 1]
    print("\nvalidation loss, and what was drawn:")
    for trial in sorted(done, key=lambda trial: trial.loss)[:5]:
        drawn = ", ".join(f"{name} {trial.options[name]}" for name in varied)
        print(f"{trial.loss:.4f}  trial {trial.number}: {drawn}")
    print(f"\nThe best is {folder / searching.BEST_FILE}: give it to `selfmm benchmark run` by --config.")
    return True


def _as_json(content: dict) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _tell(line: str) -> None:
    print(line, flush=True)
