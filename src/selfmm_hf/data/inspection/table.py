"""An inspection as text for a terminal."""

import textwrap
from collections.abc import Mapping
from typing import Any

from ...model.task_selfmm import REGRESSION, SINGLE_LABEL, Task
from . import Inspection, plural
from .counts import Frames, Lengths, Split
from .overlap import Overlap

WIDTH = 100  # of a terminal


def format_table(inspection: Inspection) -> str:
    """What was found, as text for a terminal of 100 columns."""
    reports = inspection.splits
    lines = ["Clips & labels"]
    lines += textwrap.wrap(_kind(inspection.task), WIDTH, initial_indent="  ", subsequent_indent="    ")
    lines += _label_grid(inspection)
    labels = {
        f"{split} {name}".rstrip(): of.correlations
        for split, report in reports.items()
        for name, of in report.by_target.items()
    }
    if modalities := list(next(iter(labels.values()))):
        rows = [[split, *(_or(found.get(name), ".2f") for name in modalities)] for split, found in labels.items()]
        lines += ["", "  Correlation of the label with that of one modality alone"]
        lines += _grid(["", *modalities], rows)
    lines += ["", "Text", *_text_grid(reports), *["", "Sequences"] * bool(inspection.widths)]
    for name, width in inspection.widths.items():
        frames = {split: report.sequences[name] for split, report in reports.items()}
        steps = sorted({of.steps for of in frames.values() if of.steps})
        padded = f", length {' or '.join(map(str, steps))} in the file" if steps else ""
        constant = f"{inspection.constant_columns[name]} of {plural(width, 'column')} constant"
        lines += [f"  {name}: {constant} in {inspection.training}{padded}", *_frames_grid(frames)]
    lines += ["", "Across splits", *_overlap_grid(inspection.overlaps), "", "Attention"]
    for line in inspection.attention or ["nothing"]:
        lines += textwrap.wrap(line, WIDTH, initial_indent="  ", subsequent_indent="    ")
    return "\n".join(lines)


def _kind(task: Task) -> str:
    """What the labels are, as the reader has understood them."""
    if task.problem_type == REGRESSION:
        scores = [f"{name} in [{low:g}, {high:g}]" for name, (low, high) in zip(task.names, task.scales, strict=True)]
        return ("a score, " if len(scores) == 1 else "scores, ") + ", ".join(scores)
    one = "one class of" if task.problem_type == SINGLE_LABEL else "emotions that may occur together,"
    return f"{one} {', '.join(task.names)}"


def _label_grid(inspection: Inspection) -> list[str]:
    """Of scores their spread, of classes and emotions the clips that have them, or the sums of probabilities."""
    reports = inspection.splits
    if inspection.task.problem_type != REGRESSION:
        shown = list(inspection.task.names)
        rows = [
            [split, of.clips, _or(of.videos), *(_total(of.targets[name].mean * of.clips) for name in shown)]
            for split, of in reports.items()
        ]
        return _grid(["", "clips", "videos", *shown], rows)
    signs = all(low == -high for low, high in inspection.task.scales)  # on other scales, 0 is no middle
    head = ["", "clips", "videos", "min", "q1", "median", "q3", "max", "mean"]
    head += ["negative", "zero", "positive"] if signs else []
    rows = []
    for split, report in reports.items():
        for name, of in report.by_target.items():
            spread = [f"{value:.2f}" for value in (of.min, of.q1, of.median, of.q3, of.max, of.mean)]
            start = [f"{split} {name}".rstrip(), report.clips, _or(report.videos)]
            rows.append([*start, *spread, *([of.negative, of.zero, of.positive] if signs else [])])
    return _grid(head, rows)


def _total(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _text_grid(reports: Mapping[str, Split]) -> list[str]:
    tokens = any(report.text.tokens for report in reports.values())
    head = ["", "blank", "words: mean", "median", "p95", "max"]
    head += ["tokens: mean", "median", "p95", "max"] if tokens else []
    rows = [
        [split, of.text.blank, *_lengths(of.text.words), *(_lengths(of.text.tokens) if tokens else [])]
        for split, of in reports.items()
    ]
    return _grid(head, rows)


def _frames_grid(frames: Mapping[str, Frames]) -> list[str]:
    head = ["", "without", "frames: mean", "median", "p95", "max", "padding", "zeros", "not finite", "farthest"]
    rows = []
    for split, of in frames.items():
        bad = f"{of.not_finite_values} in {of.not_finite_clips}" if of.not_finite_values else "0"
        shares = [_or(of.padding, ".1%"), _or(of.zero_frames, ".1%")]
        far = "-" if of.farthest is None else f"{of.farthest:.1f} sd"
        rows.append([split, of.missing, *_lengths(of.lengths), *shares, bad, far])
    return _grid(head, rows, indent=4)


def _overlap_grid(overlaps: Mapping[str, Overlap]) -> list[str]:
    pairs = list(overlaps["ids"].pairs)
    rows = [[kind, *of.pairs.values(), sum(of.within.values())] for kind, of in overlaps.items()]
    rows[-1][-1] = "-"  # a video has many clips
    lines = _grid(["the same", *pairs, "twice within one"], rows)
    for kind, of in overlaps.items():
        for example in of.examples if kind != "videos" else []:
            places: dict[str, list[str]] = {}
            for place in example:
                places.setdefault(f"{place['name']!r:.70}", []).append(place["split"])
            where = " and ".join(f"{name} ({', '.join(where)})" for name, where in places.items())
            lines += textwrap.wrap(f"{kind}: {where}", WIDTH, initial_indent="  ", subsequent_indent="    ")
    return lines


def _lengths(lengths: Lengths | None) -> list[str]:
    if lengths is None:
        return ["-"] * 4
    return [f"{lengths.mean:.1f}", *(f"{value:.0f}" for value in (lengths.median, lengths.p95, lengths.max))]


def _or(value: float | None, form: str = "") -> str:
    return "-" if value is None else format(value, form)


def _grid(head: list[str], rows: list[list[Any]], indent: int = 2) -> list[str]:
    """Lines with the first column to the left and the others to the right."""
    cells = [head, *([str(cell) for cell in row] for row in rows)]
    first, *others = (max(map(len, column)) for column in zip(*cells, strict=True))
    return [
        " " * indent
        + row[0].ljust(first)
        + "".join(f"  {cell:>{size}}" for cell, size in zip(row[1:], others, strict=True))
        for row in cells
    ]
