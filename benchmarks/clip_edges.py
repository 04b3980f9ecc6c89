"""How far silence, noise and stills around and within a clip move its scores.

    selfmm demo
    selfmm demo --audio_pooling mean --vision_pooling mean --output_dir runs/mean
    python benchmarks/clip_edges.py --last runs/demo/model --mean runs/mean/model --out edges.csv

Clips of the synthetic corpus that no model has seen are written as MP4, plain and changed in each of the ways below,
and scored three ways: the whole files, by a model that reads the last hidden state; the files with their edges cut by
the recipe, by the same model; and these by a model that reads the mean of the hidden states. The table shows by how
much the scores of the voice, of the face and of the whole clip differ from those of the plain clip, mean / largest.
`--out` has each score.
"""

import argparse
import copy
import csv
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from transformers.utils import logging

from selfmm_hf import load_model
from selfmm_hf.data.synthetic import Utterance, utterance
from selfmm_hf.data.synthetic.clip import write_clip
from selfmm_hf.data.synthetic.face import _head_turned
from selfmm_hf.data.synthetic.face_drawing import draw_face
from selfmm_hf.model.feature_extraction_selfmm import SelfMMFeatureExtractor
from selfmm_hf.model.pipeline_selfmm import MultimodalSentimentPipeline

SOUND_RATE, FRAME_RATE = 22050, 10
WAYS = ("last, uncut", "last, cut", "mean, cut")
SCORES = ("voice", "face", "fused")


class Clip(NamedTuple):
    """(samples,) float32 at 22050 Hz, and (height, width, 3) uint8, ten a second."""

    sound: np.ndarray
    pictures: list[np.ndarray]


def spoken(one: Utterance, yaw: float = 0.0) -> Clip:
    """
    Makes sound and picture of the same length; a lost face stands still.

    Args:
        yaw: By how much the head is turned aside in the second half, in radians.
    """
    seen = next(landmarks for landmarks in one.landmarks if landmarks is not None)
    pictures = []
    for number, landmarks in enumerate(one.landmarks):
        seen = seen if landmarks is None else landmarks
        aside = yaw if number >= len(one.landmarks) / 2 else 0.0
        middle, turn = seen.mean(0), _head_turned(np.array([[aside, 0.0, 0.0]]))[0]
        turned = ((seen - middle) @ turn + middle).astype(seen.dtype)  # the drawing is good for half a radian
        pictures.append(draw_face(turned, speaker=len(one.sound)))
    return Clip(one.sound[: len(pictures) * SOUND_RATE // FRAME_RATE], pictures)


def between(clip: Clip, begin: float, end: float) -> Clip:
    """Returns a part, from one share of its length to another."""
    first, last = (round(share * len(clip.pictures)) for share in (begin, end))
    return Clip(clip.sound[round(begin * len(clip.sound)) : round(end * len(clip.sound))], clip.pictures[first:last])


def quiet(seconds: float, picture: np.ndarray, loudness: float = 0.0) -> Clip:
    """Makes silence, or white noise of a loudness (RMS), over one picture."""
    sound = np.random.default_rng(0).normal(0, loudness, round(seconds * SOUND_RATE)).astype(np.float32)
    return Clip(sound, [picture] * round(seconds * FRAME_RATE))


def noise(clip: Clip, below: float) -> float:
    """Returns how loud noise is that is so many dB below the clip."""
    return float(np.sqrt(np.mean(clip.sound**2))) * 10 ** (-below / 20)


def joined(*clips: Clip) -> Clip:
    return Clip(np.concatenate([one.sound for one in clips]), [one for clip in clips for one in clip.pictures])


def after(seconds: float, below: float = np.inf) -> Callable[[Clip], Clip]:
    return lambda clip: joined(clip, quiet(seconds, clip.pictures[-1], noise(clip, below)))


def paused(seconds: float, below: float = np.inf) -> Callable[[Clip], Clip]:
    def change(clip: Clip) -> Clip:
        first, second = between(clip, 0, 0.5), between(clip, 0.5, 1)
        return joined(first, quiet(seconds, first.pictures[-1], noise(clip, below)), second)

    return change


def seen_as(begin: float, end: float, look: Callable[[np.ndarray], np.ndarray]) -> Callable[[Clip], Clip]:
    """Changes the look of the pictures of a part; the sound stays."""

    def change(clip: Clip) -> Clip:
        first, last = (round(share * len(clip.pictures)) for share in (begin, end))
        return Clip(
            clip.sound,
            [look(one) if first <= number < last else one for number, one in enumerate(clip.pictures)],
        )

    return change


CHANGES: dict[str, Callable[[Clip], Clip]] = {
    "1 s of silence and a still after": after(1),
    "2 s of silence and a still after": after(2),
    "2 s of noise, 40 dB below the voice, and a still after": after(2, 40),
    "2 s of noise, 20 dB below the voice, and a still after": after(2, 20),
    "2 s of silence and black after": lambda clip: joined(clip, quiet(2, 0 * clip.pictures[0])),
    "1 s of a still, 1 s of black after": lambda clip: joined(after(1)(clip), quiet(1, 0 * clip.pictures[0])),
    "2 s of silence and a still before": lambda clip: joined(quiet(2, clip.pictures[0]), clip),
    "2 s of silence and black before": lambda clip: joined(quiet(2, 0 * clip.pictures[0]), clip),
    "a pause of 1 s within": paused(1),
    "a pause of 2 s within": paused(2),
    "a pause of 1 s within, noise 30 dB below the voice": paused(1, 30),
    "no face in the first half": seen_as(0, 0.5, np.zeros_like),
    "no face in the second half": seen_as(0.5, 1, np.zeros_like),
    "upside down in the second half": seen_as(0.5, 1, lambda picture: picture[::-1, ::-1].copy()),
}


TURNED = {"half turned aside, 29 degrees, in the second half": 0.5}


def uncut(extractor: SelfMMFeatureExtractor) -> SelfMMFeatureExtractor:
    """Returns the same recipe, which leaves the edges of a clip as they are."""
    other = copy.deepcopy(extractor)
    other.audio["silence_db"] = other.vision["still_change"] = None
    return other


class Scorer:
    """
    Args:
        pipes: Pipelines of one recipe, by what they read of the hidden states, `last` and `mean`.
    """

    def __init__(self, pipes: dict[str, MultimodalSentimentPipeline]):
        extractor = pipes["last"].processor.feature_extractor
        self.pipes, self.extractors = pipes, {"uncut": uncut(extractor), "cut": extractor}

    def __call__(self, file: Path, text: str) -> dict[str, dict[str, float | None]]:
        """Scores a clip, by way and by what is scored; `None` if there is no voice or no face."""
        features = {edges: extractor.extract(file)[0] for edges, extractor in self.extractors.items()}
        told = {}
        for way in WAYS:
            pooling, edges = way.split(", ")
            result = self.pipes[pooling]({"text": text, **features[edges]})
            told[way] = {
                "voice": result["unimodal"]["audio"],
                "face": result["unimodal"]["vision"],
                "fused": result["score"],
            }
        return told


def measured(score: Scorer, clips: int, changes: list[str], folder: Path) -> list[dict]:
    """Makes a row for each changed clip, way and score."""
    rows = []
    for number in range(clips):
        one = utterance(0, "test", number)
        plain = spoken(one)
        file = folder / "clip.mp4"
        write_clip(file, *plain)
        expected = score(file, one.text)
        for change in changes:
            write_clip(file, *(spoken(one, TURNED[change]) if change in TURNED else CHANGES[change](plain)))
            for way, found in score(file, one.text).items():
                rows += [
                    {"clip": number, "change": change, "way": way, "of": of, "plain": expected[way][of],
                     "changed": found[of]}
                    for of in SCORES
                ]  # fmt: skip
    return rows


def movement(rows: list[dict[str, Any]], change: str, way: str, of: str) -> str:
    """Returns the mean / largest difference from the plain clip, and how many lack what is scored."""
    wanted = (change, way, of)
    pairs = [(row["plain"], row["changed"]) for row in rows if (row["change"], row["way"], row["of"]) == wanted]
    moved = [abs(changed - plain) for plain, changed in pairs if None not in (plain, changed)]
    absent = f" ({len(pairs) - len(moved)} absent)" if len(moved) < len(pairs) else ""
    return (f"{np.mean(moved):.2f} / {max(moved):.2f}" if moved else "") + absent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = [*CHANGES, *TURNED]
    parser.add_argument("--last", default="runs/demo/model", help="a model that reads the last hidden state")
    parser.add_argument("--mean", default="runs/mean/model", help="a model that reads the mean of the hidden states")
    parser.add_argument("--clips", type=int, default=7, help="of each change")
    parser.add_argument("--changes", nargs="+", choices=every, default=every, metavar="CHANGE")
    parser.add_argument("--out", type=Path, help="a CSV file of each score")
    options = parser.parse_args()

    logging.set_verbosity_error()
    pipes = {}
    for pooling in ("last", "mean"):
        model, processor = load_model(getattr(options, pooling), None)
        pipes[pooling] = MultimodalSentimentPipeline(model, processor=processor, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        rows = measured(Scorer(pipes), options.clips, options.changes, Path(folder))
    if options.out:
        with options.out.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    print(f"{options.clips * len(options.changes)} changed clips; by how much a score moves, mean / largest\n")
    for of in SCORES:
        print(f"| {of} | " + " | ".join(WAYS) + " |")
        print("|---" * (1 + len(WAYS)) + "|")
        for change in options.changes:
            print(f"| {change} | " + " | ".join(movement(rows, change, way, of) for way in WAYS) + " |")
        print()


if __name__ == "__main__":
    main()
