"""A file or a folder is there whole or not at all: synced before it is moved, told of where the disk is full."""

import gc
import os
import re
import resource
import subprocess
from contextlib import contextmanager
from pathlib import Path

import fresh
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import mmsa_file
from filelock import FileLock
from matplotlib.figure import Figure
from safetensors.torch import save_file
from test_trainer import arguments, corpus, model

import selfmm_cli as cli
from selfmm_hf.clips.folder import ExtractionFolder
from selfmm_hf.data import load_splits
from selfmm_hf.storage import file_lock, whole_files
from selfmm_hf.storage.whole_files import CannotWrite, beside, hidden, whole, write_json, write_text, writing
from selfmm_hf.training import checkpoints, trainer

NUMBERS = np.random.default_rng(0).random(100_000)  # 800 kB


@contextmanager
def full_disk(size=100_000):
    """As if there were room for so many bytes, in each file: what is written beyond ends in an error of the system."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        gc.collect()  # files that libraries left open are closed while there is room again


@pytest.fixture
def calls(monkeypatch):
    """What is brought to the disk and what is moved, in order, by the names of files."""
    made, fsync, move = [], os.fsync, os.replace

    def synced(descriptor):
        made.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        fsync(descriptor)

    def moved(source, target):
        made.append(("move", Path(target).name))
        move(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", moved)
    return made


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")


@needs_proc
def test_a_file_is_on_the_disk_before_it_is_in_its_place(tmp_path, calls):
    write_json(tmp_path / "results.json", {"ä": 1, "corr": [float("nan")]})
    assert calls == [("sync", "results.json"), ("move", "results.json"), ("sync", tmp_path.name)]
    assert (tmp_path / "results.json").read_text("utf-8") == '{\n  "ä": 1,\n  "corr": [\n    null\n  ]\n}\n'
    assert os.listdir(tmp_path) == ["results.json"]


@needs_proc
def test_all_of_a_folder_is_on_the_disk_before_it_is_in_its_place(tmp_path, calls):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").write_text("old")
    with whole(tmp_path / "model") as part:
        (part / "deep").mkdir(parents=True)
        (part / "deep" / "weights").write_text("new")
        (part / "link").symlink_to(tmp_path / "nowhere")
    moves = [number for number, (what, _) in enumerate(calls) if what == "move"]
    assert {name for _, name in calls[: moves[0]]} == {"weights", "deep", "model"}
    assert calls[moves[0] :] == [("move", "replaced"), ("move", "model"), ("sync", tmp_path.name)]
    assert sorted(os.listdir(tmp_path / "model")) == ["deep", "link"] and os.listdir(tmp_path) == ["model"]


def test_a_system_that_syncs_no_folders_writes_all_the_same(tmp_path, monkeypatch):
    fsync = os.fsync

    def files_alone(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(22, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", files_alone)
    write_text(tmp_path / "file", "text")
    assert (tmp_path / "file").read_text() == "text"


def test_a_disk_that_fails_is_told(tmp_path, monkeypatch):
    def broken(descriptor):
        raise OSError(5, "Input/output error")

    write_text(tmp_path / "file", "before")
    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(CannotWrite, match=r"file cannot be written: .*Input/output error"):
        write_text(tmp_path / "file", "after")
    assert (tmp_path / "file").read_text() == "before" and os.listdir(tmp_path) == ["file"]


def numbers(file):
    with file.open("wb") as content:
        np.save(content, NUMBERS)


def picture(file):
    figure = Figure(figsize=(8, 8))
    figure.subplots().imshow(NUMBERS.reshape(250, -1))
    figure.savefig(file, dpi=200)


@pytest.mark.parametrize(
    "write",
    [
        lambda file: file.write_text("x" * 800_000),
        numbers,
        lambda file: save_file({"numbers": torch.tensor(NUMBERS)}, file),
        lambda file: pq.write_table(pa.table({"numbers": NUMBERS}), file),
        picture,
    ],
    ids=["text", "numpy", "safetensors", "parquet", "picture"],
)
@pytest.mark.draws
@pytest.mark.parametrize("name", ["file.png", "folder"])
def test_a_full_disk_is_told_with_the_path_and_leaves_what_was_there(tmp_path, write, name):
    target = tmp_path / name
    if name == "folder":
        target.mkdir()
        (target / "before").touch()
    else:
        target.touch()
    with full_disk(), pytest.raises(CannotWrite) as told, whole(target) as part:
        if name == "folder":
            part.mkdir()
        write(part / "file.png" if name == "folder" else part)
    line = str(told.value)
    assert line.startswith(f"{target} cannot be written: ") and line.endswith(" bytes are free there).")
    assert "\n" not in line and os.listdir(tmp_path) == [name]
    assert os.listdir(target) == ["before"] if name == "folder" else target.read_bytes() == b""


def test_other_errors_keep_their_own_name(tmp_path):
    with pytest.raises(ZeroDivisionError), whole(tmp_path / "file"):
        _ = 1 / 0
    assert os.listdir(tmp_path) == []
    with pytest.raises(CannotWrite, match=r"^inner cannot"), writing(Path("outer")), writing(Path("inner")):
        raise OSError(28, "No space left on device")


KILLED = """
import os, signal, sys
from pathlib import Path
from selfmm_hf.storage.whole_files import whole
with whole(Path(sys.argv[1])) as part:
    part.mkdir()
    (part / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_next_command_deletes_what_a_killed_one_left(tmp_path):
    target = tmp_path / "out"
    for _ in range(2):
        assert subprocess.run([fresh.python(), "-c", KILLED, str(target)]).returncode == -9
        assert os.listdir(tmp_path) == [".out.part"]
    with whole(target) as part:
        assert not part.exists()
        part.write_text("whole")
    assert os.listdir(tmp_path) == ["out"] and target.read_text() == "whole"


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_in_the_way_is_deleted_and_nothing_else(tmp_path, kind):
    """Earlier versions left files of this name; a link may be anybody's."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "mine").touch()
    part = hidden(tmp_path / "out")
    part.write_text("half") if kind == "file" else part.symlink_to(victim)
    write_text(tmp_path / "out", "whole")
    assert sorted(os.listdir(tmp_path)) == ["out", "victim"] and os.listdir(victim) == ["mine"]


def test_a_link_is_replaced_and_not_what_it_leads_to(tmp_path):
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim.txt").write_text("mine")
    (tmp_path / "folder").symlink_to(tmp_path / "victim")
    (tmp_path / "file").symlink_to(tmp_path / "victim.txt")
    write_text(tmp_path / "file", "new")
    with whole(tmp_path / "folder") as part:
        part.mkdir()
    assert (tmp_path / "victim.txt").read_text() == "mine" and (tmp_path / "victim").is_dir()
    assert not (tmp_path / "file").is_symlink() and not (tmp_path / "folder").is_symlink()


def test_a_device_is_not_replaced():
    with pytest.raises(CannotWrite, match=r"^/dev/null cannot be written: it is neither a file nor a folder"):
        write_text(Path("/dev/null"), "page")
    assert Path("/dev/null").is_char_device()


def test_what_another_process_writes_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(file_lock, "PATIENCE", 0)
    half = hidden(tmp_path / "out") / "out"
    half.parent.mkdir()
    half.write_text("half")
    with FileLock(half.with_name("lock")), pytest.raises(CannotWrite, match=r"^Another process is writing .*out: wait"):
        write_text(tmp_path / "out", "mine")
    assert half.read_text() == "half"
    write_text(tmp_path / "out", "mine")
    assert os.listdir(tmp_path) == ["out"]


def test_one_that_comes_while_another_ends_gets_a_lock_of_its_own(tmp_path, monkeypatch):
    """It has opened a file that the other then deletes: that lock keeps nobody out."""
    file, acquire, opened = tmp_path / "lock", FileLock.acquire, []

    def late(lock, *args, **kwargs):
        if not opened:
            opened.append(file.stat().st_ino)
            file.unlink()
        return acquire(lock, *args, **kwargs)

    monkeypatch.setattr(FileLock, "acquire", late)
    with file_lock.held(file):
        assert file.exists()
        with file_lock.held(file):  # by the same
            pass
        assert file.exists()
    assert not file.exists()


def test_several_files_of_one_folder_come_after_all_of_them_are_written(tmp_path):
    with full_disk(), pytest.raises(CannotWrite), beside(tmp_path / "page") as folder:
        (folder / "picture").write_text("new")
        (folder / "page").write_text("x" * 800_000)
    assert os.listdir(tmp_path) == []


def test_the_copies_are_gone():
    """Nothing else in the package moves files to their place."""
    package = Path(whole_files.__file__).parent
    movers = [path.name for path in package.rglob("*.py") if "os.replace(" in path.read_text("utf-8")]
    assert movers == ["whole_files.py"]


def ended(capsys, *arguments):
    """The one line in which a command ends, and its exit status."""
    with pytest.raises(SystemExit) as ended:
        cli.main([*map(str, arguments)])
    return ended.value.code, capsys.readouterr().err.splitlines()[-1]


# Libraries leave files open that cannot be written; from Python 3.13 on, deleting them says so.
UNWRITTEN = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@UNWRITTEN
@pytest.mark.parametrize("size", [1000, 6000])  # within the Parquet files, and in what describes them
def test_preparing_on_a_full_disk(tmp_path, capsys, size):
    source, out = mmsa_file(tmp_path / "file.pkl"), tmp_path / "deep" / "out"
    with full_disk(size):
        code, line = ended(capsys, "data", "prepare", "mosi", "--data", source, "--output_dir", out)
    assert code == 2 and line.startswith(f"selfmm: error: {out} cannot be written: ")
    assert os.listdir(out.parent) == []


@UNWRITTEN
def test_training_on_a_full_disk(tmp_path, capsys):
    source, out = mmsa_file(tmp_path / "file.pkl"), tmp_path / "run"
    command = (
        "train", "--dataset", "mosi", "--data", source, "--modalities", "audio", "vision", "--use_cpu", "true",
        "--report_to", "none", "--output_dir", out,
    )  # fmt: skip
    with full_disk(1000):  # of the cache of data
        code, line = ended(capsys, *command)
    assert code == 2 and re.match(rf"selfmm: error: {os.environ['HF_DATASETS_CACHE']}/\S+ cannot be written: ", line)
    load_splits("mosi", str(source))
    with full_disk(400):
        code, line = ended(capsys, *command)
    assert code == 1 and line.startswith(f"selfmm: error: {out / 'environment.json'} cannot be written: ")
    assert os.listdir(out) == ["options.yaml"]


def test_the_page_of_a_prediction_on_a_full_disk(tmp_path, capsys, model_folder):
    page = tmp_path / "page.html"
    page.write_text("an earlier one")
    with full_disk(2000):
        code, line = ended(capsys, "predict", "--text", "good", "--model", model_folder, "--html", page)
    assert code == 2 and line.startswith(f"selfmm: error: {page} cannot be written: ")
    assert page.read_text() == "an earlier one" and os.listdir(tmp_path) == ["page.html"]


def test_extracting_on_a_full_disk(tmp_path):
    folder, frames = ExtractionFolder(tmp_path), NUMBERS.reshape(-1, 10)
    with folder.locked(), full_disk():
        with pytest.raises(CannotWrite, match=r"^.*/audio/a\.npy cannot be written: "):
            folder.save_features("audio", "a", frames)
        with pytest.raises(CannotWrite, match=r"^.*/table\.csv cannot be written: "):
            folder.write_table({"id": ["a" * 200_000], "text": [""], "label": [0.0], "split": ["train"]})
    assert not (tmp_path / "audio" / "a.npy").exists() and not (tmp_path / "table.csv").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("written", ["print('x')", "print('x' * 100_000)", "print('x', flush=True)"])
def test_a_full_disk_behind_standard_output(written):
    code = f"""
import selfmm_cli as cli
from selfmm_cli.errors import end_in_one_line

@cli.app.command()
def written():
    with end_in_one_line():
        {written}

cli.main(["written"])
"""
    with open("/dev/full", "w") as full:
        ended = subprocess.run([fresh.python(), "-c", code], stdout=full, stderr=subprocess.PIPE, text=True)
    assert ended.stderr == "selfmm: error: standard output cannot be written: No space left on device.\n"
    assert ended.returncode == 1


def test_a_checkpoint_is_on_the_disk_before_older_ones_go(tmp_path, monkeypatch):
    calls = []

    def called(module, name):
        function = getattr(module, name)

        def recorded(*args, **kwargs):
            calls.append((name, sorted(path.name for path in tmp_path.glob("checkpoint-*"))))
            return function(*args, **kwargs)

        monkeypatch.setattr(module, name, recorded)

    called(checkpoints, "sync")
    called(trainer, "rotate_checkpoints")
    options = {"num_train_epochs": 3, "save_total_limit": 1, "load_best_model_at_end": False}
    trainer.SelfMMTrainer(
        model(), arguments(tmp_path, **options), train_dataset=corpus(), eval_dataset=corpus(9, 1)
    ).train()
    steps = [["checkpoint-3"], ["checkpoint-3", "checkpoint-6"], ["checkpoint-6", "checkpoint-9"]]
    assert calls == [(name, there) for there in steps for name in ("sync", "sync", "rotate_checkpoints")]
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-9"]
