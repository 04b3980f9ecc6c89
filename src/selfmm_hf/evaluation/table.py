"""The table of a sweep, from what its runs have left: nothing is trained, and no model is loaded."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..labels.conflict import conflict_in_words
from ..published import PublishedFigures, published_figures
from ..runs.folder import difference
from ..runs.stored import StoredRun
from ..storage.whole_files import as_json
from ..task_metrics import main_metric
from .statistics import bootstrap_interval, compare, summary
from .sweep import OWN_OPTIONS, Sweep, read_sweep, run_folder
from .sweep_runs import is_done, why_missing

SPLITS = ("validation", "test")
BY_CONFLICT = ("mae_agreement", "mae_conflict")


def read_table(folder: Path, against: str | None = None) -> dict[str, Any]:
    """
    Collects everything that can be said of a sweep, from the runs that are done.

    Args:
        folder: Folder of the sweep.
        against: The configuration that the others are compared with; the first by default.

    Returns:
        Content for JSON, with `None` for what is not defined. `configurations`: by name `options`, `seeds`,
        `best_epochs`, and for each of `validation`, `test` and `generated_labels` (if their truth is known), by metric
        a [`Summary`] and the seeds' `values`; `metric`, the one that runs are compared by; `conflict`, in words, which
        clips are in conflict, `None` if no run tells; `comparisons` with `against` on the test split, by name and
        metric a [`Comparison`], for `metric` with `bootstrap`, see [`bootstrap_interval`]; `missing` runs, each with
        the reason; `base`, the options of all; `seeds_before`, as in [`Sweep`]; `measured`, the different values of
        each fact; `constant`, the metrics of a constant prediction, for tasks other than one score; `published`, see
        [`PublishedFigures`]; `text_encoders` of the runs.

    Raises:
        ValueError: The folder holds no sweep, no run that is done, or runs of different options or data.
    """
    sweep = read_sweep(folder)
    runs: dict[str, dict[int, StoredRun]] = {name: {} for name in sweep.configurations}
    missing = []
    for name, seed in sweep.runs():
        if is_done(run_folder(folder, name, seed)):
            runs[name][seed] = StoredRun.read(run_folder(folder, name, seed))
        else:
            missing.append([name, seed, why_missing(run_folder(folder, name, seed))])
    runs = {name: by_seed for name, by_seed in runs.items() if by_seed}
    if not runs:
        raise ValueError(f"No run in {folder} is done.")
    _check_alike(sweep, runs)
    reference = next(iter(runs)) if against is None else against
    if reference not in runs:
        raise ValueError(f"There are no runs of {reference!r} to compare with; expected one of {', '.join(runs)}.")
    stored = [run for by_seed in runs.values() for run in by_seed.values()]
    return as_json(
        {
            "base": sweep.base,
            "clips": {split: len(_clips(stored[0], split)) for split in SPLITS},
            "seeds": list(range(sweep.first_seed, sweep.first_seed + sweep.seeds)),
            "seeds_before": sweep.seeds_before,
            "configurations": {
                name: _configuration(sweep.configurations[name], by_seed) for name, by_seed in runs.items()
            },
            "metric": main_metric(stored[0].task),
            "conflict": conflict_in_words([run.results for run in stored], stored[0].label_range),
            "against": reference,
            "comparisons": {
                name: _comparison(by_seed, runs[reference]) for name, by_seed in runs.items() if name != reference
            },
            "missing": missing,
            "measured": _measured(stored),
            "constant": constant_of(stored[0]),
            "published": [asdict(one) for one in published_beside(stored[0])],
            "text_encoders": sorted({run.text_encoder for run in stored} - {None}),
        }
    )


def _check_alike(sweep: Sweep, runs: dict[str, dict[int, StoredRun]]) -> None:
    """Checks that runs differ only in the options of their configurations and in their seeds."""
    one = next(iter(next(iter(runs.values())).values()))
    for name, by_seed in runs.items():
        first = next(iter(by_seed.values()))
        varied = sweep.configurations[name]
        for seed, run in by_seed.items():
            if run.options.get("seed", run.results["seed"]) != seed or run.results["seed"] != seed:
                raise ValueError(f"The run in {run.folder} has the seed {run.results['seed']}.")
            for other, free in ((sweep.base, varied), (first.options, ())):
                if option := difference(other, run.options, *OWN_OPTIONS, *free):
                    raise ValueError(
                        f"The run in {run.folder} has {option}: {run.options.get(option, 'the default')}, others have "
                        f"{other.get(option, 'the default')}: one table cannot hold both."
                    )
            for split in SPLITS:
                same = _clips(run, split) == _clips(one, split)
                if not same:
                    raise ValueError(f"The runs in {run.folder} and {one.folder} have different clips.")
            if run.environment["data"] != first.environment["data"]:
                raise ValueError(f"The runs in {run.folder} and {first.folder} have different data.")


def _clips(run: StoredRun, split: str) -> list[tuple[str, float]]:
    rows = run.of_split(split)
    return list(zip(rows["id"], rows["label"].tolist(), strict=True))


def _configuration(options: dict[str, Any], by_seed: dict[int, StoredRun]) -> dict[str, Any]:
    quality = [
        {name: value for name, value in run.results.items() if name.startswith(("generated_label_", "fused_label_"))}
        for run in by_seed.values()
    ]
    return {
        "options": options,
        "seeds": list(by_seed),
        "best_epochs": [run.results["best_epoch"] for run in by_seed.values()],
        **{split: _summaries([_metrics(run, split) for run in by_seed.values()]) for split in SPLITS},
        "generated_labels": _summaries(quality),
    }


def constant_of(run: StoredRun) -> dict[str, float]:
    """Returns the metrics of predicting the same for each test clip, if the run has them."""
    start = "test_constant_"
    return {name.removeprefix(start): value for name, value in run.results.items() if name.startswith(start)}


def published_beside(run: StoredRun) -> list[PublishedFigures]:
    """Returns the [`published_figures`] of the data set of a run."""
    return published_figures(run.dataset, run.modalities, run.task, run.metrics("test"))


def _metrics(run: StoredRun, split: str) -> dict[str, float | None]:
    """Returns the field's metrics, and those of clips in agreement and in conflict, `None` if a run has none."""
    return run.metrics(split) | {name: run.results.get(f"{split}_{name}") for name in BY_CONFLICT}


def _summaries(by_seed: list[dict[str, float]]) -> dict[str, dict[str, Any]]:
    values = {name: [metrics[name] for metrics in by_seed] for name in by_seed[0]}
    values = {name: [math.nan if one is None else one for one in known] for name, known in values.items()}
    return {name: {**asdict(summary(known)), "values": known} for name, known in values.items()}


def _comparison(one: dict[int, StoredRun], other: dict[int, StoredRun]) -> dict[str, dict[str, Any]]:
    seeds = [seed for seed in one if seed in other]
    if not seeds:
        return {}
    pairs = [(one[seed].metrics("test"), other[seed].metrics("test")) for seed in seeds]
    compared = {
        name: asdict(compare([pair[0][name] for pair in pairs], [pair[1][name] for pair in pairs]))
        for name in pairs[0][0]
    }
    metric = main_metric(one[seeds[0]].task)
    errors = [np.array([runs[seed].errors("test") for seed in seeds]) for runs in (one, other)]
    compared[metric]["bootstrap"] = bootstrap_interval(*(errors if metric == "mae" else [1 - some for some in errors]))
    return compared


def _measured(runs: list[StoredRun]) -> dict[str, list]:
    sessions = [session for run in runs for session in run.environment["sessions"]]
    facts = [name for name in sessions[0] if name not in ("seconds", "resumed_from")]
    undisturbed = [run.environment["sessions"][0]["seconds"] for run in runs if len(run.environment["sessions"]) == 1]
    values = {name: list(dict.fromkeys(session.get(name) for session in sessions)) for name in facts}
    return {**values, "seconds": [min(undisturbed), max(undisturbed)] if undisturbed else []}
