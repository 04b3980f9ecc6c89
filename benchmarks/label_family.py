"""Do generated unimodal labels come closer to the truth on corpora of many kinds, and does any convention harm them?

    python benchmarks/label_family.py [--seeds 3] [--conventions default official] [--corpora balanced irony ...]

Trains on each corpus of corpora.py, where the sentiment of each modality is known, with hub_configs/mosi.yaml
(sims.yaml for labels in [-1, 1]) and a small text encoder with random weights, all epochs, several seeds. Prints for
each corpus, convention and modality the correlation with the truth / the mean absolute error of y_m, and of the labels
at the first epoch at which they differ from y_m, at the worst epoch since then (of each of the two), and at the last;
then the mean absolute error of the unimodal predictions against the truth on the test split, of the epoch that
validation chose, and in the row of the text that of the fused prediction. Means over the seeds; clips that lack a
modality do not count for it.

Then it counts, for each convention, the cells (corpus x modality) that are worse than y_m at some epoch, by more than
.003 in correlation or .003 x label range / 3 in error; and those that end behind another convention, by more than .01
in the same units. For each convention but the first, it prints the difference of the fused error from the first one, as
of labels in [-3, 3], with its 95 % interval over the corpora. Exit status 0 if the first convention has no cell of
either kind.

The convention "none" trains without unimodal tasks. No labels are generated, and the table shows those of y_m.
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from corpora import FAMILY, Corpus, make, write, write_encoder
from generated_labels import FIRST_SEED, columns, run_all
from numpy.typing import NDArray

from selfmm_hf.data.columns import MODALITIES
from selfmm_hf.evaluation.statistics import compare
from selfmm_hf.labels.quality import correlation, mean_error
from selfmm_hf.quiet_terminal import silent
from selfmm_hf.runs.options import read_options
from selfmm_hf.runs.run import Run

CONFIGS = Path(__file__).parents[1] / "hub_configs"
NONE = "none"
Y_M, FIRST, WORST, END = range(4)
MARKS = ("worse than y_m", "behind")
HARM, BEHIND = 0.003, 0.01  # in correlation, and in error of labels in [-3, 3]

Outcome = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Figures of the labels, (modalities, 4, 2): y_m, first, worst, end; correlation, error. And errors on the test split,
(4,): of the fused prediction, then by modality, NaN without unimodal tasks."""


def figures(labels: NDArray, fused: NDArray, true: NDArray) -> NDArray[np.float64]:
    """
    Measures the labels of one modality, over the clips that have it.

    Args:
        labels: (epochs, clips), the generated ones.
        fused: (clips,), y_m.
        true: (clips,); NaN where a clip lacks the modality.

    Returns:
        (4, 2), correlation (0 of what is constant) and mean absolute error: of y_m, and of the labels at the first
        epoch at which they differ from it (the last one if they never do), at the worst from then on, and at the last.
    """
    here = np.isfinite(true)
    labels, fused, true = labels[:, here], fused[here], true[here]
    moved = np.abs(labels - fused).max(1) > 1e-6
    since = int(moved.argmax()) if moved.any() else len(labels) - 1
    curve = np.array([_figures(epoch, true) for epoch in labels[since:]])
    worst = curve[:, 0].min(), curve[:, 1].max()
    return np.array([_figures(fused, true), curve[0], worst, curve[-1]])


def _figures(labels: NDArray, true: NDArray) -> tuple[float, float]:
    return float(np.nan_to_num(correlation(labels, true))), mean_error(labels, true)


def worse(one: NDArray, other: NDArray, label_range: float) -> NDArray[np.float64]:
    """Returns how much worse figures (..., 2) are than others: the larger difference, with errors of labels up to 3."""
    return np.maximum(other[..., 0] - one[..., 0], (one[..., 1] - other[..., 1]) * 3 / label_range)


def harmed(of_labels: NDArray, label_range: float) -> NDArray[np.bool_]:
    """Checks which modalities are worse than y_m at some epoch, by figures (modalities, 4, 2); (modalities,)."""
    return worse(of_labels[:, WORST], of_labels[:, Y_M], label_range) > HARM


def behind(of_labels: NDArray, of_others: list[NDArray], label_range: float) -> NDArray[np.bool_]:
    """Checks which modalities are worse than one of the others at the end, by figures (modalities, 4, 2)."""
    gaps = [worse(of_labels[:, END], other[:, END], label_range) for other in of_others]
    return np.max([np.zeros(len(of_labels)), *gaps], axis=0) > BEHIND


def mistakes(outcomes: dict[str, Outcome], label_range: float) -> dict[str, NDArray[np.bool_]]:
    """Returns by convention (modalities, 2): worse than y_m, behind another convention."""
    found = {}
    for convention, (labels, _) in outcomes.items():
        others = [of_other for other, (of_other, _) in outcomes.items() if other != convention]
        found[convention] = np.stack([harmed(labels, label_range), behind(labels, others, label_range)], axis=1)
    return found


def train(corpus: Corpus, corpus_seed: int, epochs: int, convention: str, seed: int) -> Outcome:
    file, true = make(corpus, corpus_seed)
    preset = CONFIGS / ("sims.yaml" if corpus.label_range == 1 else "mosi.yaml")
    with (
        tempfile.TemporaryDirectory() as folder,
        patch("datasets.config.HF_DATASETS_CACHE", Path(folder, "cache")),
        silent(),
    ):
        write(file, Path(folder, "corpus.pkl"))
        write_encoder(Path(folder, "encoder"))
        data = f"--config {preset} --data {folder}/corpus.pkl --text_encoder {folder}/encoder --output_dir {folder}/run"
        chosen = "--unimodal_tasks" if convention == NONE else f"--convention {convention}"
        fixed = (
            f"--seed {seed} --num_train_epochs {epochs} --early_stopping_patience 0 --disable_tqdm true --use_cpu true"
        )
        run = Run(*read_options(f"{data} {chosen} {fixed}".split()))
        results = run.train()
        fused, unimodal = file["train"]["regression_labels"], np.full(len(MODALITIES), np.nan)
        labels = np.tile(fused[:, None], (epochs, 1, len(MODALITIES)))
        if convention != NONE:
            labels = columns(pq.read_table(run.folder / "pseudo_labels.parquet")).reshape(labels.shape)
            predicted = pq.read_table(run.folder / "predictions.parquet", filters=pc.field("split") == "test")
            unimodal = np.nanmean(np.abs(columns(predicted) - true["test"]), axis=0)
    of_labels = [figures(labels[..., one], fused, true["train"][:, one]) for one in range(len(MODALITIES))]
    return np.array(of_labels), np.array([results["test_mae"], *unimodal])


def means(of_seeds: list[Outcome]) -> Outcome:
    labels, errors = zip(*of_seeds, strict=True)
    return np.mean(labels, axis=0), np.mean(errors, axis=0)


def row(cells: list[str]) -> str:
    return f"{cells[0]:14} {cells[1]:9} {cells[2]:7} " + " ".join(f"{cell:>11}" for cell in cells[3:]).rstrip()


def show(name: str, convention: str, outcome: Outcome, found: NDArray[np.bool_]) -> None:
    of_labels, (fused, *unimodal) = outcome
    for number, modality in enumerate(MODALITIES):
        cells = [f"{one:.3f}/{error:.3f}" for one, error in of_labels[number]]
        joint = f"{fused:.4f}" if not number else ""
        marks = "".join(f"  {mark}" for mark, is_so in zip(MARKS, found[number], strict=True) if is_so)
        print(row([name, convention, modality, *cells, f"{unimodal[number]:.3f}", joint]) + marks, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--conventions", nargs="+", default=["default", "official"])
    parser.add_argument("--corpora", nargs="+", choices=FAMILY, default=list(FAMILY), help="all by default")
    parser.add_argument("--corpus_seed", type=int, default=0, help="seed of the corpora themselves")
    parser.add_argument("--clips", type=int, help="of each training split, in the place of the corpus' own number")
    parser.add_argument("--epochs", type=int, default=40)
    args = parser.parse_args()
    seeds = range(FIRST_SEED, FIRST_SEED + args.seeds)
    counts = {convention: np.zeros(2, int) for convention in args.conventions}
    fused: dict[str, list[float]] = {convention: [] for convention in args.conventions}
    print(row(["corpus", "labels", "", "y_m", "first", "worst", "end", "test error", "fused"]))
    for name in args.corpora:
        corpus = replace(FAMILY[name], clips=args.clips or FAMILY[name].clips)
        one_run = partial(train, corpus, args.corpus_seed, args.epochs)
        of_seeds = run_all(one_run, args.conventions, seeds, args.workers)
        outcomes = {convention: means(several) for convention, several in of_seeds.items()}
        found = mistakes(outcomes, corpus.label_range)
        for convention, outcome in outcomes.items():
            show(name, convention, outcome, found[convention])
            counts[convention] += found[convention].sum(0)
            fused[convention].append(outcome[1][0] * 3 / corpus.label_range)
    cells = len(args.corpora) * len(MODALITIES)
    for convention, (harm, behind_others) in counts.items():
        print(f"{convention}: of {cells} cells, {harm} worse than y_m at some epoch, {behind_others} behind at the end")
    first, *others = args.conventions
    for other in others:
        apart = compare(fused[other], fused[first])
        print(f"{other}: fused error {apart.difference:+.4f} ({apart.low:+.4f} to {apart.high:+.4f}) against {first}")
    sys.exit(int(counts[args.conventions[0]].any()))


if __name__ == "__main__":
    main()
