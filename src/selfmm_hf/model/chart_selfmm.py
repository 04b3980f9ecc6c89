"""Draws and describes predicted emotions, classes or several scores. This file travels to the Hub."""

import math
import textwrap
from collections.abc import Iterator, Mapping
from itertools import combinations, groupby
from typing import Any

from .picture_parts_selfmm import (
    COLOURS,
    EDGE,
    LEFT,
    MARGIN,
    NAMES,
    OTHER_COLOUR,
    heading,
    modality_name,
    number_text,
    seconds_text,
    sentence_case,
    shortened,
    svg,
    svg_mark,
    svg_path,
    svg_span,
    svg_text,
    tick,
    time_ticks,
)

REGRESSION, MULTI_LABEL, SINGLE_LABEL = "regression", "multi_label_classification", "single_label_classification"
APART = 1 / 3  # share of the scale, or of all probability, from which modalities disagree
MOST_TARGETS = 10  # drawn at most; more could not be read
BESIDE = 4  # columns of bars
ROW, PIECE_ROW = 26, 30
PLANE = 230  # side of the valence-arousal plane
WIDE_NUMBER = 42  # room for "100%" or "-1.25"

Scores = Mapping[str, float]
Columns = list[tuple[str, Scores | None, str]]


def chart_svg(result: dict[str, Any], title: str | None = None) -> str:
    """
    Draws the scores of a clip by emotion, class or target: one column of bars for all modalities together and one for
    each modality.

    A full bar marks what each says: the most probable class, an emotion above 50 %, a number that is not negative. Two
    scores, such as valence and arousal, are also points of a plane: a ring for all together, a mark for each modality.

    Args:
        result (`dict`): Result of the pipeline for one clip, of any task except one score in [-range, range].
        title (`str`, *optional*): Written above the chart.

    Returns:
        One self-contained `<svg>` element.
    """
    columns, targets = [("together", finite(result["scores"]), ""), *columns_of(result)], targets_of(result)
    parts, top = heading(title, *_headline(result))
    plane = result["task"] == REGRESSION and len(result["scores"]) == 2
    if plane:
        parts += _plane(result, columns, top + 24)
        top += PLANE + 62
    for begin in range(0, len(columns), BESIDE):
        parts += _bars(result, columns, begin, targets, top + 22, plane)
        top += 30 + ROW * len(targets)
    if hidden := len(result["scores"]) - len(targets):
        parts.append(svg_text(MARGIN, top + 14, f"and {hidden} more, all of them less probable", size=12, opacity=0.8))
        top += 22
    if result.get("timeline"):
        parts += _over_time(result, targets, top + 28)
        top += 60 + PIECE_ROW * len(targets)
    return svg(parts, top + 4, title or sentence_case(said(result, result["scores"])), _description(result))


def chart_sentence(result: dict[str, Any]) -> str | None:
    """
    Says which modalities disagree the most, as in "The words say happy (80%), but the voice says angry (62%)."

    Modalities disagree if they name different classes or numbers, or if only one of them puts an emotion above 50 %,
    and the difference is a third or more: half the sum of the differences of all probabilities, the difference of the
    emotion's probabilities, or the difference of the numbers relative to their scale. Returns `None` if none disagree.
    """
    alone = {name: scores for name, scores, _ in columns_of(result) if scores is not None}
    if result["task"] == SINGLE_LABEL:
        return _other_classes(alone)
    return _other_values(result, alone)


def said(result: dict[str, Any], scores: Scores | None) -> str:
    """Returns what one modality, or all together, say: the class, the emotions, or the numbers."""
    if scores is None:
        return "-"
    if result["task"] == SINGLE_LABEL:
        return max(scores, key=scores.__getitem__)
    if result["task"] == MULTI_LABEL:
        return ", ".join(name for name, value in scores.items() if value > 0.5) or "none above 50%"
    return ", ".join(f"{name} {value_text(result, name, value)}" for name, value in scores.items())


def columns_of(result: dict[str, Any]) -> Columns:
    """Returns the name and the scores of each modality, and the reason if it has no scores."""
    why = result.get("absent") or {}
    rows = [(name, finite(scores)) for name, scores in result["unimodal"].items()]
    return [(name, scores, "" if scores is not None else why.get(name, "not there")) for name, scores in rows]


def targets_of(result: dict[str, Any]) -> list[str]:
    """Returns the targets in their order; of more than `MOST_TARGETS`, those that are most probable in any column."""
    names = list(result["scores"])
    if result["task"] == REGRESSION or len(names) <= MOST_TARGETS:
        return names
    all_scores = [result["scores"], *(scores for scores in result["unimodal"].values() if scores)]
    best = sorted(names, key=lambda name: -max(scores[name] for scores in all_scores))[:MOST_TARGETS]
    return [name for name in names if name in best]


def scale_of(result: dict[str, Any], name: str) -> tuple[float, float]:
    """Returns the lowest and the highest score of a target."""
    low, high = result["scales"][name] if result["task"] == REGRESSION else (0.0, 1.0)
    return low, high


def value_text(result: dict[str, Any], name: str, value: float | None, digits: int | None = None) -> str:
    """Formats a probability in percent, or a number, with its sign if the scale has negative values."""
    if value is None:
        return number_text(None, 1)
    if result["task"] != REGRESSION:
        return f"{value:.0%}"
    low, high = scale_of(result, name)
    written = number_text(value, (high - low) / 2, digits)
    return written if low < 0 else written.removeprefix("+")


def finite(scores: Scores | None) -> Scores | None:
    return scores if scores is not None and all(map(math.isfinite, scores.values())) else None


def _other_classes(alone: Mapping[str, Scores]) -> str | None:
    best = {name: max(scores, key=scores.__getitem__) for name, scores in alone.items()}
    pairs = [
        (sum(abs(alone[first][name] - alone[second][name]) for name in alone[first]) / 2, first, second)
        for first, second in combinations(alone, 2)
        if best[first] != best[second]
    ]
    apart, *pair = max(pairs, default=(0.0,))
    if apart < APART - 1e-9:
        return None
    sides = []
    for extreme in sorted(pair, key=lambda name: -alone[name][best[name]]):
        side = [name for name in alone if best[name] == best[extreme]]
        sides.append((side, best[extreme], ", ".join(f"{alone[name][best[name]]:.0%}" for name in side)))
    (first, emotion, numbers), (second, other, others) = sides
    return (
        f"{sentence_case(_they(first))} {_verb(first)} {emotion} ({numbers}), but {_they(second)} {_verb(second)} "
        f"{other} ({others})."
    )


def _other_values(result: dict[str, Any], alone: Mapping[str, Scores]) -> str | None:
    furthest, sentence = APART - 1e-9, None
    for name in result["scores"] if len(alone) > 1 else ():
        values = {modality: scores[name] for modality, scores in alone.items()}
        lowest, highest = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
        low, high = scale_of(result, name)
        apart = (values[highest] - values[lowest]) / (high - low)
        opposite = values[lowest] <= 0.5 < values[highest]
        if apart < furthest or not (result["task"] == REGRESSION or opposite):
            continue
        furthest = apart
        texts = {modality: value_text(result, name, value) for modality, value in values.items()}
        if result["task"] == REGRESSION:
            sentence = (
                f"{sentence_case(name)}: {_they([highest])} {_verb([highest])} {texts[highest]}, but {_they([lowest])} "
                f"{_verb([lowest])} {texts[lowest]}."
            )
            continue
        # The extreme modality of each side, and others that are clearly on the same side.
        yes = [one for one, value in values.items() if one == highest or value >= 0.5 + APART / 2]
        no = [one for one, value in values.items() if one == lowest or value <= 0.5 - APART / 2]
        some, others = (", ".join(texts[one] for one in side) for side in (yes, no))
        do = "do" if _verb(no) == "say" else "does"
        sentence = f"{sentence_case(_they(yes))} {_verb(yes)} {name} ({some}), but {_they(no)} {do} not ({others})."
    return sentence


def _they(modalities: list[str]) -> str:
    return f"the {' and the '.join(NAMES.get(name, (name,))[0] for name in modalities)}"


def _verb(modalities: list[str]) -> str:
    plural = len(modalities) > 1 or NAMES.get(modalities[0], ("", "is"))[1] == "are"
    return "say" if plural else "says"


def _headline(result: dict[str, Any]) -> tuple[str, str]:
    if finite(result["scores"]) is None:
        return "No number", ""
    words = sentence_case(said(result, result["scores"]))
    if result["task"] != SINGLE_LABEL:
        return shortened(words, 42), ""
    return shortened(words, 22), f"{result['scores'][result['label']]:.0%}"


def _bars(
    result: dict[str, Any], columns: Columns, begin: int, targets: list[str], top: float,
    ring: bool,
) -> Iterator[str]:  # fmt: skip
    """Draws the columns from number `begin` on: a row for each target, on the target's own scale."""
    for number, name in enumerate(targets):
        yield svg_text(MARGIN, top + 27 + ROW * number, shortened(name, 11))
    step = (EDGE - LEFT + 10) / min(BESIDE, len(columns))
    for place, (modality, scores, reason) in enumerate(columns[begin : begin + BESIDE]):
        left, right = LEFT + step * place, LEFT + step * (place + 1) - 10
        end, number = right - WIDE_NUMBER, begin + place - 1  # index of the modality; -1 for all together
        colour = "currentColor" if number < 0 else COLOURS.get(modality, OTHER_COLOUR)
        faint = {"opacity": 0.75} if scores is None else {}
        indent = 0 if number < 0 and not ring else 12
        if number >= 0:
            yield svg_mark(number, left + 4, top - 1, colour, 5, **faint)
        elif ring:
            yield _ring(left + 4, top - 1, 4, 2)
        room = int((right - left - indent + 9) / 7.5)  # up to the next column
        names = NAMES.get(modality, (modality,))[0]
        yield svg_text(left + indent, top + 4, shortened(names, room), size=13, weight=600, **faint)
        if scores is None:
            room = int((right - left) / 6.6)
            lines = textwrap.wrap(reason, room, max_lines=len(targets), placeholder="\N{HORIZONTAL ELLIPSIS}")
            for line, words in enumerate(lines):
                yield svg_text(left, top + 27 + 17 * line, words, size=12, style="italic", **faint)
            continue
        strongest = max(scores, key=scores.__getitem__)
        for row, name in enumerate(targets):
            value, middle = scores[name], top + 22 + ROW * row
            zero, tip = (round(left + share * (end - left), 2) for share in _shares(result, name, 0.0, value))
            says_so = {REGRESSION: value >= 0, MULTI_LABEL: value > 0.5, SINGLE_LABEL: name == strongest}
            full = says_so[result["task"]]
            yield svg_path(f"M{left} {middle - 9}V{middle + 9}M{end} {middle - 9}V{middle + 9}", width=1, opacity=0.16)
            yield svg_path(f"M{zero} {middle - 9}V{middle + 9}", width=1, opacity=0.5)
            yield (
                f'<path d="M{zero} {middle - 6}H{tip}V{middle + 6}H{zero}Z" fill="{colour}" '
                f'fill-opacity="{1 if full else 0.2}" stroke="{colour}" stroke-width="1.5" stroke-linejoin="round"/>'
            )
            weight = 700 if full and result["task"] != REGRESSION else 400
            yield svg_text(right, middle + 5, value_text(result, name, value), size=12, weight=weight, anchor="end")


def _plane(result: dict[str, Any], columns: Columns, top: float) -> Iterator[str]:
    """Draws the plane: the first target to the right, the second one upwards."""
    across, upwards = result["scores"]

    def place(right: float, up: float) -> tuple[float, float]:
        (x,), (y,) = _shares(result, across, right), _shares(result, upwards, up)
        return round(LEFT + PLANE * x, 2), round(top + PLANE * (1 - y), 2)

    for share in (0, 0.5, 1):
        right, up = (low + share * (high - low) for low, high in (scale_of(result, across), scale_of(result, upwards)))
        x, y = place(right, up)
        yield svg_path(f"M{x} {top}v{PLANE}M{LEFT} {y}h{PLANE}", width=1, opacity=0.5 if share == 0.5 else 0.16)
        yield svg_text(x, top + PLANE + 16, _tick(result, across, right), size=12, anchor="middle", opacity=0.8)
        yield svg_text(LEFT - 6, y + 4, _tick(result, upwards, up), size=12, anchor="end", opacity=0.8)
    yield svg_text(LEFT + PLANE + 12, top + PLANE / 2 + 5, shortened(across, 9), weight=600)
    yield svg_text(LEFT + PLANE / 2, top - 8, shortened(upwards, 24), weight=600, anchor="middle")
    points = [
        (number, COLOURS.get(name, OTHER_COLOUR), *place(*scores.values()))
        for number, (name, scores, _) in enumerate(columns, start=-1)
        if scores is not None
    ]
    for number, colour, x, y in points:
        if points[0][0] < 0 <= number:  # a line from all together to each modality
            yield svg_path(f"M{points[0][2]} {points[0][3]}L{x} {y}", width=1.5, colour=colour, dash="2 4")
    for number, colour, x, y in points:
        yield _ring(x, y, 10, 3) if number < 0 else svg_mark(number, x, y, colour, 6)


def _ring(x: float, y: float, size: float, width: float) -> str:
    return f'<circle cx="{x}" cy="{y}" r="{size}" fill="none" stroke="currentColor" stroke-width="{width}"/>'


def _shares(result: dict[str, Any], name: str, *values: float) -> list[float]:
    """Returns how far up its scale each value is, in [0, 1]; a value beyond the scale counts as its end."""
    low, high = scale_of(result, name)
    return [(min(max(value, low), high) - low) / (high - low) for value in values]


def _tick(result: dict[str, Any], name: str, value: float) -> str:
    return tick(value) if scale_of(result, name)[0] < 0 else f"{value:g}"


def _over_time(result: dict[str, Any], targets: list[str], top: float) -> Iterator[str]:
    """Draws the scores of all modalities together in each piece, a row for each target."""
    pieces = [(piece["begin"], piece["end"], finite(piece["scores"])) for piece in result["timeline"]]
    begin = min(begin for begin, *_ in pieces)
    end = max(*(end for _, end, _ in pieces), begin + 1e-3)
    bottom = top + 8 + PIECE_ROW * len(targets)

    def across(second: float) -> float:
        return round(LEFT + (second - begin) / (end - begin) * (EDGE - LEFT), 2)

    yield svg_text(MARGIN, top, "over time", weight=600)
    scale = "each on its own scale" if result["task"] == REGRESSION else "each from 0% to 100%"
    yield svg_text(LEFT, top, f"all together, {scale}", size=12, opacity=0.8)
    for number, name in enumerate(targets):
        floor = top + 5 + PIECE_ROW * (number + 1)

        def up(*values: float, name: str = name, floor: float = floor) -> list[float]:
            return [round(floor - share * (PIECE_ROW - 8), 2) for share in _shares(result, name, *values)]

        (zero,), (low, high) = up(0.0), up(*scale_of(result, name))
        yield svg_text(MARGIN, floor - 5, shortened(name, 11))
        yield svg_path(f"M{LEFT} {low}H{EDGE}M{LEFT} {high}H{EDGE}", width=1, opacity=0.16)
        yield svg_path(f"M{LEFT} {zero}H{EDGE}", width=1, opacity=0.5)
        known = [(first, last, up(scores[name])[0]) for first, last, scores in pieces if scores is not None]
        steps = (f"M{across(first)} {zero}V{height}H{across(last)}V{zero}Z" for first, last, height in known)
        yield f'<path d="{"".join(steps)}" fill-opacity="0.6"/>'
    for second in time_ticks(begin, end):
        yield svg_path(f"M{across(second)} {bottom}v4", width=1, opacity=0.5)
        anchor = "end" if across(second) > EDGE - 9 else "middle"  # otherwise the text would be cut off
        yield svg_text(across(second), bottom + 17, seconds_text(second), size=12, anchor=anchor, opacity=0.8)
    yield svg_text(LEFT - 14, bottom + 17, "seconds", size=12, anchor="end", opacity=0.8)
    yield svg_span(begin, end, top + 8, bottom - top - 8)


def _description(result: dict[str, Any]) -> Iterator[str]:
    """Describes the picture in words."""
    targets = targets_of(result)
    for name, scores, reason in [("all together", finite(result["scores"]), "no number"), *columns_of(result)]:
        if scores is None:
            yield f"{sentence_case(modality_name(name))}: {reason}."
            continue
        label = "" if result["task"] == REGRESSION else f"{said(result, scores)}; "
        numbers = ", ".join(f"{one} {_spoken(result, one, scores[one])}" for one in targets)
        yield f"{sentence_case(modality_name(name))}: {label}{numbers}."
    if result["task"] == REGRESSION:
        scales = ((name, *(f"{end:g}".replace("-", "minus ") for end in scale_of(result, name))) for name in targets)
        yield f"The scales: {', '.join(f'{name} from {low} to {high}' for name, low, high in scales)}."
    if sentence := chart_sentence(result):
        yield sentence
    if pieces := [piece for piece in result.get("timeline") or () if finite(piece["scores"])]:
        yield f"Over time, in {len(pieces)} piece{'s' * (len(pieces) > 1)}: {', '.join(_course(result, pieces))}."


def _course(result: dict[str, Any], pieces: list[dict[str, Any]]) -> Iterator[str]:
    """Says from when to when which class is predicted, or between which numbers each score lies."""
    if result["task"] == REGRESSION:
        for name in targets_of(result):
            values = [piece["scores"][name] for piece in pieces]
            low, high = (_spoken(result, name, value) for value in (min(values), max(values)))
            yield f"{name} {low} to {high}"
        return
    for label, run in groupby(pieces, key=lambda piece: said(result, piece["scores"])):
        times = [second for piece in run for second in (piece["begin"], piece["end"])]
        yield f"{label} at {seconds_text(times[0])} to {seconds_text(times[-1])} seconds"


def _spoken(result: dict[str, Any], name: str, value: float) -> str:
    """Writes a value as a screen reader should say it."""
    return value_text(result, name, value).replace("+", "plus ").replace("\N{MINUS SIGN}", "minus ")


__all__ = ["chart_sentence", "chart_svg"]
