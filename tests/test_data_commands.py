"""`selfmm data ...`, as it is typed."""

import json
from typing import get_args

import numpy as np
import pytest
from conftest import command, mmsa_file

from selfmm_cli.data import Dataset
from selfmm_hf.data import BUILDERS, load_splits


@pytest.fixture
def file(tmp_path):
    return mmsa_file(tmp_path / "source.pkl")


def data(*arguments) -> int:
    """The exit status."""
    return command("data", *arguments)


def test_prepare_inspect_verify(tmp_path, file, capsys):
    out = tmp_path / "out"
    assert data("prepare", "mosi", "--data", file, "--output_dir", out) == 0
    printed = capsys.readouterr().out
    assert "train 18, validation 5, test 5" in printed and f"--dataset mosi --data {out}" in printed
    assert data("verify", out, "--source", file) == 0
    assert "as it should be" in capsys.readouterr().out
    assert data("verify", file) == 1
    assert "none of the published files" in capsys.readouterr().out

    for path in (file, out):
        assert data("inspect", path, "--json") == 0
        assert json.loads(capsys.readouterr().out)["splits"]["train"]["clips"] == 18
    assert data("inspect", file) == 0
    assert "Attention" in capsys.readouterr().out
    pytest.importorskip("matplotlib")
    assert data("inspect", file, "--png", tmp_path / "picture.png") == 0
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_of_ones_own(tmp_path, capsys):
    folder = tmp_path / "mine"
    folder.mkdir()
    rows = [f"clip{row},some words,{row / 3 - 1},{split}" for row, split in enumerate(["train"] * 4 + ["dev", "test"])]
    (folder / "table.csv").write_text("\n".join(["id,text,label,split", *rows]))
    (folder / "audio").mkdir()
    for row in range(6):
        np.save(folder / "audio" / f"clip{row}.npy", np.full((row, 2), row, np.float32))
    assert data("inspect", folder) == 0
    assert data("prepare", "custom", "--data", folder, "--output_dir", tmp_path / "out", "--label_range", 1) == 0
    samples = load_splits("custom", str(tmp_path / "out"), label_range=1.0)["train"]
    assert samples.lengths("audio").tolist() == [0, 1, 2, 3]
    assert data("verify", tmp_path / "out") == 0
    assert data("verify", tmp_path / "out", "--source", folder) == 0, capsys.readouterr().out
    capsys.readouterr()
    assert data("prepare", "mosi", "--data", folder, "--output_dir", tmp_path / "wrong") == 2
    assert "take it as custom, not mosi" in capsys.readouterr().err


def test_interrupted(tmp_path, file, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("selfmm_hf.data.prepare._card", interrupt)
    assert data("prepare", "mosi", "--data", file, "--output_dir", tmp_path / "data" / "out") == "\nselfmm: interrupted"
    assert not list((tmp_path / "data").iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare", "mosi", "--data", "nothing.pkl", "--output_dir", "out"], "There is no file or folder nothing.pkl"),
        (["prepare", "sims", "--data", "source.pkl", "--output_dir", "out"], "take the data as mosi or mosei"),
        (
            ["prepare", "mosi", "--data", "source.pkl", "--output_dir", "out", "--data_config", "alligned"],
            "no configuration alligned",
        ),
        (["prepare", "mosi", "--data", ".", "--output_dir", "out"], "neither a feature file nor"),
        (["inspect", "nothing"], "nothing"),
        (["inspect", "source.pkl", "--data_config", "aligned"], "source.pkl is unaligned, not aligned"),
        (["verify", "nothing"], "There is no nothing"),
        (["verify", "."], "not a data set of"),
    ],
)
def test_bad_input_ends_in_one_line(tmp_path, file, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert data(*arguments) == 2
    printed = capsys.readouterr().err.strip().splitlines()
    assert printed[-1].startswith("selfmm: error: ") and message in printed[-1], printed
    assert not (tmp_path / "out").exists()


def test_the_commands_know_every_data_set():
    assert set(get_args(Dataset)) == set(BUILDERS)
