"""The module of `evaluate`, loaded offline from its folder, against `metrics.py`; and the page in that folder."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import CommitOperationAdd

from selfmm_hf import metrics
from selfmm_hf.metrics import mosi_metrics, sims_metrics
from selfmm_hf.model.task_selfmm import Task
from selfmm_hf.task_metrics import metrics_of

FOLDER = Path(__file__).parents[1] / "hub_configs" / "metrics" / "multimodal_sentiment"
METRICS = {"mosi": mosi_metrics, "sims": sims_metrics}
NAMES = pytest.mark.parametrize("name", METRICS)


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """Loads a configuration from the folder, as a stranger does."""
    evaluate = pytest.importorskip("evaluate", reason="needs evaluate: pip install 'selfmm-hf[evaluate]'")
    cache = tmp_path_factory.mktemp("evaluate")

    def from_folder(name=None, **options):
        return evaluate.load(str(FOLDER), name, cache_dir=str(cache), **options)

    return from_folder


@pytest.fixture
def address(tmp_path):
    """Of the page, served from a copy of its folder alone."""
    pytest.importorskip("gradio", minversion="6.0", reason="needs gradio 6: pip install 'selfmm-hf[demo]'")
    folder = shutil.copytree(FOLDER, tmp_path / "space")
    environment = os.environ | {"GRADIO_SERVER_NAME": "127.0.0.1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "app.py"]
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield next(found[0] for line in server.stdout if (found := re.search(r"http://[\d.:]+", line)))
        finally:
            server.terminate()


def scores(size, limit, seed, dtype=np.float32):
    """Predictions, some of which are out of range, and labels in steps, some of which are limits of classes."""
    random = np.random.default_rng(seed)
    steps = random.integers(-10, 11, size) * limit / 10
    return random.normal(scale=limit, size=size).astype(dtype), steps.astype(dtype)


def same(found, expected):
    """To the last digit; NaN is NaN."""
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name] == value or (math.isnan(found[name]) and math.isnan(value)), name


def test_recorded_cases(load, shared):
    cases = json.loads((shared / "parity" / "metrics_cases.json").read_text(encoding="utf-8"))["cases"]
    modules = {name: load(name) for name in METRICS}
    for case in cases:
        name = "sims" if case["dataset"] == "sims" else "mosi"
        found = modules[name].compute(predictions=case["pred"], references=case["true"])
        same(found, METRICS[name](case["pred"], case["true"]))


@NAMES
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 7, 1001])
def test_random_scores(load, name, dtype, size):
    predictions, labels = scores(size, limit=3.0 if name == "mosi" else 1.0, seed=size, dtype=dtype)
    module, expected = load(name), METRICS[name](predictions, labels)
    same(module.compute(predictions=predictions, references=labels), expected)
    same(module.compute(predictions=predictions.tolist(), references=labels.tolist()), expected)


@NAMES
def test_pieces(load, name):
    predictions, labels = scores(1001, limit=1.0, seed=1)
    module = load(name)
    for start in range(0, 1001, 32):
        piece = slice(start, start + 32)
        module.add_batch(predictions=predictions[piece], references=labels[piece])
    same(module.compute(), METRICS[name](predictions, labels))
    for prediction, label in zip(predictions[:9], labels[:9], strict=True):
        module.add(prediction=prediction, reference=label)
    same(module.compute(), METRICS[name](predictions[:9], labels[:9]))


def test_of_two_processes_the_first_computes(load):
    predictions, labels = scores(101, limit=3.0, seed=2)

    def process(rank):
        module = load("mosi", num_process=2, process_id=rank, experiment_id="test")
        half = slice(60) if rank == 0 else slice(60, None)
        module.add_batch(predictions=predictions[half], references=labels[half])
        return module.compute()

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(process, range(2))
    same(first, mosi_metrics(predictions, labels))
    assert second is None


def test_combined_with_others(load):
    evaluate = pytest.importorskip("evaluate")
    predictions, labels = scores(50, limit=1.0, seed=3)
    both = evaluate.combine({name: load(name) for name in METRICS})
    found = both.compute(predictions=predictions, references=labels)
    expected = {name: of(predictions, labels) for name, of in METRICS.items()}
    assert found["acc_7"] == expected["mosi"]["acc_7"] and found["acc_3"] == expected["sims"]["acc_3"]
    assert found["mosi_mae"] == expected["mosi"]["mae"] and found["sims_mae"] == expected["sims"]["mae"]


@pytest.mark.parametrize(
    "task",
    [
        Task(("valence", "arousal"), "regression", ((-1.0, 1.0), (1.0, 5.0))),
        Task(("pleasure",), "regression", ((1.0, 9.0),)),
        Task(("happy", "sad", "angry"), "multi_label_classification"),
        Task(("joy", "fear", "none"), "single_label_classification"),
    ],
    ids=lambda task: "_".join(task.names),
)
def test_other_tasks_have_the_numbers_of_a_training(load, task):
    random, count = np.random.default_rng(4), len(task.names)
    predictions = random.normal(size=(101, count)).astype(np.float32)
    labels = random.normal(size=(101, count)).astype(np.float32)
    if task.problem_type != "regression":
        predictions, labels = task.predictions(torch.from_numpy(predictions)).numpy(), (labels > 0).astype(np.float32)
    if task.problem_type == "single_label_classification":
        labels = random.integers(0, count, 101)
    module, expected = load(task.problem_type), metrics_of(task, predictions, labels)
    same(module.compute(predictions=predictions, references=labels, names=task.names), expected)
    same(module.compute(predictions=predictions.tolist(), references=labels.tolist(), names=list(task.names)), expected)
    if count == 1:
        same(module.compute(predictions=predictions[:, 0], references=labels[:, 0], names=task.names), expected)
    if task.problem_type == "single_label_classification":
        hot = np.eye(count)[labels]
        same(module.compute(predictions=predictions, references=hot, names=task.names), expected)
    for piece in (slice(60), slice(60, None)):
        module.add_batch(predictions=predictions[piece], references=labels[piece])
    same(module.compute(names=task.names), expected)


def test_names_are_of_other_tasks(load):
    module = load("multi_label_classification")
    with pytest.raises(ValueError, match=r"as in compute\(..., names="):
        module.compute(predictions=[[0.5, 0.1]], references=[[1, 0]])
    with pytest.raises(ValueError, match=r"must have shape \(n, 3\), for a, b, c; got \(1, 2\)"):
        load("multi_label_classification").compute(predictions=[[0.5, 0.1]], references=[[1, 0]], names=["a", "b", "c"])
    with pytest.raises(ValueError, match="mosi is one score, which needs no names"):
        load("mosi").compute(predictions=[0.5], references=[1.0], names=["a"])


@pytest.mark.parametrize("name", [None, "mosie"])
def test_configurations_are_named(load, name):
    with pytest.raises(ValueError, match=f"Name one of mosi, sims, .*got '{name or 'default'}'"):
        load(name)


@pytest.mark.parametrize(
    ("predictions", "labels", "message"),
    [
        ([1.0, 2.0], [1.0], r"number of predictions \(2\) and references \(1\)"),
        ([1.0, math.nan], [1.0, 0.0], "predictions hold 1 values that are NaN or infinite .* first at position 1"),
        ([1.0], [math.inf], "labels hold 1 values"),
        ([], [], "predictions are empty"),
        ([[1.0, 2.0]], [1.0], "don't match the expected format"),
        (["much"], [1.0], "'much'"),
    ],
)
def test_wrong_input(load, predictions, labels, message):
    with pytest.raises(ValueError, match=message):
        load("mosi").compute(predictions=predictions, references=labels)


def test_the_same_file_computes_and_is_uploaded():
    file = FOLDER / "metrics.py"  # a copy, because links break on Windows
    ours = Path(metrics.__file__).read_bytes()
    assert file.read_bytes() == ours, "cp src/selfmm_hf/metrics.py hub_configs/metrics/multimodal_sentiment/"
    upload = CommitOperationAdd(path_in_repo="metrics.py", path_or_fileobj=file)
    assert upload.upload_info.size == Path(metrics.__file__).stat().st_size
    with upload.as_file() as content:
        assert content.read() == Path(metrics.__file__).read_bytes()


def test_the_page_over_its_api(address, tmp_path):
    client_of = pytest.importorskip("gradio_client")
    client = client_of.Client(address, verbose=False, download_files=str(tmp_path))
    try:
        for name, of in METRICS.items():
            table = client.predict(name, "1, 0.5\n-2", "0.5;0.25 -1", api_name="/compute")
            expected = of([1.0, 0.5, -2.0], [0.5, 0.25, -1.0])
            assert table.splitlines()[2:] == [f"| {metric} | {value:.4f} |" for metric, value in expected.items()]
        with pytest.raises(Exception, match="labels: &#x27;x&lt;y&#x27; is no number"):
            client.predict("mosi", "1 2", "1 x<y", api_name="/compute")
        with pytest.raises(Exception, match="got 2 predictions but 1 labels"):
            client.predict("mosi", "1 2", "1", api_name="/compute")
    finally:
        client.close()
