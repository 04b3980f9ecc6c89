"""`selfmm predict`: tables, JSON lines and pages; bad clips among good ones."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import av
import fresh
import numpy as np
import pytest
from conftest import TASKS, command

from selfmm_hf import SelfMMFeatureExtractor, SelfMMProcessor
from selfmm_hf.data.synthetic.words import demo_text_config, demo_tokenizer
from selfmm_hf.hub.model_folder import save_loadable
from selfmm_hf.model.pipeline_selfmm import MultimodalSentimentPipeline

for package in ("ai_edge_litert", "librosa", "PIL", "soxr"):
    pytest.importorskip(package)

from test_decoding import write_changing_sizes, write_clip  # noqa: E402

NAME = "it's; $(touch oops) <b>.mp4"


@pytest.fixture
def clips(tmp_path, monkeypatch):
    """Good and bad clips, in the working directory."""
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / NAME, "mpeg4", "aac", seconds=1.0)
    (tmp_path / "words.mp4").write_text("these are words")
    (tmp_path / "empty.mp4").touch()
    return tmp_path


def predict(*arguments):
    return command("predict", *arguments)


def test_a_table(clips, model_folder, capsys):
    assert predict(NAME, "--text", "the movie was good", "--model", model_folder) == 0
    header, row = capsys.readouterr().out.strip().splitlines()
    assert header.split() == ["clip", "score", "text", "audio", "vision"]
    assert row.startswith(NAME) and "no face" in row and row.count("-  ") == 1


def test_lines_of_json_and_bad_clips(clips, model_folder, capsys):
    names = ["words.mp4", NAME, "empty.mp4", "nowhere.mp4"]
    assert predict(*names, "--model", model_folder, "--json", "--window_seconds", "0.5") == 1
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert [line["clip"] for line in lines] == names
    assert [("error" in line) for line in lines] == [True, False, True, True]
    assert len(lines[1]["timeline"]) == 2 and lines[1]["present"]["audio"]
    errors = [line for line in printed.err.splitlines() if line.startswith("selfmm: error: ")]
    assert len(errors) == 3 and "is empty (0 bytes)" in printed.err and "Traceback" not in printed.err
    assert sorted(path.name for path in clips.iterdir()) == sorted([NAME, "words.mp4", "empty.mp4"])


def test_processes_side_by_side_say_the_same(clips, model_folder, forked_workers, capsys):
    pytest.importorskip("pebble")
    arguments = ("words.mp4", NAME, "empty.mp4", "--model", model_folder, "--output")
    for file, options in (("one.jsonl", ()), ("two.jsonl", ("--workers", "2", "--time_limit", "60"))):
        assert predict(*arguments, file, *options) == 1
    files = Path("one.jsonl"), Path("two.jsonl")
    one, two = ([json.loads(line) for line in file.read_text().splitlines()] for file in files)
    assert [line["clip"] for line in two] == ["words.mp4", NAME, "empty.mp4"]
    assert two[1].pop("score") == pytest.approx(one[1].pop("score"), abs=1e-6)
    assert two[1].pop("unimodal") == pytest.approx(one[1].pop("unimodal"), abs=1e-6)
    assert one == two


def test_a_page(clips, model_folder, capsys):
    assert predict(NAME, "words.mp4", "--model", model_folder, "--html", "page.html") == 1
    page = (clips / "page.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>") and page.count("<svg") == 1
    assert "<b>" not in page and "&lt;b&gt;" in page
    assert "no face" in page and "The page: page.html" in capsys.readouterr().err


def test_words_alone(model_folder, capsys):
    assert predict("--text", "the movie was good", "--model", model_folder, "--json") == 0
    line = json.loads(capsys.readouterr().out)
    assert line["clip"] == "(words)" and line["present"] == {"text": True, "audio": False, "vision": False}


def test_a_damaged_clip_is_told(clips, model_folder, capsys):
    write_clip(clips / "cut.mkv", "mpeg4", "flac", seconds=6, fps=6, rate=8000)
    whole = (clips / "cut.mkv").read_bytes()
    (clips / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    assert predict("cut.mkv", "--model", model_folder, "--json", "--html", "page.html") == 0
    printed = capsys.readouterr()
    assert "damaged or cut off" in json.loads(printed.out)["warnings"][0]
    assert "selfmm: warning: 'cut.mkv'" in printed.err
    assert predict("cut.mkv", NAME, "--model", model_folder, "--output", "found.csv") == 0
    cut, sound = csv.DictReader((clips / "found.csv").read_text().splitlines())
    assert cut["warnings"] == "; ".join(json.loads(printed.out)["warnings"]) and sound["warnings"] == ""
    assert "damaged or cut off" in (clips / "page.html").read_text(encoding="utf-8")


def test_clips_of_one_name_are_told_apart(clips, model_folder, capsys):
    names = ["a/1.mp4", "b/1.mp4", "b/2.mp4"]
    for name in names:
        (clips / name).parent.mkdir(exist_ok=True)
        shutil.copy(clips / NAME, clips / name)
    assert predict("a", "b", "a/1.mp4", "--model", model_folder, "--html", "page.html") == 0
    shown = ["a/1.mp4", "b/1.mp4", "2.mp4", "a/1.mp4"]
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == shown
    assert re.findall("<h2><bdi>(.*)</bdi>", (clips / "page.html").read_text(encoding="utf-8")) == shown


@pytest.mark.parametrize(
    ("task", "head"),
    [
        ("scores", ["valence/arousal"]), ("one_sided", ["intensity"]), ("emotions", ["label"]), ("classes", ["label"]),
    ],
)  # fmt: skip
def test_a_task_of_any_kind(task, head, model_of, tmp_path, capsys):
    save_loadable(tmp_path / "model", *model_of(task))
    outputs = [
        ("--output", tmp_path / "found.csv"),
        ("--output", tmp_path / "found.jsonl", "--html", tmp_path / "a.html"),
    ]
    for more in outputs:
        assert predict("--text", "the movie was good", "--model", tmp_path / "model", *more) == 0
    first, row, *_ = capsys.readouterr().out.splitlines()
    assert first.split() == ["clip", *head, "text", "audio", "eye"] and "no sound; no eye" in row
    found = json.loads((tmp_path / "found.jsonl").read_text())
    (cells,) = csv.DictReader((tmp_path / "found.csv").read_text().splitlines())
    names = TASKS[task]["id2label"].values()
    assert list(cells) == [
        "clip", *(f"{of}_{name}" for of in ("score", "text", "audio", "eye") for name in names), "label", "transcript",
        "error", "warnings",
    ]  # fmt: skip
    for name, value in found["scores"].items():
        assert float(cells[f"score_{name}"]) == pytest.approx(value, abs=1e-5) and cells[f"audio_{name}"] == ""
        assert float(cells[f"text_{name}"]) == pytest.approx(found["unimodal"]["text"][name], abs=1e-5)
    label = found.get("label", "")
    assert cells["label"] == ("; ".join(label) if isinstance(label, list) else label)
    if task == "classes":
        assert f"{label} {found['scores'][label]:.0%}" in row
    elif task == "emotions":
        assert (", ".join(label) or "none above 50%") in row
    else:
        assert "/".join(f"{value:.2f}" for value in found["scores"].values()) in row
    assert (tmp_path / "a.html").read_text(encoding="utf-8").count("<svg") == 1


@pytest.mark.parametrize(
    ("task", "modality", "column"),
    [
        ({}, "score", "score"), ({}, "clip", "clip"), ({}, "label", "label"), ({}, "error", "error"),
        ({"id2label": {0: "valence", 1: "arousal"}}, "score", "score_valence"),
        ({"id2label": {0: "joy", 1: "b_joy"}}, "audio_b", "audio_b_joy"),
        ({"id2label": {0: "clip", 1: "score"}}, "eye", None),
    ],
)  # fmt: skip
def test_columns_that_would_have_the_same_name(task, modality, column, tiny_model, tmp_path, capsys):
    model = tiny_model(
        modalities=["text", "audio", modality], text_config=demo_text_config(), **{f"{modality}_dim": 4}, **task
    )
    given = {name: {"kind": "features", "dim": width} for name, width in (("audio", 5), (modality, 4))}
    processor = SelfMMProcessor(SelfMMFeatureExtractor(vision=None, **given), demo_tokenizer())
    save_loadable(tmp_path / "model", model, processor)
    asked = ("--text", "the movie was good", "--model", tmp_path / "model", "--output")
    assert predict(*asked, tmp_path / "found.csv") == (2 if column else 0)
    printed = capsys.readouterr()
    if column:
        assert f"would have two columns '{column}'" in printed.err and not printed.out
        assert "Take --output FILE.jsonl" in printed.err and not (tmp_path / "found.csv").exists()
    assert predict(*asked, tmp_path / "found.jsonl") == 0
    assert set(json.loads((tmp_path / "found.jsonl").read_text())["unimodal"]) == {"text", "audio", modality}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Name at least one clip, or give words with --text"),
        (["1.mp4", "2.mp4", "--text", "so"], "--text is for one clip, but there are 2 clips"),
        (["1.mp4"], "There is no model at runs/demo/model. Train one with `selfmm demo`"),
        (["1.mp4", "--model", "nowhere"], "There is no folder nowhere, and it is not the name of a repository either"),
        (["1.mp4", "--model", "some/body"], "some/body cannot be loaded as a model with its processor"),
        (["1.mp4", "--html", "nowhere/page.html"], "There is no folder for the file"),
        (["1.mp4", "--html", ""], "--html '.' is a folder; name the file to write"),
        (["1.mp4", "--html", "/"], "--html '/' is a folder; name the file to write"),
        (["1.mp4", "--window_seconds", "-1", "--model", "MODEL"], "window_seconds is -1.0"),
        (["1.mp4", "--window_seconds", "0", "--model", "MODEL"], "window_seconds is 0.0, expected a number of seconds"),
    ],
)
def test_what_is_wrong_is_said(arguments, message, tmp_path, monkeypatch, capsys, model_folder):
    monkeypatch.chdir(tmp_path)
    assert predict(*[model_folder if one == "MODEL" else one for one in arguments]) == 2
    assert message in capsys.readouterr().err


def test_long_and_changing_clips(clips, model_folder, capsys):
    """Two hours of silence in a few kilobytes; a picture that changes its size."""
    with av.open(str(clips / "long.flac"), "w") as container:
        stream = container.add_stream("flac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000 * 60), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        for _ in range(120):
            frame.pts = None
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    write_changing_sizes(clips / "sizes.avi", [(64, 48)] * 3 + [(128, 96)] * 3)
    assert (clips / "long.flac").stat().st_size < 2_000_000
    assert predict("long.flac", "sizes.avi", "--model", model_folder) == 1
    printed = capsys.readouterr().err
    assert "lasts 7200.0 s, longer than the 20 s that are allowed; cut it" in printed
    assert "sizes.avi: There is nothing in this clip that the model can judge: no words, no sound, no face" in printed


def test_the_command_itself(clips, model_folder):
    command = [
        fresh.python(),
        Path(sys.executable).with_name("selfmm"),
        "predict",
        NAME,
        "--model",
        model_folder,
        "--json",
    ]
    process = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["present"]["audio"] and not (clips / "oops").exists()


def test_the_words_of_a_clip_may_stand_beside_it(clips, model_folder, capsys):
    def said(*arguments):
        predict("said.mp4", "--model", model_folder, "--json", *arguments)
        return json.loads(capsys.readouterr().out)

    write_clip(clips / "said.mp4", "mpeg4", "aac", seconds=1.0)
    assert said()["absent"]["text"] == "no words"
    (clips / "said.txt").write_text("the food is great\n")
    assert said()["transcript"] == "the food is great"
    assert said("--text", "it was awful")["transcript"] == "it was awful"
    (clips / "said.txt").write_bytes(b"\xef\xbb\xbfthe food is great\r\n")  # as Windows writes it
    assert said()["transcript"] == "the food is great" and said()["remarks"] == []
    (clips / "said.txt").write_bytes(b"\xff\xfe\xff")
    assert "is not UTF-8 text" in said()["error"]


def test_rows_come_as_they_are_done_and_stand_in_columns(clips, model_folder, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setattr("selfmm_cli.terminal.SHOWN_AFTER", 0)
    names = [NAME, "words.mp4", "b.mp4"]
    write_clip(clips / "b.mp4", "mpeg4", "aac", seconds=1.0)
    printed = []
    pipe_call = MultimodalSentimentPipeline.__call__

    def call(self, *arguments, **options):
        printed.append(capsys.readouterr().out)
        return pipe_call(self, *arguments, **options)

    monkeypatch.setattr(MultimodalSentimentPipeline, "__call__", call)
    assert predict(*names, "--model", model_folder) == 1
    assert [text.count("\n") for text in printed] == [0, 2, 0]
    head, first, last = [*printed[1].splitlines(), *capsys.readouterr().out.splitlines()]
    assert head.index("vision") + len("vision") == first.index("  -  no words") + 3 == last.index("  -  no words") + 3
    assert "\r" not in head + first + last
    assert {"Clips", "Picture"} <= set(re.findall(r"\w+(?=:  )", sys.stderr.getvalue()))
    errors = re.split(r"[\r\n]", sys.stderr.getvalue())  # on lines of their own, not behind a bar
    assert all(one.startswith("selfmm: error: words.mp4: ") for one in errors if "error:" in one)


def test_folders_and_files_of_predictions(clips, model_folder, capsys):
    (clips / "in" / "deeper").mkdir(parents=True)
    write_clip(clips / "in" / "deeper" / "=2.mp4", "mpeg4", "aac", seconds=1.0)
    shutil.copy(clips / NAME, clips / "in" / "1.MP4")
    (clips / "in" / "1.txt").write_text("the movie was good")
    (clips / "in" / "bad.mkv").write_text("nothing")
    options = ("--model", model_folder.parent, "--output")
    shutil.copytree(model_folder, clips / "run" / "model")  # the folder of a run will do
    options = ("--model", clips / "run", "--output")
    assert predict("in", *options, "scores.jsonl") == 1
    table = capsys.readouterr().out.splitlines()
    lines = [json.loads(line) for line in (clips / "scores.jsonl").read_text().splitlines()]
    assert [line["clip"] for line in lines] == ["in/1.MP4", "in/bad.mkv", "in/deeper/=2.mp4"]
    assert len(table) == 3 and lines[0]["transcript"] == "the movie was good" and "error" in lines[1]
    assert predict("in/deeper", "in/1.MP4", *options, "scores.csv") == 0
    rows = list(csv.DictReader((clips / "scores.csv").read_text().splitlines()))
    assert [row["clip"] for row in rows] == ["in/deeper/=2.mp4", "in/1.MP4"]
    assert float(rows[1]["score"]) == pytest.approx(lines[0]["score"], abs=1e-6)
    assert float(rows[1]["text"]) == pytest.approx(lines[0]["unimodal"]["text"], abs=1e-6)
    assert rows[1]["vision"] == "" and rows[1]["error"] == "" and rows[1]["transcript"] == "the movie was good"
    assert predict("=x.mp4", "in/1.MP4", *options, "scores.csv") == 1
    assert (clips / "scores.csv").read_text().splitlines()[1].startswith("'=x.mp4,")
    (clips / "none").mkdir()
    capsys.readouterr()
    for wrong, reason in ((("none",), "There are no clips in the folder none"),
                          (("in", "--output", "a.xlsx"), "must end with .csv or .jsonl, got a.xlsx"),
                          (("in", "--output", "no/a.csv"), "There is no folder for the file no/a.csv")):  # fmt: skip
        assert predict(*wrong, "--model", model_folder) == 2
        assert reason in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_names_cannot_steer_the_terminal(clips, model_folder, capsys):
    name = "\x1b[2Jred\n\u202e\udcff.mp4"
    write_clip(clips / "plain.mp4", "mpeg4", "aac", seconds=1.0)
    shutil.copy(clips / "plain.mp4", clips / name)
    (clips / f"bad{name}").write_text("nothing")
    assert predict(name, f"bad{name}", "plain.mp4", "--model", model_folder, "--html", "page.html") == 1
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err and "\u202e" not in printed.out + printed.err
    assert r"\x1b[2Jred\n\u202e\udcff.mp4  " in printed.out and len(printed.out.splitlines()) == 3
    assert command("report", "\x1b[2J", "--output_dir", "x") == 2
    assert "\x1b" not in capsys.readouterr().err


def test_the_same_clip_twice_and_max_seconds(clips, model_folder, capsys):
    write_clip(clips / "a.mp4", "mpeg4", "aac", seconds=2.0)
    assert predict("a.mp4", "a.mp4", "--model", model_folder, "--json", "--max_seconds", "1") == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 2 and all("longer than the 1 s that are allowed" in line["error"] for line in lines)
    for wrong in ("0", "-1", "nan", "inf"):
        assert predict("a.mp4", "--model", model_folder, "--max_seconds", wrong) == 2
        assert f"--max_seconds must be a positive number of seconds, got {wrong}" in capsys.readouterr().err
    assert predict("a.mp4", "--model", model_folder, "--max_seconds", "long") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("selfmm: error: Invalid value for '--max_seconds': ")


def test_long_and_unknown_words_are_told_once(model_folder, capsys):
    text = "the food is great and zany " * 20
    assert predict("--text", text, "--model", model_folder) == 0
    printed = capsys.readouterr()
    assert "20 of 120 words are unknown to this model; The text is longer than the 50 tokens" in printed.out
    assert "warning" not in printed.err and "Token indices" not in printed.err
    assert predict("--text", text, "--model", model_folder, "--json") == 0
    assert json.loads(capsys.readouterr().out)["words"] == {"count": 120, "unknown": 20, "parts": 4}
