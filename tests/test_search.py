"""The search for options: on validation alone, resumable, and reproduced by `train.py`."""

import io
import json
import re
import shutil
import signal
import subprocess
from contextlib import redirect_stdout

import fresh
import optuna
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import command, mmsa_file
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from test_benchmark import BASE, KILLED, SIZES
from transformers import BertConfig, BertModel

import selfmm_cli as cli
from selfmm_hf import data
from selfmm_hf.data import synthetic as demo
from selfmm_hf.data.synthetic import demo_tokenizer
from selfmm_hf.evaluation.search import SPACES, read_space, trial_arguments
from selfmm_hf.runs.options import PRESETS, read_options

SPACE = {
    "learning_rate": [1e-4, 3e-3],
    "learning_rates": {"encoders.text": [5e-5, 1e-3]},
    "text_head_dim": [8, 24],
    "gradient_accumulation_steps": [1, 2],
}


@pytest.fixture(autouse=True)
def small_corpus(monkeypatch):
    monkeypatch.setattr(demo, "SIZES", SIZES)


@pytest.fixture
def space(tmp_path):
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(SPACE))
    return tmp_path / "space.yaml"


def search(*arguments):
    return command("search", *arguments, *BASE)


def study(folder):
    storage = JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
    return optuna.load_study(study_name="search", storage=storage)


def trials(folder):
    """What was drawn, and the validation loss, of each trial."""
    runs = sorted((folder / "trials").iterdir())
    drawn = [trial.params for trial in study(folder).trials]
    return [(one, json.loads((run / "all_results.json").read_text())) for one, run in zip(drawn, runs, strict=True)]


class Unreadable:
    """The test split, of which whatever is asked is an error."""

    def __getattribute__(self, name):
        raise AssertionError(f"{name} of the test split was asked for")

    def __len__(self):
        raise AssertionError("the length of the test split was asked for")


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """The folder of a search of three trials that nothing disturbed, and what it has printed."""
    root = tmp_path_factory.mktemp("searched")
    (root / "space.yaml").write_text(yaml.safe_dump(SPACE))
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.setattr(demo, "SIZES", SIZES)
        corpus = demo.demo_corpus()
        patch.setattr(data, "demo_corpus", lambda: {**corpus, "test": Unreadable()})
        with pytest.raises(AssertionError, match="test split"):
            cli.main(["train", *BASE, "--output_dir", str(root / "run")])
        assert search("--space", root / "space.yaml", "--trials", 3, "--output_dir", root / "out") == 0
    return root / "out", printed.getvalue()


def test_a_search_without_a_test_split_and_its_best_options_reproduced(searched, tmp_path):
    out, printed = searched
    found = trials(out)
    names = {"learning_rate", "learning_rates.encoders.text", "text_head_dim", "gradient_accumulation_steps"}
    assert len(found) == 3 and all(set(drawn) == names for drawn, _ in found)
    for file in (path for path in out.rglob("*") if path.is_file() and path.suffix != ".parquet"):
        assert not re.search(r'"test|\btest_(mae|corr|acc|f1|loss)', file.read_text()), file
    for file in out.rglob("predictions.parquet"):
        assert set(pq.read_table(file)["split"].to_pylist()) == {"train", "validation"}
    assert not list(out.rglob("model")) and not list(out.rglob("checkpoint-*"))

    losses = [results["selection_loss"] for _, results in found]
    best = found[losses.index(min(losses))][1]
    text = (out / "best.yaml").read_text()
    assert repr(min(losses)) in text and str(out.parent) not in text
    assert f"{min(losses):.4f}  trial {losses.index(min(losses))}: " in printed
    cli.main(["train", "--config", str(out / "best.yaml"), "--output_dir", str(tmp_path / "again")])
    again = json.loads((tmp_path / "again" / "all_results.json").read_text())
    assert {name: again[name] for name in best} == best and "test_mae" in again


def test_a_killed_search_ends_as_an_undisturbed_one(searched, tmp_path, space):
    whole, _ = searched
    folder = tmp_path / "killed"
    command = ["search", "--space", space, "--trials", 3, "--output_dir", folder, *BASE]
    arguments = map(str, [fresh.python(), "-c", KILLED, 4, *command])  # in the second trial
    killed = subprocess.run(list(arguments), capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-3000:]
    assert len(list(folder.rglob("all_results.json"))) == 1
    (folder / "optuna.journal.lock").touch()  # as if it had been killed while it wrote there
    assert search("--space", space, "--trials", 2, "--output_dir", folder) == 0
    assert search("--space", space, "--trials", 3, "--output_dir", folder) == 0
    assert trials(folder) == trials(whole)
    assert (folder / "best.yaml").read_bytes() == (whole / "best.yaml").read_bytes()


def test_a_trial_that_fails_stops_no_other(tmp_path, capsys):
    (tmp_path / "space.yaml").write_text("modalities: [text, smell]\n")
    assert search("--space", tmp_path / "space.yaml", "--trials", 4, "--output_dir", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "smell" in printed and "validation loss" in printed
    failed = len(list((tmp_path / "out").rglob("failure.txt")))
    assert 0 < failed < 4 and printed.count("smell") == failed
    runs = len(list((tmp_path / "out").rglob("all_results.json")))
    assert search("--space", tmp_path / "space.yaml", "--trials", 4, "--output_dir", tmp_path / "out") == 0
    assert capsys.readouterr().out.count("smell") == failed  # it is tried again
    assert len(list((tmp_path / "out").rglob("all_results.json"))) == runs
    study(tmp_path / "out").ask()  # and nothing is drawn
    for _ in range(2):
        assert search("--space", tmp_path / "space.yaml", "--trials", 5, "--output_dir", tmp_path / "out") == 0
        assert "trial 4, 5 of 5: the process was killed while it drew the options" in capsys.readouterr().out


def test_searches_are_not_mixed(tmp_path, space, capsys, monkeypatch):
    def refused(*arguments):
        capsys.readouterr()
        assert search("--trials", 1, "--output_dir", tmp_path / "out", *arguments) == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    assert search("--space", space, "--trials", 1, "--output_dir", tmp_path / "out") == 0
    assert "another space" in refused("--space", "official")
    assert "another weight_decay" in refused("--space", space, "--weight_decay", "0.5")
    assert "another seed" in refused("--space", space, "--seed", "3")
    assert "cannot be set for many runs" in refused("--space", space, "--resume_from_checkpoint", "true")
    monkeypatch.setattr(data.Samples, "fingerprint", lambda samples: "another")
    assert "other data" in refused("--space", space)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rate: 3\n", "learning_rate must be a list of choices"),
        ("learning_rates: {encoders.text: 1}\n", "learning_rates.encoders.text must be a list of choices"),
        ("learning_rate: []\n", "must be a list of choices"),
        ("[]\n", "must hold the choices"),
        ("text_head_dims: [1, 2]\n", "Did you mean --text_head_dim"),
        ("text_head_dim: [8, 9.5]\n", "text_head_dim"),
        ("seed: [1, 2]\n", "seed must be the same for all trials; name it"),
        ("output_dir: [a, b]\n", "output_dir must be the same for all trials"),
        ("max_missing_rate: [0.0, 1.0]\n", "the same for all trials: their validation losses would not compare"),
        ("problem_type: [regression]\n", "problem_type must be the same for all trials"),
        (None, "no search space .*official"),
    ],
)
def test_spaces_that_are_wrong(tmp_path, capsys, text, message):
    file = tmp_path / "space.yaml"
    if text is not None:
        file.write_text(text)
    assert search("--space", file, "--output_dir", tmp_path / "out") == 2
    assert re.search(message, capsys.readouterr().err.strip().splitlines()[-1])
    assert not (tmp_path / "out").exists()


def test_the_official_space():
    space = read_space("official")
    assert list(SPACES) == ["official"] and space["learning_rates.encoders.audio"] == [1e-4, 1e-3, 5e-3]
    for name in ("mosi", "mosei", "sims"):  # what the presets have is among the choices
        run, model, args = read_options(["--config", str(PRESETS[name]), "--use_cpu"])
        known = {**model, **vars(args), **vars(run)}
        for option, choices in space.items():
            outer, _, prefix = option.partition(".")
            assert (known[outer][prefix] if prefix else known[outer]) in choices, (name, option)
    last = {name: choices[-1] for name, choices in space.items()}
    _, model, args = read_options(["--config", "mosi", "--use_cpu", *trial_arguments(last)])
    assert (args.per_device_train_batch_size, args.learning_rates["encoders.vision"]) == (32, 5e-3)
    assert (model["text_head_dim"], model["label_range"]) == (64, 3.0)
    for preset, rate in (("mosi", 5e-5), ("iemocap", 1e-3)):  # BERT, and an LSTM of word vectors
        args = read_options(["--config", preset, "--use_cpu", *trial_arguments(last)])[2]
        assert args.learning_rates["encoders.text"] == rate


def test_asked_for_fewer_trials_it_forgets_none(searched, tmp_path, space):
    shutil.copytree(searched[0], tmp_path / "out")
    best = (tmp_path / "out" / "best.yaml").read_bytes()
    losses = [results["selection_loss"] for _, results in trials(tmp_path / "out")]
    assert losses[0] > min(losses), "the first is not the best, or this shows nothing"
    assert search("--space", space, "--trials", 1, "--output_dir", tmp_path / "out") == 0
    assert (tmp_path / "out" / "best.yaml").read_bytes() == best


def test_trials_of_a_journal_that_was_deleted_are_compared(searched, tmp_path, space, capsys):
    folder = tmp_path / "out"
    shutil.copytree(searched[0], folder)
    (folder / "optuna.journal").unlink()
    assert search("--space", space, "--trials", 3, "--output_dir", folder) == 0
    assert trials(folder) == trials(searched[0])  # as the same options are drawn again
    (folder / "optuna.journal").unlink()
    given = yaml.safe_load((folder / "trials" / "0001" / "options.yaml").read_text())
    given["text_head_dim"] = 24 + 8 - given["text_head_dim"]
    (folder / "trials" / "0001" / "options.yaml").write_text(yaml.safe_dump(given))
    capsys.readouterr()
    assert search("--space", space, "--trials", 3, "--output_dir", folder) == 0
    told = f"{folder / 'trials' / '0001'} holds a trial with another text_head_dim than optuna.journal has drawn"
    assert f"trial 1, 2 of 3: {told}: delete that trial" in capsys.readouterr().out
    assert [trial.value is None for trial in study(folder).trials] == [False, True, False]


def test_an_option_of_the_space_is_not_named_beside_it(tmp_path, space, capsys):
    def told(*arguments):
        assert search("--space", space, "--trials", 1, "--output_dir", tmp_path / "out", *arguments) == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    for given in (["--text_head_dim", "9"], ["--text-head-dim=9"]):
        assert "text_head_dim is in the search space" in told(*given)
    rates = '{"encoders.audio": 1e-3, "encoders.text": 1e-5}'
    assert "learning_rates.encoders.text is in the search space" in told("--learning_rates", rates)
    assert "fusion_head" in told("--learning_rates", '{"fusion_head": 1e-3}')  # which the model has not: it is read


def test_the_text_encoder_may_be_drawn(tmp_path):
    tokenizer, file = demo_tokenizer(), mmsa_file(tmp_path / "file.pkl")
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
                        intermediate_size=9, max_position_embeddings=20)  # fmt: skip
    BertModel(config).save_pretrained(tmp_path / "encoder")
    tokenizer.save_pretrained(tmp_path / "encoder")
    (tmp_path / "space.yaml").write_text(yaml.safe_dump({"text_encoder": [str(tmp_path / "encoder")]}))
    options = [
        "--dataset",
        "mosi",
        "--data",
        file,
        "--num_train_epochs",
        1,
        "--disable_tqdm",
        "true",
        "--use_cpu",
        "true",
    ]
    where = ["--space", tmp_path / "space.yaml", "--output_dir", tmp_path / "out"]
    assert command("search", *where, "--trials", 1, *options) == 0
    assert yaml.safe_load((tmp_path / "out" / "best.yaml").read_text())["text_encoder"] == str(tmp_path / "encoder")
