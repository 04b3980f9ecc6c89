"""What is each step of the default convention's label generation worth?

    python benchmarks/label_ablation.py [--seeds 10] [--workers 2]

Trains on the synthetic corpus. Each time, one step of docs/method.md is left out or replaced by the obvious
alternative. Prints for each the table that benchmarks/generated_labels.py prints for each convention.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from unittest.mock import patch

import torch
from generated_labels import FIRST_SEED, Outcome, Setting, arguments, run_all, setting, show_all, train

from selfmm_hf.labels.pseudo_labels import momentum, relative_distance


def same_moments(position: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Gives positions the mean and the deviation of the labels."""
    position, labels = position.double(), labels.double()
    return (position - position.mean()) / position.std() * labels.std() + labels.mean()


def same_share(difference: torch.Tensor, confidence: torch.Tensor) -> torch.Tensor:
    return confidence.unsqueeze(-1) * difference


def no_spread(covariance: torch.Tensor) -> torch.Tensor:
    return covariance.new_ones(())


def no_noise(covariance: torch.Tensor, clips: float) -> torch.Tensor:
    return covariance.new_zeros(len(covariance) - 2)


def all_noise(covariance: torch.Tensor, clips: float) -> torch.Tensor:
    return covariance.new_ones(len(covariance) - 2)


def all_noise_in_centre(calibrated: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return calibrated.new_ones(())


def teacher(positions: torch.Tensor, fusion: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the mean of y_m and its linear prediction from one modality, the teacher (as in arXiv 2510.20256)."""
    here = positions.double()
    middle, fused = here.nanmean(0), labels.unsqueeze(1)
    known = torch.where(here.isfinite(), fused, torch.nan)
    apart = here - middle
    slope = (apart * (known - known.nanmean(0))).nanmean(0) / apart.square().nanmean(0)
    predicted = known.nanmean(0) + slope * apart
    return (fused + predicted) / 2, here.new_full((positions.shape[1],), 0.5)


def paper_momentum(previous: torch.Tensor, new: torch.Tensor, epoch: int, least_step: float) -> torch.Tensor:
    return momentum(previous, new, epoch)


def no_momentum(previous: torch.Tensor, new: torch.Tensor, epoch: int, least_step: float) -> torch.Tensor:
    return new


# By what is left out: functions that replace others in selfmm_hf, or options of train.py.
ABLATIONS: dict[str, dict[str, Callable] | list[str]] = {
    "default": {},
    "relative distances, not positions": {
        "labels.pseudo_labels.axis_position": partial(relative_distance, squared=False)
    },
    "mean and deviation, not quantiles": {"labels.default_rule.on_label_scale": same_moments},
    "no spread": {"labels.default_rule.spread": no_spread},
    "noise: in the errors alone": {"labels.default_rule.noise_in_centre": all_noise_in_centre},
    "noise: in the centre alone": {"labels.default_rule.noise_in_errors": all_noise},
    "noise: none": {"labels.default_rule.noise_in_errors": no_noise},
    "a teacher in place of the rule": {"labels.default_rule._moved_scores": teacher},
    "the same share of all differences": {"labels.default_rule.believed": same_share},
    "the paper's momentum": {"labels.pseudo_labels.momentum": paper_momentum},
    "no momentum": {"labels.pseudo_labels.momentum": no_momentum},
    "no weight in agreement": ["--agreement_weight", "0"],
}


@contextmanager
def replaced(step: dict[str, Callable]) -> Iterator[None]:
    """Puts functions in the place of others in selfmm_hf."""
    with ExitStack() as patches:
        for place, function in step.items():
            patches.enter_context(patch(f"selfmm_hf.{place}", function))
        yield


def one_run(common: Setting, name: str, seed: int) -> Outcome:
    step = ABLATIONS[name]
    functions, options = (step, []) if isinstance(step, dict) else ({}, step)
    with replaced(functions):
        return train(common, "default", seed, *options)


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--ablations", nargs="+", choices=ABLATIONS, default=list(ABLATIONS), help="all by default")
    args = parser.parse_args()
    seeds = range(FIRST_SEED, FIRST_SEED + args.seeds)
    show_all(run_all(partial(one_run, setting(args)), args.ablations, seeds, args.workers), args.epochs)
