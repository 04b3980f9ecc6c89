"""Shows the prediction for a clip as a picture and as a sentence. This file travels to the Hub."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .chart_selfmm import chart_sentence, chart_svg
from .picture_parts_selfmm import (
    COLOURS,
    EDGE,
    LEFT,
    MARGIN,
    NAMES,
    OTHER_COLOUR,
    RIGHT,
    heading,
    modality_name,
    number_text,
    seconds_text,
    sentence_case,
    shortened,
    spoken,
    svg,
    svg_mark,
    svg_path,
    svg_span,
    svg_text,
    tick,
    time_ticks,
)

ROW = 38
CHART = 112  # height of the timeline
FEW_FACES = 0.5  # a smaller share of pictures with a face is a remark of the pipeline's


def sentiment_svg(result: dict[str, Any], title: str | None = None) -> str:
    """
    Draws the sentiment of a clip, what each modality says of it alone, and how it goes over time.

    All stand on one scale, so that what disagrees is seen at once; a dashed line carries the sentiment of all together
    down to the modalities. Negative bars are hollow, positive ones full. Letters take the colour of the page.

    Args:
        result (`dict`): Of the pipeline, for one clip.
        title (`str`, *optional*): Written above.

    Returns:
        One `<svg>` element, which needs nothing else. Of emotions, classes and several scores: see [`chart_svg`].
    """
    if "task" in result:
        return chart_svg(result, title)
    scale = _Scale(result["label_range"], LEFT, RIGHT)
    score, readings = score_of(result["score"]), readings_of(result)
    parts, top = heading(title, sentence_case(label_of(result)), number_text(score, scale.limit))
    top += 34
    parts += _axis(scale, top, top + 52 + ROW * len(readings))
    top += 18
    parts += _row(scale, top, "together", score, "", height=20)
    together, top = top, top + 48
    for number, (name, value, reason) in enumerate(readings):
        parts += _row(scale, top, name, value, reason, height=16, mark=number)
        top += ROW
    if score is not None:
        parts.append(svg_path(f"M{scale(score)} {together + 12}V{top - 14}", width=1.5, dash="2 4"))
    if timeline := result.get("timeline"):
        parts += _timeline(timeline, scale.limit, readings, top + 6)
        top += CHART + 32 + 20 * _lacks_words(timeline, readings)
    return svg(parts, top, title or f"Sentiment: {label_of(result)}", _description(result))


def disagreement(result: dict[str, Any]) -> str | None:
    """
    Says which modalities disagree.

    Args:
        result (`dict`): Of the pipeline, for one clip.

    Returns:
        A sentence where two modalities have opposite signs and are a third of `label_range` apart or more, as in "The
        words are positive (+2.1), but the voice is not (-1.4)." It begins with the stronger side. Else `None`. Of
        emotions, classes and several scores: see [`chart_sentence`].
    """
    sentence = sentence_of(result)
    return sentence and sentence.replace("\N{MINUS SIGN}", "-")  # a hyphen, which any terminal can write


@dataclass
class _Scale:
    """From `[-limit, limit]` to places in the picture; beyond it, the end."""

    limit: float
    begin: float
    end: float

    def __call__(self, value: float) -> float:
        share = (min(max(value, -self.limit), self.limit) / self.limit + 1) / 2
        return round(self.begin + share * (self.end - self.begin), 2)

    @property
    def ticks(self) -> list[float]:
        """Whole numbers where there are a few, else the ends, the middle and the halves."""
        steps = int(self.limit) if self.limit in range(2, 7) else 2
        return [self.limit * step / steps for step in range(-steps, steps + 1)]


def score_of(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def readings_of(result: dict[str, Any]) -> list[tuple[str, float | None, str]]:
    """Each modality, its score, and, where it has none, why."""
    why = result.get("absent") or {}
    rows = [(name, score_of(value)) for name, value in result["unimodal"].items()]
    return [(name, value, "" if value is not None else why.get(name, "not there")) for name, value in rows]


def sentence_of(result: dict[str, Any]) -> str | None:
    if "task" in result:
        return chart_sentence(result)
    limit = result["label_range"]
    readings = [(name, value) for name, value, _ in readings_of(result) if value]
    if len(readings) < 2:
        return None
    lowest, highest = min(value for _, value in readings), max(value for _, value in readings)
    if not lowest < 0 < highest or highest - lowest < limit / 3 - 1e-9:
        return None
    sides = []
    for sign, extreme in ((1, highest), (-1, lowest)):
        # Beside the extreme one, those that are well on its side.
        side = [(name, value) for name, value in readings if value == extreme or sign * value >= limit / 6]
        names = " and the ".join(NAMES.get(name, (name, ""))[0] for name, _ in side)
        verb = NAMES.get(side[0][0], ("", "is"))[1] if len(side) == 1 else "are"
        numbers = ", ".join(number_text(value, limit) for _, value in side)
        sides.append((abs(extreme), f"the {names} {verb}", "positive" if sign > 0 else "negative", numbers))
    (_, first, adjective, numbers), (_, second, _, others) = sorted(sides, key=lambda side: -side[0])
    sentence = f"{first} {adjective} ({numbers}), but {second} not ({others})."
    return sentence_case(sentence)


def label_of(result: dict[str, Any]) -> str:
    return result.get("label") or "no sentiment"


def _description(result: dict[str, Any]) -> Iterator[str]:
    """The picture in words."""
    limit = result["label_range"]
    score = spoken(score_of(result["score"]), limit)
    yield f"All together: {label_of(result)}, {score}, on a scale from minus {limit:g} to plus {limit:g}."
    for name, value, reason in readings_of(result):
        yield f"{sentence_case(modality_name(name))}: {reason or spoken(value, limit)}."
    if sentence := sentence_of(result):
        yield sentence
    pieces = [(piece, score_of(piece["score"])) for piece in result.get("timeline") or ()]
    pieces = [(piece, value) for piece, value in pieces if value is not None]
    if pieces:
        ends = min(pieces, key=lambda pair: pair[1]), max(pieces, key=lambda pair: pair[1])
        (low, lowest), (high, highest) = ends
        yield (
            f"Over time, in {len(pieces)} piece{'s' * (len(pieces) > 1)}: lowest {spoken(lowest, limit)} at "
            f"{seconds_text(low['begin'])} to {seconds_text(low['end'])} seconds, highest {spoken(highest, limit)} at "
            f"{seconds_text(high['begin'])} to {seconds_text(high['end'])} seconds."
        )


def _axis(scale: _Scale, top: float, bottom: float) -> Iterator[str]:
    for value in scale.ticks:
        yield svg_path(f"M{scale(value)} {top}V{bottom}", width=1, opacity=0.5 if value == 0 else 0.16)
        yield svg_text(scale(value), top - 5, tick(value), size=12, anchor="middle", opacity=0.8)
    for value, word, anchor in ((-1, "negative", "start"), (0, "neutral", "middle"), (1, "positive", "end")):
        outwards = 12 * value
        yield svg_text(scale(value * scale.limit) + outwards, top - 21, word, size=12, anchor=anchor, opacity=0.8)


def _row(
    scale: _Scale, middle: float, name: str, value: float | None, reason: str, height: float, mark: int | None = None
) -> Iterator[str]:
    """The name, the bar from the middle of the scale, and the number or why there is none."""
    colour = "currentColor" if mark is None else COLOURS.get(name, OTHER_COLOUR)
    faint = {"opacity": 0.75} if value is None else {}
    if mark is not None:
        yield svg_mark(mark, MARGIN + 5, middle, colour, 5, **faint)
    names = NAMES.get(name, (name, ""))[0]
    yield svg_text(MARGIN if mark is None else MARGIN + 17, middle + 5, shortened(names, 11), weight=600, **faint)
    if value is None:
        reason = shortened(reason, 36)
        end = min(scale.end, EDGE - 8 * len(reason) - 6)  # letters are 7 wide or so
        yield svg_path(f"M{scale.begin} {middle}H{max(end, scale.begin)}", width=1.5, dash="3 4", opacity=0.45)
        yield svg_text(EDGE, middle + 5, reason, anchor="end", style="italic", **faint)
        return
    zero, end, half = scale(0), scale(value), height / 2
    tip = end + math.copysign(11, value) if abs(value) > scale.limit else end  # an arrow: it goes on
    outline = f"M{zero} {middle - half}H{end}L{tip} {middle}L{end} {middle + half}H{zero}Z"
    full = 1 if value > 0 else 0.2
    yield (
        f'<path d="{outline}" fill="{colour}" fill-opacity="{full}" stroke="{colour}" stroke-width="2" '
        'stroke-linejoin="round"/>'
    )
    yield svg_text(EDGE, middle + 5, number_text(value, scale.limit), weight=600, anchor="end")


def _timeline(
    pieces: Sequence[dict[str, Any]], limit: float, readings: list[tuple[str, float | None, str]], top: float
) -> Iterator[str]:
    """The sentiment of each piece as steps, the modalities as lines with their marks in the middle of each piece."""
    begin = min(piece["begin"] for piece in pieces)
    end = max(*(piece["end"] for piece in pieces), begin + 1e-3)

    def across(second: float) -> float:
        return round(LEFT + (second - begin) / (end - begin) * (EDGE - LEFT), 2)

    upwards = _Scale(limit, top + CHART, top)
    yield svg_text(MARGIN, top + 5 + CHART / 2, "over time", weight=600)
    for value in (-limit, 0, limit):
        yield svg_path(f"M{LEFT} {upwards(value)}H{EDGE}", width=1, opacity=0.5 if value == 0 else 0.16)
        yield svg_text(LEFT - 6, upwards(value) + 4, tick(value), size=12, anchor="end", opacity=0.8)
    for second in time_ticks(begin, end):
        yield svg_path(f"M{across(second)} {top + CHART}v4", width=1, opacity=0.5)
        anchor = "end" if across(second) > EDGE - 9 else "middle"  # else it would be cut off
        yield svg_text(across(second), top + CHART + 17, seconds_text(second), size=12, anchor=anchor, opacity=0.8)
    yield svg_text(LEFT - 14, top + CHART + 17, "seconds", size=12, anchor="end", opacity=0.8)

    areas, steps, last = [], [], None
    for piece in pieces:
        score = score_of(piece["score"])
        if score is None:
            last = None
            continue
        left, right, height = across(piece["begin"]), across(piece["end"]), upwards(score)
        areas.append(f"M{left} {upwards(0)}V{height}H{right}V{upwards(0)}Z")
        joins = last is not None and abs(last - left) < 0.5
        steps.append(f"{'L' if joins else 'M'}{left} {height}H{right}")
        last = right
    yield f'<path d="{"".join(areas)}" fill-opacity="0.13"/>'

    for number, (name, _, _) in enumerate(readings):
        colour = COLOURS.get(name, OTHER_COLOUR)
        points = [(piece["begin"] / 2 + piece["end"] / 2, score_of(piece["unimodal"].get(name))) for piece in pieces]
        places = [None if value is None else (across(second), upwards(value)) for second, value in points]
        line = ""
        for before, place in zip([None, *places], places, strict=False):
            if place is not None:
                line += f"{'M' if before is None else 'L'}{place[0]} {place[1]}"
        if line:
            yield svg_path(line, width=2, colour=colour)
        # Marks some way apart, and wherever there is one piece alone.
        every = math.ceil(26 * len(pieces) / (EDGE - LEFT))
        for index, place in enumerate(places):
            alone = all(not 0 <= near < len(places) or places[near] is None for near in (index - 1, index + 1))
            if place is not None and (alone or (index + number * every // 3) % every == 0):
                yield svg_mark(number, *place, colour, 4)
    yield svg_path("".join(steps), width=2.5 if len(pieces) <= 50 else 1.5)
    yield svg_span(begin, end, top, CHART)
    if _lacks_words(pieces, readings):
        yield svg_text(LEFT, top + CHART + 36, "without the words, whose times are not known", size=12, opacity=0.8)


def _lacks_words(pieces: Sequence[dict[str, Any]], readings: list[tuple[str, float | None, str]]) -> bool:
    """Whether the clip has words, but none of its pieces."""
    has_words = any(name == "text" and value is not None for name, value, _ in readings)
    return has_words and all(piece["unimodal"].get("text") is None for piece in pieces)


__all__ = ["disagreement", "sentiment_svg"]
