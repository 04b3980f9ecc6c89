"""Training on several scores, emotions and classes, with modalities of any name: from samples to results."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from transformers import AutoModel

from selfmm_cli.train import lines_of
from selfmm_hf.data.columns import features
from selfmm_hf.data.samples import Samples
from selfmm_hf.data.targets import label_type
from selfmm_hf.evaluation.report import data as report_data
from selfmm_hf.evaluation.report.write import write_report
from selfmm_hf.evaluation.robustness import measure
from selfmm_hf.evaluation.robustness.tables import headlines
from selfmm_hf.metrics import (
    class_metrics,
    emotion_metrics,
    kind_and_target,
    metric_name,
    metric_of,
    regression_metrics,
    reported,
)
from selfmm_hf.model.task_selfmm import Task
from selfmm_hf.runs import run
from selfmm_hf.runs.inputs import read_inputs
from selfmm_hf.runs.options import read_options
from selfmm_hf.runs.results import parquet_column
from selfmm_hf.runs.stored import StoredRun, read_predictions
from selfmm_hf.task_metrics import constant_predictions, errors_of, main_metric, metrics_at, metrics_of, thresholds_of

BOTH = Task(("valence", "arousal"), "regression", ((-1.0, 1.0), (1.0, 5.0)))
RATING = Task(("pleasure",), "regression", ((1.0, 9.0),))
EMOTIONS = Task(("happy", "sad", "angry"), "multi_label_classification")
CLASSES = Task(("joy", "fear", "anger", "none"), "single_label_classification")
TASKS = pytest.mark.parametrize(
    "task", [BOTH, RATING, EMOTIONS, CLASSES], ids=["both", "rating", "emotions", "classes"]
)
WIDTHS = {"face": 3, "eye": 2}
CLIPS = {"train": 40, "validation": 12, "test": 16}


def labels_of(task, random, clips):
    if task.problem_type == "regression":
        labels = [[random.uniform(low, high) for low, high in task.scales] for _ in range(clips)]
        return labels if len(task.names) > 1 else [one for (one,) in labels]
    if task.problem_type == "multi_label_classification":
        return random.integers(0, 2, (clips, len(task.names))).astype(float).tolist()
    return random.integers(0, len(task.names), clips).tolist()


def splits_of(task):
    """Frames that say what the labels are."""
    random, splits = np.random.default_rng(0), {}
    for split, clips in CLIPS.items():
        labels = labels_of(task, random, clips)
        values = task.targets(torch.tensor(labels)).numpy()
        frames = {
            name: [np.resize(one, width) + random.normal(0, 0.1, (random.integers(0, 4), width)) for one in values]
            for name, width in WIDTHS.items()
        }
        columns = {"id": [f"{split}{n}" for n in range(clips)], "text": [""] * clips, "label": labels, **frames}
        columns["label_face"] = labels
        data = Dataset.from_dict(columns, features(WIDTHS, ["label_face"], label_type(task)))
        splits[split] = Samples(data, task=task)
    return splits


@TASKS
@pytest.mark.draws
def test_training_leaves_results_of_the_task(task, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("selfmm_hf.runs.inputs.load_splits", lambda *args, **kwargs: splits_of(task))
    options = f"--dataset custom --data {tmp_path} --output_dir {tmp_path / 'run'} --num_train_epochs 4 --use_cpu true"
    one = run.Run(*read_options(f"{options} --disable_tqdm true --per_device_train_batch_size 8".split()))
    one.train()
    assert ("a correlation" in caplog.text) == (task.problem_type == "regression")
    assert ("changes the accuracy" in caplog.text) == (task.problem_type != "regression")
    assert one.model.config.task == task and one.model.config.modalities == ["face", "eye"]

    stored, results = StoredRun.read(tmp_path / "run"), json.loads((tmp_path / "run" / "all_results.json").read_text())
    assert stored.task == task and (tmp_path / "run" / "run.png").is_file()
    metrics = stored.metrics("test")
    assert set(metrics) <= set(reported(results, "test"))
    assert {name: results[f"test_{name}"] for name in metrics} == pytest.approx(metrics, abs=1e-6, nan_ok=True)
    assert all(metric_name(name)[1] for name in metrics)
    kept = 1 - stored.errors("test").mean() if main_metric(task) == "acc" else stored.errors("test").mean()
    assert metrics[main_metric(task)] == pytest.approx(kept, abs=1e-6)
    assert results[f"test_constant_{main_metric(task)}"] >= 0
    first = "corr" if task.problem_type == "regression" else "acc"
    assert {f"generated_label_face_{first}", "fused_label_face_mae"} <= results.keys()
    assert results["fused_label_face_mae"] == pytest.approx(0, abs=1e-6)

    (tmp_path / "stopped").mkdir()
    for name in ("options.yaml", "environment.json"):
        shutil.copy(tmp_path / "run" / name, tmp_path / "stopped" / name)
    assert StoredRun.read(tmp_path / "stopped").task == task

    targets = task.targets(torch.from_numpy(splits_of(task)["train"].labels)).numpy()
    assert np.allclose(stored.generated["face"][0].reshape(targets.shape), targets)
    scales = np.array(task.scales or [(0.0, 1.0)] * len(task.names))
    last = stored.generated["face"][-1].reshape(targets.shape)
    assert (last >= scales[:, 0] - 1e-6).all() and (last <= scales[:, 1] + 1e-6).all()
    if task.problem_type == "single_label_classification":
        assert np.allclose(last.sum(-1), 1, atol=1e-5)

    several = len(task.names) > 1 and task.problem_type != "single_label_classification"
    named = [f"{modality}, {name}" for modality in WIDTHS for name in task.names] if several else list(WIDTHS)
    assert list(results["label_confidence"]) == named
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert not several or task.names[0] in card.split("How far the run trusts")[1]

    for module in (measure, report_data):
        monkeypatch.setattr(module, "load_splits", lambda *args, **kwargs: splits_of(task))
    written = measure.measure_model(str(tmp_path / "run"), tmp_path / "run" / "robustness")
    first = headlines(task)[0]
    shown = 100 * metrics[first] if first == "acc" else metrics[first]
    assert f"{shown:.2f}" in written and {"face", "eye"} <= {
        line[2:].partition(" ")[0] for line in written.splitlines()
    }
    page = write_report([tmp_path / "run"], tmp_path / "report").read_text(encoding="utf-8")
    assert all(name in page for name in (*task.names, "constant", "Missing data"))
    assert "<image" not in page  # its policy shows none
    assert ("cross-entropy" in page) == (task.problem_type != "regression")

    loaded = AutoModel.from_pretrained(tmp_path / "run" / "model")
    assert loaded.config.task == task and loaded.config.id2label == dict(enumerate(task.names))


@TASKS
def test_the_screen_has_a_line_for_each_target_and_its_constant(task):
    labels = np.array(labels_of(task, np.random.default_rng(0), 30))
    found = metrics_of(task, constant_predictions(task, labels, 30), labels)
    metrics = found | {f"constant_{name}": value for name, value in found.items()}
    lines = lines_of(metrics)
    targets = task.names if task.columns > 1 or task.problem_type == "single_label_classification" else ()
    assert set(lines) == {"", "constant"} | {f"{name}{more}" for name in targets for more in ("", ", constant")}
    assert sum(map(len, lines.values())) == len(metrics)
    assert lines[""] == {name: found[name] for name in lines["constant"]}


def test_a_target_whose_name_ends_like_another_has_its_own_line():
    assert lines_of({"f1_joy": 1.0, "f1_no_joy": 0.5, "f1_macro": 0.0}) == {
        "joy": {"f1": 1.0}, "no_joy": {"f1": 0.5}, "": {"f1_macro": 0.0},
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["acc", "f1", "mae", "wa", "f1_chosen"])
@pytest.mark.parametrize("target", ["joy", "no_joy", "2", "macro", "macro_x", "7_up", "agreement", "chosen", "a b"])
def test_the_name_of_a_metric_says_which_target_it_is_of(kind, target):
    found, read = kind_and_target(metric_of(kind, target))
    assert (found, read.removeprefix("target ")) == (kind, target)


@pytest.mark.parametrize("average", ["emotions", "classes"])
def test_metrics_equal_scikit_learns(average):
    sklearn = pytest.importorskip("sklearn.metrics")
    random, names = np.random.default_rng(0), ["neutral", "happy", "sad", "angry"]
    probabilities = random.random((300, 4))
    if average == "emotions":
        labels = random.random((300, 4)) < [0.4, 0.1, 0.3, 0.2]
        found = emotion_metrics(probabilities, labels, names)
        for number, name in enumerate(names):
            pair = labels[:, number], probabilities[:, number] > 0.5
            assert found[f"acc_{name}"] == pytest.approx(sklearn.accuracy_score(*pair), abs=1e-12)
            assert found[f"f1_{name}"] == pytest.approx(sklearn.f1_score(*pair, average="weighted"), abs=1e-12)
            assert found[f"wa_{name}"] == pytest.approx(sklearn.balanced_accuracy_score(*pair), abs=1e-12)
            rounded = probabilities.round(1).astype(np.float32)  # of which many are the same
            auc = sklearn.roc_auc_score(labels[:, number], rounded[:, number])
            assert emotion_metrics(rounded, labels, names)[f"auc_{name}"] == pytest.approx(auc, abs=1e-12)
        return
    labels, predicted = random.integers(0, 4, 300), probabilities.argmax(1)
    found = class_metrics(probabilities, labels, names)
    assert found["acc"] == pytest.approx(sklearn.accuracy_score(labels, predicted), abs=1e-12)
    assert found["f1"] == pytest.approx(sklearn.f1_score(labels, predicted, average="weighted"), abs=1e-12)
    assert found["f1_macro"] == pytest.approx(sklearn.f1_score(labels, predicted, average="macro"), abs=1e-12)
    assert found["uar"] == pytest.approx(sklearn.balanced_accuracy_score(labels, predicted), abs=1e-12)
    against_rest = sklearn.f1_score(labels == 1, predicted == 1, average="weighted")
    assert found["f1_happy"] == pytest.approx(against_rest, abs=1e-12)
    assert class_metrics(probabilities, np.eye(4)[labels], names) == found


def test_thresholds_of_validation_make_the_weighted_accuracy_there_the_highest():
    random = np.random.default_rng(1)
    labels = (random.random((200, 3)) < [0.05, 0.3, 0.9]).astype(float)
    probabilities = np.clip(labels * 0.2 + random.random((200, 3)).round(2) * 0.3, 0, 1).astype(np.float32)
    thresholds = thresholds_of(EMOTIONS, probabilities, labels)
    found = metrics_at(EMOTIONS, thresholds, probabilities, labels)
    assert list(found) == [f"{kind}_chosen{name}" for name in ("", *(f"_{one}" for one in EMOTIONS.names))
                           for kind in ("f1", "wa")]  # fmt: skip
    for number, name in enumerate(EMOTIONS.names):
        tried = [emotion_metrics((probabilities[:, [number]] > limit).astype(float), labels[:, [number]], ["x"])["wa"]
                 for limit in np.linspace(0, 0.6, 601)]  # fmt: skip
        assert found[f"wa_chosen_{name}"] == pytest.approx(max(tried), abs=1e-12)
        assert found[f"wa_chosen_{name}"] > metrics_of(EMOTIONS, probabilities, labels)[f"wa_{name}"]
    assert metric_name("wa_chosen_happy") == ("accuracy", "Weighted accuracy, thresholds of validation, happy")
    assert metric_name("f1_macro_x") == ("f1", "F1, macro, x") and metric_name("f1_happy") == ("f1", "F1, happy")

    nobody = thresholds_of(EMOTIONS, probabilities, np.zeros((200, 3)))
    assert set(nobody.values()) == {0.5} == set(thresholds_of(EMOTIONS, np.full((9, 3), 0.2), labels[:9]).values())
    assert thresholds_of(CLASSES, probabilities, labels) == {} == metrics_at(CLASSES, {}, probabilities, labels)


def test_never_predicting_an_emotion_of_iemocap_is_what_the_field_calls_a_baseline():
    """The counts of the test split of MulT's files; ../shared/reference/emotions.md in the words of their users."""
    labels = np.zeros((938, 4))
    for emotion, count in enumerate((383, 135, 193, 227)):  # neutral, happy, sad, angry
        labels[:count, emotion] = 1
    found = emotion_metrics(np.zeros((938, 4)), labels, ["neutral", "happy", "sad", "angry"])
    shown = {name: round(100 * found[f"f1_{name}"], 1) for name in ("neutral", "happy", "sad", "angry")}
    assert shown == {"neutral": 44.0, "happy": 79.0, "sad": 70.3, "angry": 65.4}


def test_classes_that_are_numbers_have_no_metrics_of_other_names():
    found = class_metrics(np.eye(3), [0, 1, 2], ["1", "2", "macro"])
    assert "acc_2" not in found and found["acc_target 2"] == 1 == found["f1_macro"] == found["f1_target macro"]
    assert metric_name("acc_target 2") == ("accuracy", "Accuracy, target 2")
    found = regression_metrics(np.eye(2), np.eye(2), ["agreement", "arousal"])
    assert "mae_agreement" not in found and found["mae_target agreement"] == found["mae_arousal"] == 0


def test_scores_have_an_error_each_and_a_mean():
    found = regression_metrics([[1.0, 4.0], [0.0, 2.0]], [[0.5, 4.0], [0.0, 4.0]], ["valence", "arousal"])
    assert found["mae_valence"] == 0.25 and found["mae_arousal"] == 1 and found["mae"] == 0.625
    assert found["rmse_arousal"] == pytest.approx(2**0.5) and np.isnan(found["corr_arousal"])


@pytest.mark.parametrize("wrong", [np.zeros(3), np.zeros((3, 3)), np.full((3, 2), np.nan)])
def test_metrics_of_another_shape_are_refused(wrong):
    for of in (regression_metrics, emotion_metrics, class_metrics):
        with pytest.raises(ValueError, match=r"shape|NaN"):
            of(wrong, np.zeros((3, 2)), ["a", "b"])
    with pytest.raises(ValueError, match="numbers of classes, 0 to 1"):
        class_metrics(np.zeros((3, 2)), [0, 1, 2], ["a", "b"])


@TASKS
def test_a_constant_is_of_the_training_labels(task):
    labels = splits_of(task)["train"].labels
    constant = constant_predictions(task, labels, 5)
    assert constant.shape == (5, len(task.names)) and (constant == constant[0]).all()
    metrics = metrics_of(task, constant, labels[:5])
    assert metrics[main_metric(task)] == pytest.approx(
        abs((main_metric(task) == "acc") - errors_of(task, constant, labels[:5]).mean()), abs=1e-6
    )


def test_what_no_training_clip_has_brings_nothing_else_back(monkeypatch):
    """Of data with modalities of their own, of which two are wanted, one is empty, and the third stays left out."""
    frames = {"face": [np.ones((2, 3))] * 4, "eye": [np.ones((0, 2))] * 4, "hand": [np.ones((1, 5))] * 4}
    rows = {"id": list("abcd"), "text": [""] * 4, "label": [0.0, 1.0, 2.0, 3.0], **frames}
    samples = Samples(Dataset.from_dict(rows, features({"face": 3, "eye": 2, "hand": 5})))
    monkeypatch.setattr("selfmm_hf.runs.inputs.load_splits", lambda *_: {"train": samples, "validation": samples})
    options, told = read_options(["--dataset", "custom", "--use_cpu", "true"])[0], []
    found = read_inputs(options, ["face", "eye"], 3.0, ["train", "validation"], told.append)
    assert found.modalities == ["face"] and found.left_out == {"text", "audio", "vision", "eye", "hand"}
    assert [samples.widths for samples in found.splits.values()] == [{"face": 3}] * 2
    assert told[0] == "No training clip has eye: it is left out, as with --modalities face."


def test_a_modality_that_no_clip_has_keeps_its_targets(tmp_path):
    values, nobody = np.arange(6.0).reshape(3, 2), np.ones(3, bool)
    table = {"id": ["a", "b", "c"], "split": ["test"] * 3, "label": parquet_column(values)}
    table |= {"fusion": parquet_column(values), "face": parquet_column(values, nobody)}
    pq.write_table(pa.table(table), tmp_path / "predictions.parquet")
    found = read_predictions(tmp_path)
    np.testing.assert_array_equal(found["fusion"], values)
    np.testing.assert_array_equal(found["face"], np.full((3, 2), np.nan))
