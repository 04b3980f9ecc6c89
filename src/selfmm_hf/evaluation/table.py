"""The table of a sweep, from what its runs have left: nothing is trained, and no model is loaded."""

import math
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..labels.conflict import conflict_in_words
from ..metrics import METRIC_NAMES, metric_name, metric_text
from ..published import PublishedFigures, as_printed, published_figures, published_in_words
from ..runs.folder import OPTIONS_FILE, difference
from ..runs.stored import StoredRun
from ..storage.whole_files import write_json, write_text
from ..task_metrics import main_metric
from .statistics import bootstrap_interval, compare, summary
from .sweep import OWN_OPTIONS, Sweep, minutes, read_sweep, run_folder
from .sweep_runs import FAILURE_FILE, is_done

SPLITS = ("validation", "test")
BY_CONFLICT = ("mae_agreement", "mae_conflict")


def read_table(folder: Path, against: str | None = None) -> dict[str, Any]:
    """
    Everything that can be said of a sweep, of the runs that are done.

    Args:
        folder: Of the sweep.
        against: The configuration that the others are compared with; the first by default.

    Returns:
        As JSON has it, `None` for what is not defined: `configurations`, by name `options`, `seeds`, `best_epochs`, and
        for each of `validation`, `test` and `generated_labels` (where their truth is known) by metric a [`Summary`]
        and the seeds' `values`; `metric`, the one that runs are compared by; `conflict`, which clips are in conflict,
        in words, `None` where no run tells; `comparisons` with `against`, by name, of the test split by metric a
        [`Comparison`], for `metric` with `bootstrap`, see [`bootstrap_interval`]; `missing` runs, each with the
        reason; `base`, the options of all; `seeds_before`, as in [`Sweep`]; `measured`, by fact the different values
        that it had; `constant`, what saying the same of each clip gives, of tasks other than one score; `published`,
        see [`PublishedFigures`]; `text_encoders` of the runs.

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
            missing.append([name, seed, _why_missing(run_folder(folder, name, seed))])
    runs = {name: by_seed for name, by_seed in runs.items() if by_seed}
    if not runs:
        raise ValueError(f"No run in {folder} is done.")
    _check_alike(sweep, runs)
    reference = next(iter(runs)) if against is None else against
    if reference not in runs:
        raise ValueError(f"There are no runs of {reference!r} to compare with; expected one of {', '.join(runs)}.")
    stored = [run for by_seed in runs.values() for run in by_seed.values()]
    return _json(
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


def write_table(table: dict[str, Any], folder: Path) -> list[Path]:
    """Leaves `table.md` and `table.json` in the folder of the sweep."""
    write_text(folder / "table.md", markdown(table))
    write_json(folder / "table.json", table)
    return [folder / "table.md", folder / "table.json"]


def _why_missing(folder: Path) -> str:
    if (folder / FAILURE_FILE).is_file():
        return f"failed: {(folder / FAILURE_FILE).read_text('utf-8').strip().splitlines()[-1]}"
    return "interrupted" if (folder / OPTIONS_FILE).is_file() else "not begun"


def _check_alike(sweep: Sweep, runs: dict[str, dict[int, StoredRun]]) -> None:
    """Runs differ in their configurations' options and their seeds, and in nothing else."""
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
                        f"{other.get(option, 'the default')}: they make no table together."
                    )
            for split in SPLITS:
                same = _clips(run, split) == _clips(one, split)
                if not same:
                    raise ValueError(f"The runs in {run.folder} and {one.folder} are of different clips.")
            if run.environment["data"] != first.environment["data"]:
                raise ValueError(f"The runs in {run.folder} and {first.folder} are of different data.")


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
    """By metric, what saying the same of each test clip gives, where the run has it."""
    start = "test_constant_"
    return {name.removeprefix(start): value for name, value in run.results.items() if name.startswith(start)}


def published_beside(run: StoredRun) -> list[PublishedFigures]:
    """[`published_figures`] of the data set of a run."""
    return published_figures(run.dataset, run.modalities, run.task, run.metrics("test"))


def _metrics(run: StoredRun, split: str) -> dict[str, float | None]:
    """The field's, and those over the clips in agreement and in conflict, `None` in runs that do not have them."""
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


def _json(value: Any) -> Any:
    """`value` with `None` for NaN, and lists for tuples."""
    if isinstance(value, dict):
        return {str(key): _json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_json(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def markdown(table: dict[str, Any]) -> str:
    """What [`read_table`] returns, for a README."""
    return "\n".join(_lines(table)) + "\n"


def _lines(table: dict[str, Any]) -> Iterator[str]:
    configurations, seeds, main = table["configurations"], table["seeds"], table["metric"]
    main_name = metric_name(main)[1]
    every = list(next(iter(configurations.values()))["test"])
    metrics = [name for name in every if name in METRIC_NAMES]
    if table["conflict"] is None:
        metrics = [name for name in metrics if name not in BY_CONFLICT]
    heads = [metric_name(name)[1] for name in metrics]
    yield (
        f"{table['clips']['test']} clips of the test split, read once, after the epoch was chosen on the "
        f"{table['clips']['validation']} of the validation split. Mean ± standard deviation over seeds, "
        f"{_seeds(seeds)}."
    )
    yield from ("", *_row("", "seeds", *heads, f"{main_name}, validation"), _rule(len(heads) + 3))
    for name, one in configurations.items():
        cells = (_mean(metric, one["test"][metric]) for metric in metrics)
        yield from _row(name, str(len(one["seeds"])), *cells, _mean(main, one["validation"][main]))
    if table["constant"]:
        yield from _row("constant", "", *_constant(table, metrics), "")
    for one in table["published"]:
        if cells := _printed(one, metrics):
            yield from _row(f"published: {one['name']}", str(one["seeds"] or ""), *cells, "")
    if each := [name for name in every if name not in METRIC_NAMES]:
        yield from _each_lines(table, each)
    if table["published"]:
        rows = [PublishedFigures(**one) for one in table["published"]]
        yield from ("", *published_in_words(rows, table["text_encoders"]))
    if table["conflict"] is not None:
        yield from ("", table["conflict"])
    if len(configurations) > 1:
        yield from ("", "To choose among them, go by the last column: the test split is for the one that is chosen.")
    if len(seeds) > 1:
        yield from ("", "95 % intervals of the means, for other seeds (t):", "")
        yield from (*_row("", *heads), _rule(len(heads) + 1))
        for name, one in configurations.items():
            cells = (_interval(metric, one["test"][metric]["low"], one["test"][metric]["high"]) for metric in metrics)
            yield from _row(name, *cells)
    if compared := {name: one[main] for name, one in table["comparisons"].items() if one}:
        yield from ("", f"{main_name}, difference from {table['against']} over the seeds in common:", "")
        yield from _row("", "seeds", "difference", "95 %, other seeds (t)", "p", "95 %, other clips (bootstrap)")
        yield _rule(6)
        for name, one in compared.items():
            intervals = (_interval(main, *ends, signed=True) for ends in ((one["low"], one["high"]), one["bootstrap"]))
            over_seeds, over_clips = intervals
            difference = _number(main, one["difference"], signed=True)
            yield from _row(name, str(one["n"]), difference, over_seeds, f"{one['p']:.3f}".lstrip("0"), over_clips)
        least = max(one["least_p"] for one in compared.values())
        yield from (
            "",
            f"p: sign-flip permutation test, two-sided; with so many seeds it cannot be less than {least:.2g}.",
        )
        if len(compared) > 1:
            yield f"It is not corrected for {len(compared)} comparisons."
        if table["seeds_before"]:
            counts = ", then ".join(map(str, [*table["seeds_before"], len(seeds)]))
            yield f"Nor is it for looking several times: there were {counts} seeds."
    if any(one["generated_labels"] for one in configurations.values()):
        yield from _label_lines(configurations)
    for name, seed, why in table["missing"]:
        yield from ("", f"MISSING: {name}, seed {seed}, {why}")
    yield from ("", _measured_line(table["measured"]))


def _each_lines(table: dict[str, Any], metrics: list[str]) -> Iterator[str]:
    """Of several scores, emotions or classes, a row for each, which are too many for columns."""
    columns = {
        name: [_mean(metric, one["test"][metric]) for metric in metrics]
        for name, one in table["configurations"].items()
    }
    if table["constant"]:
        columns["constant"] = _constant(table, metrics)
    columns |= {f"published: {one['name']}": cells for one in table["published"] if (cells := _printed(one, metrics))}
    yield from ("", *_row("", *columns), _rule(len(columns) + 1))
    for place, metric in enumerate(metrics):
        yield from _row(metric_name(metric)[1], *(cells[place] for cells in columns.values()))


def _constant(table: dict[str, Any], metrics: list[str]) -> list[str]:
    return [_number(name, table["constant"][name]) if name in table["constant"] else "" for name in metrics]


def _printed(published: dict[str, Any], metrics: list[str]) -> list[str]:
    """What a source has of the metrics; nothing where it has none of them."""
    known = published["metrics"]
    if not known.keys() & set(metrics):
        return []
    return ["" if name not in known else as_printed(name, known[name]).lstrip("0") for name in metrics]


def _label_lines(configurations: dict[str, Any]) -> Iterator[str]:
    found = dict.fromkeys(name for one in configurations.values() for name in one["generated_labels"])
    named = [re.fullmatch("generated_label_(.+)_(corr|acc)", name) for name in found]
    tasks, measures = zip(*((one[1], one[2]) for one in named if one), strict=True)
    title = {"corr": "correlation", "acc": "accuracy"}[measures[0]]
    yield from ("", f"Labels of the last epoch against the true ones, {title} / mean absolute error:", "")
    yield from (*_row("", *tasks), _rule(len(tasks) + 1))
    learned = [name for name, one in configurations.items() if one["options"].get("unimodal_tasks") != []]
    for label, kind in (("`y_m` itself", "fused"), *((name, "generated") for name in learned)):
        known = [configurations[label]] if kind == "generated" else list(configurations.values())
        known = {key: value for one in known for key, value in one["generated_labels"].items()}
        cells = []
        for task in tasks:
            pair = [known.get(f"{kind}_label_{task}_{metric}") for metric in (measures[0], "mae")]
            cells.append("" if None in pair else " / ".join(_number("mae", one["mean"]) for one in pair))
        if any(cells):
            yield from _row(label, *cells)


def _measured_line(measured: dict[str, list]) -> str:
    """On what; several values of one fact are all told."""
    facts = {name: " and ".join(map(str, values)) for name, values in measured.items() if name != "seconds"}
    shown = [facts.pop("device"), facts.pop("processor")]
    shown += [f"{name} {value}" for name, value in facts.items()]
    if measured["seconds"]:
        shortest, longest = map(minutes, measured["seconds"])
        shown.append(f"{shortest} to {longest} a run" if shortest != longest else f"{shortest} a run")
    line = "; ".join(shown)
    return f"{line[0].upper()}{line[1:]}."


def _row(*cells: str) -> list[str]:
    return [f"| {' | '.join(cells)} |"]


def _rule(columns: int) -> str:
    return "|" + "---|" * columns


def _seeds(seeds: list[int]) -> str:
    return f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"{seeds[0]} alone"


def _number(metric: str, value: float | None, signed: bool = False) -> str:
    """Errors and correlations with three decimals and without the zero before them; others in percent."""
    if value is None:
        return "" if metric in BY_CONFLICT else "-"
    return re.sub(r"\b0(?=\.\d{3})", "", metric_text(metric, value, signed))


def _mean(metric: str, one: dict[str, Any]) -> str:
    mean = _number(metric, one["mean"])
    return mean if one["sd"] is None else f"{mean} ± {_number(metric, one['sd'])}"


def _interval(metric: str, low: float | None, high: float | None, signed: bool = False) -> str:
    return _number(metric, low) if low is None else f"{_number(metric, low, signed)} to {_number(metric, high, signed)}"
