"""How close do generated unimodal labels come to the truth, and how does that affect the prediction?

    python benchmarks/generated_labels.py [--seeds 10] [--conventions default official paper] [--corpus 0]

Trains on the synthetic corpus, where the sentiment of each modality is known, with hub_configs/demo.yaml, all epochs,
several seeds. Prints for each convention the correlation with the truth and the mean absolute error of the labels
after given epochs, beside those of y_m itself, and the test error of the epoch that validation chose. Means over the
seeds, with standard deviations in brackets; the fused error also has its difference from the first convention over the
same seeds, with a 95 % interval.
"""

import argparse
import io
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import patch

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from datasets import Dataset
from tqdm import tqdm
from transformers.utils import logging

from selfmm_hf.data import Samples
from selfmm_hf.data.columns import MODALITIES, UNIMODAL_LABELS
from selfmm_hf.data.synthetic import SIZES, demo_corpus
from selfmm_hf.evaluation.statistics import compare, summary
from selfmm_hf.runs.options import read_options
from selfmm_hf.runs.run import Run

CONFIG = Path(__file__).parents[1] / "hub_configs" / "demo.yaml"
EPOCHS = [2, 3, 5, 9, 15, 30]
FIRST_SEED = 1111

Outcome = tuple[list[np.ndarray], np.ndarray, float]
"""Quality of the labels after each of some epochs and of the unimodal predictions, and the fused test error."""


@dataclass(frozen=True)
class Setting:
    """The setting of all runs: seed and sizes of the corpus, and the epochs after which labels are measured."""

    corpus: int
    sizes: dict[str, int]
    epochs: list[int]


def truth(samples: Samples | Dataset) -> np.ndarray:
    return np.array([samples[label][:] for label in UNIMODAL_LABELS.values()]).T


def quality(labels: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Returns correlation and mean absolute error by modality, (modalities, 2), of labels (samples, modalities)."""
    correlations = [np.corrcoef(labels[:, one], true[:, one])[0, 1] for one in range(len(MODALITIES))]
    return np.stack([correlations, np.abs(labels - true).mean(0)], axis=1)


def columns(table: pa.Table) -> np.ndarray:
    return np.stack([table[name].to_numpy() for name in MODALITIES], axis=1)


def train(setting: Setting, convention: str, seed: int, *more: str) -> Outcome:
    with patch("selfmm_hf.data.demo_corpus", partial(demo_corpus, setting.corpus, setting.sizes)):
        return _train(setting.epochs, convention, seed, *more)


def _train(epochs: list[int], convention: str, seed: int, *more: str) -> Outcome:
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        options = f"--config {CONFIG} --convention {convention} --seed {seed} --output_dir {folder}/run"
        fixed = f"--num_train_epochs {max(epochs)} --early_stopping_patience 0 --disable_tqdm true --use_cpu true"
        run = Run(*read_options([*f"{options} {fixed}".split(), *more]))
        results = run.train()
        generated = pq.read_table(run.folder / "pseudo_labels.parquet")
        predicted = pq.read_table(run.folder / "predictions.parquet")
    true = truth(run.splits["train"])
    generated = columns(generated).reshape(max(epochs), len(true), len(MODALITIES))
    labels = [quality(generated[epoch - 1], true) for epoch in epochs]
    unimodal = columns(predicted.filter(pc.field("split") == "test"))
    return labels, quality(unimodal, truth(run.splits["test"])), results["test_mae"]


def run_all(
    one_run: Callable[[str, int], Outcome], names: Sequence[str], seeds: Sequence[int], workers: int
) -> dict[str, list[Outcome]]:
    """Returns by name the outcomes of all seeds, from processes of one thread each."""
    wanted = [(name, seed) for name in names for seed in seeds]
    with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        outcomes = list(tqdm(pool.map(one_run, *zip(*wanted, strict=True)), total=len(wanted)))
    return {name: outcomes[at * len(seeds) : (at + 1) * len(seeds)] for at, name in enumerate(names)}


def show(name: str, of_seeds: Sequence[np.ndarray]) -> None:
    cells = [
        " / ".join(
            f"{mean:.3f}" + (f" ({sd:.3f})" if len(of_seeds) > 1 else "") for mean, sd in zip(*pair, strict=True)
        )
        for pair in zip(np.mean(of_seeds, axis=0), np.std(of_seeds, axis=0, ddof=len(of_seeds) > 1), strict=True)
    ]
    print(f"{name:>24}  " + "   ".join(cells))


def show_all(outcomes: dict[str, list[Outcome]], epochs: list[int]) -> None:
    first, *_ = outcomes
    errors = {name: [error for *_, error in of_seeds] for name, of_seeds in outcomes.items()}
    for name, of_seeds in outcomes.items():
        print(f"\n{name}, {len(of_seeds)} seeds")
        for position, epoch in enumerate(epochs):
            show(f"labels, epoch {epoch}", [labels[position] for labels, _, _ in of_seeds])
        show("predictions, test split", [unimodal for _, unimodal, _ in of_seeds])
        fused, against = summary(errors[name]), compare(errors[name], errors[first])
        print(
            f"{'fused MAE, test split':>24}  {fused.mean:.4f} ± {fused.sd:.4f}, against {first} "
            f"{against.difference:+.4f} ({against.low:+.4f} to {against.high:+.4f}), p = {against.p:.3f}"
        )


def arguments(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--corpus", type=int, default=0, help="seed of the corpus itself")
    parser.add_argument(
        "--sizes", type=int, nargs=3, default=list(SIZES.values()), metavar=("TRAIN", "VALIDATION", "TEST")
    )
    parser.add_argument("--epochs", type=int, nargs="+", default=EPOCHS, help="after which labels are looked at")
    return parser


def setting(args: argparse.Namespace) -> Setting:
    return Setting(args.corpus, dict(zip(SIZES, args.sizes, strict=True)), args.epochs)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--conventions", nargs="+", default=["default", "official", "paper"])
    args = parser.parse_args()
    samples = demo_corpus(args.corpus, setting(args).sizes)["train"]
    fused = np.array([samples["label"][:]] * len(MODALITIES)).T
    print(f"{'correlation / MAE':>24}  " + "   ".join(f"{name:^13}" for name in MODALITIES))
    show("y_m itself", [quality(fused, truth(samples))])
    one_run = partial(train, setting(args))
    seeds = range(FIRST_SEED, FIRST_SEED + args.seeds)
    show_all(run_all(one_run, args.conventions, seeds, args.workers), args.epochs)


if __name__ == "__main__":
    main()
