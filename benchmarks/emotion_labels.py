"""How close do generated labels of emotions, classes, and valence with arousal come to what each modality says?

    python benchmarks/emotion_labels.py [--seeds 10] [--corpora classes emotions affect ...] [--workers 2]

Draws corpora in which it is known what words, voice and face say: each has an emotion (or a valence and arousal) of its
own, and in a share of the clips, one of them differs from the others. Trains Self-MM with the conventions `default` and
`official`, and with `y_m` as the labels of all modalities. Prints, for each modality, how often `y_m` and the labels
after the last epoch are right (for affect: the correlation) and the negative log-likelihood of the truth (the mean
absolute error), the worst of any epoch against `y_m`, and the same for the predictions of the test split. Means over
the seeds. `HARMED` marks cells that were worse than `y_m` in some epoch, in the mean over the seeds.
"""

import argparse
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import PrinterCallback, set_seed
from transformers.utils import logging

from selfmm_hf import SelfMMConfig, SelfMMModel, SelfMMTrainer, SelfMMTrainingArguments
from selfmm_hf.evaluation.statistics import compare
from selfmm_hf.labels.pseudo_labels import PseudoLabels
from selfmm_hf.model.task_selfmm import MULTI_LABEL, REGRESSION, SINGLE_LABEL, Task
from selfmm_hf.task_metrics import errors_of

MODALITIES = ("text", "audio", "vision")
WIDTHS = (16, 5, 20)
FRAMES = (4, 10)
SHARES = {"train": 1.0, "validation": 0.2, "test": 0.5}
FIRST_SEED = 1111
LEAST = 0.01  # least probability in likelihoods: y_m itself is 0 or 1
CONVENTIONS = ("default", "official", "y_m")


@dataclass(frozen=True)
class Corpus:
    """
    Args:
        task: The task that the labels are of.
        clips: Number of clips in the training split.
        conflict: Share of the clips, or of their emotions, for which one modality says something else than the others.
        weights: Of text, audio and vision in the label, which is what most of the weight says, or the weighted mean.
        signal: About how far apart what is said lies in the frames, in standard deviations of their noise.
        noise: Share of labels that are drawn again; for affect, the standard deviation of the label's noise.
        frequencies: Frequencies of the classes, or of the emotions.
    """

    task: Task
    clips: int = 1000
    conflict: float = 1 / 3
    weights: tuple[float, float, float] = (0.5, 0.25, 0.25)
    signal: tuple[float, float, float] = (1.0, 0.5, 0.35)
    noise: float = 0.05
    frequencies: tuple[float, ...] = (0.25, 0.25, 0.25, 0.25)


FOUR = ("neutral", "happy", "sad", "angry")
CLASSES, EMOTIONS = Task(FOUR, SINGLE_LABEL), Task(FOUR, MULTI_LABEL)
AFFECT = Task(("valence", "arousal"), REGRESSION, ((-1.0, 1.0), (1.0, 5.0)))
CORPORA = {
    "classes": Corpus(CLASSES),
    "balanced": Corpus(CLASSES, weights=(1 / 3, 1 / 3, 1 / 3)),
    "agreement": Corpus(CLASSES, conflict=0.0),
    "skewed": Corpus(CLASSES, frequencies=(0.6, 0.25, 0.1, 0.05)),
    "small": Corpus(CLASSES, clips=250),
    "no_voice": Corpus(CLASSES, signal=(1.0, 0.0, 0.35)),
    "two": Corpus(Task(("no", "yes"), SINGLE_LABEL), frequencies=(0.6, 0.4)),
    "emotions": Corpus(EMOTIONS, frequencies=(0.4, 0.3, 0.2, 0.2)),
    "affect": Corpus(AFFECT),
}


def draw(corpus: Corpus, random: np.random.Generator, clips: int) -> tuple[NDArray, NDArray]:
    """Draws what text, audio and vision say, (clips, 3, targets), and labels, (clips, targets); classes are one-hot."""
    frequencies = np.array(corpus.frequencies)
    odd, which = random.random(clips) < corpus.conflict, random.integers(0, 3, clips)
    if corpus.task.problem_type == SINGLE_LABEL:
        draws = partial(random.choice, len(frequencies), p=frequencies / frequencies.sum())
        said = np.repeat(draws(clips)[:, None], 3, axis=1)
        said[odd, which[odd]] = draws(clips)[odd]
        said = np.eye(len(frequencies))[said]
        votes = np.einsum("nmk,m->nk", said, np.array(corpus.weights)) + random.normal(
            0, 0.05, (clips, len(frequencies))
        )
        label, anew = votes.argmax(-1), random.random(clips) < corpus.noise
        label[anew] = draws(clips)[anew]
        return said, np.eye(len(frequencies))[label]
    if corpus.task.problem_type == MULTI_LABEL:
        shape = (clips, len(frequencies))
        said = np.repeat((random.random(shape) < frequencies)[:, None], 3, axis=1)
        odd, which, other = random.random(shape) < corpus.conflict, random.integers(0, 3, shape), random.random(shape)
        for one in range(3):
            said[:, one] = np.where(odd & (which == one), other < frequencies, said[:, one])
        votes = np.einsum("nmk,m->nk", said, np.array(corpus.weights)) + random.normal(0, 0.05, shape)
        anew = random.random(shape) < corpus.noise
        return said.astype(float), np.where(anew, random.random(shape) < frequencies, votes > 0.5).astype(float)
    said = np.repeat(random.normal(0, 0.5, (clips, 1, 2)), 3, axis=1) + random.normal(0, 0.15, (clips, 3, 2))
    said[odd, which[odd]] *= -1
    said = said.clip(-1, 1)
    label = np.einsum("nmk,m->nk", said, np.array(corpus.weights)) + random.normal(0, corpus.noise, (clips, 2))
    scale, shift = np.array([1.0, 2.0]), np.array([0.0, 3.0])
    return said * scale + shift, label.clip(-1, 1) * scale + shift


def make(
    corpus: Corpus, seed: int, sizes: dict[str, float]
) -> dict[str, tuple[list[dict[str, Any]], NDArray, NDArray]]:
    """Makes by split the samples, what is truly said, (clips, 3, targets), and the labels, (clips, targets)."""
    random = np.random.default_rng(seed)
    targets, splits = len(corpus.task.names), {}
    directions = [random.normal(size=(targets, width)) for width in WIDTHS]
    scales = np.array(corpus.task.limits)
    for split, share in sizes.items():
        said, labels = draw(corpus, random, round(corpus.clips * share))
        unit = (said - scales[:, 0]) / np.ptp(scales, axis=1) * (2 if corpus.task.problem_type == REGRESSION else 1)
        samples = []
        for one, label in zip(unit, labels, strict=True):
            classes = corpus.task.problem_type == SINGLE_LABEL
            sample = {"label": np.float32(label.argmax()) if classes else np.float32(label)}
            for number, name in enumerate(MODALITIES):
                frames = 0.6 * corpus.signal[number] * one[number] @ directions[number]
                sample[name] = np.float32(frames + random.normal(size=(random.integers(*FRAMES), WIDTHS[number])))
            samples.append(sample)
        splits[split] = (samples, said, labels)
    return splits


def figures(task: Task, found: NDArray, true: NDArray) -> NDArray[np.float64]:
    """Measures by modality, (3, 2), accuracy and negative log-likelihood; of a regression, correlation and error."""
    if task.problem_type == REGRESSION:
        pairs = [(found[:, one].T, true[:, one].T) for one in range(3)]
        correlations = [np.mean([np.corrcoef(*pair)[0, 1] for pair in zip(*two, strict=True)]) for two in pairs]
        return np.stack([correlations, np.abs(found - true).mean((0, 2))], axis=1)
    likely = np.where(true > 0.5, found, 1 - found).clip(LEAST, 1)
    if task.problem_type == SINGLE_LABEL:
        right = found.argmax(-1) == true.argmax(-1)
        return np.stack([right.mean(0), -np.log((found * true).sum(-1).clip(LEAST, 1)).mean(0)], axis=1)
    return np.stack([((found > 0.5) == (true > 0.5)).mean((0, 2)), -np.log(likely).mean((0, 2))], axis=1)


def train(
    name: str, convention: str, epochs: int, sizes: dict[str, float], seed: int
) -> tuple[NDArray, NDArray, float]:
    """Returns figures of `y_m` and the labels of all epochs, (epochs + 1, 3, 2), and of predictions; their error."""
    corpus = CORPORA[name]
    task, splits = corpus.task, make(corpus, seed, sizes)
    set_seed(seed)
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model = SelfMMModel(
        SelfMMConfig(
            modalities=list(MODALITIES), text_dim=WIDTHS[0], audio_dim=WIDTHS[1], vision_dim=WIDTHS[2],
            vision_hidden_size=32, fusion_head_dim=64, text_head_dim=32, problem_type=task.problem_type,
            id2label=dict(enumerate(task.names)), label_scales=[list(one) for one in task.scales] or None,
        )
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        arguments = SelfMMTrainingArguments(
            folder, convention="default" if convention == "y_m" else convention, num_train_epochs=epochs, seed=seed,
            per_device_train_batch_size=64, per_device_eval_batch_size=256, learning_rate=2e-3, save_total_limit=1,
            load_best_model_at_end=True, eval_strategy="epoch", save_strategy="epoch", disable_tqdm=True, report_to=[],
            early_stopping_patience=0, logging_strategy="no", use_cpu=True,
        )  # fmt: skip
        trainer = SelfMMTrainer(
            model, arguments, train_dataset=splits["train"][0], eval_dataset=splits["validation"][0]
        )
        trainer.remove_callback(PrinterCallback)
        with patch.object(
            PseudoLabels, "_change_labels", _kept if convention == "y_m" else PseudoLabels._change_labels
        ):
            trainer.train()
        samples, said, labels = splits["test"]
        fusion, unimodal = (_predicted(task, one) for one in trainer.predict(samples).predictions[:2])
    fused = np.repeat(splits["train"][2][:, None], 3, axis=1)
    history = [fused, *(one.numpy() for one in trainer.pseudo_labels.history)]
    of_labels = np.stack([figures(task, one, splits["train"][1]) for one in history])
    alone = np.stack([unimodal[name] for name in MODALITIES], axis=1)
    classes = labels.argmax(-1) if task.problem_type == SINGLE_LABEL else labels
    return of_labels, figures(task, alone, said), float(errors_of(task, fusion, classes).mean())


def _kept(self: PseudoLabels, *_: Any) -> None:
    """Leaves the labels at `y_m`."""


def _predicted(task: Task, logits: Any) -> Any:
    if isinstance(logits, dict):
        return {name: _predicted(task, one) for name, one in logits.items()}
    return task.predictions(torch.from_numpy(logits)).numpy()


def lines(name: str, outcomes: dict[str, list[tuple[NDArray, NDArray, float]]]) -> Iterator[str]:
    better = np.array([1.0, -1.0])
    first = [error for *_, error in next(iter(outcomes.values()))]
    for convention, seeds in outcomes.items():
        labels, alone = (np.mean([seed[place] for seed in seeds], axis=0) for place in (0, 1))
        errors = [error for *_, error in seeds]
        worst = ((labels[1:] - labels[0]) * better).min(0)
        joint = f"  fused error {np.mean(errors):.4f}"
        if len(errors) > 1 and convention != next(iter(outcomes)):
            found = compare(errors, first)
            joint += f", {found.difference:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
        for number, modality in enumerate(MODALITIES):
            cells = [f"{one:.3f}/{other:.3f}" for one, other in (labels[0, number], labels[-1, number], alone[number])]
            harmed = "  HARMED" if (worst[number] < [-0.003, -0.003]).any() else ""
            away = f"{worst[number][0]:+.3f}/{worst[number][1]:+.3f}"
            yield (
                f"{name:10} {convention:9} {modality:7} "
                + " ".join(f"{cell:>12}" for cell in (*cells, away))
                + (joint if not number else "")
                + harmed
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--corpora", nargs="+", choices=CORPORA, default=list(CORPORA), help="all by default")
    parser.add_argument("--conventions", nargs="+", choices=CONVENTIONS, default=list(CONVENTIONS))
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--share", type=float, default=1.0, help="of the clips of each corpus")
    options = parser.parse_args()
    sizes = {split: share * options.share for split, share in SHARES.items()}
    seeds = range(FIRST_SEED, FIRST_SEED + options.seeds)
    print(
        f"{'corpus':10} {'labels':9} {'':7} {'y_m':>12} {'last epoch':>12} {'test':>12} {'worst epoch':>12}", flush=True
    )
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        bar = tqdm(total=len(options.corpora) * len(options.conventions) * options.seeds)
        for name in options.corpora:
            outcomes = {}
            for convention in options.conventions:
                outcomes[convention] = []
                for outcome in pool.map(partial(train, name, convention, options.epochs, sizes), seeds):
                    outcomes[convention].append(outcome)
                    bar.update()
            with tqdm.external_write_mode():
                print(*lines(name, outcomes), sep="\n", flush=True)
        bar.close()


if __name__ == "__main__":
    main()
