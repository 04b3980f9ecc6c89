"""What a pipeline says of a clip, as a picture and as a sentence. This file travels to the Hub."""

import html
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

# Okabe and Ito's colours, which colour-blind people can tell apart; all stand out from white and from black.
COLOURS = {"text": "#0072B2", "audio": "#D55E00", "vision": "#009E73"}
FEW_FACES = 0.5  # a smaller share of pictures with a face is a remark of the pipeline's
OTHER_COLOUR = "#CC79A7"
# What people call them, and the verb.
NAMES = {"text": ("words", "are"), "audio": ("voice", "is"), "vision": ("face", "is")}

# The picture is this wide, in its own units, so that its letters can still be read on a phone.
WIDTH = 420
LEFT, RIGHT = 104, 346  # the ends of the scale
MARGIN = 8
EDGE = WIDTH - MARGIN
ROW = 38
CHART = 112  # height of the timeline
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif"

# XML has no such characters; file names and transcripts may.
FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def sentiment_svg(result: dict[str, Any], title: str | None = None) -> str:
    """
    Draws the sentiment of a clip, what each modality says of it alone, and how it goes over time.

    All stand on one scale, so that what disagrees is seen at once; a dashed line carries the sentiment of all together
    down to the modalities. Negative bars are hollow, positive ones full. Letters take the colour of the page.

    Args:
        result (`dict`): Of the pipeline, for one clip.
        title (`str`, *optional*): Written above.

    Returns:
        One `<svg>` element, which needs nothing else.

    Raises:
        ValueError: The model has several targets.
    """
    scale = _Scale(result["label_range"], LEFT, RIGHT)
    score, readings = score_of(result["score"]), readings_of(result)
    # A picture by itself is on white paper: its letters would be black on black else. Within a page this has no effect.
    parts = ["<style>svg:root { color: #1a1a1a; background: #fff; }</style>"]
    top = 14
    if title:
        parts.append(_text(MARGIN, top + 14, shortened(title, 50), size=15, opacity=0.8))
        top += 26
    parts.append(_text(MARGIN, top + 26, _sentence_case(label_of(result)), size=24, weight=700))
    parts.append(_text(EDGE, top + 26, number_text(score, scale.limit), size=24, weight=700, anchor="end"))
    top += 74
    parts += _axis(scale, top, top + 52 + ROW * len(readings))
    top += 18
    parts += _row(scale, top, "together", score, "", height=20)
    together, top = top, top + 48
    for number, (name, value, reason) in enumerate(readings):
        parts += _row(scale, top, name, value, reason, height=16, mark=number)
        top += ROW
    if score is not None:
        parts.append(_path(f"M{scale(score)} {together + 12}V{top - 14}", width=1.5, dash="2 4"))
    if timeline := result.get("timeline"):
        parts += _timeline(timeline, scale.limit, readings, top + 6)
        top += CHART + 32 + 20 * _lacks_words(timeline, readings)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {WIDTH} {top}" '
        f'width="{WIDTH}" height="{top}" style="max-width:100%;height:auto" fill="currentColor" font-family="{FONT}">'
        f"<title>{_escaped(title or f'Sentiment: {label_of(result)}')}</title>"
        f"<desc>{_escaped(' '.join(_description(result)))}</desc>{''.join(parts)}</svg>"
    )


def disagreement(result: dict[str, Any]) -> str | None:
    """
    Says which modalities disagree.

    Args:
        result (`dict`): Of the pipeline, for one clip.

    Returns:
        A sentence where two modalities have opposite signs and are a third of `label_range` apart or more, as in "The
        words are positive (+2.1), but the voice is not (-1.4)." It begins with the stronger side. Else, and for a
        model of several targets, `None`.
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


def score_of(value: Any) -> float | None:
    if isinstance(value, dict):
        raise ValueError(
            f"This model has several targets ({', '.join(value)}); a picture shows one: put its scores in their place."
        )
    return None if value is None or not math.isfinite(value) else float(value)


def readings_of(result: dict[str, Any]) -> list[tuple[str, float | None, str]]:
    """Each modality, its score, and, where it has none, why."""
    why = result.get("absent") or {}
    rows = [(name, score_of(value)) for name, value in result["unimodal"].items()]
    return [(name, value, "" if value is not None else why.get(name, "not there")) for name, value in rows]


def sentence_of(result: dict[str, Any]) -> str | None:
    if isinstance(result["score"], dict):
        return None
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
    return _sentence_case(sentence)


def label_of(result: dict[str, Any]) -> str:
    return result.get("label") or "no sentiment"


def number_text(value: float | None, limit: float, digits: int | None = None) -> str:
    """With its sign, and no more places than mean something: one, or two where the scale ends at 1."""
    if value is None:
        return "\N{EN DASH}"
    digits = (1 if limit >= 2 else 2) if digits is None else digits
    written = f"{value:+.{digits}f}" if abs(value) < 1000 else f"{value:+.0e}"
    written = written[1:] if float(written) == 0 else written
    return written.replace("-", "\N{MINUS SIGN}")


def _spoken(value: float | None, limit: float) -> str:
    """As a screen reader shall say it."""
    if value is None:
        return "no number"
    return number_text(value, limit).replace("+", "plus ").replace("\N{MINUS SIGN}", "minus ")


def seconds_text(value: float) -> str:
    return f"{round(value, 2):g}"


def _description(result: dict[str, Any]) -> Iterator[str]:
    """The picture in words."""
    limit = result["label_range"]
    score = _spoken(score_of(result["score"]), limit)
    yield f"All together: {label_of(result)}, {score}, on a scale from minus {limit:g} to plus {limit:g}."
    for name, value, reason in readings_of(result):
        yield f"{_sentence_case(modality_name(name))}: {reason or _spoken(value, limit)}."
    if sentence := sentence_of(result):
        yield sentence
    pieces = [(piece, score_of(piece["score"])) for piece in result.get("timeline") or ()]
    pieces = [(piece, value) for piece, value in pieces if value is not None]
    if pieces:
        ends = min(pieces, key=lambda pair: pair[1]), max(pieces, key=lambda pair: pair[1])
        (low, lowest), (high, highest) = ends
        yield (
            f"Over time, in {len(pieces)} piece{'s' * (len(pieces) > 1)}: lowest {_spoken(lowest, limit)} at "
            f"{seconds_text(low['begin'])} to {seconds_text(low['end'])} seconds, highest {_spoken(highest, limit)} at "
            f"{seconds_text(high['begin'])} to {seconds_text(high['end'])} seconds."
        )


def _axis(scale: _Scale, top: float, bottom: float) -> Iterator[str]:
    for value in scale.ticks:
        yield _path(f"M{scale(value)} {top}V{bottom}", width=1, opacity=0.5 if value == 0 else 0.16)
        yield _text(scale(value), top - 5, _tick(value), size=12, anchor="middle", opacity=0.8)
    for value, word, anchor in ((-1, "negative", "start"), (0, "neutral", "middle"), (1, "positive", "end")):
        outwards = 12 * value
        yield _text(scale(value * scale.limit) + outwards, top - 21, word, size=12, anchor=anchor, opacity=0.8)


def _tick(value: float) -> str:
    return f"{value:+g}".replace("-", "\N{MINUS SIGN}") if value else "0"


def _row(
    scale: _Scale, middle: float, name: str, value: float | None, reason: str, height: float, mark: int | None = None
) -> Iterator[str]:
    """The name, the bar from the middle of the scale, and the number or why there is none."""
    colour = "currentColor" if mark is None else COLOURS.get(name, OTHER_COLOUR)
    faint = {"opacity": 0.75} if value is None else {}
    if mark is not None:
        yield _mark(mark, MARGIN + 5, middle, colour, 5, **faint)
    names = NAMES.get(name, (name, ""))[0]
    yield _text(MARGIN if mark is None else MARGIN + 17, middle + 5, shortened(names, 11), weight=600, **faint)
    if value is None:
        reason = shortened(reason, 36)
        end = min(scale.end, EDGE - 8 * len(reason) - 6)  # letters are 7 wide or so
        yield _path(f"M{scale.begin} {middle}H{max(end, scale.begin)}", width=1.5, dash="3 4", opacity=0.45)
        yield _text(EDGE, middle + 5, reason, anchor="end", style="italic", **faint)
        return
    zero, end, half = scale(0), scale(value), height / 2
    tip = end + math.copysign(11, value) if abs(value) > scale.limit else end  # an arrow: it goes on
    outline = f"M{zero} {middle - half}H{end}L{tip} {middle}L{end} {middle + half}H{zero}Z"
    full = 1 if value > 0 else 0.2
    yield (
        f'<path d="{outline}" fill="{colour}" fill-opacity="{full}" stroke="{colour}" stroke-width="2" '
        'stroke-linejoin="round"/>'
    )
    yield _text(EDGE, middle + 5, number_text(value, scale.limit), weight=600, anchor="end")


def _timeline(
    pieces: Sequence[dict[str, Any]], limit: float, readings: list[tuple[str, float | None, str]], top: float
) -> Iterator[str]:
    """The sentiment of each piece as steps, the modalities as lines with their marks in the middle of each piece."""
    begin = min(piece["begin"] for piece in pieces)
    end = max(*(piece["end"] for piece in pieces), begin + 1e-3)

    def across(second: float) -> float:
        return round(LEFT + (second - begin) / (end - begin) * (EDGE - LEFT), 2)

    upwards = _Scale(limit, top + CHART, top)
    yield _text(MARGIN, top + 5 + CHART / 2, "over time", weight=600)
    for value in (-limit, 0, limit):
        yield _path(f"M{LEFT} {upwards(value)}H{EDGE}", width=1, opacity=0.5 if value == 0 else 0.16)
        yield _text(LEFT - 6, upwards(value) + 4, _tick(value), size=12, anchor="end", opacity=0.8)
    for second in _time_ticks(begin, end):
        yield _path(f"M{across(second)} {top + CHART}v4", width=1, opacity=0.5)
        anchor = "end" if across(second) > EDGE - 9 else "middle"  # else it would be cut off
        yield _text(across(second), top + CHART + 17, seconds_text(second), size=12, anchor=anchor, opacity=0.8)
    yield _text(LEFT - 14, top + CHART + 17, "seconds", size=12, anchor="end", opacity=0.8)

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
            yield _path(line, width=2, colour=colour)
        # Marks some way apart, and wherever there is one piece alone.
        every = math.ceil(26 * len(pieces) / (EDGE - LEFT))
        for index, place in enumerate(places):
            alone = all(not 0 <= near < len(places) or places[near] is None for near in (index - 1, index + 1))
            if place is not None and (alone or (index + number * every // 3) % every == 0):
                yield _mark(number, *place, colour, 4)
    yield _path("".join(steps), width=2.5 if len(pieces) <= 50 else 1.5)
    if _lacks_words(pieces, readings):
        yield _text(LEFT, top + CHART + 36, "without the words, whose times are not known", size=12, opacity=0.8)


def _lacks_words(pieces: Sequence[dict[str, Any]], readings: list[tuple[str, float | None, str]]) -> bool:
    """Whether the clip has words, but none of its pieces."""
    has_words = any(name == "text" and value is not None for name, value, _ in readings)
    return has_words and all(piece["unimodal"].get("text") is None for piece in pieces)


def _time_ticks(begin: float, end: float) -> list[float]:
    """At most seven round times."""
    steps = (size * 10**power for power in range(-3, 9) for size in (1, 2, 5))
    step = next(step for step in steps if (end - begin) / step <= 6)
    return [number * step for number in range(math.ceil(begin / step), math.floor(end / step + 1e-6) + 1)]


def _mark(number: int, x: float, y: float, colour: str, size: float, opacity: float = 1) -> str:
    """A circle, a square, a triangle or a diamond: the modalities differ not by colour alone."""
    attributes = f'fill="{colour}" opacity="{opacity}"'
    if number % 4 == 0:
        return f'<circle cx="{x}" cy="{y}" r="{size}" {attributes}/>'
    corners = [
        [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        [(0, -1.2), (1.1, 0.9), (-1.1, 0.9)],
        [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)],
    ][number % 4 - 1]
    points = " ".join(f"{x + size * right:.2f},{y + size * down:.2f}" for right, down in corners)
    return f'<polygon points="{points}" {attributes}/>'


def _path(
    line: str, width: float, colour: str = "currentColor", dash: str | None = None, opacity: float | None = None
) -> str:
    more = (f' stroke-dasharray="{dash}"' if dash else "") + (f' opacity="{opacity}"' if opacity else "")
    return f'<path d="{line}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round"{more}/>'


def _text(
    x: float, y: float, text: str, size: int = 14, weight: int = 400, anchor: str = "start", opacity: float = 1,
    style: str = "normal",
) -> str:  # fmt: skip
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" font-style="{style}" text-anchor="{anchor}" '
        f'opacity="{opacity}">{_escaped(text)}</text>'
    )


def modality_name(modality: str) -> str:
    """What people call it, and what the field does."""
    return f"{NAMES[modality][0]} ({modality})" if modality in NAMES else modality


def _sentence_case(text: str) -> str:
    return text[:1].upper() + text[1:]


def shortened(text: str, length: int) -> str:
    """With the middle left out where it is too long: the end of a file's name matters too."""
    if len(text) <= length:
        return text
    return f"{text[: length // 2]}\N{HORIZONTAL ELLIPSIS}{text[-(length // 2 - 1) :]}"


def _escaped(text: str) -> str:
    return html.escape(FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text))


__all__ = ["disagreement", "sentiment_svg"]
