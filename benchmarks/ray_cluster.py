"""Does a Ray cluster give the same features as one machine, how much longer does it take, and does it lose clips?

    python benchmarks/ray_cluster.py [--clips 2000] [--workers 1 2] [--nodes 2] [--repeats 3] [--parts speed]
    python benchmarks/ray_cluster.py --parts rows [--rows 2000 200000]

Extracts generated sounds of a second with both engines, in turn, with the same number of processes. Prints medians: the
seconds for five clips, nearly all of them start-up, the clips per second of the rest, and how much longer Ray takes
for the rest and in all. Prints the largest difference of any feature as well.

Then a cluster of several nodes on this machine loses one half-way, and a command is killed half-way and started again:
prints how many clips are lost, and how many are there twice. Last come long tables of clips that are missing, so that
only the way through the cluster takes time: prints seconds to the first result, rows per second and the peak memory of
the command. Exit status 0 if no clip is lost or there twice, and the features are the same.
"""

import argparse
import csv
import os
import signal
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import ray
from ray.cluster_utils import Cluster

from selfmm_hf.clips.extract import extract_clips
from selfmm_hf.cluster.features import Extraction
from selfmm_hf.cluster.run import Counts, run_on_cluster
from selfmm_hf.data import load_splits
from selfmm_hf.model.feature_extraction_selfmm import SelfMMFeatureExtractor

RATE = 16000
PARTS = ["speed", "node", "command", "rows"]
NONE = "0 lost, 0 twice"
FEW = 5  # clips, of all splits


def hoots(pitch: float) -> np.ndarray:
    """Makes a second of sound that counts as a voice: four hoots, and silence between them."""
    times = np.arange(RATE) / RATE
    return (9000 * np.sign(np.sin(2 * np.pi * pitch * times)) * (times * 4 % 1 < 0.6)).astype(np.int16)


def write_clips(root: Path, count: int) -> None:
    (root / "clips").mkdir()
    for number in range(count):
        with wave.open(str(root / "clips" / f"{number}.wav"), "wb") as sound:
            sound.setparams((1, 2, RATE, 0, "NONE", None))
            sound.writeframes(hoots(150 + number % 97).tobytes())


def write_table(root: Path, count: int) -> Path:
    """Writes the table of the first clips."""
    path = root / f"{count}.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "clip", "text", "label", "split"])
        for number in range(count):
            split = ("train", "train", "train", "dev", "test")[number % 5]
            table.writerow([number, f"{number}.wav", "words", number % 7 - 3, split])
    return path


def on_machine(root: Path, table: Path, out: Path, workers: int) -> None:
    extract_clips(root / "clips", table, out, SelfMMFeatureExtractor(vision=None), workers=workers)


def on_cluster(root: Path, table: Path, out: Path, workers: int, tell=lambda counts: None) -> None:
    work = Extraction(SelfMMFeatureExtractor(vision=None))
    run_on_cluster(str(root / "clips"), str(table), str(out), work, workers=workers, tell=tell)


def seconds(function, *arguments) -> float:
    begin = time.monotonic()
    function(*arguments)
    return time.monotonic() - begin


def largest_difference(one: Path, other: Path) -> float:
    splits, others = load_splits("custom", str(one)), load_splits("custom", str(other))
    largest = 0.0
    for split, samples in splits.items():
        theirs = others[split]["audio"][:]
        rows = {name: row for row, name in enumerate(others[split]["id"])}
        for name, frames in zip(samples["id"], samples["audio"][:], strict=True):
            largest = max(largest, float(np.abs(np.asarray(frames) - np.asarray(theirs[rows.pop(name)])).max()))
        assert not rows, f"{len(rows)} clips are only in {other}"
    return largest


def compare_engines(root: Path, clips: int, counts: list[int], repeats: int) -> float:
    """Prints how fast the engines are with so many processes; returns the largest difference of a feature."""
    engines = {"one machine": on_machine, "Ray": on_cluster}
    first, everything = write_table(root, FEW), write_table(root, clips)
    for workers in counts:
        starts, rests = {name: [] for name in engines}, {name: [] for name in engines}
        for repeat in range(repeats):
            for name, engine in engines.items():
                out = root / f"{name} {workers} {repeat}"
                starts[name].append(seconds(engine, root, first, out.with_suffix(".first"), workers))
                rests[name].append(seconds(engine, root, everything, out, workers) - starts[name][-1])
        here = np.array([starts["one machine"], rests["one machine"]])
        for name in engines:
            times = np.array([starts[name], rests[name]])
            start, rest = np.median(times, axis=1)
            longer = [np.median(times[1] / here[1]), np.median(times.sum(0) / here.sum(0))]
            print(
                f"{workers} processes, {name}: {FEW} clips after {start:.0f} s, then {(clips - FEW) / rest:.1f} "
                f"clips/s; {longer[0]:.2f} times as long for these as one machine, {longer[1]:.2f} times in all "
                f"(median of {repeats})",
                flush=True,
            )
    largest = largest_difference(*(root / f"{name} {counts[-1]} 0" for name in engines))
    print(f"largest difference of a feature: {largest:g}", flush=True)
    return largest


def faults(out: Path, clips: int) -> str:
    """Says how many clips are lost, and how many are there twice."""
    ids = [one for file in out.glob("*-*.parquet") for one in pq.read_table(file, columns=["id"])["id"].to_pylist()]
    return f"{clips - len(set(ids))} lost, {len(ids) - len(set(ids))} twice"


def lose_a_node(root: Path, out: Path, nodes: int, clips: int) -> str:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    others = [cluster.add_node(num_cpus=1) for _ in range(nodes - 1)]
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")

    def kill(counts: Counts) -> None:
        if others and counts.done >= clips // 2:
            cluster.remove_node(others.pop(), allow_graceful=False)

    try:
        on_cluster(root, write_table(root, clips), out, nodes, kill)
    finally:
        ray.shutdown()
        cluster.shutdown()
    return faults(out, clips)


def extract_command(root: Path, table: Path, out: Path) -> list[str]:
    """The command that extracts the clips in `root` that a table names, on a cluster."""
    command = [sys.executable, "-m", "selfmm_cli", "extract", root / "clips", "--table", table,
               "--output_dir", out, "--vision", "none", "--engine", "ray"]  # fmt: skip
    return [*map(str, command)]


def kill_the_command(root: Path, out: Path, clips: int) -> str:
    command = extract_command(root, write_table(root, clips), out)
    first = subprocess.Popen(command, start_new_session=True)
    while len(list(out.glob("train-*.parquet"))) < max(1, clips // 256) and first.poll() is None:
        time.sleep(0.05)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    subprocess.run(command, check=True)
    return faults(out, clips)


def many_rows(root: Path, rows: int) -> str:
    """Says what a table of so many rows needs."""
    table, out = root / f"missing-{rows}.csv", root / f"missing-{rows}"
    with table.open("w", encoding="utf-8") as file:
        file.write("id,clip,text,label,split\n")
        file.writelines(f"{row},missing-{row}.wav,words,0,train\n" for row in range(rows))
    began = time.monotonic()
    process = subprocess.Popen(extract_command(root, table, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not any(out.glob("failures-*.parquet")):
        time.sleep(0.05)
    first = time.monotonic() - began
    _, _, used = os.wait4(process.pid, 0)
    passed = time.monotonic() - began
    reasons = [pq.read_metadata(file).num_rows for file in out.glob("failures-*.parquet")]
    assert sum(reasons) == rows, f"{sum(reasons)} rows of {rows} came back"
    return (
        f"{rows} rows: the first after {first:.0f} s, all after {passed:.0f} s, {rows / (passed - first):.0f} rows/s, "
        f"at most {used.ru_maxrss * 1024 / 1e6:.0f} MB in the command"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=int, nargs="+", default=[2000, 200_000], help="lengths of tables")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_clips(root, args.clips)
        fine = True
        if "speed" in args.parts:
            fine = compare_engines(root, args.clips, args.workers, args.repeats) <= 1e-6
        if "node" in args.parts:
            found = lose_a_node(root, root / "node", args.nodes, args.clips)
            print(f"a node of {args.nodes} killed half-way: {found}", flush=True)
            fine = fine and found == NONE
        if "command" in args.parts:
            found = kill_the_command(root, root / "command", args.clips)
            print(f"the command killed and started again: {found}", flush=True)
            fine = fine and found == NONE
        for rows in args.rows if "rows" in args.parts else ():
            print(many_rows(root, rows), flush=True)
    sys.exit(int(not fine))


if __name__ == "__main__":
    main()
