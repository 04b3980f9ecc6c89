"""One training to a folder: others are refused in one line, and the processes of one training begin together."""

import json
import os
import signal
import socket
import subprocess
from unittest.mock import Mock

import fresh
import pytest
from conftest import mmsa_file

import selfmm_cli as cli
from selfmm_hf.evaluation.sweep_runs import complete
from selfmm_hf.runs.folder import FILES
from selfmm_hf.runs.options import read_options
from selfmm_hf.runs.run import Run
from selfmm_hf.storage import file_lock
from selfmm_hf.training.processes import FolderInUse, check_free, occupied

# A training that waits before its second epoch until it is told to go on.
PAUSED = """
import sys
import selfmm_cli as cli
from selfmm_hf.training import trainer

def pause(self, args, state, control, **kwargs):
    if state.epoch == 1:
        print("paused", flush=True)
        sys.stdin.readline()

trainer._Epochs.on_epoch_begin = pause
cli.main(["train", *sys.argv[1:]])
"""

# One of two processes; the second comes late to everything.
LATE = """
import os, sys, time
import selfmm_cli as cli
from selfmm_hf.runs import run
from selfmm_hf.storage import file_lock

file_lock.PATIENCE = 0
made, train = run.Run.__init__, run.Run._train

def late(method):
    def wait(self, *args, **kwargs):
        if os.environ["RANK"] == "1":
            time.sleep(1)
        return method(self, *args, **kwargs)
    return wait

run.Run.__init__, run.Run._train = late(made), late(train)
if "full" in os.environ:
    def full(*args):
        raise OSError(28, "No space left on device")
    run.write_text = full
cli.main(["train", *sys.argv[1:]])
"""


@pytest.fixture
def options(tmp_path):
    """Of a run of two epochs without text, in tmp_path/run."""
    return [
        "--dataset", "mosi", "--data", str(mmsa_file(tmp_path / "file.pkl")), "--modalities", "audio", "vision",
        "--num_train_epochs", "2", "--per_device_train_batch_size", "4", "--use_cpu", "true", "--disable_tqdm", "true",
        "--report_to", "none", "--output_dir", str(tmp_path / "run"),
    ]  # fmt: skip


@pytest.fixture
def paused(options):
    """Starts a training in another process; it has written its first checkpoint when this returns."""
    started = []

    def start(*more):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen([fresh.python(), "-c", PAUSED, *options, *more], text=True, **pipes)
        started.append(process)
        assert "paused\n" in iter(process.stdout.readline, ""), process.stderr.read()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(file_lock, "PATIENCE", 0)


def refused(capsys, *arguments):
    """The one line of a refusal."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_info:
        cli.main([*map(str, arguments)])
    assert exit_info.value.code == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("selfmm: error")]
    assert len(told) == 1
    return told[0]


def state(folder):
    paths = [path for path in folder.rglob("*") if path.name != ".lock"]  # which the attempt opens
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in paths}


def test_a_second_training_is_refused_before_it_writes_anything(tmp_path, options, paused, impatient, capsys):
    folder = tmp_path / "run"
    first = paused()
    before = state(folder)
    for more in (
        ["--convention", "paper"], ["--overwrite_output_dir"], ["--resume_from_checkpoint", "true"],
        ["--resume_from_checkpoint", folder / "checkpoint-2"],
    ):  # fmt: skip
        assert f"Another process is training in {folder}" in refused(capsys, "train", *options, *more)
    assert f"training in {folder}" in refused(capsys, "demo", "--output_dir", folder)
    with pytest.raises(FolderInUse):
        complete(folder, options[:-2], test=True)
    assert state(folder) == before
    first.communicate("go on\n", timeout=60)
    assert first.returncode == 0
    assert json.loads((folder / "all_results.json").read_text())["convention"] == "default"
    assert {*FILES, "model", "checkpoint-2", "checkpoint-4"} >= {path.name for path in folder.iterdir()}
    cli.main(["train", *options, "--overwrite_output_dir"])


def test_a_run_that_was_made_before_another_began_is_refused_when_it_trains(options, paused, impatient):
    run = Run(*read_options(options))
    other = paused()
    with pytest.raises(FolderInUse):
        run.train()
    other.communicate("go on\n", timeout=60)
    with pytest.raises(ValueError, match="holds an earlier run"):
        run.train()


def test_the_trainer_alone_keeps_its_checkpoints_apart_too(options, paused, impatient, tmp_path):
    from test_trainer import arguments, corpus, model

    from selfmm_hf.training.trainer import SelfMMTrainer

    paused()
    with pytest.raises(FolderInUse):
        SelfMMTrainer(
            model(),
            arguments(tmp_path / "run", save_strategy="epoch"),
            train_dataset=corpus(),
            eval_dataset=corpus(9, 1),
        ).train()


def test_a_killed_training_leaves_its_folder_free(options, paused):
    """Though its workers, which live on for some seconds, have inherited the lock."""
    first = paused("--dataloader_num_workers", "2")
    os.kill(first.pid, signal.SIGKILL)
    cli.main(["train", *options, "--resume_from_checkpoint", "true"])


def test_a_folder_may_be_taken_again_by_who_has_it(tmp_path):
    folder = tmp_path / "new"
    check_free(folder)
    assert not folder.exists()
    with occupied(folder):
        with occupied(folder):
            check_free(folder)
        assert not is_free_for_others(folder)
    assert is_free_for_others(folder)
    assert not list(folder.iterdir())


def is_free_for_others(folder):
    code = f"from filelock import FileLock; FileLock({str(folder / '.lock')!r}).acquire(timeout=0)"
    free = subprocess.run([fresh.python(), "-c", code], capture_output=True).returncode == 0
    if free:
        (folder / ".lock").unlink()
    return free


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(37, "No locks available"),
                                   NotImplementedError("no flock")])  # fmt: skip
def test_a_folder_without_locks_is_told(options, tmp_path, monkeypatch, capsys, error):
    monkeypatch.setattr(file_lock, "_lock", lambda file: Mock(is_locked=False, acquire=Mock(side_effect=error)))
    line = refused(capsys, "train", *options)
    assert str(tmp_path / "run") in line and str(error) in line and "file system with locks" in line


def two_processes(options, **environment):
    """Exit statuses, and what both have written to their stderr that is a line of selfmm."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1", **environment}
    processes = [
        subprocess.Popen(
            [fresh.python(), "-c", LATE, *options],
            env=os.environ | world | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    written = [process.communicate(timeout=120)[1] for process in processes]
    assert "Traceback" not in "".join(written), "".join(written)
    lines = [line for one in written for line in one.splitlines() if line.startswith("selfmm")]
    return [process.returncode for process in processes], lines


def test_a_process_that_comes_late_does_not_take_its_own_run_for_an_earlier_one(tmp_path, options, impatient):
    assert two_processes(options) == ([0, 0], [])
    assert (tmp_path / "run" / "all_results.json").exists()
    statuses, lines = two_processes(options)
    assert statuses == [2, 2] and len(lines) == 1 and "holds an earlier run" in lines[0]


def test_what_the_first_process_cannot_write_ends_all(options):
    statuses, lines = two_processes(options, full="1")
    assert statuses == [1, 1] and len(lines) == 1 and "No space left on device" in lines[0]
