"""How near do generated unimodal labels come to the truth, and what does it do to the prediction?

    python benchmarks/generated_labels.py [--seeds 10] [--conventions default official paper]

Trains on the embedded corpus, where the sentiment of each modality is known, with hub_configs/demo.yaml, all epochs,
several seeds. Prints for each convention the correlation with the truth and the mean absolute error of the labels
after given epochs, beside those of y_m itself, and the error of the predictions on the test split, of the epoch that
validation chose. Means over the seeds, with the standard deviation of the fused error.
"""

import argparse
import io
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from transformers.utils import logging

from selfmm_hf.data import Samples, load_splits
from selfmm_hf.data.columns import MODALITIES, UNIMODAL_LABELS
from selfmm_hf.options import read_options
from selfmm_hf.training import Run

CONFIG = Path(__file__).parents[1] / "hub_configs" / "demo.yaml"
EPOCHS = (2, 3, 5, 9, 15, 30)


def truth(samples: Samples) -> np.ndarray:
    return np.array([samples[label] for label in UNIMODAL_LABELS.values()]).T


def quality(labels: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Correlation and mean absolute error by modality, (modalities, 2), of labels (samples, modalities)."""
    correlations = [np.corrcoef(labels[:, one], true[:, one])[0, 1] for one in range(len(MODALITIES))]
    return np.stack([correlations, np.abs(labels - true).mean(0)], axis=1)


def columns(table: pa.Table) -> np.ndarray:
    return np.stack([table[name].to_numpy() for name in MODALITIES], axis=1)


def train(convention: str, seed: int, *more: str) -> tuple[list[np.ndarray], np.ndarray, float]:
    """Quality of the labels after each of EPOCHS and of the unimodal predictions, and the fused test error."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        options = f"--config {CONFIG} --convention {convention} --seed {seed} --output_dir {folder}/run"
        fixed = f"--num_train_epochs {max(EPOCHS)} --early_stopping_patience 0 --disable_tqdm true --use_cpu true"
        run = Run(*read_options([*f"{options} {fixed}".split(), *more]))
        results = run.train()
        generated = pq.read_table(run.folder / "pseudo_labels.parquet")
        predicted = pq.read_table(run.folder / "predictions.parquet")
    true = truth(run.splits["train"])
    generated = columns(generated).reshape(max(EPOCHS), len(true), len(MODALITIES))
    labels = [quality(generated[epoch - 1], true) for epoch in EPOCHS]
    unimodal = columns(predicted.filter(pc.field("split") == "test"))
    return labels, quality(unimodal, truth(run.splits["test"])), results["test_mae"]


def show(name: str, values: np.ndarray) -> None:
    print(f"{name:>24}  " + "   ".join(f"{corr:.3f} / {error:.3f}" for corr, error in values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--conventions", nargs="+", default=["default", "official", "paper"])
    args = parser.parse_args()
    samples = load_splits("demo")["train"]
    fused = np.array([samples["label"]] * len(MODALITIES)).T
    print(f"{'correlation / MAE':>24}  " + "   ".join(f"{name:^13}" for name in MODALITIES))
    show("y_m itself", quality(fused, truth(samples)))
    for convention in args.conventions:
        runs = [train(convention, seed) for seed in range(1111, 1111 + args.seeds)]
        print(f"{convention}, {args.seeds} seeds")
        for position, epoch in enumerate(EPOCHS):
            show(f"labels, epoch {epoch}", np.mean([labels[position] for labels, _, _ in runs], axis=0))
        show("predictions, test split", np.mean([unimodal for _, unimodal, _ in runs], axis=0))
        errors = [error for _, _, error in runs]
        print(f"{'fused MAE, test split':>24}  {np.mean(errors):.4f} +- {np.std(errors, ddof=1):.4f}", flush=True)


if __name__ == "__main__":
    main()
