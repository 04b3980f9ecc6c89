"""Tables of one's own with labels of any kind: what task they make, what comes out, what is refused."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import command
from test_custom import write_table

from selfmm_hf.data import DataError, find_builder, load_splits
from selfmm_hf.data.inspection import inspect, open_clips
from selfmm_hf.data.prepare import prepare
from selfmm_hf.data.verify import verify_folder
from selfmm_hf.model.task_selfmm import Task

SPLITS = ["train", "train", "train", "valid", "valid", "test"]
SCORES = {"label:valence": [-1, 0.5, 0, 1, 0.25, -0.5], "label:arousal": [1, 5, 3, 2, 4, 2.5]}
SCALES = "scales:\n  valence: [-1, 1]\n  arousal: [1, 5]\n"
BOTH = Task(("valence", "arousal"), "regression", ((-1.0, 1.0), (1.0, 5.0)))
EMOTIONS = {"label:happy": [1, 0, 0, 1, 0, 1], "label:sad": [0, 1, 0, 0, 0, 1]}
MULTI = "problem_type: multi_label_classification\n"
SINGLE = "problem_type: single_label_classification\n"
CLASSES = {"label": ["joy", "fear ", "anger", "joy", "fear", "fear"]}
PROBABILITIES = {"label:joy": [1, 0.25, 0, 1, 0.5, 1], "label:fear": [0, 0.75, 1, 0, 0.5, 0]}


def rows_of(columns: dict) -> list[dict]:
    first = [{"id": f"clip{row}", "split": split} for row, split in enumerate(SPLITS)]
    return [one | {name: values[row] for name, values in columns.items()} for row, one in enumerate(first)]


def make(folder: Path, columns: dict, task: str = "", suffix: str = ".csv") -> Path:
    write_table(folder, rows_of(columns), suffix)
    if task:
        (folder / "task.yaml").write_text(task)
    for name, width in {"face": 3, "fixation": 2}.items():
        (folder / name).mkdir(exist_ok=True)
        for row in range(len(SPLITS) - 1):
            frames = np.random.default_rng(row).normal(size=(row + 1, width))
            np.save(folder / name / f"clip{row}.npy", frames.astype(np.float32))
    return folder


def face(columns: dict) -> dict:
    return columns | {name.replace("label", "label_face", 1): values[::-1] for name, values in columns.items()}


KINDS = {
    "scores": (SCORES, SCALES, BOTH),
    "emotions": (EMOTIONS, MULTI, Task(("happy", "sad"), "multi_label_classification")),
    "classes": (CLASSES, "", Task(("anger", "fear", "joy"), "single_label_classification")),
    "probabilities": (PROBABILITIES, SINGLE, Task(("joy", "fear"), "single_label_classification")),
    "one score": ({"label:intensity": [0, 3, 1, 2, 1, 0]}, "scales: {intensity: [0, 3]}",
                  Task(("intensity",), "regression", ((0.0, 3.0),))),
    "one more": ({"label:valence": [0, 1, -1, 0.5, 1, 0]}, "scales: {valence: [-1, 1]}",
                 Task(("valence",), "regression", ((-1.0, 1.0),))),
    "a sentiment of two": ({"label": [0, 2, 1, -2, 1, 0]}, "scales: {sentiment: [-2, 2]}",
                           Task(("sentiment",), "regression", ((-2.0, 2.0),))),
    "a sentiment": ({"label": [0, 3, 1, 2, 1, 0]}, "scales: {sentiment: [0, 3]}",
                    Task(("sentiment",), "regression", ((0.0, 3.0),))),
    "one emotion": ({"label:sarcasm": [0, 1, 1, 0, 1, 0]}, MULTI, Task(("sarcasm",), "multi_label_classification")),
    "numbered classes": ({"label": [10, 2, 0, 2, 2, 10]}, SINGLE,
                         Task(("0", "2", "10"), "single_label_classification")),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_from_table_to_samples_and_back(tmp_path, kind, suffix):
    columns, task_file, task = KINDS[kind]
    folder = make(tmp_path / "own", face(columns), task_file, suffix)
    splits = load_splits("custom", str(folder))
    assert {split: samples.task for split, samples in splits.items()} == dict.fromkeys(splits, task)
    assert splits["train"].widths == {"face": 3, "fixation": 2}
    numbers = {name: [task.names.index(str(one).strip()) for one in values] for name, values in face(columns).items()} \
        if "label" in columns and task.problem_type == "single_label_classification" else face(columns)  # fmt: skip
    for column, start in (("label", "label"), ("label_face", "label_face")):
        parts = [values for name, values in numbers.items() if name.partition(":")[0] == start]
        expected = parts[0] if start in numbers else np.array(parts).T.reshape(len(SPLITS), -1)
        if task.problem_type == "regression" and len(task.names) == 1:
            expected = np.array(expected).reshape(-1)
        found = [label for samples in splits.values() for label in samples[column]]
        np.testing.assert_array_equal(np.array(found), np.array(expected))
    assert splits["test"].lengths("face").tolist() == [0] and splits["train"]["text"] == [""] * 3

    prepare(find_builder("custom", str(folder)), tmp_path / "out")
    again = load_splits("custom", str(tmp_path / "out"))
    assert again["test"].task == task and again["train"].fingerprint() == splits["train"].fingerprint()
    assert list(verify_folder(tmp_path / "out", folder)) == []
    np.save(folder / "face" / "clip0.npy", np.ones((1, 3)))
    (problem,) = verify_folder(tmp_path / "out", folder)
    assert "column 'face', row 0 (id 'clip0'): not as in the source" in problem


def test_one_score_is_as_before(tmp_path):
    folder = make(tmp_path / "own", {"label": [0.1, 1, -0.9, 0, 0.4, 0.5]})
    task = load_splits("custom", str(folder), label_range=1.0)["train"].task
    assert task == Task(("sentiment",), "regression", ((-1.0, 1.0),))
    with pytest.raises(DataError, match=r"no label is beyond 1, expected labels that reach 3; add --label_range 1$"):
        load_splits("custom", str(folder))
    shy = make(tmp_path / "shy", {"label": [0.1, 0.3, -0.2, 0, 0.1, 0.1]})
    with pytest.raises(DataError, match=r"no label is beyond 0.3, .* reach 1; scale the labels to \[-1, 1\]$"):
        load_splits("custom", str(shy), label_range=1.0)
    (shy / "task.yaml").write_text("scales: {sentiment: [-5, 5]}")
    assert load_splits("custom", str(shy))["train"].task.scales == ((-5.0, 5.0),)  # the user's own scale


ROW = r"table.csv, split '{}', column '{}', row {} \(id '{}'\): "


@pytest.mark.parametrize(
    ("columns", "task_file", "message"),
    [
        ({"label": ["a", "b", "a", "b", "c", "a"]}, "",
         ROW.format("validation", "label", 1, "clip4") + "expected one of a, b, the classes of the training split"),
        ({"label": ["a", "b", "", "b", "a", "a"]}, "",
         ROW.format("train", "label", 2, "clip2") + "expected one of a, b"),
        ({"label": ["a"] * 6}, "", "table.csv: A classification needs two classes or more, got a"),
        ({"label": ["sad", "Joy", "joy", "sad", "joy", "sad"]}, "",
         "table.csv: the classes 'Joy' and 'joy' differ in upper and lower case; write one"),
        ({"label": ["2,4", "1,0", "0", "1,5", "2,2", "1"]}, "", "expected a number, got '2,4'"),
        ({"label": ["2,4", "1,0", "0,5", "1,5", "2,2", "1,0"]}, "", "expected a number, got '2,4'"),
        ({"label": ["joy", 1, 2, 3, 2, 1]}, "",
         r"table.csv, column 'label': expected numbers .* got 'joy' in row 0 \(id 'clip0'\) and '1' in row 1 \(id "),
        ({"label": ["", "happy", "sad", "sad", "3", "sad"]}, "",
         r"table.csv, column 'label': expected numbers alone, or names of classes alone, got 'happy' in row 1 "
         r"\(id 'clip1'\) and '3' in row 4 \(id 'clip4'\); correct one of them or, if both are classes, write "
         "task.yaml beside the table, with the line `problem_type: single_label_classification`"),
        (SCORES, "", r"label:valence and label:arousal may be scores, emotions or probabilities of classes; write "
         r"task.yaml beside it, with the line `scales: \{valence: \[-1, 1\], arousal: \[1, 5\]\}`, "
         r"`problem_type: multi_label_classification`, or `problem_type: single_label_classification`"),
        (SCORES, "scales: {valence: [-1, 1]}", "expected the lowest and the highest label of each of valence, arousal"),
        (SCORES, SCALES + "  joy: [0, 1]", "expected the lowest .* got valence, arousal, joy"),
        (SCORES, SCALES.replace("5", "4"),
         ROW.format("train", "label", 1, "clip1") + r"arousal is 5, but its labels lie in \[1, 4\]"),
        (SCORES, "scales: {valence: [1, -1], arousal: [1, 5]}", r"highest label of valence, \[-1, 1\], got \[1, -1\]"),
        (SCORES, "scales: {valence: 1, arousal: [1, 5]}", "highest label of valence"),
        (SCORES, "scales: {valence: [-1, .inf], arousal: [1, 5]}", "highest label of valence"),
        (SCORES, "scales: [1]", "expected scales as in"),
        (SCORES, "scale: {}", "unknown 'scale'; expected problem_type and scales"),
        (SCORES, "problem_type: emotion", "problem_type must be one of regression"),
        (SCORES, "problem_type: &a regression\nscales: *a", "task.yaml cannot be read: aliases are not read"),
        (SCORES, "a: [", "task.yaml cannot be read"),
        (SCORES, MULTI + SCALES, "a multi_label_classification has no scales"),
        (SCORES | {"label": [1] * 6}, "", "has both label and label:valence; leave one of them out"),
        (SCORES | {"label:arousal": [3] * 6}, SCALES, "arousal is 3 in every clip; there is nothing to learn"),
        (SCORES | {"label:arousal": [1, 2, 3, 4, "", 5]}, SCALES,
         ROW.format("validation", "label:arousal", 1, "clip4") + "expected a number, got ''; correct the cell, or "),
        (SCORES | {"label:arousal": [1, "nan", 3, 4, 2, 5]}, SCALES,
         ROW.format("train", "label:arousal", 1, "clip1") + "expected a finite number"),
        (SCORES | {"label_face:arousal": [1] * 6}, SCALES, "column 'label_face:valence': missing; label_face needs"),
        (SCORES | {"label_face": [1] * 6}, SCALES, "column 'label_face:valence': missing"),
        (EMOTIONS | {"label:sad": [0] * 6}, MULTI, "sad is 0 in every clip; there is nothing to learn, leave it out"),
        ({"label": [2] * 6}, "", "sentiment is 2 in every clip; there is nothing to learn"),
        ({"label:yes": [0, 1, 0, 1, 1, 0], "label:no": [1, 0, 1, 0, 0, 1]}, "scales: {yes: [0, 1], no: [0, 1]}",
         r'such as `scales: \{"yes": \[0, 1\], "no": \[0, 1\]\}`; got True, False'),
        ({"label:": [0, 1, 0, 1, 1, 0], "label:no": [1, 0, 1, 0, 0, 1]}, MULTI, "names: expected 1 to 1000 different"),
        ({"label": [1, 2, 3, 1, 2, 3]}, MULTI, "needs a column of 0 or 1 for each label, such as label:happy"),
        (EMOTIONS | {"label:sad": [0, 2, 0, 0, 0, 0]}, MULTI,
         ROW.format("train", "label", 1, "clip1") + r"sad is 2, but its labels lie in \[0, 1\]"),
        (PROBABILITIES | {"label:joy": [1, 0.2, 0, 1, 0.5, 1]}, SINGLE,
         ROW.format("train", "label", 1, "clip1") + "the probabilities of joy, fear add up to 0.95, not to 1"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_a_line(tmp_path, columns, task_file, message):
    folder = make(tmp_path / "own", columns, task_file)
    with pytest.raises(DataError, match=message) as error:
        load_splits("custom", str(folder))
    assert "\n" not in str(error.value)


def test_classes_that_are_the_same_or_only_look_alike(tmp_path):
    cafe = make(tmp_path / "cafe", {"label": ["caf\u00e9", "cafe\u0301", "bar", "bar", "bar", "bar"]})
    splits = load_splits("custom", str(cafe))
    assert splits["train"].task.names == ("bar", "caf\u00e9") and splits["train"]["label"] == [1, 1, 0]
    numbers = make(tmp_path / "numbers", {"label": [1000001.0, 1000002.0, 0.5] * 2}, SINGLE, ".parquet")
    assert load_splits("custom", str(numbers))["train"].task.names == ("0.5", "1000001", "1000002")
    gap = make(tmp_path / "gap", {"label": [1.0, 2.0, float("nan")] * 2}, SINGLE, ".parquet")
    with pytest.raises(DataError, match=r"row 2 \(id 'clip2'\): expected one of 1, 2, the classes of the training"):
        load_splits("custom", str(gap))


def test_a_kind_that_is_asked_for(tmp_path):
    folder = make(tmp_path / "own", EMOTIONS)
    task = load_splits("custom", str(folder), problem_type="multi_label_classification")["test"].task
    assert task.names == ("happy", "sad")
    (folder / "task.yaml").write_text("problem_type: regression\nscales: {happy: [0, 1], sad: [0, 1]}")
    with pytest.raises(DataError, match=r"task.yaml says problem_type: regression, but multi_label_class.* is asked"):
        load_splits("custom", str(folder), problem_type="multi_label_classification")


def test_a_prepared_folder_of_another_kind(tmp_path):
    prepare(find_builder("custom", str(make(tmp_path / "own", SCORES, SCALES))), tmp_path / "out")
    with pytest.raises(DataError, match=r"float32 of valence in \[-1, 1\], arousal in \[1, 5\], a regression, not a"):
        load_splits("custom", str(tmp_path / "out"), problem_type="multi_label_classification")


def test_folders_of_no_clip_are_no_modality(tmp_path):
    folder = make(tmp_path / "own", CLASSES)
    (folder / "old").mkdir()
    np.save(folder / "old" / "other.npy", np.ones((1, 1)))
    for name in ("label_old", "epoch"):  # a column of the table of generated labels
        (folder / name).mkdir()
        np.save(folder / name / "clip0.npy", np.ones((1, 1)))
    assert load_splits("custom", str(folder))["train"].widths == {"face": 3, "fixation": 2}
    builder = find_builder("custom", str(folder))
    builder.tables(Path(builder.file()))
    assert any("1 files in old belong to no id" in notice for notice in builder.notices)
    assert any("no modality is called epoch; rename the folder" in notice for notice in builder.notices)
    np.save(folder / "old" / "clip1.npy", np.ones((1, 1)))
    assert load_splits("custom", str(folder))["train"].widths == {"face": 3, "fixation": 2, "old": 1}


def test_a_table_in_another_encoding_is_refused(tmp_path):
    folder = make(tmp_path / "own", CLASSES)
    table = folder / "table.csv"
    table.write_bytes(table.read_text("utf-8").replace("joy", "Ärger").encode("cp1252"))
    with pytest.raises(DataError, match="expected text in UTF-8, got another encoding; save it as UTF-8"):
        load_splits("custom", str(folder))


def test_labels_of_no_modality_are_told(tmp_path):
    others = ("label_text", "label_vision", "label_voice")
    own = {name.replace("label", one, 1): values for one in others for name, values in SCORES.items()}
    folder = make(tmp_path / "own", face(SCORES) | own, SCALES)
    builder = find_builder("custom", str(folder))
    builder.tables(Path(builder.file()))
    told = "label_voice is not read; the modalities of the folder are text, face, fixation"
    assert [notice for notice in builder.notices if "is not read" in notice] == [f"{folder}: {told}"]
    assert f"{folder}: {told}" in inspect(open_clips(str(folder))).attention


def test_a_link_to_a_modality_is_refused(tmp_path):
    folder = make(tmp_path / "own", CLASSES)
    (folder / "eye").symlink_to(folder / "face")
    with pytest.raises(DataError, match="eye is a link to a folder, which is not followed"):
        load_splits("custom", str(folder))


@pytest.mark.draws
@pytest.mark.parametrize("kind", ["scores", "emotions", "classes", "probabilities"])
def test_commands(tmp_path, kind, capsys):
    columns, task_file, task = KINDS[kind]
    folder = make(tmp_path / "own", face(columns), task_file)
    pytest.importorskip("matplotlib")
    for where in (folder, tmp_path / "out"):
        assert command("data", "inspect", where, "--png", tmp_path / "one.png") == 0
        table = capsys.readouterr().out
        assert all(name in table for name in (*task.names, "face", "fixation", "Correlation of the label"))
        said = {
            "scores": "scores, valence in [-1, 1], arousal in [1, 5]\n",
            "emotions": "emotions that may occur together, happy, sad\n",
            "classes": "one class of anger, fear, joy\n",
            "probabilities": "one class of joy, fear\n",
        }
        assert f"Clips & labels\n  {said[kind]}" in table
        if kind == "probabilities":  # their sums, not the clips in which a class is possible
            joy = sum(PROBABILITIES["label:joy"][:3])
            assert re.search(rf"train +3 +- +{joy:.1f} ", table)
        assert "negative" not in table  # arousal has no negative scores
        assert command("data", "inspect", where, "--json") == 0
        found = json.loads(capsys.readouterr().out)["splits"]["train"]
        assert found["labels"] is None and list(found["targets"]) == list(task.names)
        if kind in ("emotions", "classes"):
            assert [found["targets"][name]["positive"] for name in task.names] == [1] * len(task.names)
        if where == folder:
            assert command("data", "prepare", "custom", "--data", folder, "--output_dir", tmp_path / "out") == 0
            assert "--label_range" not in capsys.readouterr().out
    assert command("data", "verify", tmp_path / "out", "--source", folder) == 0
    assert all(name in (tmp_path / "out" / "README.md").read_text() for name in task.names)
