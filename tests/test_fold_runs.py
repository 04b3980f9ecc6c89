"""Sweeps of any task, and of folds across subjects: each clip tested once, pooled and as EMER's scripts have it."""

import json
import re
import shutil

import numpy as np
import pytest
from conftest import command
from test_custom import write_table

from selfmm_hf.data.targets import score
from selfmm_hf.evaluation import folds
from selfmm_hf.evaluation.table import read_table
from selfmm_hf.evaluation.table_markdown import markdown, row
from selfmm_hf.runs.stored import StoredRun
from selfmm_hf.task_metrics import metrics_of

pytest.importorskip("scipy")
CLIPS, SUBJECTS = 57, 9
TRAINING = ["--config", "emer", "--num_train_epochs", "1", "--disable_tqdm", "true", "--use_cpu", "true"]


def make(folder, labels, task=""):
    """Clips of nine people, whose label is in the first column of their frames."""
    random = np.random.default_rng(0)
    rows = []
    for clip in range(CLIPS):
        value = random.uniform(-1, 1)
        for name, width in {"face": 4, "eye": 3, "fixation": 2}.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            frames = random.normal(size=(2, width)).astype(np.float32)
            frames[:, 0] = value
            np.save(folder / name / f"c{clip}.npy", frames)
        split = ("train", "train", "validation", "test")[clip % 4]
        rows.append({"id": f"c{clip}", "subject": f"s{clip % SUBJECTS}", "split": split} | labels(value))
    write_table(folder, rows)
    if task:
        (folder / "task.yaml").write_text(task)
    return folder


def two_scores(value):
    return {"label:valence": value, "label:arousal": 3 - 2 * value, "label_face:valence": value,
            "label_face:arousal": 3 - 2 * value}  # fmt: skip


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Three folds of two seeds."""
    root = tmp_path_factory.mktemp("folds")
    own = make(root / "own", two_scores, "scales: {valence: [-1, 1], arousal: [1, 5]}")
    options = ["--folds", 3, "--seeds", 2, "--data", own, "--output_dir", root / "out"]
    assert command("benchmark", "run", *options, *TRAINING) == 0
    return root


def test_each_clip_is_tested_once(done):
    content = folds.read_folds(done / "out")
    assert (content["folds"], content["clips"], content["missing"]) == (3, CLIPS, [])
    runs = [StoredRun.read(done / "out" / f"fold{number}of3" / "base" / "1111") for number in (1, 2, 3)]
    tests = [run.of_split("test") for run in runs]
    assert sorted(clip for test in tests for clip in test["id"]) == sorted(f"c{clip}" for clip in range(CLIPS))
    task = runs[0].task
    assert task.names == ("valence", "arousal") and task.scales == ((-1, 1), (1, 5))

    one = content["configurations"]["base"]
    assert one["seeds"] == [1111, 1112] and one["pooled"]["mae"]["n"] == 2
    by_hand = []
    for seed in (1111, 1112):
        tests = [StoredRun.read(run.folder.with_name(str(seed))).of_split("test") for run in runs]
        pooled = np.concatenate([np.abs(test["fusion"] - test["label"]) for test in tests])
        batches = [[np.abs(test["fusion"] - test["label"])[at : at + 16].mean() for at in range(0, len(test["id"]), 16)]
                   for test in tests]  # fmt: skip
        by_hand.append([pooled.mean(), np.mean([np.mean(fold) for fold in batches])])
        assert {len(fold) for fold in batches} == {2}, "no fold is a single batch, so that the two differ"
    expected = np.mean(by_hand, axis=0)
    assert [one["pooled"]["mae"]["mean"], one["batches"]["mae"]["mean"]] == pytest.approx(expected, abs=1e-6)
    assert expected[0] != pytest.approx(expected[1], abs=1e-9)
    assert "corr" in one["pooled"] and "corr" not in one["batches"]
    constant = np.mean([run.results["test_constant_mae"] for run in runs])
    assert one["constant"]["mae"]["mean"] == pytest.approx(constant, abs=1e-6)


def test_what_is_left_and_printed(done, capsys):
    assert json.loads((done / "out" / "folds.json").read_text()) == folds.read_folds(done / "out")
    assert command("benchmark", "table", done / "out") == 0
    printed = capsys.readouterr().out
    assert printed == (done / "out" / "folds.md").read_text()
    assert "3 folds across subjects, 57 clips" in printed
    assert re.search(r"\| MAE, arousal \| .* \| \.244 \|\n", printed) and "\n- EMER: Valence and arousal" in printed
    assert command("benchmark", "table", done / "out" / "fold2of3") == 0
    assert "| MAE |" in (printed := capsys.readouterr().out) and "MAE, validation" in printed


def test_a_fold_that_is_not_done_leaves_its_seed_out(done, tmp_path):
    out = shutil.copytree(done / "out", tmp_path / "out")
    (out / "fold3of3" / "base" / "1112" / "all_results.json").unlink()
    content = folds.read_folds(out)
    assert content["missing"] == [["fold3of3/base/1112", "interrupted"]]
    assert content["configurations"]["base"]["seeds"] == [1111]
    assert "MISSING: fold3of3/base/1112, interrupted" in folds.markdown(content)
    (out / "fold3of3" / "base" / "1111" / "all_results.json").unlink()
    with pytest.raises(ValueError, match=r"No configuration in .* has a seed with which all 3 folds are done"):
        folds.read_folds(out)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--folds", 2], "holds fold1of3, not one of 2 folds: name another --output_dir"),
        (["--folds", 3, "--data_config", "fold1of3"], "--data_config names one fold, and --folds runs all of them"),
        (["--folds", 3, "--data-config", "fold1of3"], "--data_config names one fold, and --folds runs all of them"),
        (["--folds", 3, "--seeds", 0], "at least one seed"),
        (["--folds", 3, "--dataset", "demo"], "a custom data set whose table has a column 'subject', not demo"),
    ],
)
def test_what_does_not_fit_is_refused(done, capsys, options, message):
    where = ["--data", done / "own", "--output_dir", done / "out"]
    assert command("benchmark", "run", *options, *where, *TRAINING) == 2
    assert message in capsys.readouterr().err


def test_too_few_subjects(done, tmp_path, capsys):
    options = ["--folds", 10, "--data", done / "own", "--output_dir", tmp_path / "out"]
    assert command("benchmark", "run", *options, *TRAINING) == 2
    assert "there are 9 subjects, too few for 10 folds" in capsys.readouterr().err


def test_the_same_clip_in_two_folds_is_found(done, tmp_path):
    out = shutil.copytree(done / "out", tmp_path / "out")
    shutil.rmtree(out / "fold2of3")
    shutil.copytree(out / "fold1of3", out / "fold2of3")
    with pytest.raises(ValueError, match="a clip is in the test splits of two folds"):
        folds.read_folds(out)
    shutil.rmtree(out / "fold2of3")
    with pytest.raises(ValueError, match="has a seed with which all 3 folds are done"):
        folds.read_folds(out)


# ---- sweeps of any task


def classes(value):
    return {"label": "down" if value < -0.3 else "up" if value > 0.3 else "level"}


@pytest.mark.parametrize(
    ("labels", "task", "metric", "shown"),
    [
        (two_scores, "scales: {valence: [-1, 1], arousal: [1, 5]}", "mae", "MAE"),
        (classes, "", "acc", "Accuracy"),
    ],
)
def test_a_sweep_compares_runs_of_any_task(tmp_path, labels, task, metric, shown):
    (tmp_path / "two.yaml").write_text("default: {}\nfast: {learning_rate: 0.01}\n")
    own = make(tmp_path / "own", labels, task)
    options = ["--sweep", tmp_path / "two.yaml", "--seeds", 2, "--data", own, "--output_dir", tmp_path / "out"]
    assert command("benchmark", "run", *options, *TRAINING) == 0
    table = read_table(tmp_path / "out")
    assert table["metric"] == metric and table["clips"]["test"] == 14
    found = table["comparisons"]["fast"][metric]
    runs = {name: [StoredRun.read(tmp_path / "out" / name / str(seed)) for seed in (1111, 1112)]
            for name in ("default", "fast")}  # fmt: skip
    means = {name: np.mean([run.metrics("test")[metric] for run in ones]) for name, ones in runs.items()}
    assert found["difference"] == pytest.approx(means["fast"] - means["default"])
    low, high = found["bootstrap"]
    assert low <= found["difference"] <= high
    printed = markdown(table)
    assert f"{shown}, difference from default" in printed and f"{shown}, validation |" in printed


@pytest.mark.parametrize(("end", "metric"), [(2, "rmse"), (1, "acc_3"), (3, "acc_7")])
def test_the_table_of_a_run_has_its_metrics_and_not_those_of_another_scale(tmp_path, monkeypatch, end, metric):
    monkeypatch.setattr("selfmm_hf.evaluation.report.write.render", lambda _: (b"", "<svg ></svg>"))
    own = make(tmp_path / "own", lambda value: {"label": end * value}, f"scales: {{sentiment: [-{end}, {end}]}}")
    options = ["--seeds", 1, "--data", own, "--output_dir", tmp_path / "out"]
    assert command("benchmark", "run", *options, *TRAINING) == 0
    run = StoredRun.read(tmp_path / "out" / "base" / "1111")
    assert run.task == score(end) and metric in run.metrics("test")
    for name, value in run.metrics("test").items():
        assert run.results[f"test_{name}"] == pytest.approx(value, nan_ok=True)
    assert command("report", tmp_path / "out", "--output_dir", tmp_path / "report") == 0
    page = (tmp_path / "report" / "report.html").read_text("utf-8")
    assert ("confusion" in page) == (end != 2) and "can no longer be read" not in page


@pytest.mark.draws
def test_names_of_classes_are_shown_as_they_are(tmp_path):
    own = make(tmp_path / "own", lambda value: {"label": "a$b^$" if value > 0 else "loss"})
    options = ["--dataset", "custom", "--data", own, "--output_dir", tmp_path / "out"]
    assert command("train", *options, *TRAINING) == 0
    results = json.loads((tmp_path / "out" / "all_results.json").read_text())
    assert "test_f1_a$b^$" in results and "test_f1_loss" in results and "test_selection_loss" not in results
    assert command("data", "inspect", own, "--png", tmp_path / "own.png") == 0


def test_a_name_does_not_divide_a_row():
    assert row("Accuracy, x|y", "", "a\nb") == r"| Accuracy, x\|y |  | a b |"


def test_metrics_of_a_batch_may_be_undefined():
    """Of one clip there is no correlation; the others are means of what there is."""
    alone = metrics_of(score(1), np.array([0.5]), np.array([0.25]))
    assert alone["mae"] == 0.25
    assert np.isnan(folds._mean_of([float("nan")])) and folds._mean_of([1.0, float("nan"), 2.0]) == 1.5
