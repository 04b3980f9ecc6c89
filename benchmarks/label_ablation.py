"""What is each step of the default convention's label generation worth?

    python benchmarks/label_ablation.py [--seeds 10] [--workers 2]

Trains on the embedded corpus as benchmarks/generated_labels.py does, with one step of docs/method.md at a time left out
or replaced by the plain thing to do. Prints correlation with the truth and mean absolute error of the labels after
given epochs, means over the seeds, and the fused error on the test split with its difference from the default over
the same seeds and the 95 % interval of that.
"""

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from unittest.mock import patch

import numpy as np
import torch
from generated_labels import EPOCHS, show, train
from tqdm import tqdm

from selfmm_hf.benchmark.statistics import compare, summary
from selfmm_hf.calibration import confidence, on_label_scale
from selfmm_hf.pseudo_labels import relative_distance

FIRST_SEED = 1111


def same_moments(position: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Positions with the mean and the deviation of the labels."""
    return (position - position.mean()) / position.std() * labels.std() + labels.mean()


def against_label(position: torch.Tensor, fusion: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    calibrated, fusion = on_label_scale(position, labels), on_label_scale(fusion, labels)
    return labels + confidence(calibrated, fusion, labels) * (calibrated - labels)


def certain(calibrated: torch.Tensor, fusion: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return calibrated.new_ones(())


# By what is left out: the functions of selfmm_hf put in the place of others, or the options of train.py.
ABLATIONS: dict[str, dict[str, Callable] | list[str]] = {
    "default": [],
    "relative distances, not positions": {"pseudo_labels.axis_position": partial(relative_distance, squared=False)},
    "mean and deviation, not quantiles": {"calibration.on_label_scale": same_moments},
    "quantiles of all clips alike": {"calibration.on_label_scale": partial(on_label_scale, rounds=1)},
    "held against y_m, not the fusion": {"pseudo_labels.calibrated_labels": against_label},
    "no confidence": {"calibration.confidence": certain},
    "no momentum": ["--momentum", "false"],
    "no weight in agreement": ["--agreement_weight", "0"],
}


def one_run(name: str, seed: int) -> tuple[list[np.ndarray], np.ndarray, float]:
    step = ABLATIONS[name]
    torch.set_num_threads(1)
    with ExitStack() as patches:
        for place, function in step.items() if isinstance(step, dict) else ():
            patches.enter_context(patch(f"selfmm_hf.{place}", function))
        return train("default", seed, *(step if isinstance(step, list) else ()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    args = parser.parse_args()
    seeds = range(FIRST_SEED, FIRST_SEED + args.seeds)
    wanted = [(name, seed) for name in ABLATIONS for seed in seeds]
    with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as pool:
        results = dict(zip(wanted, tqdm(pool.map(one_run, *zip(*wanted, strict=True)), total=len(wanted)), strict=True))
    errors = {name: [results[name, seed][2] for seed in seeds] for name in ABLATIONS}
    for name in ABLATIONS:
        print(f"\n{name}, {args.seeds} seeds")
        for position, epoch in enumerate(EPOCHS):
            show(f"labels, epoch {epoch}", np.mean([results[name, seed][0][position] for seed in seeds], axis=0))
        show("predictions, test split", np.mean([results[name, seed][1] for seed in seeds], axis=0))
        fused, against = summary(errors[name]), compare(errors[name], errors["default"])
        print(
            f"{'fused MAE, test split':>24}  {fused.mean:.4f} +- {fused.sd:.4f}, against default "
            f"{against.difference:+.4f} ({against.low:+.4f} to {against.high:+.4f}), p = {against.p:.3f}"
        )


if __name__ == "__main__":
    main()
