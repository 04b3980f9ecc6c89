"""Whole checkpoints: what is taken for one, what is left of an interrupted one, and how a killed run goes on."""

import os
import resource
import shutil
import subprocess
import tempfile
from pathlib import Path

import fresh
import pytest
import torch
from test_trainer import arguments, assert_same, corpus, model, state_of
from transformers import TrainerCallback

from selfmm_hf.training import checkpoints
from selfmm_hf.training.checkpoints import CheckpointError
from selfmm_hf.training.trainer import PSEUDO_LABELS_FILE, SelfMMTrainer

KILL_AND_RESUME = Path(__file__).resolve().parents[1] / "benchmarks" / "kill_and_resume.py"


def trainer(folder, *callbacks, rows=None, **options):
    options = {"num_train_epochs": 3, "save_total_limit": None, **options}
    return SelfMMTrainer(
        model(dropout=0.1),
        arguments(folder, **options),
        train_dataset=rows or corpus(),
        eval_dataset=corpus(9, 1),
        callbacks=list(callbacks),
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run of three epochs, with a checkpoint of each, to be copied."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    trainer(folder).train()
    return folder


@pytest.fixture
def run(trained, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def names(folder):
    return [path.name for path in checkpoints.checkpoints(folder)]


def cut(file):
    file.write_bytes(file.read_bytes()[:-1])


def test_checkpoints_of_a_run_are_whole(run):
    assert names(run) == ["checkpoint-3", "checkpoint-6", "checkpoint-9"]
    assert [checkpoints.fault(path) for path in checkpoints.checkpoints(run)] == [None] * 3
    assert checkpoints.last_whole(run) == run / "checkpoint-9"
    (run / "checkpoint-best").mkdir()
    (run / "checkpoint-12").write_text("no folder")
    assert checkpoints.last_whole(run) == run / "checkpoint-9"
    assert checkpoints.last_whole(run / "nowhere") is None


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "config.json",
                                  PSEUDO_LABELS_FILE, "trainer_state.json", checkpoints.MANIFEST])  # fmt: skip
@pytest.mark.parametrize("spoil", [cut, Path.unlink, lambda file: file.write_bytes(b"")])
def test_a_checkpoint_that_lacks_anything_is_not_whole(run, file, spoil):
    spoil(run / "checkpoint-9" / file)
    if spoil is cut and file in ("trainer_state.json", checkpoints.MANIFEST):
        spoil(run / "checkpoint-9" / file)  # the end of a line is nothing yet
    assert file in checkpoints.fault(run / "checkpoint-9")
    assert checkpoints.last_whole(run) == run / "checkpoint-6"
    again = trainer(run)
    with pytest.raises(CheckpointError, match=r"checkpoint-9 is not a complete checkpoint"):
        again.train(resume_from_checkpoint=str(run / "checkpoint-9"))


def test_true_takes_the_last_whole_one_and_ends_as_the_undisturbed_run_does(run, tmp_path):
    whole = trainer(tmp_path / "undisturbed")
    whole.train()
    cut(run / "checkpoint-9" / "optimizer.pt")
    again = trainer(run)
    again.train(resume_from_checkpoint=True)
    assert_same(state_of(whole), state_of(again))
    assert checkpoints.fault(run / "checkpoint-9") is None  # it was written anew


def test_nothing_whole_is_said(tmp_path):
    with pytest.raises(CheckpointError, match="no complete checkpoint in"):
        trainer(tmp_path).train(resume_from_checkpoint=True)


def test_a_checkpoint_that_is_written_anew_does_not_count_meanwhile(run):
    """From an earlier checkpoint on, the later ones are written again, file by file over the old."""

    class Interrupted(Exception):
        pass

    class Interrupting(SelfMMTrainer):
        def _save_optimizer_and_scheduler(self, output_dir):
            raise Interrupted

    again = Interrupting(
        model(dropout=0.1), arguments(run, num_train_epochs=3), train_dataset=corpus(), eval_dataset=corpus(9, 1)
    )
    with pytest.raises(Interrupted):
        again.train(resume_from_checkpoint=str(run / "checkpoint-3"))
    assert checkpoints.fault(run / "checkpoint-6") == "it was not written to its end"
    assert checkpoints.clear(run) == [] and names(run) == ["checkpoint-3", "checkpoint-6", "checkpoint-9"]
    assert trainer(run).train(resume_from_checkpoint=True).global_step == 9


def weights(folder):
    """The weights in a folder, by what holds them, and when it was written."""
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("model.safetensors")}


def test_weights_alone_are_refused_and_kept(tmp_path):
    one = trainer(tmp_path, save_only_model=True, save_total_limit=2, learning_rate=0.0)  # best: the first
    one.train()
    assert names(tmp_path) == ["checkpoint-3", "checkpoint-9"]  # those of any other run
    before = weights(tmp_path)
    assert len(before) == 2 and all(checkpoints.has_weights(path) for path in checkpoints.checkpoints(tmp_path))
    for wanted in (True, str(tmp_path / "checkpoint-9")):
        message = "checkpoint-9 is not a complete checkpoint.*weights alone, as save_only_model.*in another output_dir"
        with pytest.raises(CheckpointError, match=message):
            trainer(tmp_path, save_only_model=True).train(resume_from_checkpoint=wanted)
    assert weights(tmp_path) == before


def add_file(checkpoint):
    (checkpoint / "notes.txt").write_text("mine")


def of_plain_trainer(checkpoint):
    (checkpoint / checkpoints.MANIFEST).unlink()


def of_another_version(checkpoint):
    (checkpoint / checkpoints.MANIFEST).write_text('{"version": 2, "files": ["model.safetensors"]}')


def test_another_version_is_told(run):
    of_another_version(run / "checkpoint-9")
    assert checkpoints.fault(run / "checkpoint-9") == "files.json is of another version"


def of_no_map(checkpoint):
    (checkpoint / checkpoints.MANIFEST).write_text('["model.safetensors"]')


def without_optimizer(checkpoint):
    (checkpoint / "optimizer.pt").unlink()


def with_cut_labels(checkpoint):
    cut(checkpoint / PSEUDO_LABELS_FILE)


def from_the_hub(checkpoint):
    for path in checkpoint.iterdir():
        if path.name not in ("model.safetensors", "config.json"):
            path.unlink()


def pickled(checkpoint):
    from_the_hub(checkpoint)
    (checkpoint / "model.safetensors").unlink()
    torch.save({"weight": torch.ones(3)}, checkpoint / "pytorch_model.bin")


KINDS = [of_plain_trainer, of_another_version, of_no_map, without_optimizer, with_cut_labels, from_the_hub, pickled]


def test_a_file_more_changes_nothing(run):
    add_file(run / "checkpoint-9")
    assert checkpoints.fault(run / "checkpoint-9") is None and checkpoints.clear(run) == []
    assert (run / "checkpoint-9" / "notes.txt").exists()


@pytest.mark.parametrize("spoil", KINDS)
def test_whole_weights_are_never_deleted_nor_written_over(run, spoil):
    """Whoever wrote them, and whatever else the checkpoint lacks."""
    spoil(run / "checkpoint-9")
    file = next(path for path in (run / "checkpoint-9").iterdir() if "model" in path.name)
    content = file.read_bytes()
    assert len(checkpoints.clear(run)) == 1
    assert names(run) == ["checkpoint-3", "checkpoint-6"]  # `Trainer` counts no more
    assert (run / "kept-checkpoint-9" / file.name).read_bytes() == content
    assert trainer(run, save_total_limit=1).train(resume_from_checkpoint=True).global_step == 9
    assert (run / "kept-checkpoint-9" / file.name).read_bytes() == content
    spoil(run / "checkpoint-9")
    assert "checkpoint-9 is renamed to kept-checkpoint-9-2, as no run can resume from it: " in checkpoints.clear(run)[0]
    assert (run / "kept-checkpoint-9").is_dir() and (run / "kept-checkpoint-9-2").is_dir()


@pytest.mark.parametrize("spoil", KINDS)
def test_a_run_of_which_only_weights_are_left_does_not_begin_anew(run, spoil):
    for checkpoint in checkpoints.checkpoints(run):
        spoil(checkpoint)
    before = weights(run)
    with pytest.raises(CheckpointError, match=r"checkpoint-9 is not a complete .*Its weights are complete and are"):
        checkpoints.to_resume(run)
    assert weights(run) == before


@pytest.mark.parametrize("spoil", [cut, Path.unlink, lambda file: file.write_bytes(b"")])
def test_torn_weights_are_deleted(run, spoil):
    spoil(run / "checkpoint-9" / "model.safetensors")
    assert "checkpoint-9 was incomplete and is deleted" in checkpoints.clear(run)[0]
    assert names(run) == ["checkpoint-3", "checkpoint-6"] and not list(run.glob("kept-*"))


def test_a_moved_run_ends_with_its_best_model(run, tmp_path):
    """`Trainer` remembers the best checkpoint by its path, and would go on with the last one."""
    moved, options = tmp_path / "elsewhere", {"greater_is_better": True, "num_train_epochs": 6}  # best: the first
    before = trainer(tmp_path / "undisturbed", **options)
    before.train()
    assert before.state.best_global_step < before.state.global_step
    shutil.move(tmp_path / "undisturbed", moved)
    again = trainer(moved, **options)
    again.train(resume_from_checkpoint=True)
    assert_same(state_of(before), state_of(again))

    best = moved / f"checkpoint-{before.state.best_global_step}"
    without_optimizer(best)  # of which nothing but its weights is needed
    assert len(checkpoints.clear(moved)) == 1 and not best.exists()
    again = trainer(moved, **options)
    again.train(resume_from_checkpoint=True)
    assert_same(state_of(before), state_of(again))

    cut(checkpoints.aside(best) / "model.safetensors")
    with pytest.raises(CheckpointError, match="best checkpoint"):
        trainer(moved, **options).train(resume_from_checkpoint=True)


def test_a_run_that_stopped_early_is_over(tmp_path):
    options = {"learning_rate": 0.0, "num_train_epochs": 20, "early_stopping_patience": 2}
    one = trainer(tmp_path, **options)
    one.train()
    again = trainer(tmp_path, **options)
    args = again.args
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == one.state.global_step == 9
    assert args.num_train_epochs == 20  # which may be those of another trainer, too
    assert len(again.pseudo_labels.history) == 3


def test_another_run_is_refused(run):
    rows = corpus()
    rows[4] = {**rows[4], "label": rows[4]["label"] - 0.1}
    with pytest.raises(ValueError, match="another training set"):
        trainer(run, rows=rows).train(resume_from_checkpoint=True)
    with pytest.raises(ValueError, match="another training set"):
        trainer(run, rows=rows[:-1]).train(resume_from_checkpoint=True)
    with pytest.raises(CheckpointError, match=r"8 samples per step.*this one has 4"):
        trainer(run, gradient_accumulation_steps=1).train(resume_from_checkpoint=True)


class AtSecondSave(TrainerCallback):
    """Does something once the first checkpoint is there."""

    def __init__(self, act):
        self.act = act

    def on_save(self, args, state, control, **kwargs):
        if state.global_step == 3:
            self.act()


@pytest.mark.parametrize("limit", [2_000, 20_000, 50_000])  # bytes: in the configuration, the weights, the optimizer
def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path, limit):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)  # the nearest to a full disk that a test may have
    one = trainer(tmp_path, AtSecondSave(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))))
    try:
        with pytest.raises(CheckpointError, match=r"checkpoint-6 cannot be written: .*checkpoint-3 is complete"):
            one.train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == ["checkpoint-3"] and checkpoints.fault(tmp_path / "checkpoint-3") is None
    again = trainer(tmp_path)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 9


@pytest.mark.parametrize("error", [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    torch.distributed.DistBackendError("NCCL error in: ProcessGroupNCCL.cpp:2251, unhandled system error"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:29500"),
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    ConnectionResetError(104, "Connection reset by peer"), TimeoutError("The store did not answer"),
    OSError(12, "Cannot allocate memory"), MemoryError("no more"), NotImplementedError("aten::foo on MPS"),
])  # fmt: skip
def test_what_goes_wrong_with_memory_or_other_processes_is_not_the_disk(tmp_path, error):
    with pytest.raises(type(error)) as raised, checkpoints.written(tmp_path / "checkpoint-3", begins=True):
        raise error
    assert raised.value is error
    assert checkpoints.fault(tmp_path / "checkpoint-3") == "it was not written to its end"


def test_a_folder_that_became_read_only(monkeypatch):
    folder = Path(tempfile.mkdtemp())
    try:
        one = trainer(folder, AtSecondSave(lambda: folder.chmod(0o500)))
        if os.getuid() == 0:  # who may write anywhere
            os.chown(folder, 65534, 65534)
            os.seteuid(65534)
        with pytest.raises(CheckpointError, match=r"checkpoint-6 cannot be written: .*Permission denied"):
            one.train()
        assert names(folder) == ["checkpoint-3"] and checkpoints.fault(folder / "checkpoint-3") is None
    finally:
        os.seteuid(os.getuid())
        shutil.rmtree(folder)


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_runs_end_as_an_undisturbed_one(processes):
    """SIGKILL at random moments, most of them in the middle of writing a checkpoint: see the script."""
    command = [fresh.python(), KILL_AND_RESUME, "--processes", str(processes), "--kills", "4", "--seed", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All files equal" in done.stdout and done.stdout.count("\n| ") == 5
    assert "checkpoint-" in done.stdout


MIXED = """
import sys
sys.path.insert(0, sys.argv[1])
from test_trainer import SelfMMTrainer, arguments, corpus, model, torch
trainer = SelfMMTrainer(model(), arguments(sys.argv[2], num_train_epochs=3), train_dataset=corpus(),
                        eval_dataset=corpus(9, 1))
assert trainer.accelerator.mixed_precision == "bf16"
dtypes = set()
trainer.model.heads["fusion"].dense_2.register_forward_hook(lambda module, inputs, output: dtypes.add(output.dtype))
trainer.train()
assert dtypes == {torch.bfloat16}, dtypes
labels = trainer.pseudo_labels
assert labels.centres("fusion").dtype == torch.float32 and labels._sums["fusion"].dtype == torch.float64
torch.save({name: value.float() for name, value in labels.state_dict().items()}, sys.argv[2] + "/labels.pt")
"""


def test_mixed_precision_is_set_by_the_launcher_and_the_bookkeeping_stays_float32(tmp_path):
    script = tmp_path / "mixed.py"
    script.write_text(MIXED)
    command = [fresh.python(), "-m", "accelerate.commands.launch", "--cpu", "--mixed_precision", "bf16",
               "--num_processes", "1", "--num_machines", "1", "--dynamo_backend", "no"]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command += [script, Path(__file__).parent, tmp_path]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    reference = SelfMMTrainer(
        model(), arguments(tmp_path / "float32", num_train_epochs=3), train_dataset=corpus(), eval_dataset=corpus(9, 1)
    )
    reference.train()
    mixed = torch.load(tmp_path / "labels.pt")
    for task in ("text", "audio", "vision"):
        exact = reference.pseudo_labels.labels[task]
        assert (mixed[f"labels.{task}"] - exact).abs().mean() < 0.05
        assert mixed[f"features.{task}"].isfinite().all()
