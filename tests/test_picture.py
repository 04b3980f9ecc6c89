"""The picture, the sentence and the page of what the pipeline returns."""

import ast
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from selfmm_hf.model import chart_selfmm, picture_parts_selfmm, picture_selfmm
from selfmm_hf.model.picture_parts_selfmm import COLOURS, LEFT, RIGHT
from selfmm_hf.model.picture_selfmm import disagreement, sentiment_svg
from selfmm_hf.pages.predictions import sentiment_html

SVG = "{http://www.w3.org/2000/svg}"
NASTY = "</svg><script>alert('1')</script>\" onload=\"x & y\x00\udcff\u202e.mp4"


def piece(begin, end, score, **unimodal):
    present = {name: value is not None for name, value in unimodal.items()}
    return {"begin": begin, "end": end, "score": score, "label": "neutral", "unimodal": unimodal, "present": present}


def result(score=0.84, text=2.1, audio=-1.4, vision=None, **changes):
    unimodal = {"text": text, "audio": audio, "vision": vision}
    reasons = {"text": "no words", "audio": "no sound", "vision": "no face"}
    return {
        "score": score,
        "label": "weakly positive",
        "label_range": 3.0,
        "unimodal": unimodal,
        "present": {name: value is not None for name, value in unimodal.items()},
        "absent": {name: reasons[name] for name, value in unimodal.items() if value is None},
        "transcript": "i loved it",
    } | changes


def test_the_page_has_the_remarks():
    page = sentiment_html([("a", result(remarks=["4 of 5 words are unknown <to> this model."])), ("b", result())])
    assert page.count("<p>4 of 5 words are unknown &lt;to&gt; this model.</p>") == 1


def test_the_page_tells_how_much_of_the_picture_shows_a_face():
    few = result(face_share=0.3, remarks=["A face is seen in only 30% of the frames."])
    page = sentiment_html([("a", result(face_share=0.92)), ("b", few), ("c", result(face_share=None)), ("d", result())])
    assert re.findall("A face is seen in[^<]*", page) == [
        "A face is seen in 92% of the frames.", "A face is seen in only 30% of the frames.",
    ]  # fmt: skip


def words_only(**changes):
    return result(unimodal={"text": 2.1}, present={"text": True}, absent={}, **changes)


def drawn(*arguments):
    """The parsed picture, what is written in it, and its description."""
    svg = sentiment_svg(*arguments)
    root = ElementTree.fromstring(svg.encode())
    return root, [text.text for text in root.iter(f"{SVG}text")], root.find(f"{SVG}desc").text


def bars(root):
    """By colour, from where to where the bars go."""
    paths = [path for path in root.iter(f"{SVG}path") if path.get("fill-opacity") in ("1", "0.2")]
    numbers = {path.get("fill"): [float(x) for x in re.findall(r"[MHL](-?[\d.]+)", path.get("d"))] for path in paths}
    return {colour: (min(places), max(places)) for colour, places in numbers.items()}


class Page(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_data(self, data):
        self.text += data


def test_numbers_label_and_reason_are_written():
    root, written, description = drawn(result(), "clip.mp4")
    assert root.get("role") == "img" and root.find(f"{SVG}title").text == "clip.mp4"
    assert {
        "clip.mp4",
        "Weakly positive",
        "+0.8",
        "+2.1",
        "\N{MINUS SIGN}1.4",
        "no face",
        "words",
        "voice",
        "face",
    } <= set(written)
    assert "weakly positive, plus 0.8" in description and "Voice (audio): minus 1.4." in description
    assert "Face (vision): no face." in description


def test_bars_stand_on_one_scale():
    middle, unit = (LEFT + RIGHT) / 2, (RIGHT - LEFT) / 6
    root, _, _ = drawn(result(score=-1.0, text=2.0, audio=-1.5))
    assert bars(root) == {
        "currentColor": (pytest.approx(middle - unit, abs=0.01), middle),
        COLOURS["text"]: (middle, pytest.approx(middle + 2 * unit, abs=0.01)),
        COLOURS["audio"]: (pytest.approx(middle - 1.5 * unit, abs=0.01), middle),
    }
    assert COLOURS["vision"] not in bars(root)  # absent: no bar


def test_negative_is_told_from_positive_without_colour():
    root, _, _ = drawn(result())
    fill = {path.get("fill"): path.get("fill-opacity") for path in root.iter(f"{SVG}path")}
    assert fill[COLOURS["text"]] == "1" and fill[COLOURS["audio"]] == "0.2"


def test_out_of_range_ends_with_the_scale_and_keeps_its_number():
    root, written, description = drawn(result(score=4.25, text=3.0, audio=-1234567.0))
    for colour, (begin, end) in bars(root).items():
        arrow = 0 if colour == COLOURS["text"] else 11
        assert (begin == LEFT - arrow) if colour == COLOURS["audio"] else (end == RIGHT + arrow)
    assert {"+4.2", "+3.0", "\N{MINUS SIGN}1e+06"} <= set(written)
    assert "plus 4.2" in description


@pytest.mark.parametrize(
    ("value", "limit", "written"),
    [
        (0.84, 3.0, "+0.8"),
        (-0.04, 3.0, "0.0"),
        (0.0, 1.0, "0.00"),
        (-0.346, 1.0, "\N{MINUS SIGN}0.35"),
        (None, 3.0, "\N{EN DASH}"),
    ],
)
def test_numbers_have_a_sign_and_as_many_places_as_mean_something(value, limit, written):
    assert drawn(result(score=value, label_range=limit))[1][1] == written


def test_what_is_not_a_number_is_drawn_as_absent():
    root, written, _ = drawn(result(score=float("nan"), audio=float("inf")))
    assert set(bars(root)) == {COLOURS["text"]} and "not there" in written


def test_a_model_of_text_alone():
    root, written, description = drawn(words_only())
    assert set(bars(root)) == {"currentColor", COLOURS["text"]}
    assert "voice" not in written and "audio" not in description
    assert disagreement(words_only()) is None


def test_nothing_is_present():
    root, written, _ = drawn(result(score=None, text=None, audio=None, label=None))
    assert bars(root) == {} and {"No sentiment", "no words", "no sound", "no face"} <= set(written)


def test_another_modality_has_a_name_of_its_own():
    _, written, description = drawn(result(unimodal={"text": -0.5, "eye": 1.5}, absent={}))
    assert "eye" in written and "Eye: plus 1.5." in description
    assert disagreement(result(unimodal={"text": -0.5, "eye": 1.5})) == (
        "The eye is positive (+1.5), but the words are not (-0.5)."
    )


@pytest.mark.parametrize("label_range", [1.0, 2.5, 3.0])
def test_the_scale_is_that_of_the_labels(label_range):
    _, written, description = drawn(result(label_range=label_range))
    assert {f"\N{MINUS SIGN}{label_range:g}", "0", f"+{label_range:g}"} <= set(written)
    assert f"from minus {label_range:g} to plus {label_range:g}" in description


def test_timeline():
    pieces = [
        piece(0.0, 2.0, -1.0, text=None, audio=-2.0, vision=None),
        piece(2.0, 4.0, 1.5, text=1.0, audio=1.0, vision=None),
        piece(4.0, 4.7, 3.5, text=1.0, audio=None, vision=0.5),
    ]
    root, written, description = drawn(result(timeline=pieces))
    assert {"over time", "seconds", "0", "4"} <= set(written)
    assert "in 3 pieces: lowest minus 1.0 at 0 to 2 seconds, highest plus 3.5 at 4 to 4.7 seconds" in description
    short, _, _ = drawn(result())
    assert float(root.get("height")) > float(short.get("height"))
    assert "without the words, whose times are not known" not in written
    pieces = [piece(0.0, 2.0, -1.0, text=None, audio=-2.0, vision=None)]
    assert "without the words, whose times are not known" in drawn(result(timeline=pieces))[1]


@pytest.mark.parametrize(
    ("begin", "end", "score"), [(0.0, 2.0, 1.0), (0.0, 0.0, 1.0), (7.25, 7.3, -9.0), (0.0, 2.0, None), (0.0, 1e5, 0.0)]
)
def test_a_timeline_of_one_piece(begin, end, score):
    pieces = [piece(begin, end, score, text=1.0, audio=None, vision=None)]
    root, written, description = drawn(result(timeline=pieces))
    marks = [circle for circle in root.iter(f"{SVG}circle") if circle.get("fill") == COLOURS["text"]]
    assert len(marks) == 2  # the key, and the piece
    assert "over time" in written and ("in 1 piece:" in description) == (score is not None)


def test_a_long_timeline_stays_small():
    pieces = [piece(i, i + 1.0, (-1) ** i, text=1.0, audio=-1.0, vision=0.0) for i in range(3600)]
    root, written, _ = drawn(result(timeline=pieces, vision=0.0))
    assert len(list(root.iter())) < 150
    assert [text for text in written if text.endswith("000")] == ["1000", "2000", "3000"]


def test_everything_lies_within_the_picture():
    pieces = [piece(i, i + 1.0, 99.0, text=-99.0, audio=99.0, vision=0.0) for i in range(3)]
    root, _, _ = drawn(result(score=-99.0, text=99.0, vision=0.0, timeline=pieces), "x" * 500)
    _, _, width, height = map(float, root.get("viewBox").split())
    for element in root.iter():
        for name, end in (("x", width), ("cx", width), ("y", height), ("cy", height)):
            assert 0 <= float(element.get(name, 0)) <= end
    assert len(next(root.iter(f"{SVG}text")).text) <= 50


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "The words are positive (+2.1), but the voice is not (-1.4)."),
        ({"text": 0.2, "audio": -1.4}, "The voice is negative (-1.4), but the words are not (+0.2)."),
        ({"vision": 0.9}, "The words and the face are positive (+2.1, +0.9), but the voice is not (-1.4)."),
        ({"vision": -0.9}, "The words are positive (+2.1), but the voice and the face are not (-1.4, -0.9)."),
        ({"vision": 0.1}, "The words are positive (+2.1), but the voice is not (-1.4)."),
        ({"text": 0.5, "audio": -0.5}, "The words are positive (+0.5), but the voice is not (-0.5)."),
        ({"text": 0.4, "audio": -0.5}, None),  # less than a third of the range apart
        ({"text": 2.9, "audio": 0.1}, None),  # of one sign
        ({"text": 2.9, "audio": 0.0}, None),
        ({"text": -2.9, "audio": float("nan")}, None),
        ({"text": None}, None),
        (
            {"label_range": 1.0, "text": 1 / 6, "audio": -1 / 6},
            "The words are positive (+0.17), but the voice is not (-0.17).",
        ),
    ],
)  # fmt: skip
def test_disagreement(changes, sentence):
    assert disagreement(result(**changes)) == sentence


def test_what_comes_from_outside_is_escaped():
    nasty = result(label=NASTY, transcript=NASTY, absent={"vision": NASTY}, unimodal={NASTY: 1.0, "vision": None})
    nasty["timeline"] = [piece(0.0, 1.0, 1.0, **{NASTY: 1.0})]
    root, _, _ = drawn(nasty, NASTY)
    assert {element.tag.removeprefix(SVG) for element in root.iter()} == {
        "svg", "style", "title", "desc", "text", "path", "circle", "polygon"
    }  # fmt: skip
    page = sentiment_html([(NASTY, nasty), ("plain", result())])
    page.encode("utf-8")  # no half characters
    parsed = Page(page)
    assert "script" not in parsed.tags and not any(name.startswith("on") for name, _ in parsed.attributes)
    assert "<script>alert('1')</script>" in parsed.text and "\x00" not in page


def test_the_page_holds_everything_and_asks_for_nothing():
    pieces = [piece(0.0, 2.0, 0.25, text=None, audio=-0.5, vision=None)]
    page = sentiment_html([("one.mp4", result(timeline=pieces)), ("two.mp4", words_only(score=-0.123))])
    parsed = Page(page)
    assert parsed.tags.count("section") == parsed.tags.count("svg") == 2
    for text in (
        "one.mp4", "i loved it", "The words are positive (+2.1), but the voice is not (\N{MINUS SIGN}1.4).", "+0.84",
        "\N{MINUS SIGN}0.12", "voice (audio)", "no face", "0\N{EN DASH}2 s", "+0.25", "\N{MINUS SIGN}0.50",
        "Sentiment of 2 clips",
    ):  # fmt: skip
        assert text in parsed.text, text
    targets = {value for name, value in parsed.attributes if name in ("href", "src", "data", "action")}
    assert targets == {"#clip-1", "#clip-2"}
    assert "url(" not in page and "@import" not in page and "prefers-color-scheme: dark" in page


@pytest.mark.parametrize(("count", "heading"), [(0, "Sentiment of 0 clips"), (1, "Sentiment of 1 clip")])
def test_a_page_of_few_clips_has_no_overview(count, heading):
    parsed = Page(sentiment_html([("one.mp4", result())] * count))
    assert heading in parsed.text and parsed.tags.count("section") == count and "a" not in parsed.tags


@pytest.mark.parametrize("module", [picture_selfmm, chart_selfmm, picture_parts_selfmm])
def test_the_module_needs_only_the_standard_library(module):
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {one.name for node in imports if isinstance(node, ast.Import) for one in node.names}
    names |= {node.module for node in imports if isinstance(node, ast.ImportFrom)}
    ours = {"chart_selfmm", "picture_parts_selfmm"}
    assert {name.split(".")[0] for name in names} <= {*sys.stdlib_module_names, *ours}
