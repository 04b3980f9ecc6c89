"""Formats the table of a sweep as LaTeX, for a paper, and as CSV, for other programs."""

import csv
import io
from typing import Any

from ..metrics import metric_name
from .table_markdown import mean, printed, seeds_in_words, shown_metrics

ESCAPED = str.maketrans(
    {
        **{letter: f"\\{letter}" for letter in "%&_#${}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\u00b1": r"$\pm$",
    }
)


def latex(table: dict[str, Any]) -> str:
    """
    Formats the result of [`read_table`] for `booktabs`: a row for each configuration and for each published source.

    The best mean of each column is bold, if a column has one: published figures and validation do not take part.
    """
    metrics = shown_metrics(table)
    names = list(table["configurations"])
    best = {metric: _best(metric, table) for metric in metrics}
    lines = [
        f"% {table['clips']['test']} clips of the test split; mean and standard deviation over the seeds "
        f"{seeds_in_words(table['seeds'])}; the validation split chose the epoch.",
        *(f"% MISSING: {name}, seed {seed}, {why}" for name, seed, why in table["missing"]),
        rf"\begin{{tabular}}{{l{'c' * len(metrics)}}}",
        r"\toprule",
        _row("", *(metric_name(metric)[1] for metric in metrics)),
        r"\midrule",
    ]
    for name in names:
        cells = [_tex(mean(metric, table["configurations"][name]["test"][metric])) for metric in metrics]
        bold = [name in best[metric] for metric in metrics]
        cells = [rf"\textbf{{{cell}}}" if is_best else cell for cell, is_best in zip(cells, bold, strict=True)]
        lines.append(" & ".join([_tex(name), *cells]) + r" \\")
    published = [(one, cells) for one in table["published"] if (cells := printed(one, metrics))]
    lines += [r"\midrule"] * bool(published)
    lines += [_row(one["name"], *cells) for one, cells in published]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def csv_text(table: dict[str, Any]) -> str:
    """
    Formats the result of [`read_table`], a row for each configuration, split and metric: `configuration`, `split`,
    `metric`, `seeds`, `mean`, `sd`, the ends of the 95 % interval `low` and `high`, unrounded, and the value of each
    seed as a column `seed_1111`. What is not defined is empty.
    """
    written = io.StringIO()
    rows = csv.writer(written, lineterminator="\n")
    rows.writerow(["configuration", "split", "metric", "seeds", "mean", "sd", "low", "high",
                   *(f"seed_{seed}" for seed in table["seeds"])])  # fmt: skip
    for name, one in table["configurations"].items():
        for split in ("validation", "test", "generated_labels"):
            for metric, found in one[split].items():
                by_seed = dict(zip(one["seeds"], found["values"], strict=True))
                cells = [found[key] for key in ("mean", "sd", "low", "high")]
                cells += [by_seed.get(seed) for seed in table["seeds"]]
                rows.writerow(
                    [name, split, metric, len(one["seeds"]), *("" if cell is None else cell for cell in cells)]
                )
    return written.getvalue()


def _best(metric: str, table: dict[str, Any]) -> set[str]:
    """Returns the configurations whose mean is the best as it is printed; none if there is nothing to compare."""
    means = {name: one["test"][metric]["mean"] for name, one in table["configurations"].items()}
    known = {name: value for name, value in means.items() if value is not None}
    if len(known) < 2:
        return set()
    best = (min if metric.startswith(("mae", "rmse")) else max)(known, key=known.__getitem__)
    printed = {name: mean(metric, table["configurations"][name]["test"][metric]).partition(" ")[0] for name in known}
    return {name for name in known if printed[name] == printed[best]}


def _tex(text: str) -> str:
    return text.translate(ESCAPED)


def _row(*cells: str) -> str:
    return " & ".join(map(_tex, cells)) + r" \\"
