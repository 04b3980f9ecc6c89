"""What does the label generation cost per training step, and does it grow with the training set?

    python benchmarks/label_bookkeeping.py [--threads 1] [--repetitions 5]

Runs steps of the label generation alone, as `SelfMMTrainer` makes them: looks up the labels and weights of a batch, and
takes in its representations. Training sets of 10^3 to 10^6 samples take turns; each turn is an epoch or at least STEPS
steps of 64 samples in random order, at the widths of hub_configs/mosi.yaml. Once an epoch, the default convention makes
the labels of all samples; that is counted per sample. For comparison, the official way of keeping the centres, the
means of all stored representations after every step, is written out here.

Prints medians, the ratio to the smallest set, and the memory that the state takes.
"""

import argparse
import statistics
import time

import torch
from data_preparation import machine

from selfmm_hf.labels.conventions import CONVENTIONS
from selfmm_hf.labels.pseudo_labels import PseudoLabels
from selfmm_hf.model.task_selfmm import Task

SIZES = [10**3, 10**4, 10**5, 10**6]
WIDTHS = {"fusion": 128, "text": 64, "audio": 16, "vision": 32}
BATCH = 64
STEPS = 200
OFFICIAL_STEPS = 3


class Bookkeeping:
    def __init__(self, size: int, convention: str):
        generator = torch.Generator().manual_seed(size)
        labels = torch.rand(size, generator=generator) * 6 - 3
        self.state = PseudoLabels(labels, WIDTHS, CONVENTIONS[convention], Task())
        directions = {task: torch.randn(width, generator=generator) for task, width in WIDTHS.items()}
        self.features = {
            task: (labels.unsqueeze(-1) * directions[task] + torch.randn(size, width, generator=generator)).relu()
            for task, width in WIDTHS.items()
        }
        self.order = torch.randperm(size, generator=generator)
        self.present = {task: torch.ones(BATCH, dtype=torch.bool) for task in WIDTHS if task != "fusion"}
        self.at = 0
        for index in self.order.split(65536):  # so that each sample has been seen
            batch = {task: values[index] for task, values in self.features.items()}
            present = {task: torch.ones_like(index, dtype=torch.bool) for task in self.present}
            self.state.update(index, batch, present, epoch=1)
        self.state.end_epoch(1)

    def _next(self) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        if self.at + BATCH > len(self.order):
            self.at = 0
        index = self.order[self.at : self.at + BATCH]
        self.at += BATCH
        return index, {task: values[index] for task, values in self.features.items()}

    def step(self) -> float:
        """Returns the seconds of a step."""
        batches = [self._next() for _ in range(STEPS)]
        start = time.perf_counter()
        for index, features in batches:
            for task in self.present:
                self.state.labels[task][index]
            self.state.weights(index)
            self.state.update(index, features, self.present, epoch=2)
        return (time.perf_counter() - start) / STEPS

    def epoch(self) -> float:
        """Returns the seconds per sample for the labels of an epoch."""
        start = time.perf_counter()
        self.state.end_epoch(2)
        self.state.history.clear()
        return (time.perf_counter() - start) / len(self.order)

    def official(self) -> float:
        """Returns the seconds of a step that takes the means of all samples, as the official `update_centers`."""
        start = time.perf_counter()
        for _ in range(OFFICIAL_STEPS):
            for task, features in self.features.items():
                labels = self.state.labels[task][:, 0]
                for members in (labels >= 0, labels < 0):
                    features[members].mean(0)
        return (time.perf_counter() - start) / OFFICIAL_STEPS

    def bytes(self) -> int:
        tensors = self.state.state_dict().items()
        return sum(values.numel() * values.element_size() for name, values in tensors if name != "history")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--convention", choices=list(CONVENTIONS), default="default")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="of the training sets, in samples")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    kinds = [kind for kind in ("step", "epoch", "official") if kind != "epoch" or args.convention == "default"]
    sets = {size: Bookkeeping(size, args.convention) for size in args.sizes}
    found: dict[tuple[int, str], list[float]] = {}
    for turn in range(args.repetitions + 1):
        for kind in kinds:
            for size, bookkeeping in sets.items():
                seconds = getattr(bookkeeping, kind)()
                if turn:  # the first warms up
                    found.setdefault((size, kind), []).append(seconds)
    print(machine())
    print(f"{args.convention} convention, batches of {BATCH}, {args.threads} threads, medians of {args.repetitions}\n")
    heads = {"step": "us a step", "epoch": "ns a sample, once an epoch", "official": "us a step, means of all"}
    print(
        f"{'samples':>10}"
        + "".join(f"{heads[kind]:>28}{'ratio':>8}" for kind in kinds)
        + f"{'MB':>10}{'bytes/sample':>14}"
    )
    for size, bookkeeping in sets.items():
        line = f"{size:>10}"
        for kind in kinds:
            values, first = found[size, kind], found[args.sizes[0], kind]
            ratio = statistics.median(a / b for a, b in zip(values, first, strict=True))
            line += f"{statistics.median(values) * (1e9 if kind == 'epoch' else 1e6):>28,.0f}{ratio:>8.2f}"
        print(line + f"{bookkeeping.bytes() / 1e6:>10.1f}{bookkeeping.bytes() / size:>14.0f}")


if __name__ == "__main__":
    main()
