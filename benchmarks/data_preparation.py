"""What does it take to prepare, load and train on a data set of CMU-MOSEI's size, compared with the official loader?

    python benchmarks/data_preparation.py [--reference DIR] [--rows 16326 1871 4659] [--scale 1] [--folder DIR]
    python benchmarks/data_preparation.py --dataset iemocap      # preparing and loading alone

Generates a feature file in the MMSA layout with the splits and shapes of CMU-MOSEI, 8.5 GB, in a temporary folder in
--folder, and runs each step in a process of its own, one after the other: the official loader (`data/load_data.py`
of --reference, a checkout of thuiar/Self-MM, configured as in official.py; not run if it needs more memory than is
free), `prepare`, `load_splits` with and without a cache, two epochs of the input pipeline in random order, one epoch of
training with a tiny text encoder, and as many steps on the first 256 clips alone.

Frames are normal noise, which compresses like no real data, and zeros after the clip's length. Lengths are lognormal;
their means, 146 audio and 109 vision frames of 500 and 25 tokens of 50, are assumptions: the real file was not there.

Prints for each step the seconds it took without imports, and the peak memory of its process in MB (10^6 bytes): all
that is resident, which counts pages of mapped files, and the anonymous part, polled every 20 ms. Then whether the
requirements are met: `prepare` peaks at no more than 1000 MB beyond the arrays of the largest split that it reads, and
training on all clips takes less than 500 MB more than training the same model on 256. Exit status 0 if so.

With --dataset iemocap, the file is like MulT's iemocap_data_noalign.pkl: 2717 / 798 / 938 clips of 20 x 300 word
vectors, 400 x 74 audio and 500 x 35 vision frames in float64, 1.9 GB, padded in front. The lengths are assumptions,
too.

The official loader opens pickles with full trust; here it gets a file that was just made.
"""

import argparse
import json
import math
import os
import pickle
import platform
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "valid", "test")
FEW = 256
BATCH = 32
WORDS = np.array(
    ["the", "film", "was", "good", "and", "her", "voice", "sounds", "so", "bad", "that", "nobody", "could"]
)


@dataclass
class Shape:
    """Steps and widths of the sequences in a feature file, and the mean lengths of its clips."""

    tokens: int
    audio: tuple[int, int]
    vision: tuple[int, int]
    mean_lengths: dict[str, float]  # text (tokens), audio, vision
    word_vectors: int | None = None  # their width
    label_range: float = 3.0
    unimodal_labels: bool = False


# Mean lengths of the real file for CMU-MOSI; assumptions for the others.
MOSI = Shape(50, (375, 5), (500, 20), {"text": 14.8, "audio": 38.8, "vision": 42.6})
MOSEI = Shape(50, (500, 74), (500, 35), {"text": 25, "audio": 146, "vision": 109}, word_vectors=768)
SIMS = Shape(39, (400, 33), (55, 709), {"text": 18, "audio": 180, "vision": 28}, label_range=1.0, unimodal_labels=True)
# Steps, width and mean length (an assumption) of the sequences.
IEMOCAP = {"text": (20, 300, 12), "audio": (400, 74, 200), "vision": (500, 35, 250)}
ROWS = {"mosei": [16326, 1871, 4659], "iemocap": [2717, 798, 938]}
SHAPES = {"mosi": MOSI, "mosei": replace(MOSEI, word_vectors=None), "sims": SIMS}


@dataclass
class Streamed:
    """An array that is made while it is written, some rows at a time."""

    shape: tuple[int, ...]
    make: Callable[[int, int], NDArray]  # rows from, rows to
    dtype: type = np.float32


@dataclass
class _Content:
    array: Streamed


class _Pickler(pickle._Pickler):
    """The pickler written in Python, which can be taught to write a [`Streamed`] array."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_streamed(self, array: Streamed) -> None:
        rebuild, arguments, (state, _, dtype, fortran, _) = np.empty(0, array.dtype).__reduce__()
        self.save_reduce(rebuild, arguments, (state, array.shape, dtype, fortran, _Content(array)))

    def save_content(self, content: _Content) -> None:
        shape, make, dtype = content.array.shape, content.array.make, content.array.dtype
        size = np.dtype(dtype).itemsize * math.prod(shape)
        self._write_large_bytes(pickle.BINBYTES8 + struct.pack("<Q", size), b"")
        for start in range(0, shape[0], 128):
            self.framer.file_write(np.ascontiguousarray(make(start, min(start + 128, shape[0])), dtype=dtype))

    dispatch[Streamed] = save_streamed
    dispatch[_Content] = save_content


def write_file(path: Path, rows: dict[str, int], shape: Shape = MOSEI, seed: int = 0) -> None:
    """Writes a feature file in the MMSA layout, a pickle of protocol 4, of which little is ever in memory."""
    random = np.random.default_rng(seed)
    with path.open("wb") as file:
        _Pickler(file, protocol=4).dump({split: _columns(random, split, rows[split], shape) for split in rows})


def _columns(random: np.random.Generator, split: str, rows: int, shape: Shape) -> dict:
    steps = {"text": shape.tokens, "audio": shape.audio[0], "vision": shape.vision[0]}
    lengths = {name: _lengths(random, rows, shape.mean_lengths[name], most) for name, most in steps.items()}
    lengths["text"] = np.maximum(lengths["text"], 3)  # a word between [CLS] and [SEP]
    label = random.integers(-18, 19, rows) / 18 * shape.label_range

    def frames(name: str, width: int) -> Streamed:
        def make(start: int, stop: int) -> NDArray[np.float32]:
            part = random.standard_normal((stop - start, steps[name], width), dtype=np.float32)
            part[np.arange(steps[name]) >= lengths[name][start:stop, None]] = 0
            return part

        return Streamed((rows, steps[name], width), make)

    tokens = np.zeros((rows, 3, shape.tokens), np.float32)  # ids, mask, types
    tokens[:, 1] = np.arange(shape.tokens) < lengths["text"][:, None]
    tokens[:, 0] = random.integers(1000, 20000, (rows, shape.tokens)) * tokens[:, 1]
    return {
        "raw_text": [" ".join(random.choice(WORDS, count - 2)) for count in lengths["text"]],
        "audio": frames("audio", shape.audio[1]),
        "vision": frames("vision", shape.vision[1]),
        "id": [f"{split}{row // 8:05d}$_${row % 8}" for row in range(rows)],
        **({"text": frames("text", shape.word_vectors)} if shape.word_vectors else {}),
        "text_bert": tokens,
        "annotations": [("Negative", "Neutral", "Positive")[int(np.sign(one)) + 1] for one in label],
        "classification_labels": (np.sign(label) + 1).astype(np.float32),
        "regression_labels": label.astype(np.float32),
        **({f"regression_labels_{one}": label.astype(np.float32) for one in "TAV"} if shape.unimodal_labels else {}),
        "audio_lengths": lengths["audio"].tolist(),
        "vision_lengths": lengths["vision"].tolist(),
    }


def write_mult(path: Path, rows: dict[str, int], seed: int = 0) -> None:
    """Writes IEMOCAP as in MulT's files: float64, padded in front, one emotion as four pairs, no ids or words."""
    random, data = np.random.default_rng(seed), {}
    for split in rows:
        present = np.eye(4)[random.integers(0, 4, rows[split])]
        data[split] = {"labels": np.stack([1 - present, present], 2)}
        for name, (steps, width, mean) in IEMOCAP.items():
            lengths = _lengths(random, rows[split], mean, steps)

            def make(start: int, stop: int, steps=steps, width=width, lengths=lengths) -> NDArray[np.float64]:
                part = random.standard_normal((stop - start, steps, width))
                part[np.arange(steps) < steps - lengths[start:stop, None]] = 0
                return part

            data[split][name] = Streamed((rows[split], steps, width), make, np.float64)
    with path.open("wb") as file:
        _Pickler(file, protocol=4).dump(data)


def _lengths(random: np.random.Generator, rows: int, mean: float, most: int, spread: float = 0.6) -> NDArray[np.int64]:
    lengths = random.lognormal(math.log(mean) - spread**2 / 2, spread, rows)
    return np.clip(np.round(lengths), 1, most).astype(np.int64)


# The steps, each run in a process of its own, which prints what they return.


def generate(args: argparse.Namespace) -> dict:
    (write_file if args.dataset == "mosei" else write_mult)(args.file, args.rows)
    return {"rows": sum(args.rows.values()), "file_MB": round(args.file.stat().st_size / 1e6)}


def official_imports(args: argparse.Namespace) -> dict:
    sys.path.insert(0, str(args.reference))
    for name in ("config.config_regression", "data.load_data", "utils.functions"):
        import_module(name)
    return {}


def official(args: argparse.Namespace) -> dict:
    from config.config_regression import ConfigRegression
    from data.load_data import MMDataLoader
    from utils.functions import Storage

    given = Storage(modelName="self_mm", datasetName="mosei", train_mode="regression", num_workers=0)
    options = ConfigRegression(argparse.Namespace(**given)).get_config()
    options.update(dataPath=str(args.file))
    return {"rows": sum(len(loader.dataset) for loader in MMDataLoader(options).values())}


def imports(args: argparse.Namespace) -> dict:
    for name in ("selfmm_hf.data.prepare", "selfmm_hf.runs.run"):
        import_module(name)
    return {}


def prepare(args: argparse.Namespace) -> dict:
    from selfmm_hf.data import find_builder
    from selfmm_hf.data.prepare import prepare

    prepare(find_builder(args.dataset, str(args.file)), args.prepared)
    size = sum(file.stat().st_size for file in args.prepared.rglob("*.parquet"))
    return {"rows": sum(args.rows.values()), "parquet_MB": round(size / 1e6)}


def load(args: argparse.Namespace) -> dict:
    from selfmm_hf.data import load_splits

    splits = load_splits(args.dataset, str(args.prepared))
    return {"rows": sum(map(len, splits.values()))}


def save_few(args: argparse.Namespace) -> dict:
    from selfmm_hf.data import load_splits

    dataset = load_splits("mosei", str(args.prepared))["train"].dataset
    few = dataset.select(range(min(FEW, len(dataset))))
    few.save_to_disk(args.few)
    return {"rows": len(few)}


def read(args: argparse.Namespace) -> dict:
    from torch.utils.data import DataLoader

    from selfmm_hf.data import load_splits
    from selfmm_hf.data.synthetic import demo_tokenizer
    from selfmm_hf.training.collator import SelfMMCollator

    samples = load_splits("mosei", str(args.prepared))["train"]
    samples.tokenize(demo_tokenizer(), MOSEI.tokens)
    rows = 0
    for _ in range(2):
        for batch in DataLoader(samples, BATCH, shuffle=True, collate_fn=SelfMMCollator()):
            rows += len(batch["labels"])
    means = {name: round(float(samples.lengths(name).mean()), 1) for name in ("text", "audio", "vision")}
    return {"rows": rows, "mean_lengths": means}


def train(args: argparse.Namespace) -> dict:
    from selfmm_hf.data import load_splits

    return _train(load_splits("mosei", str(args.prepared))["train"], args)


def train_few(args: argparse.Namespace) -> dict:
    from datasets import load_from_disk

    from selfmm_hf.data import Samples

    return _train(Samples(load_from_disk(args.few)), args)


def _train(samples, args: argparse.Namespace) -> dict:
    """Trains as many steps as an epoch on all the clips has."""
    import torch

    from selfmm_hf import SelfMMConfig, SelfMMModel
    from selfmm_hf.data.synthetic import demo_text_config, demo_tokenizer
    from selfmm_hf.training.arguments import SelfMMTrainingArguments
    from selfmm_hf.training.trainer import SelfMMTrainer

    torch.set_num_threads(1)  # more gain little with so small a model, and lose much if the cores are shared
    samples.tokenize(demo_tokenizer(), MOSEI.tokens)
    options = SelfMMTrainingArguments(
        output_dir=args.few.with_name("run"),
        max_steps=math.ceil(args.rows["train"] / BATCH),
        per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=1,
        save_strategy="no",
        eval_strategy="no",
        load_best_model_at_end=False,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    widths = {f"{name}_dim": width for name, width in samples.widths.items()}
    trainer = SelfMMTrainer(SelfMMModel(SelfMMConfig(demo_text_config(), **widths)), options, train_dataset=samples)
    trainer.train()
    return {"rows": trainer.state.global_step * BATCH, "epochs": round(trainer.state.epoch, 2)}


STEPS = {
    "generate": (generate, "write the feature file"),
    "official_imports": (official_imports, "imports of the official loader"),
    "official": (official, "official MMDataLoader"),
    "imports": (imports, "imports of selfmm_hf"),
    "prepare": (prepare, "prepare"),
    "load": (load, "load_splits, first time"),
    "load_again": (load, "load_splits, from the cache"),
    "read": (read, "two epochs of batches"),
    "save_few": (save_few, f"save the first {FEW} clips"),
    "train_few": (train_few, f"training steps on {FEW} clips"),
    "train": (train, "one epoch of training"),
}


PREPARING = ("generate", "imports", "prepare", "load", "load_again")


@dataclass
class Measured:
    """A step: seconds without imports, peaks in MB, and what it returned or why it failed."""

    seconds: float = math.nan
    resident: float = math.nan
    anonymous: float = math.nan
    facts: dict = field(default_factory=dict)
    failure: str = ""


def step_main(name: str, args: argparse.Namespace) -> None:
    if name.startswith("official"):
        official_imports(args)
    elif name != "generate":
        imports(args)
    start = time.perf_counter()
    facts = STEPS[name][0](args)
    print(json.dumps({"seconds": time.perf_counter() - start, **facts}))


def measure(name: str, arguments: list[str], folder: Path) -> Measured:
    """Runs a step, and watches the memory of its process."""
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(folder / "cache"),
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    }
    measured, start = Measured(resident=0, anonymous=0), time.perf_counter()
    with (folder / "out").open("w+", encoding="utf-8") as out, (folder / "err").open("w+", encoding="utf-8") as err:
        command = [sys.executable, __file__, *arguments, "--step", name, "--folder", str(folder)]
        process = subprocess.Popen(command, stdout=out, stderr=err, env=environment)
        # If memory runs out, the system ends this process before any other.
        Path(f"/proc/{process.pid}/oom_score_adj").write_text("1000", encoding="ascii")
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text("ascii")
            peaks = [re.search(rf"{field}:\s+(\d+) kB", status) for field in ("VmHWM", "RssAnon")]
            if all(peaks):
                resident, anonymous = (int(peak[1]) * 1024 / 1e6 for peak in peaks)
                measured.resident = max(measured.resident, resident)
                measured.anonymous = max(measured.anonymous, anonymous)
            time.sleep(0.02)
        out.seek(0)
        err.seek(0)
        if process.returncode == 0:
            measured.facts = json.loads(out.read().splitlines()[-1])
            measured.seconds = measured.facts.pop("seconds")
        else:
            measured.seconds = time.perf_counter() - start
            last = (err.read().strip().splitlines() or [""])[-1]
            killed = "killed, as by a kernel that is out of memory" if process.returncode == -9 else last
            measured.failure = f"exit status {process.returncode}: {killed}"
    return measured


def show(name: str, measured: Measured) -> None:
    rows = measured.facts.pop("rows", 0)
    speed = f"{rows / measured.seconds:,.0f}" if rows else ""
    facts = measured.failure or ", ".join(f"{key} {value}" for key, value in measured.facts.items())
    print(
        f"{STEPS[name][1]:<32}{measured.seconds:9.1f}{speed:>9}{measured.resident:10,.0f}{measured.anonymous:10,.0f}"
        f"  {facts}",
        flush=True,
    )


def machine(*packages: str) -> str:
    """Describes cores, memory and versions, with those of further packages."""
    from selfmm_hf.environment import cores

    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text("utf-8"))
    versions = ", ".join(f"{name} {version(name)}" for name in ("datasets", "pyarrow", "numpy", "torch", *packages))
    return (
        f"{cores()} cores ({model[1] if model else platform.machine()}), "
        f"{memory('MemTotal') / 1e9:.0f} GB of memory, Python {platform.python_version()}, {versions}"
    )


def memory(name: str) -> int:
    """Reads a number of bytes by its name in /proc/meminfo."""
    return int(re.search(rf"{name}:\s+(\d+)", Path("/proc/meminfo").read_text("utf-8"))[1]) * 1024


def array_bytes(rows: int, with_text: bool = False, dataset: str = "mosei") -> int:
    """Returns the bytes of the float32 arrays of a split that the official loader and `prepare` read."""
    if dataset == "iemocap":
        return 4 * rows * sum(steps * width for steps, width, _ in IEMOCAP.values())
    values = math.prod(MOSEI.audio) + math.prod(MOSEI.vision) + 3 * MOSEI.tokens
    return 4 * rows * (values + MOSEI.tokens * MOSEI.word_vectors * with_text)


def requirement(what: str, met: bool) -> bool:
    print(f"{what}: {'met' if met else 'not met'}")
    return met


def run(args: argparse.Namespace, arguments: list[str], folder: Path) -> bool:
    total, largest = sum(args.rows.values()), max(args.rows.values())
    # The file and all that is kept of it; Parquet, Arrow and other files that are written are smaller than the file.
    space = 2 * array_bytes(total, True) if args.dataset == "mosei" else 4 * array_bytes(total, dataset=args.dataset)
    if shutil.disk_usage(folder).free < space:
        raise SystemExit(f"{folder.parent} has less than the {space / 1e9:.0f} GB that this takes; name a --folder.")
    print(machine())
    print(f"{args.dataset}, rows {args.rows}")
    print(f"\n{'':<32}{'seconds':>9}{'rows/s':>9}{'resident':>10}{'anonymous':>10}", flush=True)
    results = {}
    for name in STEPS if args.dataset == "mosei" else PREPARING:
        if name.startswith("official") and args.reference is None:
            continue
        # The whole file, and the float32 copies of all that is read from it.
        needed = array_bytes(total, with_text=True) + array_bytes(total)
        if name == "official" and memory("MemAvailable") < needed:
            free = memory("MemAvailable") / 1e9
            print(f"{STEPS[name][1]:<32}  not run: it needs {needed / 1e9:.1f} GB of memory, {free:.1f} are free")
            continue
        results[name] = measure(name, arguments, folder)
        show(name, results[name])
    failed = [STEPS[name][1] for name, measured in results.items() if measured.failure and name != "official"]
    if failed:
        print(f"\nfailed: {', '.join(failed)}")
        return False
    print()
    most = array_bytes(largest, dataset=args.dataset) / 1e6
    peak = results["prepare"].resident
    met = requirement(
        f"prepare: peak {peak:,.0f} MB, largest split's arrays {most:,.0f} MB, required at most {most + 1000:,.0f}",
        peak <= most + 1000,
    )
    if args.dataset != "mosei":
        return met
    added, added_anonymous = (
        getattr(results["train"], kind) - getattr(results["train_few"], kind) for kind in ("resident", "anonymous")
    )
    what = f"training adds {added:,.0f} MB over the model ({added_anonymous:,.0f} anonymous), required < 500"
    return requirement(what, max(added, added_anonymous) < 500) and met


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, help="a checkout of thuiar/Self-MM; without, its loader is left out")
    parser.add_argument("--dataset", choices=ROWS, default="mosei", help="whose size and layout the file has")
    parser.add_argument("--rows", type=int, nargs=3, help="instead of its own", metavar=("TRAIN", "VALID", "TEST"))
    parser.add_argument("--scale", type=int, default=1, help="times as many rows")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where there is room")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.rows = args.rows or ROWS[args.dataset]
    arguments = ["--dataset", args.dataset, "--rows", *map(str, args.rows), "--scale", str(args.scale)]
    if args.reference is not None:
        args.reference = args.reference.resolve()
        arguments += ["--reference", str(args.reference)]
    args.rows = {split: rows * args.scale for split, rows in zip(SPLITS, args.rows, strict=True)}
    if args.step:
        args.file, args.prepared, args.few = (args.folder / name for name in ("file.pkl", "prepared", "few"))
        step_main(args.step, args)
        return
    with tempfile.TemporaryDirectory(dir=args.folder, prefix="data_preparation_") as folder:
        met = run(args, arguments, Path(folder))
    print("all met" if met else "NOT met")
    raise SystemExit(not met)


if __name__ == "__main__":
    main()
