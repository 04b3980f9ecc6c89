"""What does training need for as many utterances as a cluster extracts?

    python benchmarks/many_utterances.py [--utterances 10000 100000 1000000] [--folder DIR]

Writes a data set as `selfmm extract --engine ray` leaves it: Parquet files of 10,000 utterances each, those of the
corpus "balanced" of corpora.py, written again and again under other ids. Then it runs `selfmm data inspect`, and one
epoch of `selfmm train` with a small text encoder, each in a process of its own.

Prints the size of the files, and for each command the seconds of CPU, the seconds that passed, and the peak memory in
MB: all that is resident, which counts pages of mapped files. A training writes all that any run writes: checkpoints,
the predictions and generated labels of all utterances, and the model. A million utterances need 12 GB of disk.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from corpora import FAMILY, make, write_encoder
from datasets import Dataset
from tqdm import tqdm

from selfmm_hf.data.columns import features

SHARD = 10_000
SPLITS = {"train": "train", "valid": "validation", "test": "test"}
SEQUENCES = ("audio", "vision")


def shard(split: dict) -> pa.Table:
    """Returns the clips of a split, without padding, as the table of a Parquet file."""
    frames = {
        name: [of[:length] for of, length in zip(split[name], split[f"{name}_lengths"], strict=True)]
        for name in SEQUENCES
    }
    columns = {"id": split["id"], "text": split["raw_text"], **frames, "label": split["regression_labels"]}
    kinds = features({name: split[name].shape[-1] for name in SEQUENCES})
    return Dataset.from_dict(columns, kinds).data.table.replace_schema_metadata(kinds.arrow_schema.metadata)


def write(folder: Path, utterances: int) -> None:
    """Writes the Parquet files: this many utterances to train on, 2,000 or fewer for validation, and 4,000 for test."""
    folder.mkdir()
    file, _ = make(replace(FAMILY["balanced"], clips=min(SHARD, utterances)))
    for name, split in SPLITS.items():
        table = shard(file[name])
        copies = -(-utterances // SHARD) if split == "train" else 1
        for number in tqdm(range(copies), desc=f"Writing {split}", unit="file", delay=2, leave=False):
            rows = table.slice(0, utterances - number * SHARD) if split == "train" else table
            ids = pa.array(f"{number}/{one}" for one in rows["id"].to_pylist())
            pq.write_table(rows.set_column(0, "id", ids), folder / f"{split}-{number:05}.parquet")


def measure(*arguments: str, cache: Path) -> tuple[float, float, float]:
    """Runs `selfmm`: seconds of CPU, seconds that passed, and the peak of the memory in MB."""
    began = time.perf_counter()
    command = [sys.executable, "-c", "from selfmm_cli import main; main()", *arguments]
    process = subprocess.Popen(command, env=os.environ | {"HF_DATASETS_CACHE": str(cache)}, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"selfmm {' '.join(arguments)} failed")
    return used.ru_utime + used.ru_stime, time.perf_counter() - began, used.ru_maxrss * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, help="where the data lie; by default where temporary files do")
    args = parser.parse_args()
    print(f"{'utterances':>12} {'files, MB':>10}  {'command':14} {'CPU s':>8} {'s':>8} {'peak MB':>8}")
    for utterances in args.utterances:
        with tempfile.TemporaryDirectory(dir=args.folder) as name:
            folder = Path(name)
            write_encoder(folder / "encoder")
            write(folder / "data", utterances)
            size = sum(file.stat().st_size for file in (folder / "data").iterdir()) / 1e6
            given = ["--dataset", "custom", "--data", str(folder / "data"), "--text_encoder", str(folder / "encoder")]
            fixed = ["--num_train_epochs", "1", "--use_cpu", "true", "--disable_tqdm", "true"]
            commands = {
                "data inspect": ["data", "inspect", str(folder / "data")],
                "train": ["train", *given, *fixed, "--output_dir", str(folder / "run")],
            }
            for command, arguments in commands.items():
                cpu, passed, peak = measure(*arguments, cache=folder / "cache")
                print(f"{utterances:12,} {size:10,.0f}  {command:14} {cpu:8.0f} {passed:8.0f} {peak:8,.0f}", flush=True)


if __name__ == "__main__":
    main()
