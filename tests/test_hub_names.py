"""A path that is not there is told as such, at once; what is taken from the Hub is told before anything is fetched."""

import logging

import pytest

import selfmm_cli as cli
from selfmm_hf.storage import hub_names
from selfmm_hf.storage.hub_names import check_name, take_from_hub

PATHS = [
    "/nowhere", "/nowhere/at/all", "./data/mosi", "../mosi", "~/mosi", "..hidden/x", "a/b/c", "data/mosi/",
    "data//mosi", "data/mosi.pkl", "unaligned_50.pkl", "data/table.csv", "my/Data.Parquet", "a/config.json",
    "run/model.safetensors", "C:\\data\\mosi", "data\\mosi", "with space/mosi", "ä/mosi", "", "local/mosi",
]  # fmt: skip


@pytest.fixture
def nothing_fetched(monkeypatch, tmp_path):
    """In an empty folder with another, `local`; and nobody asks the network for anything."""
    (tmp_path / "local").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")

    def fetch(*_, **__):
        raise AssertionError("something asked for the network")

    monkeypatch.setattr("socket.getaddrinfo", fetch)
    monkeypatch.setattr("socket.socket.connect", fetch)


@pytest.mark.parametrize("name", PATHS)
def test_what_looks_like_a_path_is_no_repository(nothing_fetched, name):
    with pytest.raises(ValueError, match="There is no folder"):
        check_name(name)


def test_a_folder_of_that_name_says_that_a_path_was_meant(nothing_fetched):
    with pytest.raises(ValueError, match="There is no folder local/mosi: the folder local is here, so this is not"):
        take_from_hub("local/mosi", "the data set")
    with pytest.raises(ValueError, match="is a URL; name the repository alone, OWNER/NAME"):
        check_name("https://huggingface.co/datasets/a/b")


def test_what_is_taken_from_the_hub_is_told(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    assert take_from_hub("data/mosi", "the data set", "v1", "file or folder")
    assert take_from_hub("bert-base-uncased", "the text encoder", owner=False)
    assert [one.getMessage() for one in caplog.records] == [
        "There is no file or folder data/mosi here: the data set is taken from the Hub, repository data/mosi, "
        "revision v1.",
        "There is no folder bert-base-uncased here: the text encoder is taken from the Hub, repository "
        "bert-base-uncased, revision main.",
    ]
    assert all(one.levelno == logging.WARNING for one in caplog.records)
    with pytest.raises(ValueError, match="not the name of a repository"):
        take_from_hub("mosi", "the data set")
    caplog.clear()
    monkeypatch.setenv("RANK", "3")
    assert take_from_hub("data/mosi", "the data set")
    (tmp_path / "data" / "mosi").mkdir(parents=True)
    assert not take_from_hub("data/mosi", "the data set")
    assert not caplog.records
    (tmp_path / "weights").touch()
    with pytest.raises(ValueError, match="weights is a file; name a folder"):
        check_name("weights")
    check_name("weights", "file or folder")


COMMANDS = {
    "train --data": ["train", "--dataset", "mosi", "--data"],
    "data inspect": ["data", "inspect"],
    "data verify": ["data", "verify"],
    "data prepare": ["data", "prepare", "mosi", "--output_dir", "out", "--data"],
    "predict --model": ["predict", "--text", "good", "--model"],
    "predict --transcriber": ["predict", "--text", "good", "--model", "a/b", "--transcriber"],
    "export": ["export", "--output", "model.onnx"],
    "robustness": ["robustness", "--output_dir", "out"],
    "report": ["report", "--output_dir", "out"],
    "push": ["push", "{}", "me/repository"],
    "train --config": ["train", "--config"],
    "extract --recipe": ["extract", "local", "--table", "table.csv", "--output_dir", "out", "--recipe"],
    "extract --audio": ["extract", "local", "--table", "table.csv", "--output_dir", "out", "--audio"],
    "extract --transcriber": ["extract", "local", "--table", "table.csv", "--output_dir", "out", "--transcriber"],
}


@pytest.mark.parametrize("path", ["/nowhere", "local/mosi", "data/mosi.pkl"])
@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=list(COMMANDS))
def test_every_command_ends_in_one_line_without_a_network(nothing_fetched, tmp_path, capsys, arguments, path):
    (tmp_path / "table.csv").write_text("id,text,label,split\n")
    arguments = [one.format(path) for one in arguments]
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments if path in arguments else [*arguments, path])
    lines = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 2 and len(lines) == 1 and lines[0].startswith("selfmm: error: ") and path in lines[0]


def test_a_text_encoder_that_is_not_there(nothing_fetched, tmp_path, capsys):
    for path in ("/nowhere", "local/mosi", "./minilm"):
        with pytest.raises(SystemExit) as stop:
            cli.main(["train", "--text_encoder", path, "--output_dir", str(tmp_path / "run"), "--use_cpu"])
        lines = capsys.readouterr().err.strip().splitlines()
        assert stop.value.code == 2 and lines[-1].startswith(f"selfmm: error: There is no folder {path}")
    assert not (tmp_path / "run").exists()


def test_the_network_is_asked_only_after_it_was_told(tmp_path, monkeypatch, caplog):
    from selfmm_hf import data
    from selfmm_hf.data import prepared

    def fetch(name, *_, **__):
        assert "taken from the Hub, repository data/mosi, revision main" in caplog.text
        raise ConnectionError("no network")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(prepared, "snapshot_download", fetch)
    with pytest.raises(data.DataError, match=r"data/mosi cannot be loaded as .*: no network"):
        data.load_splits("mosi", "data/mosi")
    assert hub_names.FILE.search("a/b.pkl")
