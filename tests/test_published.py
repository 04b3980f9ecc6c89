"""Published figures beside those of runs: the files, and the tables, report and card that show them."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard
from test_hub import save_model
from test_report import report, write_run

from selfmm_hf.data.targets import task_to_json
from selfmm_hf.evaluation import folds, table_markdown
from selfmm_hf.evaluation.report.data import Group
from selfmm_hf.evaluation.report.results import results
from selfmm_hf.metrics import metric_name
from selfmm_hf.model.task_selfmm import Task
from selfmm_hf.published import FOLDER, OWN, published_figures
from selfmm_hf.runs.stored import StoredRun
from selfmm_hf.task_metrics import metrics_of

MODALITIES = ("text", "audio", "vision")
FOUR = ("neutral", "happy", "sad", "angry")
SIX = ("happy", "sad", "anger", "surprise", "disgust", "fear")
BOTH = Task(("valence", "arousal"), "regression", ((-1.0, 1.0),) * 2)
TASKS = {
    "mosi": [Task()],
    "mosei": [Task(), Task(SIX, "multi_label_classification")],
    "sims": [Task(scales=((-1.0, 1.0),))],
    "simsv2": [Task(scales=((-1.0, 1.0),))],
    "iemocap": [Task(FOUR, "multi_label_classification"), Task(FOUR, "single_label_classification")],
    "emer": [BOTH],
}


def known(task):
    one = np.full((2, len(task.names)), 0.5)
    return list(metrics_of(task, one, one))


def of(dataset, task):
    modalities = OWN.get(dataset, MODALITIES)
    return published_figures("custom" if dataset in OWN else dataset, modalities, task, known(task))


@pytest.mark.parametrize("dataset", TASKS)
def test_each_figure_is_of_a_metric_that_runs_have(dataset):
    content = yaml.safe_load((FOLDER / f"{dataset}.yaml").read_text("utf-8"))
    shown = {one.name: one for task in TASKS[dataset] for one in of(dataset, task)}
    assert list(shown) and len(content["rows"]) == len(shown)
    for row in content["rows"]:
        printed = {name: value for name, value in row.items() if name not in ("name", "seeds", "of", "problem_types")}
        found = shown[row["name"]]
        assert found.metrics.keys() == printed.keys() and found.of and found.dataset == content["title"]
        for name, value in printed.items():
            scale = 1 if metric_name(name)[0] in ("mae", "pearsonr") else 100
            assert found.metrics[name] * scale == pytest.approx(value) and 0 < found.metrics[name] < 1


def test_what_the_benchmark_list_says():
    """The figures that this project answers for."""
    said = {
        ("mosi", "f1_negative_positive"): 0.8595, ("mosi", "mae"): 0.712, ("mosei", "f1_negative_positive"): 0.852,
        ("mosei", "acc_2_negative_positive"): 0.853, ("mosei", "mae"): 0.529, ("sims", "mae"): 0.458,
        ("simsv2", "acc_2"): 0.787, ("iemocap", "f1_sad"): 0.687, ("emer", "mae_arousal"): 0.244,
    }  # fmt: skip
    for (dataset, metric), value in said.items():
        assert of(dataset, TASKS[dataset][0])[-1 if dataset != "mosei" else 3].metrics[metric] == pytest.approx(value)


def test_figures_are_of_the_same_task():
    classes = Task(("negative", "neutral", "positive"), "single_label_classification")
    assert published_figures("sims", MODALITIES, classes, known(classes)) == []  # whose F1 is of other classes
    assert published_figures("demo", MODALITIES, Task(), known(Task())) == []
    assert published_figures("custom", MODALITIES, BOTH, known(BOTH)) == []
    alone = Task(("arousal",), "regression", ((-1.0, 1.0),))
    (one,) = published_figures("custom", ("eye", "face", "fixation"), alone, known(alone))
    assert one.metrics == {"mae": 0.244}
    valence = Task(("valence",), "regression", ((-1.0, 1.0),))
    assert published_figures("custom", ("eye", "face", "fixation"), valence, known(valence)) == []


def content(configurations, published, constant):
    """As [`read_table`] returns it."""
    summary = {"mean": 0.5, "sd": None, "low": None, "high": None}
    metrics = {name: summary for name in configurations}
    one = {"seeds": [1111], "test": metrics, "validation": metrics, "generated_labels": {}, "options": {}}
    return {
        "clips": {"validation": 3, "test": 4}, "seeds": [1111], "seeds_before": [], "configurations": {"default": one},
        "metric": configurations[0], "conflict": None, "against": "default", "comparisons": {}, "missing": [],
        "measured": {"device": "a CPU", "processor": "x", "seconds": []},
        "published": [asdict(row) for row in published], "constant": constant, "text_encoders": ["MiniLM"],
    }  # fmt: skip


def test_the_table_of_emotions_has_the_means_and_each_beside_the_constant_and_what_is_published():
    task = TASKS["iemocap"][0]
    text = table_markdown.markdown(content(known(task), of("iemocap", task), dict.fromkeys(known(task), 0.25)))
    lines = text.splitlines()
    assert "|  | seeds | Accuracy | F1 | Weighted accuracy | AUC | Accuracy, validation |" in lines
    assert "| constant |  | 25.0 | 25.0 | 25.0 | 25.0 |  |" in lines
    assert "|  | default | constant | published: CorrKD | published: benchmark list, words alone |" in lines
    assert "| F1, sad | 50.0 | 25.0 | 86.70 | 68.70 |" in lines and "| Accuracy, sad | 50.0 | 25.0 |  |  |" in lines
    assert any(line.startswith("- CorrKD: Trained by the authors of CorrKD") for line in lines)
    assert "\nPublished figures of IEMOCAP come from other" in text and "(of the runs here: MiniLM):\n" in text
    assert "ublished" not in table_markdown.markdown(content(known(task), [], {}))


def test_the_table_of_a_data_set_has_them_as_rows():
    lines = table_markdown.markdown(content(known(Task()), of("mosi", Task()), {})).splitlines()
    head = next(line for line in lines if line.startswith("|  | seeds |")).split(" | ")
    (row,) = [line.split(" | ") for line in lines if line.startswith("| published: the paper |")]
    assert row[1] == "5" and row[head.index("MAE")] == ".713"
    assert row[head.index("F1, negative / positive")] == "85.95" and row[head.index("Acc-7")] == ""


def test_the_report_shows_them(tmp_path, monkeypatch):
    monkeypatch.setattr("selfmm_hf.evaluation.report.write.render", lambda panel: (b"", "<svg ></svg>"))
    page = report(tmp_path / "out", write_run(tmp_path / "run"))
    place = page.cells.index("published: the paper")
    assert page.cells[place + 1] == "0.713" and "0.8595" in page.cells[place : place + 9]
    assert page.cells.count("published: the paper") == 1  # beside the test split
    assert "10 seeds, all chosen on validation" in page.source and "this run" in page.cells
    page = report(tmp_path / "own", write_run(tmp_path / "custom", dataset="custom", label_range=3.0))
    assert "ublished" not in page.source.split('id="learning"')[0]


def test_the_report_of_emotions_has_them_in_a_table_of_their_own():
    task = TASKS["iemocap"][0]
    figures = {f"{split}_{name}": 0.5 for split in ("test", "validation") for name in known(task)}
    figures |= {f"test_constant_{name}": 0.25 for name in known(task)} | {"test_wa_chosen": 0.75}
    told = {"task": task_to_json(task), "best_epoch": 1, **figures}
    columns = dict.fromkeys(("id", "split", "label", "fusion", *MODALITIES))
    run = StoredRun(
        Path("run"), {"dataset": "iemocap"}, results=told | {"text_encoder": "/a/MiniLM"}, predictions=columns
    )
    figure = results([Group("", [run])])
    assert "(of the runs here: MiniLM): see the last table" in figure.text
    tables = {one.caption: one for one in figure.tables}
    one = tables["Test split, beside published figures"]
    assert list(one.head) == ["", "run", "constant", "published: CorrKD", "published: benchmark list, words alone"]
    assert ("F1, sad", "0.500", "0.250", "0.8670", "0.6870") in one.rows and len(one.rows) == 4
    assert list(tables["Test split"].head) == ["", "run", "constant"]
    validation = [row[0] for row in tables["Validation split"].rows]
    assert validation == ["F1", "Accuracy", "Weighted accuracy", "AUC"]  # thresholds are chosen there
    assert tables["Published figures of IEMOCAP"].rows[0][0] == "CorrKD"


def test_the_card_shows_them(tmp_path):
    text = ModelCard.load(save_model(tmp_path / "model") / "README.md").text
    assert "| published: the paper | 0.713 | 0.798 |" in text and "85.95" in text
    assert "\n- MMSA: The authors' later framework" in text and "\n\n\n" not in text
    text = ModelCard.load(save_model(tmp_path / "custom", dataset="custom") / "README.md").text
    assert "ublished figures" not in text


def test_folds_of_emer_have_them_beside_the_batches():
    rows = [asdict(one) for one in of("emer", BOTH)]
    pooled = {name: {"mean": 0.5, "sd": None} for name in known(BOTH)}
    one = {"seeds": [1111], "pooled": pooled, "batches": pooled, "constant": {}}
    text = folds.markdown({"folds": 5, "clips": 9, "configurations": {"base": one}, "missing": [], "published": rows})
    assert "|  | pooled | batches | constant | published: EMER |" in text
    assert "| MAE, arousal | .500 | .500 |  | .244 |" in text and 'column "batches"' in text
