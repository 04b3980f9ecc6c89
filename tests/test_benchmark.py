"""Sweeps: what is run, what goes on, what is refused, and the table of it."""

import csv
import io
import json
import re
import shutil
import signal
import subprocess
from pathlib import Path

import fresh
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import command, mmsa_file

import selfmm_cli as cli
from selfmm_hf.data import Samples
from selfmm_hf.data import synthetic as demo
from selfmm_hf.evaluation.sweep import SWEEPS, read_configurations, read_sweep
from selfmm_hf.evaluation.table import read_table
from selfmm_hf.evaluation.table_files import latex
from selfmm_hf.evaluation.table_markdown import markdown, mean
from selfmm_hf.runs import run as training
from selfmm_hf.runs.options import as_arguments, read_options
from selfmm_hf.runs.stored import StoredRun

SIZES = {"train": 30, "validation": 9, "test": 11}  # as in test_training.py, which need not be rendered twice
BASE = ["--config", "demo", "--num_train_epochs", "2", "--disable_tqdm", "true", "--use_cpu", "true"]
SAME_FILES = ("all_results.json", "predictions.parquet", "pseudo_labels.parquet", "model/model.safetensors")
# Kills itself when it is about to end its n-th checkpoint.
KILLED = f"""
import os, signal, sys
import selfmm_cli as cli
from selfmm_hf.training import checkpoints
from selfmm_hf.data import Samples, synthetic
synthetic.SIZES = {SIZES}
left, seal = int(sys.argv[1]), checkpoints.seal
def deadly(folder):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    seal(folder)
checkpoints.seal = deadly
cli.main(sys.argv[2:])
"""


@pytest.fixture(autouse=True)
def small_corpus(monkeypatch):
    monkeypatch.setattr(demo, "SIZES", SIZES)


def benchmark(*arguments):
    """Runs the command, and returns its exit status."""
    return command("benchmark", *arguments)


def sweep_file(folder, **configurations):
    file = folder / "two.yaml"
    file.write_text(yaml.safe_dump(configurations, sort_keys=False))
    return file


TWO = {"default": {}, "paper": {"convention": "paper", "learning_rates": {"heads.fusion": 0.003}}}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder of a sweep that nothing disturbed."""
    folder = tmp_path_factory.mktemp("sweep")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "SIZES", SIZES)
        assert (
            benchmark("run", "--sweep", sweep_file(folder, **TWO), "--seeds", 2, "--output_dir", folder / "out", *BASE)
            == 0
        )
    return folder / "out"


@pytest.fixture
def copy(done, tmp_path):
    shutil.copytree(done, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def refused(capsys):
    def run(*arguments) -> str:
        capsys.readouterr()
        assert benchmark(*arguments) == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    return run


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_sweep_leaves_a_folder_for_each_run(done):
    assert sorted(path.parent.relative_to(done).as_posix() for path in done.rglob("all_results.json")) == [
        "default/1111", "default/1112", "paper/1111", "paper/1112",
    ]  # fmt: skip
    for name, seed in (("default", 1112), ("paper", 1111)):
        results = json.loads((done / name / str(seed) / "all_results.json").read_text())
        assert (results["convention"], results["seed"]) == (name, seed)
        assert (done / name / str(seed) / "model" / "config.json").is_file()
    assert not list(done.rglob("checkpoint-*")), "they are for going on, and there is nothing to go on with"
    sweep = read_sweep(done)
    assert (sweep.seeds, sweep.first_seed, list(sweep.configurations)) == (2, 1111, ["default", "paper"])


def test_a_run_of_a_sweep_is_a_run_of_train(done, tmp_path):
    cli.main(["train", *BASE, *as_arguments(TWO["paper"]), "--seed", "1112", "--output_dir", str(tmp_path / "alone")])
    for name in SAME_FILES[:3]:
        assert (tmp_path / "alone" / name).read_bytes() == (done / "paper" / "1112" / name).read_bytes()


def test_what_it_was_computed_with_is_stored(done):
    stored = json.loads((done / "paper" / "1112" / "environment.json").read_text())
    (session,) = stored["sessions"]
    assert session["torch"] and session["processor"] and session["cores"] > 0 and session["seconds"] > 0
    assert re.fullmatch(r"\S+ \([0-9a-f]{8}\)", session["selfmm-hf"]) and session["device"].startswith("trained on")
    assert set(stored["data"]) == {"train", "validation", "test"}


def test_what_is_done_is_not_done_again(copy, monkeypatch, capsys):
    before = contents(copy)
    monkeypatch.setattr(training.Run, "train", None)
    assert benchmark("run", "--seeds", 2, "--sweep", sweep_file(copy.parent, **TWO), "--output_dir", copy, *BASE) == 0
    assert contents(copy) == before
    assert "0 of 4 runs to do" in capsys.readouterr().out


def test_the_table_is_rebuilt_without_training(done, monkeypatch, capsys):
    monkeypatch.setattr(training, "Run", None)
    cli.main(["benchmark", "table", str(done)])
    assert capsys.readouterr().out == (done / "table.md").read_text()


def test_what_the_table_says(done):
    table = read_table(done)
    for name in TWO:
        runs = [json.loads((done / name / str(seed) / "all_results.json").read_text()) for seed in (1111, 1112)]
        for split in ("validation", "test"):
            for metric, of in table["configurations"][name][split].items():
                values = [run[f"{split}_{metric}"] for run in runs]
                assert of["values"] == pytest.approx(values), metric
                if None not in values:
                    assert of["mean"] == pytest.approx(np.mean(values)) and of["sd"] == pytest.approx(
                        np.std(values, ddof=1)
                    )
        labels = table["configurations"][name]["generated_labels"]["generated_label_audio_mae"]["values"]
        assert labels == pytest.approx([run["generated_label_audio_mae"] for run in runs])
    compared = table["comparisons"]["paper"]["mae"]
    means = [table["configurations"][name]["test"]["mae"]["mean"] for name in ("paper", "default")]
    assert compared["difference"] == pytest.approx(means[0] - means[1])
    assert compared["bootstrap"][0] <= compared["difference"] <= compared["bootstrap"][1]
    text = (done / "table.md").read_text()
    assert "| default | 2 | " in text and "1111 to 1112" in text and "cannot be less than 0.5" in text
    validation = mean("mae", table["configurations"]["paper"]["validation"]["mae"])
    assert text.splitlines()[2].endswith("| MAE, validation |") and f"| {validation} |" in text.splitlines()[5]
    assert "11 clips of the test split" in text and "torch " in text and "a run." in text and "MISSING" not in text
    assert "| `y_m` itself | " in text and str(done) not in text
    assert max(map(len, text.splitlines())) < 600
    assert list(read_table(done, against="paper")["comparisons"]) == ["default"]
    conflict = table["configurations"]["paper"]["test"]["mae_conflict"]
    assert "| MAE, agreement | MAE, conflict | MAE, validation |" in text and f"| {mean('mae', conflict)} |" in text
    assert "Clips in conflict: their true unimodal labels differ by more than 1" in text


def test_tables_for_papers_and_other_programs(done, refused, capsys):
    table = read_table(done)
    capsys.readouterr()
    assert benchmark("table", done, "--csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    (one,) = [row for row in rows if (row["configuration"], row["split"], row["metric"]) == ("paper", "test", "mae")]
    found = table["configurations"]["paper"]["test"]["mae"]
    assert float(one["mean"]) == found["mean"] and float(one["sd"]) == found["sd"] and one["seeds"] == "2"
    assert [float(one["seed_1111"]), float(one["seed_1112"])] == found["values"]
    assert benchmark("table", done, "--latex") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith(r"\begin{tabular}{lcc") and lines[-1] == r"\end{tabular}"
    assert len({line.count("&") for line in lines if line.endswith(r"\\")}) == 1
    best = min(TWO, key=lambda name: table["configurations"][name]["test"]["mae"]["mean"])
    (row,) = [line for line in lines if line.startswith(f"{best} & ")]
    mae = mean("mae", table["configurations"][best]["test"]["mae"])
    assert r"\textbf{" + mae.replace("\u00b1", r"$\pm$") + "}" in row
    assert "take one of them" in refused("table", done, "--latex", "--csv")


def test_what_is_printed_alike_is_bold_alike_in_latex(done):
    table = read_table(done)
    first, second = (one["test"]["mae"] for one in table["configurations"].values())
    first["mean"], second["mean"] = 0.7001, 0.7004
    assert latex(table).count(r"\textbf{.700 ") == 2


def test_names_are_escaped_in_latex(done):
    table = read_table(done)
    table["configurations"] = {r"50%_a&b\c": table["configurations"]["paper"]}
    table["published"] = [{"name": "Self-MM", "seeds": 5, "metrics": {"mae": 0.713}}]
    text = latex(table)
    assert r"50\%\_a\&b\textbackslash{}c & " in text and r"\textbf" not in text
    assert re.search(r"(?m)^\\midrule\nSelf-MM & \.713 & .*\\\\$", text)


def test_runs_of_before_the_columns_of_conflict(copy):
    def forget(*names):
        for name in names:
            for file in copy.glob(f"{name}/*/all_results.json"):
                results = {key: of for key, of in json.loads(file.read_text()).items() if "conflict" not in key}
                file.write_text(json.dumps({key: of for key, of in results.items() if "agreement" not in key}))

    forget("default")
    lines = markdown(read_table(copy)).splitlines()
    (old,) = [line for line in lines if line.startswith("| default | 2 |")]
    assert " |  |  | " in old and not any(" |  |  | " in line for line in lines if line.startswith("| paper | 2 |"))
    forget("paper")
    assert "onflict" not in markdown(read_table(copy))


@pytest.mark.parametrize("limit", [3.0, 1.0])
def test_the_errors_of_clips_are_those_of_the_metric(limit):
    random = np.random.default_rng(0)
    predictions, labels = random.normal(0, 2, 40).astype(np.float32), random.uniform(-1, 1, 40).astype(np.float32)
    given = {"dataset": "mosi" if limit == 3 else "sims"}
    split = np.array(["test"] * 40, dtype=object)
    run = StoredRun(Path(), given, predictions={"split": split, "label": labels, "fusion": predictions})
    assert run.errors("test").mean() == pytest.approx(run.metrics("test")["mae"])


def test_more_seeds_and_configurations_are_added(copy, tmp_path):
    file = sweep_file(tmp_path, default={}, audio={"modalities": ["audio"], "unimodal_tasks": []})
    assert benchmark("run", "--sweep", file, "--seeds", 1, "--output_dir", copy, *BASE) == 0
    table = json.loads((copy / "table.json").read_text())
    assert {name: one["seeds"] for name, one in table["configurations"].items()} == {
        "default": [1111, 1112], "paper": [1111, 1112], "audio": [1111, 1112],
    }  # fmt: skip
    text = (copy / "table.md").read_text()
    assert "| audio | 2 |" in text and "looking several times" not in text
    assert benchmark("run", "--sweep", file, "--seeds", 3, "--output_dir", copy, *BASE) == 0
    assert "looking several times: there were 2, then 3 seeds" in (copy / "table.md").read_text()


def test_a_killed_sweep_ends_as_an_undisturbed_one(done, tmp_path):
    folder = tmp_path / "out"
    command = ["benchmark", "run", "--sweep", sweep_file(tmp_path, **TWO), "--seeds", 2, "--output_dir", folder, *BASE]
    arguments = map(str, [fresh.python(), "-c", KILLED, 4, *command])  # in the second run, which has one checkpoint
    killed = subprocess.run(list(arguments), capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-3000:]
    assert (folder / "default" / "1111" / "all_results.json").is_file()
    assert list((folder / "paper" / "1111").glob("checkpoint-*"))
    assert benchmark(*command[1:]) == 0
    for name in TWO:
        for seed in ("1111", "1112"):
            for file in SAME_FILES:
                assert (folder / name / seed / file).read_bytes() == (done / name / seed / file).read_bytes(), file
    one, other = (json.loads((path / "table.json").read_text()) for path in (folder, done))
    assert one["configurations"] == other["configurations"] and one["comparisons"] == other["comparisons"]
    sessions = json.loads((folder / "paper" / "1111" / "environment.json").read_text())["sessions"]
    assert [one["resumed_from"] for one in sessions] == [None, "checkpoint-1"] and sessions[0]["seconds"] is None


def test_a_run_that_fails_is_told_and_stops_no_other(tmp_path, capsys):
    folder = tmp_path / "out"
    good = sweep_file(tmp_path, good={"num_train_epochs": 1}, bad={"learning_rates": {"encoders.smell": 1}})
    assert benchmark("run", "--sweep", good, "--seeds", 1, "--output_dir", folder, *BASE) == 1
    printed = capsys.readouterr().out
    assert "bad, seed 1111: ValueError: No parameter of the model begins with" in printed
    assert "Traceback" in (folder / "bad" / "1111" / "failure.txt").read_text()
    text = (folder / "table.md").read_text()
    assert "MISSING: bad, seed 1111, failed: ValueError" in text and "| good | 1 |" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--learning_rate", "0.02"], "was started with learning_rate: the default, and cannot be resumed with 0.02"),
        (["--num_train_epochs", "3"], "started with num_train_epochs: 2.0"),
        (["--seed", "2000"], "started with seed: 1111, and cannot be resumed with 2000"),
        (["--seeds", "0"], "at least one seed"),
        (["--overwrite_output_dir", "true"], "cannot be set for many runs"),
        (["--push_to_hub", "true"], "cannot be set for many runs"),
        (["--learning_rat", "1"], "Did you mean --learning_rate"),
    ],
)
def test_runs_of_other_options_are_not_mixed_in(copy, refused, options, message):
    before = contents(copy)
    command = ["run", "--sweep", sweep_file(copy.parent, **TWO), "--seeds", 2, "--output_dir", copy, *BASE, *options]
    assert re.search(message, refused(*command))
    assert contents(copy) == before


def test_a_configuration_keeps_its_options(copy, refused):
    other = sweep_file(copy.parent, **{**TWO, "paper": {"convention": "official"}})
    assert "paper has the options" in refused("run", "--sweep", other, "--seeds", 2, "--output_dir", copy, *BASE)
    options = yaml.safe_load((copy / "paper" / "1112" / "options.yaml").read_text())
    (copy / "paper" / "1112" / "options.yaml").write_text(yaml.safe_dump({**options, "momentum": False}))
    one = sweep_file(copy.parent, **TWO)
    assert "1112 has momentum: False" in refused("run", "--sweep", one, "--seeds", 2, "--output_dir", copy, *BASE)


def test_runs_of_other_data_are_not_mixed_in(copy, refused, monkeypatch):
    monkeypatch.setattr(Samples, "fingerprint", lambda samples: "another")
    command = ["run", "--sweep", sweep_file(copy.parent, **TWO), "--seeds", 3, "--output_dir", copy, *BASE]
    assert "has other data: its train split" in refused(*command)


def test_a_sweep_over_data_of_the_same_clips(tmp_path, refused):
    options = ["--dataset", "mosi", "--modalities", "audio", "vision", "--num_train_epochs", 1, *BASE[4:]]
    one = mmsa_file(tmp_path / "one.pkl")
    two = mmsa_file(tmp_path / "two.pkl", audio=lambda rows: np.ones((rows, 4, 7), np.float32))
    other = mmsa_file(tmp_path / "other.pkl", id=lambda rows: [f"other{row}$_$1" for row in range(rows)])
    command = ["run", "--seeds", 1, "--output_dir", tmp_path / "out", *options, "--sweep"]
    files = {name: {"data": str(file)} for name, file in (("one", one), ("other", other))}
    assert "one and other have different clips" in refused(*command, sweep_file(tmp_path, **files))
    assert not (tmp_path / "out").exists()
    files = {name: {"data": str(file)} for name, file in (("one", one), ("two", two))}
    for _ in range(2):  # the second time, it goes on with what is done
        assert benchmark(*command, sweep_file(tmp_path, **files)) == 0
    assert "| two | 1 |" in (tmp_path / "out" / "table.md").read_text()
    shutil.copy(two, one)
    assert "other data: its train split" in refused(*command, sweep_file(tmp_path, **files))


def spoil_options(run):
    options = yaml.safe_load((run / "options.yaml").read_text())
    (run / "options.yaml").write_text(yaml.safe_dump({**options, "weight_decay": 0.3}))


def spoil_labels(run):
    table = pq.read_table(run / "predictions.parquet").to_pylist()
    table[-1]["label"] += 0.2
    pq.write_table(type(pq.read_table(run / "predictions.parquet")).from_pylist(table), run / "predictions.parquet")


def spoil_seed(run):
    shutil.rmtree(run)
    shutil.copytree(run.parent / "1111", run)


def spoil_data(run):
    stored = json.loads((run / "environment.json").read_text())
    stored["data"]["train"] = "0" * 64
    (run / "environment.json").write_text(json.dumps(stored))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_options, "has weight_decay: 0.3, others have 0.0001"),
        (spoil_labels, "have different clips"),
        (spoil_data, "have different data"),
        (spoil_seed, "has the seed 1111"),
    ],
)
def test_a_table_of_different_things_is_refused(copy, refused, spoil, message):
    spoil(copy / "paper" / "1112")
    assert message in refused("table", copy)


def test_a_table_tells_what_is_missing(copy, capsys):
    shutil.rmtree(copy / "paper" / "1112")
    cli.main(["benchmark", "table", str(copy)])
    text = capsys.readouterr().out
    assert "MISSING: paper, seed 1112, not begun" in text
    assert "% MISSING: paper, seed 1112, not begun" in latex(read_table(copy)).splitlines()
    assert "| paper | 1 |" in text and re.search(r"\| paper \| 1 \| [+-]\.\d+ \| - \| 1\.000 \|", text)


def test_folders_that_are_something_else(tmp_path, refused):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert "is not empty" in refused("run", "--output_dir", tmp_path, *BASE)
    assert "holds no sweep" in refused("table", tmp_path)
    assert "no run" not in refused("table", tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "must hold configurations"),
        ("a: 3\n", "must be a map of options"),
        ("a/b: {}\n", "names a folder"),
        ("a: {seed: 3}\n", "sets seed"),
        ("a: {output_dir: x}\n", "sets output_dir"),
        ("a: {conventoin: paper}\n", "a: .*Did you mean --convention"),
        ("a: {convention: papers}\n", "a: convention must be one of"),
        ("a: {\n", "is not YAML"),
        (None, "no sweep file .*ablation, context, conventions, modalities, pooling"),
    ],
)
def test_sweep_files_that_are_wrong(tmp_path, refused, text, message):
    file = tmp_path / "sweep.yaml"
    if text is not None:
        file.write_text(text)
    assert re.search(message, refused("run", "--sweep", file, "--output_dir", tmp_path / "out", *BASE))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", SWEEPS)
@pytest.mark.parametrize("preset", ["mosi", "sims"])
def test_the_sweeps_that_come_along_fit_every_preset(name, preset):
    configurations = read_configurations(name)
    assert next(iter(configurations.items())) == ("default", {}), "what the others are compared with"
    for options in configurations.values():
        read_options(["--config", preset, "--use_cpu", *as_arguments(options)])
    assert len({json.dumps(one, sort_keys=True) for one in configurations.values()}) == len(configurations)


def test_the_ablation_is_that_of_the_paper():
    tasks = [one.get("unimodal_tasks") for one in read_configurations("ablation").values()]
    modalities = {"T": "text", "A": "audio", "V": "vision"}
    names = [name for name in read_configurations("ablation") if re.fullmatch("M(-[TAV])*", name)]
    assert len(names) == 7  # with `default`, all subsets
    for name in names:
        assert read_configurations("ablation")[name] == {"unimodal_tasks": [modalities[m] for m in name[2::2]]}
    assert tasks[0] is None
