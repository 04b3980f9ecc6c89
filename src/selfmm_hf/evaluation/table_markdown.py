"""Formats the table of a sweep as Markdown, and the cells of tables of results."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..metrics import METRIC_NAMES, metric_name, metric_text
from ..published import PublishedFigures, as_printed, published_in_words
from ..storage.whole_files import write_json, write_text
from .sweep import minutes
from .table import BY_CONFLICT

BAR = r"\|"


def write_table(table: dict[str, Any], folder: Path) -> list[Path]:
    """Writes `table.md` and `table.json` to the folder of the sweep."""
    write_text(folder / "table.md", markdown(table))
    write_json(folder / "table.json", table)
    return [folder / "table.md", folder / "table.json"]


def markdown(table: dict[str, Any]) -> str:
    """Formats the result of [`read_table`] for a README."""
    return "\n".join(_lines(table)) + "\n"


def _lines(table: dict[str, Any]) -> Iterator[str]:
    configurations, seeds, main = table["configurations"], table["seeds"], table["metric"]
    main_name = metric_name(main)[1]
    metrics = shown_metrics(table)
    heads = [metric_name(name)[1] for name in metrics]
    yield (
        f"{table['clips']['test']} clips of the test split, read once, after the epoch was chosen on the "
        f"{table['clips']['validation']} of the validation split. Mean ± standard deviation over seeds, "
        f"{seeds_in_words(seeds)}."
    )
    yield from ("", row("", "seeds", *heads, f"{main_name}, validation"), rule(len(heads) + 3))
    for name, one in configurations.items():
        cells = (mean(metric, one["test"][metric]) for metric in metrics)
        yield row(name, str(len(one["seeds"])), *cells, mean(main, one["validation"][main]))
    if table["constant"]:
        yield row("constant", "", *_constant(table, metrics), "")
    for one in table["published"]:
        if cells := printed(one, metrics):
            yield row(f"published: {one['name']}", str(one["seeds"] or ""), *cells, "")
    if each := [name for name in next(iter(configurations.values()))["test"] if name not in METRIC_NAMES]:
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
        yield from (row("", *heads), rule(len(heads) + 1))
        for name, one in configurations.items():
            cells = (_interval(metric, one["test"][metric]["low"], one["test"][metric]["high"]) for metric in metrics)
            yield row(name, *cells)
    if compared := {name: one[main] for name, one in table["comparisons"].items() if one}:
        yield from ("", f"{main_name}, difference from {table['against']} over the seeds in common:", "")
        yield row("", "seeds", "difference", "95 %, other seeds (t)", "p", "95 %, other clips (bootstrap)")
        yield rule(6)
        for name, one in compared.items():
            intervals = (_interval(main, *ends, signed=True) for ends in ((one["low"], one["high"]), one["bootstrap"]))
            over_seeds, over_clips = intervals
            difference = _number(main, one["difference"], signed=True)
            yield row(name, str(one["n"]), difference, over_seeds, f"{one['p']:.3f}".lstrip("0"), over_clips)
        least = max(one["least_p"] for one in compared.values())
        yield from (
            "",
            f"p: sign-flip permutation test, two-sided; with so many seeds it cannot be less than {least:.2g}.",
        )
        if len(compared) > 1:
            yield f"It is not corrected for {len(compared)} comparisons."
        if table["seeds_before"]:
            counts = ", then ".join(map(str, [*table["seeds_before"], len(seeds)]))
            yield f"It is not corrected for looking several times: there were {counts} seeds."
    if any(one["generated_labels"] for one in configurations.values()):
        yield from _label_lines(configurations)
    for name, seed, why in table["missing"]:
        yield from ("", f"MISSING: {name}, seed {seed}, {why}")
    yield from ("", _measured_line(table["measured"]))


def _each_lines(table: dict[str, Any], metrics: list[str]) -> Iterator[str]:
    """Yields a row for each of several scores, emotions or classes, which are too many for columns."""
    columns = {
        name: [mean(metric, one["test"][metric]) for metric in metrics] for name, one in table["configurations"].items()
    }
    if table["constant"]:
        columns["constant"] = _constant(table, metrics)
    columns |= {f"published: {one['name']}": cells for one in table["published"] if (cells := printed(one, metrics))}
    yield from ("", row("", *columns), rule(len(columns) + 1))
    for place, metric in enumerate(metrics):
        yield row(metric_name(metric)[1], *(cells[place] for cells in columns.values()))


def _constant(table: dict[str, Any], metrics: list[str]) -> list[str]:
    return [_number(name, table["constant"][name]) if name in table["constant"] else "" for name in metrics]


def printed(published: dict[str, Any], metrics: list[str]) -> list[str]:
    """Formats the metrics that a source has; nothing if it has none of them."""
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
    yield from (row("", *tasks), rule(len(tasks) + 1))
    learned = [name for name, one in configurations.items() if one["options"].get("unimodal_tasks") != []]
    for label, kind in (("`y_m` itself", "fused"), *((name, "generated") for name in learned)):
        known = [configurations[label]] if kind == "generated" else list(configurations.values())
        known = {key: value for one in known for key, value in one["generated_labels"].items()}
        cells = []
        for task in tasks:
            pair = [known.get(f"{kind}_label_{task}_{metric}") for metric in (measures[0], "mae")]
            cells.append("" if None in pair else " / ".join(_number("mae", one["mean"]) for one in pair))
        if any(cells):
            yield row(label, *cells)


def _measured_line(measured: dict[str, list]) -> str:
    """Says on what the runs were made, with all values of each fact."""
    facts = {name: " and ".join(map(str, values)) for name, values in measured.items() if name != "seconds"}
    shown = [facts.pop("device"), facts.pop("processor")]
    shown += [f"{name} {value}" for name, value in facts.items()]
    if measured["seconds"]:
        shortest, longest = map(minutes, measured["seconds"])
        shown.append(f"{shortest} to {longest} a run" if shortest != longest else f"{shortest} a run")
    line = "; ".join(shown)
    return f"{line[0].upper()}{line[1:]}."


def shown_metrics(table: dict[str, Any]) -> list[str]:
    """Returns the columns: metrics that are not of one target, and those by conflict if a run tells which clips are."""
    every = next(iter(table["configurations"].values()))["test"]
    return [name for name in every if name in METRIC_NAMES and (table["conflict"] or name not in BY_CONFLICT)]


def row(*cells: str) -> str:
    """Formats a row; a name may have newlines and the character that divides cells."""
    return f"| {' | '.join(' '.join(cell.split()).replace('|', BAR) for cell in cells)} |"


def rule(columns: int) -> str:
    return "|" + "---|" * columns


def seeds_in_words(seeds: list[int]) -> str:
    return f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"{seeds[0]} alone"


def _number(metric: str, value: float | None, signed: bool = False) -> str:
    """Formats errors and correlations with three decimals and without the zero before them; others in percent."""
    if value is None:
        return "" if metric in BY_CONFLICT else "-"
    return re.sub(r"\b0(?=\.\d{3})", "", metric_text(metric, value, signed))


def mean(metric: str, one: dict[str, Any]) -> str:
    mean = _number(metric, one["mean"])
    return mean if one["sd"] is None else f"{mean} ± {_number(metric, one['sd'])}"


def _interval(metric: str, low: float | None, high: float | None, signed: bool = False) -> str:
    return _number(metric, low) if low is None else f"{_number(metric, low, signed)} to {_number(metric, high, signed)}"
