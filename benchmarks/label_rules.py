"""What is each step of the default rule worth, on the same positions?

    python benchmarks/label_rules.py [--corpora balanced irony ...] [--untrained 240] [--spoiled 0.2]

The labels that a rule generates change what a model learns. To compare rules on equal terms, the script trains once on
each corpus of corpora.py, with the default convention and one seed, and records the positions of all clips in each
epoch. From these positions, it generates labels again, each time with one step of label_ablation.py left out or
replaced. For each rule, it prints the number of cells (corpus x modality) whose labels are worse than y_m in some
epoch, the number of cells that end behind the official convention in correlation or error (limits as in
label_family.py), and the means over all cells at the end.

The script also compares the rules without training, on corpora with random parameters. The positions there are the
truth plus random noise. These are corpora of many more kinds, and a rule must not harm there either. There is a single
epoch there, without momentum. For each rule, it prints the number of cells that are worse than y_m, the largest loss,
and the mean gain, each in correlation and error.
With --spoiled, one modality says nothing in a share of the clips: its positions there are those of other clips. This
is noise that spoils some clips and spares the others, like a face that is hidden now and then.
"""

import argparse
from collections.abc import Iterator
from functools import partial
from unittest.mock import patch

import numpy as np
import torch
from corpora import FAMILY, Corpus, make, sentiments
from generated_labels import FIRST_SEED, run_all
from label_ablation import ABLATIONS, replaced
from label_family import END, HARM, Y_M, behind, figures, harmed, train
from numpy.typing import NDArray

from selfmm_hf.data.columns import MODALITIES
from selfmm_hf.labels import default_rule, pseudo_labels
from selfmm_hf.labels.conventions import CONVENTIONS

RULES = {
    name: step
    for name, step in ABLATIONS.items()
    if isinstance(step, dict) and "labels.pseudo_labels.axis_position" not in step
}
NOISES = (0.05, 0.2, 0.4, 0.7, 1.0, 1.5, 2.5, 6.0)  # of untrained positions, standard deviations in sentiment
Recorded = list[tuple[torch.Tensor, torch.Tensor]]  # by epoch: positions of the modalities, and of the fusion


def replay(rule: str, recorded: Recorded, labels: torch.Tensor, label_range: float) -> NDArray[np.float32]:
    """Returns (epochs, clips, modalities): the labels that the rule generates; `labels` are y_m, (clips, 1)."""
    current, least_step = labels.repeat(1, len(MODALITIES)), CONVENTIONS["default"].least_step
    history = [current]
    with replaced(RULES[rule]):
        for epoch, (positions, fusion) in enumerate(recorded, start=2):
            new = default_rule.calibrated_labels(positions, fusion, labels)[0].squeeze(-1)
            new = new.clamp(-label_range, label_range)
            moved = pseudo_labels.momentum(current, new, epoch, least_step)
            current = torch.where(new.isfinite(), moved, current)
            history.append(current)
    return torch.stack(history).numpy()


def trained(epochs: int, name: str, seed: int) -> tuple[dict[str, NDArray], NDArray]:
    """Returns the figures of each rule, (modalities, 4, 2), and those of the official convention."""
    corpus, recorded = FAMILY[name], []

    def record(*given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        recorded.append(tuple(one.clone() for one in given[:2]))
        return default_rule.calibrated_labels(*given)

    with patch("selfmm_hf.labels.pseudo_labels.calibrated_labels", record):
        train(corpus, 0, epochs, "default", seed)
    file, truth = make(corpus, 0)
    fused, true = file["train"]["regression_labels"], truth["train"]
    of_rules = {}
    for rule in RULES:
        labels = replay(rule, recorded, torch.from_numpy(fused).unsqueeze(1), corpus.label_range)
        of_rules[rule] = np.array([figures(labels[..., one], fused, true[:, one]) for one in range(len(MODALITIES))])
    return of_rules, train(corpus, 0, epochs, "official", seed)[0]


def untrained(number: int, spoiled: float = 0.0) -> Iterator[tuple[NDArray, NDArray, NDArray, NDArray]]:
    """Yields what the modalities of random corpora say, the labels, the positions and the position of the fusion."""
    random = np.random.default_rng(0)
    for _ in range(number):
        corpus = Corpus(
            clips=int(random.choice([120, 250, 500, 1000, 2000])),
            rule=str(random.choice(["mean", "mean", "mean", "strongest", "irony", "rated"])),
            weights=tuple(random.dirichlet([2, 2, 2])),
            contradicting=float(random.choice([0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9])),
            noise=(float(random.choice([0.05, 0.2, 0.3, 0.5, 0.8])), float(random.choice([0.05, 0.15, 0.4]))),
            mean=float(random.choice([0, 0, 1.3, -1])),
            deviation=float(random.choice([0.7, 1.2, 1.5])),
        )
        said, labels = sentiments(corpus, random, corpus.clips)
        if step := random.choice([0, 0, 0.2, 1]):
            labels = np.round(labels / step) * step
        positions = said + random.normal(size=said.shape) * random.choice(NOISES, len(MODALITIES))
        if random.random() < 0.3:  # nothing is learned of one modality
            positions[:, random.integers(len(MODALITIES))] = random.normal(size=len(said))
        if spoiled:
            column, hit = random.integers(len(MODALITIES)), random.random(len(said)) < spoiled
            positions[hit, column] = random.permutation(positions[:, column])[hit]
        inputs = np.c_[positions, np.ones(len(said))]
        fusion = inputs @ np.linalg.lstsq(inputs, labels, rcond=None)[0]
        yield said, labels, positions, fusion + random.normal(size=len(said)) * random.choice([0.05, 0.3])


def gains(rule: str, said: NDArray, labels: NDArray, positions: NDArray, fusion: NDArray) -> NDArray[np.float64]:
    """Returns by how much labels of one epoch are nearer to the truth than y_m, (modalities, correlation and error)."""
    given = (torch.from_numpy(one).float().unsqueeze(-1) for one in (positions, fusion, labels))
    with replaced(RULES[rule]):
        new = default_rule.calibrated_labels(*given)[0].squeeze(-1).clamp(-3, 3).numpy()
    found = [figures(new[None, :, one], labels, said[:, one])[[Y_M, END]] for one in range(len(MODALITIES))]
    return np.array([(end - before) * (1, -1) for before, end in found])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--corpora", nargs="*", choices=FAMILY, default=list(FAMILY), help="all by default")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--untrained", type=int, default=240, help="number of corpora without training")
    parser.add_argument("--spoiled", type=float, default=0, help="share of clips in which one modality says nothing")
    args = parser.parse_args()
    outcomes = run_all(partial(trained, args.epochs), args.corpora, [FIRST_SEED], args.workers) if args.corpora else {}
    kept = list(untrained(args.untrained, args.spoiled))
    print(f"{'rule':36} {'worse':>6} {'behind':>7} {'correlation/error':>18}   without training: worse, gain")
    for rule in RULES:
        worse = late = 0
        ends = []
        for name, [(of_rules, official)] in outcomes.items():
            label_range, mine = FAMILY[name].label_range, of_rules[rule]
            worse += harmed(mine, label_range).sum()
            late += behind(mine, [official], label_range).sum()
            ends.append(mine[:, END] * (1, 3 / label_range))
        correlation, error = np.mean(ends, axis=(0, 1)) if ends else (np.nan, np.nan)
        gained = np.concatenate([gains(rule, *one) for one in kept]) if kept else np.full((1, 2), np.nan)
        lost, cells = (gained < -HARM).any(1), len(MODALITIES) * len(kept)
        (more, less), worst = gained.mean(0), gained.min(0)
        print(f"{rule:36} {worse:6} {late:7} {correlation:10.3f}/{error:.3f}   {lost.sum():6} of {cells}, "
              f"at worst {worst[0]:+.3f}/{-worst[1]:+.3f}; {more:+.4f}/{-less:+.4f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
