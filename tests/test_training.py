import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import fresh
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import mmsa_file
from transformers import AutoModel, AutoProcessor, BertConfig, BertModel

import selfmm_cli as cli
from selfmm_hf import SelfMMModel
from selfmm_hf.data import synthetic as demo
from selfmm_hf.labels.quality import generated_label_quality
from selfmm_hf.metrics import mosi_metrics
from selfmm_hf.model.task_selfmm import Task
from selfmm_hf.runs.folder import checkpoint_of
from selfmm_hf.runs.options import read_options
from selfmm_hf.runs.run import Run
from selfmm_hf.runs.stored import StoredRun

ROOT = Path(__file__).resolve().parents[1]
DEMO = ["--config", str(ROOT / "hub_configs" / "demo.yaml"), "--disable_tqdm", "true", "--use_cpu", "true"]


SIZES = {"train": 30, "validation": 9, "test": 11}


@pytest.fixture(autouse=True)
def small_corpus(monkeypatch):
    monkeypatch.setattr(demo, "SIZES", SIZES)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of three epochs with all of its checkpoints, to be copied."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "SIZES", SIZES)
        train("--output_dir", folder, "--save_total_limit", 3)
    return folder


@pytest.fixture
def run(trained, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def train(*options):
    cli.main(["train", *DEMO, "--num_train_epochs", "3", *map(str, options)])


def refused(capsys, *options) -> str:
    """The one line with which the command refuses."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_info:
        cli.main(["train", *map(str, options)])
    assert exit_info.value.code == 2
    printed = capsys.readouterr().err.strip().splitlines()
    assert [line for line in printed if line.startswith("selfmm: error: ")] == printed[-1:], printed
    return printed[-1]


@pytest.fixture
def encoder(tmp_path):
    """A saved text encoder with the corpus's tokenizer."""
    tokenizer = demo.demo_tokenizer()
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
                        intermediate_size=9, max_position_embeddings=20)  # fmt: skip
    BertModel(config).save_pretrained(tmp_path / "encoder")
    tokenizer.save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


def test_a_run_leaves_everything_it_promises(tmp_path, capsys):
    folder = tmp_path / "run"
    train("--output_dir", folder)
    lines = capsys.readouterr().out.splitlines()
    epochs = [line for line in lines if "validation loss" in line]
    assert [line.split()[:4] for line in epochs] == [["epoch", str(epoch), "of", "3"] for epoch in (1, 2, 3)]
    assert epochs[0].endswith("  best") and "MAE " in epochs[0] and not any("{" in line for line in lines)
    assert re.fullmatch(rf"The validation split chose the model of epoch \d of 3. Everything is in {folder}", lines[-1])
    results = json.loads((folder / "all_results.json").read_text())
    assert (results["convention"], results["seed"], results["epochs"]) == ("default", 1111, 3)

    corpus = demo.demo_corpus()
    table = pq.read_table(folder / "predictions.parquet")
    assert table.column_names == ["id", "split", "label", "fusion", "text", "audio", "vision"]
    rows = table.to_pylist()
    expected = [(sample["id"], split, sample["label"]) for split, samples in corpus.items() for sample in samples]
    assert [(row["id"], row["split"]) for row in rows] == [one[:2] for one in expected]
    assert [row["label"] for row in rows] == pytest.approx([one[2] for one in expected])
    assert not any(name.startswith("train_") for name in results)
    test = [row for row in rows if row["split"] == "test"]
    metrics = mosi_metrics([row["fusion"] for row in test], [row["label"] for row in test])
    assert {name: results[f"test_{name}"] for name in metrics} == pytest.approx(metrics, nan_ok=True)
    truth = np.array([[sample[f"label_{name}"] for name in ("text", "audio", "vision")] for sample in corpus["test"]])
    apart = np.ptp(truth, axis=1) > 1
    errors = np.array([abs(row["fusion"] - row["label"]) for row in test])
    assert results["conflict_by"] == "labels" and results["test_conflict_share"] == pytest.approx(apart.mean())
    found = [results["test_mae_conflict"], results["test_mae_agreement"]]
    assert found == pytest.approx([errors[apart].mean(), errors[~apart].mean()])
    confidence = results["label_confidence"]
    assert list(confidence) == ["text", "audio", "vision"] and all(len(one) == 3 for one in confidence.values())
    assert {one[0] for one in confidence.values()} == {0.0}  # in the first epoch no label is corrected

    labels = pq.read_table(folder / "pseudo_labels.parquet").to_pylist()
    assert len(labels) == 3 * 30 and {row["epoch"] for row in labels} == {1, 2, 3}
    first = {row["id"]: row for row in labels if row["epoch"] == 1}
    for sample in corpus["train"]:  # in the first epoch every label is the fused one, which shows whose it is
        row = first[sample["id"]]
        assert [row[name] for name in ("label", "text", "audio", "vision")] == pytest.approx([sample["label"]] * 4)

    model = AutoModel.from_pretrained(folder / "model")
    processor = AutoProcessor.from_pretrained(folder / "model")
    for row, sample in zip(test, corpus["test"].with_format("numpy"), strict=True):
        clip = {name: sample[name] for name in ("audio", "vision")}
        with torch.no_grad():
            output = model(**processor(clip, str(sample["text"])))
        assert output.logits.item() == pytest.approx(row["fusion"], abs=1e-5)
        for name, value in output.unimodal_logits.items():
            assert value.item() == pytest.approx(row[name], abs=1e-5)
    card = (folder / "model" / "README.md").read_text()
    assert f"{results['test_mae']:.3f}" in card and str(tmp_path) not in card
    assert "| MAE, agreement | MAE, conflict |" in card and "How far the run trusts" in card
    assert not list(folder.glob(".*")), "nothing half-written is left"


def test_the_same_seed_gives_the_same_run_and_another_one_another(tmp_path):
    results = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        train("--output_dir", tmp_path / name, "--seed", seed)
        results.append(json.loads((tmp_path / name / "all_results.json").read_text()))
    assert results[0] == results[1]
    assert results[0]["test_mae"] != results[2]["test_mae"]


def test_an_earlier_run_is_neither_mixed_up_nor_lost(run, capsys):
    folder = run
    before = (folder / "all_results.json").read_bytes()
    message = refused(capsys, *DEMO, "--output_dir", folder)
    assert "--resume_from_checkpoint" in message and "--overwrite_output_dir" in message
    assert (folder / "all_results.json").read_bytes() == before
    (folder / "all_results.json").unlink()
    train("--output_dir", folder, "--resume_from_checkpoint", "true")  # all epochs done: only the results are missing
    assert json.loads((folder / "all_results.json").read_text()) == json.loads(before)
    train("--output_dir", folder, "--overwrite_output_dir", "--seed", 8)
    assert json.loads((folder / "all_results.json").read_text())["seed"] == 8


def test_the_options_of_a_run_reproduce_it(tmp_path):
    train("--output_dir", tmp_path / "run", "--seed", 5, "--learning_rates", '{"heads.fusion": 0.003}')
    cli.main(["train", "--config", str(tmp_path / "run" / "options.yaml"), "--output_dir", str(tmp_path / "again")])
    one, other = ((tmp_path / name / "all_results.json").read_bytes() for name in ("run", "again"))
    assert one == other


def test_a_run_goes_on_by_its_own_options_only(run, tmp_path, capsys):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for options, message in (
        (["--seed", 8], "started with seed: the default, and cannot be resumed with 8"),
        (["--convention", "paper"], "started with convention: the default, and cannot be resumed with paper"),
        (["--learning_rates", '{"heads": 0.1}'], "started with learning_rates: .*options.yaml has its options"),
        (["--per_device_train_batch_size", 16], "started with per_device_train_batch_size: the default"),
    ):
        refusal = refused(capsys, *DEMO, "--num_train_epochs", 3, "--output_dir", run, *options,
                          "--resume_from_checkpoint", "true")  # fmt: skip
        assert re.search(message, refusal), refusal
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    more = ["--num_train_epochs", 4, "--resume_from_checkpoint", "true", "--save_total_limit", 3]
    assert "is read once" in refused(capsys, *DEMO, "--output_dir", run, *more)
    checkpoint = max(run.glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    train("--output_dir", tmp_path / "on", *more[:2], "--resume_from_checkpoint", checkpoint)
    (run / "all_results.json").unlink()  # as if it had been stopped
    train("--output_dir", run, *more)
    assert (tmp_path / "on" / "all_results.json").read_bytes() == (run / "all_results.json").read_bytes()
    assert json.loads((run / "all_results.json").read_text())["epochs"] == 4
    lowered = [*DEMO, "--num_train_epochs", 3, "--output_dir", run, "--resume_from_checkpoint", "true"]
    assert "trained for 4 epochs, and num_train_epochs is 3" in refused(capsys, *lowered)


def test_a_run_of_defaults_alone_goes_on_by_them_only(tmp_path):
    (tmp_path / "options.yaml").write_text("{}\n")
    assert checkpoint_of(tmp_path, "true", {}, 30) is None
    (tmp_path / "all_results.json").write_text("{}")
    with pytest.raises(ValueError, match="started with convention: the default, and cannot be resumed with paper"):
        checkpoint_of(tmp_path, "true", {"convention": "paper"}, 30)
    with pytest.raises(ValueError, match="is done, and has no checkpoint to resume from"):  # it would begin anew
        checkpoint_of(tmp_path, "true", {}, 30)


def test_a_run_that_saved_weights_alone_does_not_begin_anew(tmp_path, capsys):
    """Nor is the test split read again, whether the run had come to its end or not."""
    folder = tmp_path / "run"
    train("--output_dir", folder, "--save_only_model", "true")
    run = json.loads((folder / "all_results.json").read_text())
    assert AutoModel.from_pretrained(folder / "model") and "test_mae" in run  # it is a run like any other
    again = [*DEMO, "--num_train_epochs", 3, "--save_only_model", "true", "--output_dir", folder]
    for done in (True, False):
        if not done:
            (folder / "all_results.json").unlink()
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        message = refused(capsys, *again, "--resume_from_checkpoint", "true")
        assert "it holds weights alone" in message and "start again in another output_dir" in message
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_weights_that_a_resumed_run_cannot_use_are_kept(run, caplog):
    folder = run
    (folder / "all_results.json").unlink()
    last = max(folder.glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    (last / "optimizer.pt").unlink()
    train("--output_dir", folder, "--save_total_limit", 3, "--resume_from_checkpoint", "true")
    assert f"is renamed to kept-{last.name}, as no run can resume from it: optimizer.pt is missing" in caplog.text
    kept, again = (path / "model.safetensors" for path in (folder / f"kept-{last.name}", last))
    assert kept.read_bytes() == again.read_bytes()


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(trained, tmp_path, caplog):
    folder = tmp_path / "killed"
    (folder / "checkpoint-1").mkdir(parents=True)
    (folder / "checkpoint-1" / "model.safetensors").write_bytes(b"half")
    train("--output_dir", folder, "--resume_from_checkpoint", "true")
    assert "checkpoint-1 was incomplete and is deleted" in caplog.text and "the beginning" in caplog.text
    assert (folder / "all_results.json").read_bytes() == (trained / "all_results.json").read_bytes()


def test_a_published_file_and_a_pretrained_encoder(tmp_path, encoder):
    file = mmsa_file(tmp_path / "unaligned.pkl")
    options = ["--dataset", "mosi", "--data", file, "--text_encoder", encoder, "--output_dir", tmp_path / "run"]
    cli.main(["train", *map(str, options), "--num_train_epochs", "2", "--disable_tqdm", "true", "--use_cpu", "true"])
    model = AutoModel.from_pretrained(tmp_path / "run" / "model")
    assert (model.config.audio_dim, model.config.vision_dim) == (7, 6)
    assert model.config.text_config.hidden_size == 8
    assert "encoder" in (tmp_path / "run" / "model" / "README.md").read_text()
    rows = pq.read_table(tmp_path / "run" / "predictions.parquet").to_pylist()
    assert [row["split"] for row in rows] == ["train"] * 18 + ["validation"] * 5 + ["test"] * 5
    rows = rows[18:]
    assert [row["vision"] is None for row in rows] == [True, False, False, False, True] * 2  # without a picture
    assert all(row[name] is not None for row in rows for name in ("fusion", "text", "audio"))


def test_sims_with_its_own_metrics_and_human_labels(tmp_path, encoder):
    random = np.random.default_rng(1)
    human = {f"regression_labels_{m}": lambda rows: random.uniform(-1, 1, rows).astype(np.float32) for m in "TAV"}
    file = mmsa_file(tmp_path / "sims.pkl", limit=1.0, **human)
    options = ["--dataset", "sims", "--data", file, "--text_encoder", encoder, "--output_dir", tmp_path / "run"]
    cli.main(["train", *map(str, options), "--num_train_epochs", "2", "--disable_tqdm", "true", "--use_cpu", "true"])
    results = json.loads((tmp_path / "run" / "all_results.json").read_text())
    assert {"test_acc_3", "test_f1", "generated_label_vision_corr"} <= results.keys()
    assert AutoModel.from_pretrained(tmp_path / "run" / "model").config.label_range == 1.0


class Attack:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def _with_nan(rows):
    labels = np.zeros(rows, np.float32)
    labels[1] = np.nan
    return labels


@pytest.mark.parametrize(
    ("spoil", "options", "message"),
    [
        (lambda f: f.unlink(), [], "There is no file or folder"),
        (lambda f: f.write_bytes(f.read_bytes()[:900]), [], "damaged or cut off"),
        (lambda f: f.write_bytes(pickle.dumps(Attack(str(f.parent / "attacked")))), [], "could run code"),
        (lambda f: None, ["--audio_dim", "74"], "audio features .* are 7 wide, but audio_dim is 74"),
        (lambda f: None, ["--dataset", "mosie"], "no data set 'mosie'"),
        (lambda f: None, ["--learning_rates", '{"encoder.text": 1e-5}'], "encoder.text"),
        (lambda f: None, ["--fusion_head_dim", "-4"], "fusion_head_dim must be a positive integer"),
        (lambda f: mmsa_file(f, regression_labels=_with_nan), [], "row 1 .*finite"),
        (lambda f: mmsa_file(f, limit=30.0), [], r"expected a number in \[-3, 3\]; correct it, or scale the labels"),
        (lambda f: None, ["--text_encoder", "no/such-encoder"], "no/such-encoder"),
        (lambda f: None, ["--resume_from_checkpoint", "true"], "no checkpoint"),
        (lambda f: mmsa_file(f, limit=1.0), [], "no label is beyond 1, .* take the data as sims or simsv2, or"),
        (lambda f: mmsa_file(f, limit=1.0), ["--dataset", "custom"], "labels that reach 3; add --label_range 1$"),
        (lambda f: None, ["--modalities", "text", "speech"], "'speech'.* not modalities; expected some of text, audio"),
        (lambda f: None, ["--unimodal_tasks", "text", "sound"], r"\['sound'\] are none of the modalities"),
        (lambda f: (f.parent / "encoder" / "tokenizer.json").unlink(), [], "tokenizer"),
        (lambda f: (f.parent / "encoder" / "config.json").unlink(), [], "no config.json; name the folder of a model"),
        (lambda f: (f.parent / "encoder" / "model.safetensors").write_bytes(b"x" * 40), [], "cannot be loaded"),
    ],
)  # fmt: skip
def test_bad_input_ends_in_one_line_and_leaves_nothing(tmp_path, capsys, encoder, spoil, options, message):
    file = mmsa_file(tmp_path / "file.pkl")
    spoil(file)
    out = tmp_path / "out"
    base = ["--dataset", "mosi", "--data", file, "--text_encoder", encoder, "--output_dir", out]
    line = refused(capsys, *base, *options)
    assert re.search(message, line), line
    assert not out.exists() and not (tmp_path / "attacked").exists()


def test_an_output_dir_that_is_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("precious")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        assert "is not a folder" in refused(capsys, *DEMO, "--output_dir", folder)
    assert (tmp_path / "file").read_text() == "precious"


def test_missing_data_file_and_encoder_are_named(capsys, tmp_path):
    assert "--data" in refused(capsys, "--dataset", "mosi")
    file = mmsa_file(tmp_path / "file.pkl")
    assert "--text_encoder" in refused(capsys, "--dataset", "mosi", "--data", file)


def test_ones_own_data_train_by_their_preset(tmp_path, encoder, capsys, caplog):
    file, folder = mmsa_file(tmp_path / "file.pkl"), tmp_path / "run"
    command = ["--dataset", "custom", "--data", file, "--text_encoder", encoder, "--output_dir", folder]
    cli.main(["train", *map(str, command), "--num_train_epochs", "1", "--use_cpu", "--disable_tqdm", "true"])
    assert "No --config is given: the preset custom is used." in caplog.text
    assert "The pretrained text encoder learns at 5e-05, because learning_rate, 0.001, would destroy" in caplog.text
    said = "The validation split has 5 clips, too few for its metrics: by chance alone a correlation is beyond 0.88"
    assert said in caplog.text and "The test split has 5 clips" in caplog.text
    assert capsys.readouterr().out.count("(5 clips: too few)") == 2
    optimizer = torch.load(folder / "checkpoint-1" / "optimizer.pt", weights_only=True)
    assert {group["lr"] for group in optimizer["param_groups"]} == {5e-5, 1e-3, 1e-4}
    assert (folder / "model" / "preset.yaml").read_text("utf-8").startswith("# A data set of your own")


def test_a_text_encoder_needs_words(tmp_path, encoder, capsys):
    file = mmsa_file(tmp_path / "file.pkl", raw_text=lambda rows: [" "] * rows)
    base = ["--dataset", "mosi", "--data", file, "--text_encoder", encoder, "--output_dir", tmp_path / "out"]
    line = refused(capsys, *base)
    assert "no words for a text encoder to read: leave the text out with --modalities audio vision" in line
    assert not (tmp_path / "out").exists()


def test_word_vectors_are_read_by_an_encoder_that_is_new(tmp_path):
    """The preset's rate is for one that is pretrained."""
    vectors = {"text": lambda rows: np.ones((rows, 4, 3), np.float32), "text_bert": lambda rows: None}
    file = mmsa_file(tmp_path / "file.pkl", **vectors)
    data = pickle.loads(file.read_bytes())
    for split in data.values():
        del split["text_bert"]
    file.write_bytes(pickle.dumps(data))
    options = ["--dataset", "custom", "--data", str(file), "--output_dir", str(tmp_path), "--use_cpu"]
    run, new = Run(*read_options(options)), {"encoders.audio": 1e-3, "encoders.vision": 1e-4}
    assert run.model.config.is_sequence("text") and run.args.learning_rates == new
    given = read_options([*options, "--modalities", "text", "audio"])
    assert Run(*given).args.learning_rates == {"encoders.audio": 1e-3}
    assert given[2].learning_rates == new  # another run may be made of them


def test_accelerate_launch_runs_train_py(tmp_path):
    """The real command, in a process of its own, on a small file."""
    file, folder = mmsa_file(tmp_path / "file.pkl"), tmp_path / "run"
    tokenizer = demo.demo_tokenizer()
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    BertModel(config).save_pretrained(tmp_path / "encoder")
    tokenizer.save_pretrained(tmp_path / "encoder")
    command = [
        fresh.python(), "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1", "train.py",
        "--config", "hub_configs/mosi.yaml", "--data", file, "--text_encoder", tmp_path / "encoder",
        "--output_dir", folder, "--num_train_epochs", "1",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(list(map(str, command)), cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "test_mae" in (folder / "all_results.json").read_text()


@pytest.mark.draws
def test_demo_shows_the_model_loaded_by_a_stranger(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "executable", fresh.python())
    cli.main(["demo", "--num_train_epochs", "2", "--output_dir", str(tmp_path / "demo"), "--disable_tqdm", "true"])
    printed = capsys.readouterr().out
    assert "loaded by `pipeline` in a fresh process" in printed and "sarcasm" in printed
    assert "<svg" in (tmp_path / "demo" / "clips" / "predictions.html").read_text()
    assert "np.str_" not in printed
    assert (tmp_path / "demo" / "run.png").stat().st_size > 20_000
    assert (tmp_path / "demo" / "model" / "modeling_selfmm.py").is_file()


def test_convert_makes_a_model_folder(tmp_path, encoder, capsys):
    from selfmm_hf import SelfMMConfig, SelfMMModel

    model = SelfMMModel(SelfMMConfig(text_config=BertConfig.from_pretrained(encoder)))
    names = {"dense_1": "layer_1", "dense_2": "layer_2", "out": "layer_3"}
    official = {}
    for name, value in model.state_dict().items():
        kind, module, rest = name.split(".", 2)
        if kind == "heads":
            layer, parameter = rest.split(".")
            official[f"Model.post_{module.replace('vision', 'video')}_{names[layer]}.{parameter}"] = value
        elif module == "text":
            official[f"Model.text_model.model.{rest}"] = value
        else:
            rest = rest.replace("lstm", "rnn").replace("projection", "linear_1")
            official[f"Model.{module.replace('vision', 'video')}_model.{rest}"] = value
    torch.save(official, tmp_path / "official.pth")
    out = tmp_path / "converted"
    cli.main(["convert", str(tmp_path / "official.pth"), "--output_dir", str(out), "--text_encoder", str(encoder)])
    converted = AutoModel.from_pretrained(out)
    for name, value in model.state_dict().items():
        assert torch.equal(converted.state_dict()[name], value), name
    assert (out / "tokenizer.json").is_file() and "no tokenizer" not in capsys.readouterr().out
    cli.main(["convert", str(tmp_path / "official.pth"), "--output_dir", str(tmp_path / "wordless")])
    assert "It has no tokenizer, so its pipeline reads no words" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main(["convert", str(tmp_path / "official.pth"), "--output_dir", str(out)])
    assert "exists already" in capsys.readouterr().err


def test_only_what_a_run_leaves_is_overwritten(run):
    folder = run
    (folder / "thesis.tex").write_text("years of work")
    (folder / "checkpoint-notes.txt").write_text("of the years")
    (folder / "checkpoint-keep").mkdir()
    (folder / ".all_results.json.part").write_text("of a run that was killed")
    train("--output_dir", folder, "--overwrite_output_dir", "--num_train_epochs", "1")
    assert (folder / "thesis.tex").read_text() == "years of work"
    kept = {"checkpoint-1", "checkpoint-keep", "checkpoint-notes.txt"}
    assert {path.name for path in folder.glob("checkpoint-*")} == kept and not list(folder.glob(".*"))


@pytest.mark.parametrize("modalities", [["vision"], ["audio", "vision"], ["text", "audio"]])
def test_any_modalities_of_a_preset(tmp_path, encoder, modalities):
    file = mmsa_file(tmp_path / "file.pkl")
    options = ["--config", ROOT / "hub_configs" / "mosi.yaml", "--data", file, "--text_encoder", encoder]
    options += ["--output_dir", tmp_path / "run", "--modalities", *modalities, "--num_train_epochs", "1"]
    cli.main(["train", *map(str, options), "--disable_tqdm", "true", "--use_cpu", "true"])
    assert pq.read_table(tmp_path / "run" / "predictions.parquet").column_names[4:] == modalities
    assert AutoModel.from_pretrained(tmp_path / "run" / "model").config.modalities == modalities


def test_rates_on_the_command_line_add_to_those_of_the_preset():
    from selfmm_hf.runs.options import read_options

    rates = ["--learning_rates", '{"encoders.text": 2e-5, "heads.fusion": 3e-3}']
    args = read_options(["--config", str(ROOT / "hub_configs" / "mosi.yaml"), *rates])[2]
    assert args.learning_rates == {
        "encoders.text": 2e-5, "encoders.audio": 1e-3, "encoders.vision": 1e-4, "heads.fusion": 3e-3,
    }  # fmt: skip


@pytest.mark.parametrize(
    "option",
    [
        ["--load_best_model_at_end", "false"],
        ["--metric_for_best_model", "mae"],
        ["--greater_is_better", "true"],
        ["--eval_strategy", "no", "--save_strategy", "no"],
        ["--eval_delay", 30],
        ["--save_steps", 4, "--eval_steps", 2, "--eval_strategy", "steps", "--save_strategy", "steps"],
    ],
)
def test_nothing_else_than_the_validation_loss_chooses(tmp_path, capsys, option):
    refusal = refused(capsys, *DEMO, "--output_dir", tmp_path / "run", *option)
    name = option[0][2:]
    assert f"{name} must be" in refusal or name in refusal.partition("No evaluation would run")[2]
    assert not (tmp_path / "run").exists()


@pytest.mark.draws
def test_what_is_looked_at_several_times_an_epoch_or_not_from_the_first_one_on(tmp_path):
    steps = ["--eval_strategy", "steps", "--save_strategy", "steps", "--eval_steps", 1, "--save_steps", 1,
             "--per_device_train_batch_size", 15]  # fmt: skip
    for name, options in (("steps", steps), ("late", ["--eval_delay", 2])):
        train("--output_dir", tmp_path / name, *options)
        run = StoredRun.read(tmp_path / name)
        looked = [one["eval_selection_loss"] for one in run.log_history if "eval_selection_loss" in one]
        losses = run.losses("eval_selection_loss")
        assert len(losses) == run.results["epochs"] == 3 and len(looked) == (6 if name == "steps" else 2)
        assert losses[run.results["best_epoch"] - 1] == min(looked) == run.results["selection_loss"]
        assert np.isnan(losses[0]) == (name == "late") and (tmp_path / name / "run.png").stat().st_size > 20_000


def test_what_is_looked_at_before_training_is_not_chosen(tmp_path):
    train(
        "--output_dir",
        tmp_path,
        "--eval_on_start",
        "true",
        "--learning_rate",
        0.3,
        "--learning_rates",
        "{}",
        "--convention",
        "paper",
    )  # worse with each epoch
    run = StoredRun.read(tmp_path)
    looked = {one["epoch"]: one["eval_selection_loss"] for one in run.log_history if "eval_selection_loss" in one}
    assert min(looked, key=looked.get) == 0 and len(looked) == 4
    assert run.results["best_epoch"] > 0 and run.results["selection_loss"] == min(list(looked.values())[1:])
    assert run.losses("eval_selection_loss") == list(looked.values())[1:]


def test_unimodal_labels_that_are_known_of_some_clips_and_modalities():
    columns = {"label": [1.0, -1.0, 2.0, 0.5], "label_text": [1.0, np.nan, 2.0, 0.0]}

    class Known(dict):
        column_names, task, widths = tuple(columns), Task(), {}
        labels = np.float32(columns["label"])

    labels = np.tile(np.array([1.0, 9.0, 2.0, 0.0])[:, None, None], (1, 2, 1))
    found = generated_label_quality({"train": Known(columns)}, labels, ["audio", "text"])
    assert found == pytest.approx({
        "generated_label_text_corr": 1.0, "generated_label_text_mae": 0.0,
        "fused_label_text_corr": np.corrcoef([1, 2, 0.5], [1, 2, 0])[0, 1], "fused_label_text_mae": 0.5 / 3,
    })  # fmt: skip


MOSI = ["--config", "mosi", "--disable_tqdm", "true", "--use_cpu", "true", "--num_train_epochs", "1"]

# Text encoders that cannot serve, found before the run's folder is begun.


def test_a_text_longer_than_the_encoder_reads_is_refused_before_the_run(encoder, tmp_path, capsys):
    config = BertConfig.from_pretrained(encoder)
    config.max_position_embeddings = 10
    BertModel(config).save_pretrained(encoder)
    data, folder = (
        mmsa_file(tmp_path / "file.pkl", raw_text=lambda rows: ["the film was good " * 4] * rows),
        tmp_path / "run",
    )
    line = refused(capsys, *MOSI, "--data", data, "--text_encoder", encoder, "--output_dir", folder)
    assert "reads 10 tokens at most" in line and "--max_text_tokens 10" in line and not folder.exists()


def test_tokens_beyond_the_embedding_are_refused_before_the_run(encoder, tmp_path, capsys):
    config = BertConfig.from_pretrained(encoder)
    config.vocab_size = 20
    BertModel(config).save_pretrained(encoder)
    data, folder = mmsa_file(tmp_path / "file.pkl"), tmp_path / "run"
    line = refused(capsys, *MOSI, "--data", data, "--text_encoder", encoder, "--output_dir", folder)
    assert "do not belong together" in line and "the text encoder knows 20" in line and not folder.exists()


def test_the_revision_of_a_folder_is_refused(encoder, tmp_path, capsys):
    data, folder = mmsa_file(tmp_path / "file.pkl"), tmp_path / "run"
    options = ["--text_encoder", encoder, "--text_encoder_revision", "abc", "--output_dir", folder]
    assert "Leave it out" in refused(capsys, *MOSI, "--data", data, *options) and not folder.exists()


def test_a_modality_that_no_training_clip_has_is_left_out(encoder, tmp_path):
    """It would speak untrained in the test, whose clips have it."""
    lengths = {18: [0] * 18, 5: [3] * 5}
    data = mmsa_file(tmp_path / "file.pkl", vision_lengths=lengths.__getitem__)
    cli.main(
        ["train", *MOSI, "--data", str(data), "--text_encoder", str(encoder), "--output_dir", str(tmp_path / "run")]
    )
    model = SelfMMModel.from_pretrained(tmp_path / "run" / "model")
    assert model.config.modalities == ["text", "audio"]
    predicted = pq.read_table(tmp_path / "run" / "predictions.parquet").column_names
    assert any("audio" in name for name in predicted) and not any("vision" in name for name in predicted)
