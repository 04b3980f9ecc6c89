"""Every benchmark runs, at its smallest size, and prints its table; what it measures is not looked at."""

import importlib
import json
import os
import re
import runpy
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import fresh
import numpy as np
import pytest
import torch
from conftest import mmsa_file
from transformers import BertConfig, BertModel, BertTokenizerFast
from transformers.utils import logging

from selfmm_hf.data import load_splits
from selfmm_hf.labels import pseudo_labels
from selfmm_hf.labels.conventions import CONVENTIONS
from selfmm_hf.model.task_selfmm import Task

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"
# Run by other tests: kill_and_resume in test_checkpoints, parity in test_parity, the others in test_label_family.
ELSEWHERE = {"kill_and_resume", "parity", "corpora", "crema_d"}
# The others run as they are called.
IN_THIS_PROCESS = {
    "emotion_labels",
    "generated_labels",
    "label_ablation",
    "label_family",
    "label_rules",
    "data_preparation",
}


def run(name, *arguments, statuses=(0,)):
    command = [fresh.python(), BENCHMARKS / f"{name}.py", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode in statuses and "Traceback" not in done.stderr, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A text encoder that knows the words of the generated files."""
    sys.path.insert(0, str(BENCHMARKS))
    from data_preparation import WORDS

    folder = tmp_path_factory.mktemp("encoder")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    BertTokenizerFast(vocab={token: number for number, token in enumerate(vocabulary)}).save_pretrained(folder)
    config = BertConfig(vocab_size=20000, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
                        intermediate_size=9, max_position_embeddings=60)  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


def reference():
    """A checkout of the official code, which is not ours to bring along."""
    if "SELF_MM_CHECKOUT" not in os.environ:
        pytest.skip("needs a checkout of thuiar/Self-MM, named by the variable SELF_MM_CHECKOUT")
    return Path(os.environ["SELF_MM_CHECKOUT"])


def test_all_of_them_are_here():
    tested = set(re.findall(r"run\(\s*\"(\w+)\"", Path(__file__).read_text("utf-8"))) | IN_THIS_PROCESS
    assert tested | ELSEWHERE == {file.stem for file in BENCHMARKS.glob("*.py")}


def test_startup(model_folder):
    printed = run("startup", "--model", model_folder, "--repeats", 1, statuses=(0, 1))
    assert len(re.findall(r"(?m)^selfmm .* s of a core .* s by the clock$", printed)) == 4


def test_padded_sounds():
    printed = run("padded_sounds", "--layers", 1, "--sounds", 2)
    assert len(re.findall(r"(?m)^\| .+ \| \d+\.\d+ \| \d+\.\d+ \| \d+\.\d+ \| \d+\.\d+ \|$", printed)) == 4


def test_extras():
    pytest.importorskip("packaging")
    rows = re.findall(r"(?m)^\| `(\w+)` \| .+? \| (\d+) \| \d+ \|", run("extras"))
    assert {"clips", "onnx", "plots"} <= {name for name, packages in rows if int(packages)}


def test_training_speed(encoder):
    small = ["--rows", 8, "--test_rows", 2, "--batch", 2, "--accumulation", 2, "--repetitions", 1, "--threads", 1]
    beside = ["--beside", "text_pooling=mean", "context_utterances=1", "max_text_tokens=20"]
    printed = run("training_speed", "--text_encoder", encoder, *small, *beside)
    rows = [rf"\n{name} +\d+\.\d\d .*" for name in ("selfmm", "limit", "text_pooling=mean .*")]
    assert re.search("".join(rows), printed)


def test_official_and_training_speed_beside_it(encoder, tmp_path):
    checkout = reference()
    small = ["--rows", 8, "--test_rows", 2, "--batch", 2, "--accumulation", 2, "--repetitions", 1, "--threads", 1]
    printed = run("training_speed", "--text_encoder", encoder, "--reference", checkout, *small, statuses=(0, 1))
    assert "training, official / selfmm:" in printed
    from data_preparation import MOSI, write_file

    write_file(tmp_path / "file.pkl", {"train": 8, "valid": 4, "test": 4}, MOSI)
    options = ["--data_file", tmp_path / "file.pkl", "--feature_dims", 5, 20, "--seeds", 1111]
    assert "MAE" in json.loads(run("official", "--reference", checkout, "--text_encoder", encoder, *options))


def test_record_parity(tmp_path):
    """The recording in `tests/parity` is what the script writes, but for rounding, on any machine."""
    run("record_parity", "--reference", reference(), "--out", tmp_path)
    recorded = Path(__file__).parent / "parity"
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in recorded.iterdir()}
    with np.load(tmp_path / "inputs.npz") as made, np.load(recorded / "inputs.npz") as kept:
        assert all(np.array_equal(made[name], kept[name]) for name in (*made, *kept))
    assert "parity: all within tolerance" in run("parity", tmp_path)


def test_input_pipeline(encoder):
    printed = run("input_pipeline", "--text_encoder", encoder, "--rows", 16, "--repetitions", 1, "--threads", 1)
    assert [line.split()[0] for line in printed.splitlines()[-3:]] == ["mosi", "mosei", "sims"]


def test_label_bookkeeping():
    printed = run("label_bookkeeping", "--repetitions", 1, "--sizes", 100, 200)
    assert [line.split()[0] for line in printed.splitlines()[-2:]] == ["100", "200"]


class Here:
    """In the place of a pool of processes, each of which would import everything anew."""

    def __init__(self, workers, context, *_):
        assert workers == 2

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    map = staticmethod(map)


@pytest.mark.parametrize(
    ("name", "chosen"),
    [("generated_labels", ["--conventions", "default", "paper"]), ("label_ablation", ["--ablations", "no momentum"])],
)
def test_benchmarks_of_the_labels(name, chosen, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import generated_labels

    monkeypatch.setattr(generated_labels, "ProcessPoolExecutor", Here)
    small = ["--seeds", "2", "--sizes", "30", "9", "11", "--epochs", "1", "2"]  # a corpus that other tests render too
    monkeypatch.setattr(sys, "argv", [name, *small, *chosen])
    verbosity = logging.get_verbosity()
    if name == "generated_labels":
        generated_labels.main()
    else:
        runpy.run_path(str(BENCHMARKS / "label_ablation.py"), run_name="__main__")
    logging.set_verbosity(verbosity)
    printed = capsys.readouterr().out
    assert f"{chosen[-1]}, 2 seeds" in printed and "labels, epoch 2" in printed and "fused MAE, test split" in printed


def test_benchmark_of_the_labels_on_a_family_of_corpora(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import generated_labels
    import label_family

    monkeypatch.setattr(generated_labels, "ProcessPoolExecutor", Here)
    small = ["--seeds", "1", "--clips", "15", "--epochs", "2", "--corpora", "lacking", "one_sided"]
    small += ["--conventions", "default", "official", "none"]
    monkeypatch.setattr(sys, "argv", ["label_family", *small])
    with pytest.raises(SystemExit) as exit_info:
        label_family.main()
    printed = capsys.readouterr().out
    rows = re.findall(
        r"(?m)^(lacking|one_sided) +(default|official) +(text|audio|vision)(?: +-?\d\.\d{3}/\d\.\d{3}){4} +\d\.\d{3}",
        printed,
    )
    assert len(set(rows)) == 12
    assert len(re.findall(r"(?m)^(?:lacking|one_sided) +none +.* nan", printed)) == 6
    assert re.search(r"(?m)^none: fused error [+-]\d\.\d{4} \(.* to .*\) against default$", printed)
    harmed, behind = map(int, re.search(r"default: of 6 cells, (\d) worse .*, (\d) behind", printed).groups())
    assert exit_info.value.code == int(harmed + behind > 0)
    of_default = [line for line in printed.splitlines() if re.match(r"\w+ +default ", line)]
    assert (harmed, behind) == tuple(sum(mark in line for line in of_default) for mark in ("worse than y_m", "behind"))


def test_benchmark_of_the_labels_of_emotions(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import emotion_labels

    monkeypatch.setattr(emotion_labels, "ProcessPoolExecutor", Here)
    small = ["--seeds", "1", "--share", "0.05", "--epochs", "2", "--corpora", "two", "emotions", "affect"]
    monkeypatch.setattr(sys, "argv", ["emotion_labels", *small])
    verbosity = logging.get_verbosity()
    emotion_labels.main()
    logging.set_verbosity(verbosity)
    logging.enable_progress_bar()
    rows = re.findall(
        r"(?m)^(two|emotions|affect) +(default|official|y_m) +(text|audio|vision)(?: +-?\d\.\d{3}/-?\d\.\d{3}){3} ",
        capsys.readouterr().out,
    )
    assert len(set(rows)) == 27


def test_what_the_ablation_puts_in_the_place_of_others_is_there(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    steps = runpy.run_path(str(BENCHMARKS / "label_ablation.py"))["ABLATIONS"].values()
    places = [place for step in steps if isinstance(step, dict) for place in step]
    assert len(places) == 10
    for module, _, name in (f"selfmm_hf.{place}".rpartition(".") for place in places):
        assert callable(getattr(importlib.import_module(module), name))


def test_label_rules(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import label_rules

    monkeypatch.setattr("generated_labels.ProcessPoolExecutor", Here)
    said, *given = next(label_rules.untrained(1))
    labels, positions, fusion = (torch.from_numpy(one).float().unsqueeze(-1) for one in given)
    for rule in label_rules.RULES:
        history = label_rules.replay(rule, [(positions, fusion)] * 14, labels, 3.0)
        assert history.shape == (15, *said.shape) and np.isfinite(history).all()
    monkeypatch.setattr(sys, "argv", ["label_rules.py", "--corpora", "few", "--epochs", "3", "--untrained", "2"])
    label_rules.main()
    shown = re.findall(r"(?m)^.{36} +\d +\d +0\.\d{3}/\d\.\d{3} +\d of 6, at worst", capsys.readouterr().out)
    assert len(shown) == len(label_rules.RULES) == 10


def test_replayed_labels_of_the_default_rule_are_those_of_the_run(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import label_rules

    _, *given = next(label_rules.untrained(1))
    labels, positions, fusion = (torch.from_numpy(one).float().reshape(len(given[0]), -1) for one in given)
    recorded, rule = [], pseudo_labels.calibrated_labels
    monkeypatch.setattr(pseudo_labels, "calibrated_labels", lambda *one: recorded.append(one[:2]) or rule(*one))
    widths = {"fusion": 1, "text": 1, "audio": 1, "vision": 1}
    state = pseudo_labels.PseudoLabels(labels, widths, CONVENTIONS["default"], Task())
    index, every = torch.arange(len(labels)), torch.ones(len(labels), dtype=torch.bool)
    for epoch in range(1, 17):
        said = dict(zip(widths, torch.cat([fusion, positions], 1).split(1, 1), strict=True))
        state.update(index, said, {name: every for name in state.modalities}, epoch)
        state.end_epoch(epoch)
    replayed = torch.from_numpy(label_rules.replay("default", recorded, labels, 3.0))
    assert torch.equal(replayed, torch.stack(state.history).squeeze(-1))
    assert not torch.equal(replayed[-1], replayed[0])


def test_the_default_rule_helps_on_corpora_of_many_kinds_and_harms_nearly_none(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import label_rules

    corpora = list(label_rules.untrained(60))
    gained, of_errors = (
        np.concatenate([label_rules.gains(rule, *one) for one in corpora])
        for rule in ("default", "noise: in the errors alone")
    )
    assert (gained < -label_rules.HARM).any(1).sum() <= 1 and gained.min() > -0.05
    assert (gained.mean(0) > 0.027).all() and (gained.mean(0) > 2 * of_errors.mean(0)).all()


def test_clip_to_prediction(model_folder):
    clip = next((ROOT / "spaces_demo" / "examples").glob("*.mp4"))
    printed = run("clip_to_prediction", clip, "--model", model_folder, "--repeats", 1, statuses=(0, 1))
    assert "the pipeline as a whole" in printed


def test_clip_edges(model_folder, tmp_path):
    models = ["--last", model_folder, "--mean", model_folder]
    few = ["1 s of silence and a still after", "no face in the first half"]
    printed = run("clip_edges", *models, "--clips", 1, "--changes", *few, "--out", tmp_path / "edges.csv")
    assert printed.startswith("2 changed clips") and printed.count("| 1 s of silence and a still after | ") == 3
    assert len((tmp_path / "edges.csv").read_text("utf-8").splitlines()) == 1 + 2 * 3 * 3


def test_clip_memory():
    clip = next((ROOT / "spaces_demo" / "examples").glob("*.mp4"))
    printed = run("clip_memory", clip, "--seconds", 1, 2)
    assert re.search(r"\n       2 +\d+ .*\nfrom 1 s to 2 s: -?\d", printed)


def test_inference(encoder, tmp_path):
    pytest.importorskip("onnxruntime")
    import selfmm_cli as cli

    options = ["--dataset", "mosi", "--data", mmsa_file(tmp_path / "file.pkl"), "--text_encoder", encoder]
    small = ["--num_train_epochs", 1, "--use_cpu", "true", "--disable_tqdm", "true", "--report_to", "none"]
    cli.main(["train", *map(str, [*options, *small, "--output_dir", tmp_path / "run"])])
    printed = run("inference", tmp_path / "run", "--threads", 1, "--batches", 2, "--repetitions", 1)
    assert re.search(r"\nONNX int8 +\d", printed)


def test_data_preparation(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import data_preparation

    measure = data_preparation.measure

    def here(name, arguments, folder):
        """As `measure`, without the imports of another process for each step."""
        if name == "generate":
            return measure(name, arguments, folder)
        monkeypatch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
        paths = {"file": folder / "file.pkl", "prepared": folder / "prepared", "few": folder / "few"}
        rows = {"train": 40, "valid": 4, "test": 4}
        args = data_preparation.argparse.Namespace(dataset=arguments[1], rows=rows, **paths)
        started = time.perf_counter()
        facts = data_preparation.STEPS[name][0](args)
        return data_preparation.Measured(time.perf_counter() - started, 0, 0, facts)

    monkeypatch.setattr(data_preparation, "measure", here)
    for dataset in ("mosei", "iemocap"):
        options = ["--dataset", dataset, "--rows", "40", "4", "4", "--folder", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", ["data_preparation.py", *options])
        with pytest.raises(SystemExit) as exit_info:
            data_preparation.main()
        printed = capsys.readouterr().out
        assert exit_info.value.code == 0 and printed.endswith("all met\n"), printed
        assert ("one epoch of training" in printed) is (dataset == "mosei") and "load_splits" in printed


def test_ray_cluster():
    pytest.importorskip("ray")
    # As many processes as there are cores: those that read the table must not wait for them.
    parts = ["speed", "node", "command", "rows"] if os.environ.get("SELFMM_TEST_RAY") else ["speed"]
    printed = run("ray_cluster", "--clips", 6, "--workers", 2, "--repeats", 1, "--rows", 30, "--parts", *parts)
    assert ("30 rows: the first after " in printed) == ("rows" in parts)
    assert "2 processes, Ray: 5 clips after" in printed and "largest difference of a feature: 0" in printed


def test_gpu():
    printed = run("gpu", "--device", "cpu", "--rows", 16, "--agree_rows", 16, "--layers", 1, "--epochs", 2,
                  "--clips", 1)  # fmt: skip
    assert (
        "float32:" in printed
        and "pictures per second" in printed
        and 'CPU, largest difference: {"loss": 0.0, "label": 0.0, "centre": 0.0}' in printed
    )


def test_many_utterances():
    printed = run("many_utterances", "--utterances", "40")
    assert re.findall(r"(?m)^ +40 +\d+  (data inspect|train)(?: +[\d,]+){3}$", printed) == ["data inspect", "train"]


def test_rated_sentences(tmp_path):
    made = tmp_path / "hutto_ICWSM_2014"
    made.mkdir()
    for name, count in (("movieReview", 1502), ("amazonReview", 2), ("nytEditorial", 1)):
        lines = [f"{row}\t-2.0\tA \u201cgood\u201d film, {row}.\r\n" for row in range(count)]
        (made / f"{name}Snippets_GroundTruth.txt").write_text("".join(lines), "utf-8", newline="")
    (made / "tweets_GroundTruth.txt").write_text("5_1\t4.0\ta\tb\n", "utf-8")
    with tarfile.open(tmp_path / "archive.tar.gz", "w:gz") as archive:
        archive.add(made, made.name)
    assert "1506 sentences, 6 of them for training" in run(
        "rated_sentences", tmp_path / "archive.tar.gz", "--out", tmp_path / "out"
    )
    splits = load_splits("custom", str(tmp_path / "out"))
    assert [len(splits[name]) for name in ("train", "validation", "test")] == [6, 1000, 500]
    assert splits["train"]["text"][-1] == "a\tb" and splits["train"].labels.tolist() == [-1.5] * 5 + [3.0]
