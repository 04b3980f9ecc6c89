"""
Kills training and resumes it, again and again, and compares the result with a run that was left alone.

    python benchmarks/kill_and_resume.py --processes 2 --kills 20

Trains on a small part of the synthetic corpus, with early stopping. The first process is killed (SIGKILL, as by a
system that runs out of memory or time) when it is about to write, move or delete some file of the run, chosen at
random, also in the middle of a checkpoint. Every third time, all processes are killed after a random time instead. Each
run continues by `--resume_from_checkpoint true`. The last one may end, and must leave the same files. Prints what was
killed when, how much training was lost, and what differs; the exit status is 1 if anything does.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "OMP_NUM_THREADS": "1"}
ROOT = Path(__file__).resolve().parents[1]
SAMPLES = {"train": 30, "validation": 9, "test": 11}  # steps of 8: the last of an epoch is not full
SAME_FILES = ("all_results.json", "predictions.parquet", "pseudo_labels.parquet", "model/model.safetensors")
WRITING = os.O_WRONLY | os.O_RDWR


def options(folder: Path, processes: int) -> list[str]:
    return [
        *("--config", str(ROOT / "hub_configs" / "demo.yaml"), "--output_dir", str(folder), "--use_cpu", "true"),
        *("--per_device_train_batch_size", str(4 // processes), "--gradient_accumulation_steps", "2"),
        *("--learning_rate", "0.01", "--num_train_epochs", "9", "--early_stopping_patience", "2"),
        *("--disable_tqdm", "true", "--resume_from_checkpoint", "true" if folder.exists() else "false"),
    ]


def die_at(event: int, folder: Path, note: Path) -> None:
    """Makes this process kill itself when it is about to change a file in `folder` for the `event`-th time."""
    count = 0

    def hook(name: str, args: tuple) -> None:
        nonlocal count
        changes = name in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree", "shutil.copyfile")
        changes |= name == "open" and isinstance(args[2], int) and bool(args[2] & WRITING)
        paths = [os.path.abspath(os.fsdecode(one)) for one in args[:2] if isinstance(one, str | bytes | os.PathLike)]
        inside = [os.path.relpath(path, folder) for path in paths if path.startswith(f"{folder}{os.sep}")]
        if not changes or not inside:
            return
        count += 1
        if count == event:
            verb = "writing" if name in ("open", "shutil.copyfile") else name.partition(".")[2]
            os.write(os.open(note, os.O_CREAT | os.O_WRONLY), f"{verb} {inside[0]}".encode())
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def run(folder: Path, processes: int, event: int | None = None, seconds: float | None = None) -> str | None:
    """
    Trains in processes forked from this one, which has loaded all libraries.

    Returns:
        What was going on when they were killed; `None` if they ended by themselves.
    """
    note = folder.with_suffix(".note")
    note.unlink(missing_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    resumed = options(folder, processes)
    children = []
    for rank in range(processes):
        if child := os.fork():
            children.append(child)
            continue
        if processes > 1:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        try:
            with open(folder.with_suffix(f".{rank}.log"), "ab") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            if event is not None and rank == 0:
                die_at(event, folder, note)
            from selfmm_cli import main

            main(["train", *resumed])
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    started, statuses = time.monotonic(), {}
    while len(statuses) < len(children):
        for child in set(children) - statuses.keys():
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                statuses[child] = os.waitstatus_to_exitcode(status)
        late = seconds is not None and time.monotonic() > started + seconds
        if late or any(statuses.values()):  # as the launchers of several processes do
            for child in set(children) - statuses.keys():
                os.kill(child, signal.SIGKILL)
        time.sleep(0.01)
    if not any(statuses.values()):
        return None
    if event is not None and note.exists():
        return note.read_text("utf-8")
    if seconds is not None and set(statuses.values()) <= {0, -signal.SIGKILL}:
        return f"after {seconds:.1f} s"
    logs = {rank: folder.with_suffix(f".{rank}.log").read_text("utf-8")[-2000:] for rank in range(processes)}
    raise SystemExit("A process failed by itself. " + "".join(f"\nThe end of log {one}:\n{logs[one]}" for one in logs))


def step_of(checkpoint: Path | None) -> int:
    return 0 if checkpoint is None else int(checkpoint.name.rpartition("-")[2])


def differences(folder: Path, expected: Path) -> list[str]:
    different = [name for name in SAME_FILES if (folder / name).read_bytes() != (expected / name).read_bytes()]
    curves = []
    for one in (folder, expected):
        history = json.loads((one / "trainer_state.json").read_text("utf-8"))["log_history"]
        timed = ("runtime", "per_second", "total_flos", "train_loss")
        curves.append([{k: v for k, v in entry.items() if not k.endswith(timed)} for entry in history])
    return different + (["the losses in trainer_state.json"] if curves[0] != curves[1] else [])


def kill_and_resume(folder: Path, processes: int, kills: int, seed: int) -> list[str]:
    """
    Does one undisturbed run, and one that is killed so many times; runs that end before that are begun again.

    Returns:
        What differs between their files.
    """
    from selfmm_hf.data import synthetic as demo
    from selfmm_hf.training.checkpoints import last_whole

    demo.SIZES = SAMPLES
    if not (child := os.fork()):  # the first to need the corpus renders it, which would count as training
        demo.demo_corpus()
        os._exit(0)
    os.waitpid(child, 0)
    undisturbed, folder = folder / "undisturbed", folder / "killed"
    began = time.monotonic()
    if run(undisturbed, processes):
        raise SystemExit("The undisturbed run was disturbed.")
    duration = time.monotonic() - began
    chance, different, lost = random.Random(seed), [], 0
    print(f"Processes: {processes}. Undisturbed: {duration:.0f} s.\n")
    print("| killed | whole before, step | whole after, step |\n|---|---|---|")
    while kills > 0:
        before = step_of(last_whole(folder)) if folder.exists() else 0
        if kills % 3:
            killed = run(folder, processes, event=chance.randint(1, 60))
        else:
            killed = run(folder, processes, seconds=chance.uniform(0.2, 0.8) * duration)
        if killed is None:  # it had less to do than that
            different += differences(folder, undisturbed)
            shutil.rmtree(folder)
            continue
        after = step_of(last_whole(folder)) if folder.exists() else 0
        lost += after < before
        print(f"| {killed} | {before} | {after} |", flush=True)
        kills -= 1
    if run(folder, processes):
        raise SystemExit("The last run was disturbed.")
    different += differences(folder, undisturbed)
    return different + [f"whole checkpoints lost {lost} times"] * bool(lost)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=1, choices=[1, 2, 4])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    import torch

    import selfmm_hf.runs.run  # noqa: F401 - loaded once, before processes are forked

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        different = kill_and_resume(Path(folder).resolve(), given.processes, given.kills, given.seed)
    print("different: " + ", ".join(different) if different else "All files equal those of the undisturbed run.")
    raise SystemExit(1 if different else 0)


if __name__ == "__main__":
    main()
