"""Labels of each kind, from a builder or a folder to a batch; what a file says of a task; what is refused."""

import json
import re

import numpy as np
import pytest
import torch
from datasets import Array2D, ClassLabel, Dataset, DatasetDict, Features, Image, List, Value

from selfmm_hf.data import DataError, load_splits, open_splits
from selfmm_hf.data.columns import features, odd_column
from selfmm_hf.data.masking import with_missing
from selfmm_hf.data.prepare import prepare
from selfmm_hf.data.prepared import find_prepared, origins
from selfmm_hf.data.samples import Samples
from selfmm_hf.data.targets import check_reach, describe, label_fault, label_type, score, task_from_json, task_to_json
from selfmm_hf.model.task_selfmm import Task
from selfmm_hf.training.collator import SelfMMCollator

SCORE = score(3)
BOTH = Task(("valence", "arousal"), "regression", ((-1.0, 1.0), (1.0, 5.0)))
EMOTIONS = Task(("happy", "sad", "angry"), "multi_label_classification")
CLASSES = Task(("joy", "fear", "anger"), "single_label_classification")
LABELS = {
    SCORE: [0.5, -3.0, 2.0],
    BOTH: [[0.5, 1.0], [-1.0, 5.0], [0.0, 2.5]],
    EMOTIONS: [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.5, 0.0]],
    CLASSES: [2, 0, 1],
}
TASKS = pytest.mark.parametrize("task", LABELS, ids=["score", "both", "emotions", "classes"])
WIDTHS = {"face": 3, "fixation": 2}


def rows_of(task: Task, label=None, widths=WIDTHS) -> Dataset:
    random = np.random.default_rng(0)
    frames = {name: [random.normal(size=(row, width)) for row in range(3)] for name, width in widths.items()}
    labels = label or LABELS[task]
    columns = {"id": ["a", "b", "c"], "text": [""] * 3, "label": labels, "label_face": labels, **frames}
    kind = label_type(task, isinstance(labels[0], list))
    return Dataset.from_dict(columns, features(widths, ["label_face"], kind))


@TASKS
def test_samples_of_each_kind_make_a_batch(task):
    samples = Samples(rows_of(task), task=task)
    expected = np.array(LABELS[task], dtype=np.float32)
    assert samples.task == task and samples.widths == WIDTHS
    assert samples["label"] == samples["label_face"] == LABELS[task]
    assert samples.labels.dtype == np.float32 and np.array_equal(samples.labels, expected)
    batch = SelfMMCollator(tuple(WIDTHS))([samples[row] for row in range(3)])
    assert torch.equal(batch["labels"], torch.from_numpy(expected)) and batch["face"].shape == (3, 2, 3)
    assert task.targets(batch["labels"]).shape == (3, len(task.names))
    fewer = samples.without({"face"})
    assert fewer.task == task and fewer.widths == {"fixation": 2}
    assert fewer.fingerprint() == samples.fingerprint() != Samples(rows_of(task, LABELS[task][::-1])).fingerprint()


def test_a_column_of_classes_says_its_task():
    assert Samples(rows_of(CLASSES)).task == CLASSES


def test_probabilities_of_classes_are_kept():
    samples = Samples(rows_of(CLASSES, [[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]), task=CLASSES)
    assert odd_column(samples.dataset.features, CLASSES) is None and samples.labels.shape == (3, 3)


@TASKS
def test_a_file_says_the_task(task):
    assert task_from_json(json.loads(json.dumps(task_to_json(task)))) == task
    assert all(name in describe(task) for name in task.names)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problem_type": "sentiment"}, "problem_type must be one of"),
        ({"problem_type": None}, "expected problem_type, names and scales"),
        ({"names": []}, "names: expected 1 to 1000 different ones"),
        ({"names": ["valence", "valence"]}, "names: expected"),
        ({"names": ["valence", 3]}, "names: expected"),
        ({"names": ["valence", "x" * 101]}, "names: expected"),
        ({"scales": [[1, 5]]}, "a scale for each"),
        ({"scales": [[1, 5], [5, 1]]}, "from a low to a higher"),
        ({"scales": [[1, 5], [1, 10**400]]}, "scales: expected"),
        ({"scales": [[1, 5], [float("nan"), 2]]}, "scales: expected"),
        ({"scales": [[1, 5], "15"]}, "scales: expected"),
    ],
)
def test_a_damaged_task_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        task_from_json(task_to_json(BOTH) | change)


@pytest.mark.parametrize(
    ("task", "label", "message"),
    [
        (
            SCORE,
            3.1,
            r"the label is 3.1, expected a number in \[-3, 3\]; correct it, or scale the labels to \[-3, 3\]$",
        ),
        (
            score(1.0),
            -3.0,
            r"the label is -3, .*; correct it, or take the data as mosi or mosei, or as custom with .*range 3$",
        ),
        (score(1.0), None, r"the label is None, expected a number in \[-1, 1\]; correct it$"),
        (SCORE, None, "the label is None"),
        (SCORE, float("nan"), "the label is nan"),
        (BOTH, [0.5, 0.5], r"arousal is 0.5, but its labels lie in \[1, 5\]"),
        (BOTH, [0.5, float("nan")], "arousal is nan"),
        (BOTH, [None, 2.0], "valence is None"),
        (BOTH, None, "1 values, expected one for each of valence, arousal"),
        (EMOTIONS, [0.0, 2.0, 0.0], r"sad is 2, but its labels lie in \[0, 1\]"),
        (CLASSES, 3, "the class is 3, but they are numbered from 0 to 2"),
        (CLASSES, -1, "the class is -1"),
        (CLASSES, None, "the class is None"),
        (CLASSES, [0.5, 0.25, 0.0], "the probabilities of joy, fear, anger add up to 0.75, not to 1"),
        (CLASSES, [1.5, -0.5, 0.0], "joy is 1.5, but"),
    ],
)
def test_a_label_that_the_task_has_not(task, label, message):
    assert re.match(message, label_fault(task, label))


@TASKS
def test_labels_of_the_task_are_taken(task):
    assert [label_fault(task, label) for label in LABELS[task]] == [None] * 3


def test_a_target_that_never_changes_is_refused():
    check_reach(BOTH, [LABELS[BOTH]], "here")
    with pytest.raises(DataError, match=r"^here: arousal is 3 in every clip; there is nothing to learn, leave it out$"):
        check_reach(BOTH, [[[0.5, 3.0]], [[1.0, 3.0]]], "here")


def test_sequences_of_any_name_are_read():
    found = rows_of(SCORE).features
    assert odd_column(found) is None
    others = {
        "label_eye": Value("float32"),
        "label2": Array2D((None, 2), "float32"),
        "index": Array2D((None, 2), "float32"),
        "not a name": Array2D((None, 2), "float32"),
        "twice": Array2D((None, 2), "float64"),
        "picture": Image(),
    }
    rows = rows_of(SCORE).to_dict()
    more = {name: [[[0.0, 1.0]]] * 3 if isinstance(kind, Array2D) else [None] * 3 for name, kind in others.items()}
    dataset = Dataset.from_dict(rows | more, Features(found | others))
    assert Samples(dataset).column_names == list(found)


@pytest.mark.parametrize(
    ("task", "kind", "message"),
    [
        (BOTH, Value("float32"), "expected List"),
        (BOTH, List(Value("float32"), length=3), "expected List"),
        (SCORE, ClassLabel(names=["a", "b"]), "expected Value"),
        (CLASSES, ClassLabel(names=["joy", "anger", "fear"]), "expected ClassLabel"),
        (None, List(Value("float32"), length=2), "expected Value"),
    ],
)
def test_a_label_of_another_type_is_refused(task, kind, message):
    found = Features(rows_of(task or SCORE).features | {"label": kind})
    assert odd_column(found, task).startswith(f"column 'label': {message}")


def test_an_open_split_has_its_task():
    splits = DatasetDict({split: rows_of(BOTH) for split in ("train", "validation", "test")})
    assert [one.task for one in open_splits(splits, "here", task=BOTH).values()] == [BOTH] * 3


@pytest.fixture
def folder(tmp_path):
    from conftest import mmsa_file

    from selfmm_hf.data import find_builder

    prepare(find_builder("mosi", str(mmsa_file(tmp_path / "file.pkl"))), tmp_path / "out")
    return tmp_path / "out"


def test_a_prepared_folder_says_its_task(folder):
    (origin,) = origins(folder)
    assert origin["task"] == {"problem_type": "regression", "names": ["sentiment"], "scales": [[-3.0, 3.0]]}
    assert load_splits("mosi", str(folder))["train"].task == SCORE
    del origin["task"]  # as before there were tasks
    (folder / "unaligned/origin.json").write_text(json.dumps(origin))
    assert find_prepared(str(folder)).task == load_splits("mosi", str(folder))["train"].task == SCORE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": {"problem_type": "regression"}}, "'task': names: expected"),
        ({"task": {"problem_type": "regression", "names": ["a"], "scales": [[3, -3]]}}, "'task': The scale of a"),
        ({"task": 3}, "'task': expected problem_type"),
    ],
)
def test_a_damaged_origin_is_refused(folder, change, message):
    (origin,) = origins(folder)
    (folder / "unaligned/origin.json").write_text(json.dumps(origin | change))
    with pytest.raises(DataError, match=rf"origin\.json is damaged \({message}"):
        load_splits("mosi", str(folder))


def test_masks_reach_sequences_of_any_name():
    sample = {name: np.ones((50, 2), np.float32) for name in ("face", "audio", "eye")}
    rates = dict.fromkeys(sample, 0.5)
    missing = with_missing(sample, rates, [1])
    assert 0 < missing["face"].mean() < 1 and not np.array_equal(missing["face"], missing["audio"])
    assert np.array_equal(missing["audio"], with_missing(sample, {"audio": 0.5}, [1])["audio"])
    assert np.array_equal(missing["face"], with_missing(sample, {"face": 0.5}, [1])["face"])
