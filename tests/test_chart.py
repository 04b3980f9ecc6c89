"""The picture, the sentence and the page of emotions, classes and several scores."""

import re

import pytest
from test_picture import NASTY, SVG, Page, drawn

from selfmm_hf.model.chart_selfmm import COLOURS, PLANE, said
from selfmm_hf.model.picture_parts_selfmm import LEFT
from selfmm_hf.model.picture_selfmm import disagreement
from selfmm_hf.pages.predictions import sentiment_html

NAMES = ("neutral", "happy", "sad", "angry")
MINUS = "\N{MINUS SIGN}"


def named(values, names=NAMES):
    return None if values is None else dict(zip(names, values, strict=True))


def result(task, scores, names=NAMES, scales=None, timeline=(), **unimodal):
    found = {
        "task": task,
        "scores": named(scores, names),
        "unimodal": {name: named(values, names) for name, values in unimodal.items()},
        "present": {name: values is not None for name, values in unimodal.items()},
        "absent": {name: f"no {name}" for name, values in unimodal.items() if values is None},
        "transcript": "i loved it",
        "remarks": [],
        "timeline": [
            {"begin": 2.0 * number, "end": 2.0 * number + 2, "scores": named(values, names),
             "unimodal": {name: named(values, names) for name in unimodal}}
            for number, values in enumerate(timeline)
        ],
    }  # fmt: skip
    if task == "regression":
        return found | {"scales": dict(zip(names, scales, strict=True))}
    several = task == "multi_label_classification"
    return found | {"label": said(found, found["scores"]).split(", ") if several else said(found, found["scores"])}


def classes(*scores, **changes):
    voices = {"text": (0.1, 0.8, 0.05, 0.05), "audio": (0.1, 0.1, 0.18, 0.62), "vision": None}
    return result("single_label_classification", scores or (0.1, 0.65, 0.05, 0.2), **(voices | changes))


def emotions(**changes):
    voices = {"text": (0.1, 0.9, 0.6, 0.3), "audio": (0.2, 0.12, 0.3, 0.4)}
    return result("multi_label_classification", (0.1, 0.8, 0.61, 0.3), **(voices | changes))


def numbers(*scores, scales=((-1, 1), (1, 5)), names=("valence", "arousal"), **unimodal):
    return result("regression", scores, names, scales, **unimodal)


def full(root, colour):
    """How many bars of a colour are full, and how many there are."""
    fills = [path.get("fill-opacity") for path in root.iter(f"{SVG}path") if path.get("fill") == colour]
    return fills.count("1"), len(fills)


def test_a_bar_for_each_class_and_modality():
    root, written, description = drawn(classes(), "clip.mp4")
    assert {"clip.mp4", "Happy", *NAMES, "together", "words", "voice", "face", "no vision", "80%", "62%"} <= set(
        written
    )
    assert written.count("65%") == 2  # above, and at its bar
    for colour in ("currentColor", COLOURS["text"], COLOURS["audio"]):
        assert full(root, colour) == (1, 4)  # the most probable one, known without colour
    assert full(root, COLOURS["vision"]) == (0, 0)
    assert "All together: happy; neutral 10%, happy 65%" in description and "Face (vision): no vision." in description
    assert "Voice (audio): angry; " in description and root.find(f"{SVG}title").text == "clip.mp4"


def test_a_bar_is_as_long_as_it_is_probable():
    root, _, _ = drawn(classes(0.0, 0.5, 0.25, 0.25, text=(0.0, 1.0, 0.0, 0.0)))

    def lengths(colour):
        bars = [path.get("d") for path in root.iter(f"{SVG}path") if path.get("fill") == colour]
        ends = [re.match(r"M([\d.]+) [\d.]+H([\d.]+)", bar).groups() for bar in bars]
        return [float(end) - float(begin) for begin, end in ends]

    whole = lengths(COLOURS["text"])[1]
    assert lengths("currentColor") == pytest.approx([0, whole / 2, whole / 4, whole / 4], abs=0.02)


def test_emotions_at_once():
    root, written, description = drawn(emotions())
    assert written[0] == "Happy, sad" and full(root, "currentColor") == full(root, COLOURS["text"]) == (2, 4)
    assert full(root, COLOURS["audio"]) == (0, 4) and "Voice (audio): none above 50%; " in description


def test_two_scores_are_points_of_a_plane():
    root, written, description = drawn(numbers(0.0, 5.0, text=(1.0, 3.0), audio=(-9.0, 1.0), vision=None))
    (x, y), *others = [
        (float(circle.get("cx")), float(circle.get("cy"))) for circle in root.iter(f"{SVG}circle")
        if float(circle.get("r")) > 5
    ]  # fmt: skip
    assert x == LEFT + PLANE / 2 and others == [(LEFT + PLANE, y + PLANE / 2)]  # the ring is in the middle, at the top
    square = next(one.get("points") for one in root.iter(f"{SVG}polygon") if one.get("fill") == COLOURS["audio"])
    assert square.startswith(f"{LEFT - 5.4:.2f},{y + PLANE - 5.4:.2f}")  # beyond the scale: at its end
    assert {"Valence 0.00, arousal 5.0", "valence", "arousal", f"{MINUS}9.00", "+1", "no vision"} <= set(written)
    assert "Words (text): valence plus 1.00, arousal 3.0." in description
    assert "The scales: valence from minus 1 to 1, arousal from 1 to 5." in description


def test_names_and_numbers_are_told_apart():
    names = ("self-control", "together")
    root, written, description = drawn(numbers(-0.5, 0.5, names=names, scales=[(-1, 1)] * 2, together=(0.5, 0.5)))
    assert "The scales: self-control from minus 1 to 1, together from minus 1 to 1." in description
    rings = [one.get("r") for one in root.iter(f"{SVG}circle") if one.get("fill") == "none"]
    assert rings == ["10", "4"] and written.count("together") == 4  # axis, both columns, row


def test_other_numbers_of_scores_are_bars():
    for count in (1, 3):
        names = ("intensity", "dominance", "trust")[:count]
        root, written, _ = drawn(numbers(*[1.0] * count, names=names, scales=[(0, 3)] * count, text=[2.0] * count))
        assert not [one for one in root.iter(f"{SVG}circle") if float(one.get("r")) > 5]
        assert full(root, COLOURS["text"]) == (count, count) and written.count("2.00") == count
    root, _, _ = drawn(numbers(-1.0, names=("trust",), scales=[(-2, 3)], text=[2.0]))
    assert full(root, "currentColor") == (0, 1)  # negative: hollow


def test_many_classes_and_modalities_stay_readable():
    names = [f"class {number}" for number in range(40)]
    many = dict.fromkeys(names, 0.5 / 39) | {"class 33": 0.5}
    found = result("single_label_classification", many.values(), names, **{name: many.values() for name in "abcdefg"})
    root, written, description = drawn(found)
    assert (
        "and 30 more, all of them less probable" in written and "class 33" in written and "class 33 50%" in description
    )
    assert {"a", "b", "c", "d", "e", "f", "g"} <= set(written)
    _, _, width, height = map(float, root.get("viewBox").split())
    for element in root.iter():
        assert 0 <= float(element.get("x", 0)) <= width and 0 <= float(element.get("y", 0)) <= height


def test_over_time():
    course = [(0.1, 0.7, 0.1, 0.1), (0.1, 0.6, 0.1, 0.2), (0.1, 0.2, 0.0, 0.7)]
    root, written, description = drawn(classes(timeline=course))
    assert {"over time", "seconds", "6"} <= set(written)
    assert "in 3 pieces: happy at 0 to 4 seconds, angry at 4 to 6 seconds." in description
    assert float(root.get("height")) > float(drawn(classes())[0].get("height"))
    _, _, description = drawn(numbers(0.0, 3.0, timeline=[(-0.5, 2.0), (0.25, 4.0)], text=(0.0, 3.0)))
    assert "in 2 pieces: valence minus 0.50 to plus 0.25, arousal 2.0 to 4.0." in description


def test_what_is_not_a_number_is_drawn_as_absent():
    root, written, description = drawn(numbers(float("nan"), 1.0, text=(float("inf"), 1.0), audio=(0.0, 1.0)))
    assert full(root, COLOURS["text"]) == (0, 0) and full(root, COLOURS["audio"]) == (2, 2)
    assert (
        written[0] == "No number"
        and "All together: no number." in description
        and "Words (text): not there." in description
    )


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (classes(), "The words say happy (80%), but the voice says angry (62%)."),
        (classes(audio=(0.1, 0.3, 0.0, 0.6), text=(0.05, 0.45, 0.1, 0.4)), None),  # less than a third apart
        (classes(audio=(0.0, 0.6, 0.4, 0.0), text=(0.4, 0.6, 0.0, 0.0)), None),  # the same class
        (classes(vision=(0.1, 0.5, 0.4, 0.0)),
         "The words and the face say happy (80%, 50%), but the voice says angry (62%)."),
        (classes(text=None), None),
        (emotions(), "The words say happy (90%), but the voice does not (12%)."),
        (emotions(text=(0.0, 0.12, 0.0, 0.0), audio=(0.0, 0.9, 0.0, 0.0)),
         "The voice says happy (90%), but the words do not (12%)."),
        (emotions(text=(0.0, 0.9, 0.0, 0.0), audio=(0.0, 0.6, 0.0, 0.0)), None),  # both above a half
        (emotions(text=(0.0, 0.6, 0.0, 0.0), audio=(0.0, 0.4, 0.0, 0.0)), None),
        (numbers(0.0, 3.0, text=(0.5, 4.0), audio=(-0.5, 2.2)),
         "Valence: the words say +0.50, but the voice says -0.50."),
        (numbers(0.0, 3.0, text=(0.1, 2.0), eye=(-0.1, 4.2)), "Arousal: the eye says 4.2, but the words say 2.0."),
        (numbers(0.0, 3.0, text=(0.3, 4.0), audio=(-0.3, 3.0)), None),
    ],
)  # fmt: skip
def test_disagreement(found, sentence):
    assert disagreement(found) == sentence


def test_the_order_of_the_modalities_does_not_matter():
    found = classes(vision=(0.1, 0.1, 0.7, 0.1))
    turned = found | {"unimodal": dict(reversed(found["unimodal"].items()))}
    assert disagreement(found) == disagreement(turned)


def test_the_page():
    page = sentiment_html([
        ("one.mp4", classes(timeline=[(0.1, 0.7, 0.1, 0.1)])),
        ("two.mp4", emotions()),
        ("three.mp4", numbers(0.25, 3.0, text=(-1.0, 4.0), vision=None)),
    ])  # fmt: skip
    parsed = Page(page)
    assert parsed.tags.count("section") == parsed.tags.count("svg") == 3
    for text in (
        "Predictions for 3 clips", "The words say happy (80%), but the voice says angry (62%).", "Probabilities: happy",
        "Scores: valence from -1 to 1, arousal from 1 to 5", f"{MINUS}1.00", "4.00", "no vision", "0\N{EN DASH}2 s",
        "voice (audio)", "i loved it",
    ):  # fmt: skip
        assert text in parsed.text, text


def test_what_comes_from_outside_is_escaped():
    names = (NASTY, "b" * 500)
    found = result(
        "multi_label_classification", (0.9, 0.9), names, timeline=[(0.9, 0.1)], **{NASTY: (0.0, 1.0), "x": None}
    )
    found["absent"] = {"x": NASTY}
    root, _, _ = drawn(found, NASTY)
    tags = {"svg", "style", "title", "desc", "text", "path", "circle", "polygon"}
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= tags
    parsed = Page(sentiment_html([(NASTY, found)]))
    assert "script" not in parsed.tags and not any(name.startswith("on") for name, _ in parsed.attributes)
