"""IEMOCAP in MulT's files, and sentiment in three classes: what comes out, what is refused, what is not read."""

import pickle

import numpy as np
import pytest
from conftest import command, mmsa_file
from test_layouts import as_python_2

from selfmm_hf.data import DataError, find_builder, load_splits
from selfmm_hf.data.mmsa import read_mmsa
from selfmm_hf.data.prepare import prepare
from selfmm_hf.data.verify import verify_file, verify_folder
from selfmm_hf.model.task_selfmm import Task

EMOTIONS = ("neutral", "happy", "sad", "angry")
SINGLE = "single_label_classification"
ROWS = {"train": 8, "valid": 4, "test": 4}


def mult(path, steps=(20, 40, 50), labels=None):
    """A file of MulT's layout: float64, padding in front, -inf in the audio, one emotion a clip."""
    random, data = np.random.default_rng(0), {}
    for split, rows in ROWS.items():
        data[split] = {}
        for name, count, width in zip(("text", "audio", "vision"), steps, (300, 74, 35), strict=True):
            data[split][name] = random.normal(size=(rows, count, width))
            for row in range(rows):
                data[split][name][row, : row % count] = 0
        data[split]["audio"][1, 10, 3] = -np.inf
        present = np.eye(4, dtype=np.int64)[np.arange(rows) % 4]
        data[split]["labels"] = np.stack([1 - present, present], 2) if labels is None else labels(rows)
    path.write_bytes(pickle.dumps(data, protocol=4))
    return data


@pytest.mark.parametrize(("name", "steps"), [("aligned", (20, 20, 20)), ("unaligned", (20, 40, 50))])
def test_from_the_file_to_samples(tmp_path, name, steps):
    data = mult(tmp_path / "iemocap.pkl", steps)
    builder = find_builder("iemocap", str(tmp_path / "iemocap.pkl"))
    assert builder.config.name == name and builder.label_range is None
    prepare(builder, tmp_path / "out")
    splits = load_splits("iemocap", str(tmp_path / "out"))
    train = splits["train"]
    assert train.task == Task(EMOTIONS, "multi_label_classification")
    assert train.labels.tolist() == np.eye(4)[np.arange(8) % 4].tolist()
    assert train.widths == {"audio": 74, "vision": 35, "word_vectors": 300}
    assert splits["validation"]["id"] == [f"valid{row:05d}" for row in range(4)] and train["text"] == [""] * 8
    assert train.lengths("audio").tolist() == [steps[1] - row for row in range(8)]
    expected = data["train"]["audio"][1, 1:].astype(np.float32)
    expected[9, 3] = 0
    np.testing.assert_array_equal(train.frames("audio", 1), expected)
    assert list(verify_folder(tmp_path / "out", tmp_path / "iemocap.pkl")) == []
    card = (tmp_path / "out" / "README.md").read_text()
    assert "IEMOCAP is for research use" in card and "emotion-recognition" in card and "neutral, happy" in card
    with pytest.raises(DataError, match="a multi_label_classification, not a single_label_classification"):
        load_splits("iemocap", str(tmp_path / "out"), problem_type=SINGLE)


def test_one_class_of_four(tmp_path):
    mult(tmp_path / "iemocap.pkl")
    train = load_splits("iemocap", str(tmp_path / "iemocap.pkl"), problem_type=SINGLE)["train"]
    assert train.task == Task(EMOTIONS, SINGLE) and train.labels.tolist() == [0, 1, 2, 3] * 2
    with pytest.raises(DataError, match="Labels of IEMOCAP are emotions: multi_label_classification or single_label"):
        load_splits("iemocap", str(tmp_path / "iemocap.pkl"), problem_type="regression")


@pytest.mark.parametrize(("there", "found"), [([1, 1, 0, 0], "neutral, happy"), ([0, 0, 0, 0], "none")])
def test_a_class_is_exactly_one(tmp_path, there, found):
    def labels(rows):
        present = np.array([there] * rows)
        return np.stack([1 - present, present], 2)

    mult(tmp_path / "iemocap.pkl", labels=labels)
    found_labels = load_splits("iemocap", str(tmp_path / "iemocap.pkl"))["train"].labels
    assert found_labels.tolist() == [there] * 8
    message = rf"'labels', row 0 \(id 'train00000'\): one of neutral, .* is the class, but there are: {found}$"
    with pytest.raises(DataError, match=message):
        load_splits("iemocap", str(tmp_path / "iemocap.pkl"), problem_type=SINGLE)


@pytest.mark.parametrize("odd", [[1, 1], [0, 0], [0.5, 0.5], [2, -1], [np.nan, 1]])
def test_labels_that_are_no_pairs(tmp_path, odd):
    def labels(rows):
        pairs = np.tile([1.0, 0.0], (rows, 4, 1))
        pairs[2, 1] = odd
        return pairs

    mult(tmp_path / "iemocap.pkl", labels=labels)
    with pytest.raises(DataError, match=r"split 'train', labels, row 2, happy: expected \[1, 0\], absent, or \[0, 1\]"):
        read_mmsa(tmp_path / "iemocap.pkl")


def test_files_of_another_data_set(tmp_path):
    mult(tmp_path / "iemocap.pkl")
    with pytest.raises(DataError, match=r"the emotions neutral, happy, sad, angry, not float32 in \[-3, 3\].*take it"):
        load_splits("mosi", str(tmp_path / "iemocap.pkl"))
    with pytest.raises(DataError, match="expected neutral, happy, sad, angry, got scores; take the data as mosi, "):
        load_splits("iemocap", str(mmsa_file(tmp_path / "mosi.pkl")))
    mult(tmp_path / "six.pkl", labels=lambda rows: np.zeros((rows, 6, 2)))
    with pytest.raises(DataError, match=r"12 values a clip, .* make a folder of your own"):
        read_mmsa(tmp_path / "six.pkl")


ACTOR = ({"Ses01": ["a"]}, {}, {"Ses01": [0]}, {}, {}, {}, {}, ["Ses01"], ["Ses02"])
LMF = {emotion: {"train": {"glove": np.zeros((2, 3))}} for emotion in ("happy", "sad", "angry", "neutral")}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(ACTOR, 4), "a tuple of 9, as the dialogue-level IEMOCAP_features.pkl .*six emotions"),
        (as_python_2(ACTOR), "a tuple of 9, as the dialogue-level IEMOCAP_features.pkl"),
        (pickle.dumps((*ACTOR[:7], {"Ses01"}, {"Ses02"}), 4), "EMPTY_SET .*; if this is the dialogue-level IEMOCAP_f"),
        (
            pickle.dumps((*ACTOR[:7], {"Ses01"}, {"Ses02"}), 2),
            "holds a set, .*; if this is the dialogue-level IEMOCAP",
        ),
        (pickle.dumps(LMF, 4), r"the layout of LMF's iemocap\.pkl"),
        (as_python_2(LMF), r"the layout of LMF's iemocap\.pkl"),
        (pickle.dumps({name.encode(): one for name, one in LMF.items()}, 4), r"keys are not names.*LMF's iemocap\.pkl"),
    ],
)
def test_other_layouts_are_named(tmp_path, content, message):
    path = tmp_path / "file.pkl"
    path.write_bytes(content)
    for read in (read_mmsa, lambda file: find_builder("iemocap", str(file))):
        with pytest.raises(DataError, match=message) as error:
            read(path)
        said = str(error.value)
        assert "take MulT's iemocap_data.pkl" in said and "folder of your own" in said and "\n" not in said


def test_commands(tmp_path, capsys):
    mult(tmp_path / "iemocap.pkl")
    assert command("data", "inspect", tmp_path / "iemocap.pkl") == 0
    assert "neutral  happy  sad  angry" in capsys.readouterr().out
    assert command("data", "verify", tmp_path / "iemocap.pkl", "--dataset", "iemocap") == 1
    assert "there are no ids; they are made up from the rows" in capsys.readouterr().out
    options = ["--data", tmp_path / "iemocap.pkl", "--output_dir", tmp_path / "out", "--problem_type", SINGLE]
    assert command("data", "prepare", "iemocap", *options) == 0
    assert load_splits("iemocap", str(tmp_path / "out"))["test"].task.problem_type == SINGLE
    assert command("data", "verify", tmp_path / "out", "--source", tmp_path / "iemocap.pkl") == 0


# ---- sentiment in three classes

LABELS = {"classification_labels": lambda rows: np.arange(rows) % 3.0}
WORDS = {"annotations": lambda rows: ["Negative", "Neutral", "Positive"] * (rows // 3) + ["Neutral"] * (rows % 3)}
OF_ONE = {f"regression_labels_{one}": lambda rows: np.linspace(-1, 1, rows) for one in "TAV"}


@pytest.mark.parametrize("columns", [LABELS, WORDS | OF_ONE, LABELS | WORDS])
def test_three_classes(tmp_path, columns):
    path = mmsa_file(tmp_path / "sims.pkl", limit=1, **columns)
    train = load_splits("sims", str(path), problem_type=SINGLE)["train"]
    assert train.task == Task(("negative", "neutral", "positive"), SINGLE)
    assert train.labels.tolist() == [0, 1, 2] * 6
    if columns == WORDS | OF_ONE:
        assert train["label_text"] == [0] * 9 + [2] * 9
    assert load_splits("sims", str(path))["train"].task.problem_type == "regression"
    prepare(find_builder("sims", str(path), problem_type=SINGLE), tmp_path / "out")
    assert list(verify_folder(tmp_path / "out", path)) == []


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "column 'classification_labels': missing"),
        ({"classification_labels": lambda rows: np.arange(rows)}, "row 3 .*: the class is 3.0, but they are numbered"),
        (
            {"annotations": lambda rows: ["good"] * rows},
            "column 'annotations', row 0 .*: expected one of negative",
        ),
    ],
)
def test_classes_that_are_none(tmp_path, columns, message):
    with pytest.raises(DataError, match=message):
        load_splits("mosi", str(mmsa_file(tmp_path / "mosi.pkl", **columns)), problem_type=SINGLE)
    with pytest.raises(DataError, match="Labels of CMU-MOSI are scores, or negative, neutral, positive by prob"):
        load_splits("mosi", str(tmp_path / "mosi.pkl"), problem_type="multi_label_classification")


def test_a_file_is_verified_by_its_usual_labels(tmp_path):
    path = mmsa_file(tmp_path / "mosi.pkl", **LABELS)
    assert len(list(verify_file(path, "mosi"))) > 0
