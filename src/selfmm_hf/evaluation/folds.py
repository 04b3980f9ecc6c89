"""Folds across subjects: a sweep for each fold, and one result of all, in which each clip is tested once."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..data.folds import fold_name, read_fold
from ..data.safe_pickle import DataError
from ..metrics import metric_name, reported
from ..published import PublishedFigures, published_in_words
from ..runs.options import read_options
from ..runs.stored import StoredRun
from ..storage.whole_files import as_json, write_json, write_text
from ..task_metrics import metrics_of
from .statistics import summary
from .sweep import Sweep, read_sweep, run_folder, run_sweep
from .sweep import prepare as prepare_sweep
from .sweep_runs import is_done, why_missing
from .table import published_beside
from .table_markdown import mean, printed, row, rule, seeds_in_words

KINDS = ("pooled", "batches", "constant")
BATCH = 16  # clips that EMER's scripts score at once; their results are means over batches, then over folds


def fold_folders(folder: Path) -> dict[int, Path]:
    """Returns the sweeps of the folds in a folder, by number; none if it is another folder."""
    found: dict[int, Path] = {}
    for path in folder.glob("fold*of*"):
        try:
            number, _ = read_fold(path.name)
        except DataError:
            continue
        found[number] = path
    return dict(sorted(found.items()))


def prepare(
    folder: Path, count: int, configurations: dict[str, dict[str, Any]], seeds: int, arguments: list[str]
) -> dict[str, Sweep]:
    """
    Prepares a sweep, as [`prepare`] of a sweep does, for each of `count` folds in a folder of its name.

    Raises:
        ValueError: As there; or the folder holds other folds; or `data_config` is given, although it names the fold.
    """
    names = [fold_name(number, count) for number in range(1, count + 1)]
    if others := [path.name for path in fold_folders(folder).values() if path.name not in names]:
        raise ValueError(f"{folder} holds {others[0]}, not one of {count} folds: name another --output_dir.")
    if (dataset := read_options(arguments)[0].dataset) != "custom":
        raise ValueError(f"Folds need a custom data set whose table has a column 'subject', not {dataset}.")
    if any(one.split("=")[0] in ("--data_config", "--data-config") for one in arguments):
        raise ValueError("--data_config names one fold, and --folds runs all of them: leave one of them out.")
    return {name: prepare_sweep(folder / name, configurations, seeds, _of(name, arguments)) for name in names}


def run_folds(folder: Path, sweeps: dict[str, Sweep], arguments: list[str], tell: Callable[[str], None]) -> int:
    """Runs the sweep of each fold, as [`run_sweep`] does; returns how many runs are not done in the end."""
    return sum(run_sweep(folder / name, sweep, _of(name, arguments), tell) for name, sweep in sweeps.items())


def _of(name: str, arguments: list[str]) -> list[str]:
    return [*arguments, "--data_config", name]


def read_folds(folder: Path) -> dict[str, Any]:
    """
    Summarises the runs of all folds, for the seeds with which all folds are done.

    Returns:
        Content for JSON: `folds`, `clips`, and `configurations`. Each of these has `seeds` and three kinds of results,
        by metric a [`Summary`] over seeds: `pooled`, over the test clips of all folds at once; `batches`, the mean over
        batches of 16 clips and then over folds, as in EMER's scripts; and `constant`, the mean over folds of a constant
        prediction, if the runs have it. `missing` lists runs, each with the reason; for `published`, see
        [`PublishedFigures`].

    Raises:
        ValueError: No configuration has a seed with which all folds are done; or a clip is tested twice.
    """
    folders = fold_folders(folder)
    if not folders:
        raise ValueError(f"{folder} holds no folds; `selfmm benchmark run --folds` makes them.")
    first = next(iter(folders.values()))
    sweep, count = read_sweep(first), read_fold(first.name)[1]
    expected = [folder / fold_name(number, count) for number in range(1, count + 1)]
    found: dict[str, dict[int, list[StoredRun]]] = {name: {} for name in sweep.configurations}
    missing = []
    for name, seed in sweep.runs():
        places = [run_folder(place, name, seed) for place in expected]
        if todo := [place for place in places if not is_done(place)]:
            missing += [[str(place.relative_to(folder)), why_missing(place)] for place in todo]
        else:
            found[name][seed] = [StoredRun.read(place) for place in places]
    found = {name: by_seed for name, by_seed in found.items() if by_seed}
    if not found:
        raise ValueError(f"No configuration in {folder} has a seed with which all {count} folds are done.")
    content = {}
    for name, by_seed in found.items():
        seeds = [_of_seed(runs) for runs in by_seed.values()]
        content[name] = {"seeds": list(by_seed)}
        for kind in seeds[0]:
            values = {metric: [one[kind].get(metric, np.nan) for one in seeds] for metric in seeds[0][kind]}
            content[name][kind] = {metric: asdict(summary(one)) for metric, one in values.items()}
    runs = next(iter(next(iter(found.values())).values()))
    clips = sum(len(run.of_split("test")["id"]) for run in runs)
    published = [asdict(one) for one in published_beside(runs[0])]
    told = {"folds": count, "clips": clips, "configurations": content, "missing": missing}
    return as_json(told | {"published": published})


def _of_seed(runs: list[StoredRun]) -> dict[str, dict[str, float]]:
    """Returns the results of one seed, which has a model for each fold, by kind and metric."""
    task, tests = runs[0].task, [run.of_split("test") for run in runs]
    ids = [clip for test in tests for clip in test["id"]]
    if len(set(ids)) < len(ids):
        raise ValueError(f"{runs[0].folder.parents[2]}: a clip is in the test splits of two folds; start again.")
    predictions, labels = (np.concatenate([test[name] for test in tests]) for name in ("fusion", "label"))
    pooled = metrics_of(task, predictions, labels)
    batches = [
        [
            metrics_of(task, test["fusion"][start : start + BATCH], test["label"][start : start + BATCH])
            for start in range(0, len(test["id"]), BATCH)
        ]
        for test in tests
    ]
    known = [name for name in pooled if metric_name(name)[0] != "pearsonr"]  # it means nothing for 16 clips
    by_batch = {name: _mean_of([_mean_of([one[name] for one in fold]) for fold in batches]) for name in known}
    constant = {
        name: float(np.mean([run.results[f"test_constant_{name}"] for run in runs]))
        for name in pooled
        if all(run.results.get(f"test_constant_{name}") is not None for run in runs)
    }
    return {"pooled": pooled, "batches": by_batch, "constant": constant}


def _mean_of(values: list[float]) -> float:
    """Returns the mean of the values that are defined; NaN if none is."""
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def write_folds(content: dict[str, Any], folder: Path) -> list[Path]:
    """Writes `folds.md` and `folds.json` to the folder."""
    write_text(folder / "folds.md", markdown(content))
    write_json(folder / "folds.json", content)
    return [folder / "folds.md", folder / "folds.json"]


def markdown(content: dict[str, Any]) -> str:
    """Formats the result of [`read_folds`] for a README."""
    lines = [
        f"{content['folds']} folds across subjects, {content['clips']} clips, each tested once, by the model of its "
        f"fold. Pooled: over all clips at once. Batches: the mean over batches of {BATCH} clips, then over folds. "
        "Constant: the same prediction for each clip, mean over folds."
    ]
    for name, one in content["configurations"].items():
        metrics = reported([f"test_{metric}" for metric in one["pooled"]], "test")
        columns = {
            kind: [mean(metric, one[kind][metric]) if metric in one[kind] else "" for metric in metrics]
            for kind in KINDS
        }
        columns |= {f"published: {of['name']}": printed(of, metrics) for of in content["published"]}
        lines += ["", f"{name}, seeds {seeds_in_words(one['seeds'])}:", "", row("", *columns), rule(len(columns) + 1)]
        for place, metric in enumerate(metrics):
            lines.append(row(metric_name(metric)[1], *(cells[place] for cells in columns.values())))
    if content["published"]:
        lines += ["", *published_in_words([PublishedFigures(**of) for of in content["published"]])]
    lines += [line for place, why in content["missing"] for line in ("", f"MISSING: {place}, {why}")]
    return "\n".join(lines) + "\n"
