"""What people say of clips by voice alone, by face alone and by both: the statistics of CREMA-D, and draws like it.

    python benchmarks/crema_d.py processedResults/tabulatedVotes.csv

CREMA-D (CheyneyComputerScience/CREMA-D, ODbL 1.0) has 7,442 acted clips. About ten people each named the emotion of a
clip by its voice, others by its face, others by both, and how strong it is, from 0 to 100. The sentiment of a clip is
the mean over the votes of valence x strength / 100, a number in [-1, 1]: the valence is 1 of happy, 0 of neutral, and
-1 of anger, disgust, fear and sadness; the strength is the mean of those who named this emotion.

The sentiments form three heaps, by what most votes of `both` say: negative, neutral, positive. `HEAPS` has the
statistics of each. Draws from these three normal distributions have the statistics of all clips, `ALL`. The command
computes both from the file of votes and prints them. This file has no row of the data.
"""

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path
from pprint import pprint

import numpy as np
from numpy.typing import NDArray

VALENCE = {"Anger": -1, "Disgust": -1, "Fear": -1, "Happy": 1, "Neutral": 0, "Sad": -1}
SAID_BY = ("voice", "face", "both")  # in the file: the first digit of a row's name, 1 to 3
CLEAR = 0.1  # sentiments nearer to 0 contradict none


@dataclass(frozen=True)
class Sentiments:
    """
    Statistics of the sentiments of clips, which lie in [-1, 1].

    Args:
        share: Share of all clips.
        means, deviations: By voice, by face, by both.
        correlations: Of voice and face, of voice and both, of face and both.
        contradictions: Shares of clips of opposite sign, both at least `CLEAR` from 0; in the order of `correlations`.
    """

    share: float
    means: tuple[float, float, float]
    deviations: tuple[float, float, float]
    correlations: tuple[float, float, float]
    contradictions: tuple[float, float, float]

    @property
    def covariance(self) -> NDArray[np.float64]:
        """Covariance of voice, face and both, (3, 3)."""
        correlation = np.eye(3)
        correlation[np.triu_indices(3, 1)] = self.correlations
        return np.maximum(correlation, correlation.T) * np.outer(self.deviations, self.deviations)


HEAPS = {
    "negative": Sentiments(
        share=0.610,
        means=(-0.350, -0.512, -0.530),
        deviations=(0.217, 0.209, 0.175),
        correlations=(0.268, 0.534, 0.669),
        contradictions=(0.010, 0.006, 0.004),
    ),
    "neutral": Sentiments(
        share=0.227,
        means=(-0.104, -0.116, -0.085),
        deviations=(0.109, 0.145, 0.089),
        correlations=(0.116, 0.292, 0.437),
        contradictions=(0.019, 0.009, 0.007),
    ),
    "positive": Sentiments(
        share=0.164,
        means=(0.032, 0.633, 0.581),
        deviations=(0.259, 0.179, 0.171),
        correlations=(0.060, 0.176, 0.620),
        contradictions=(0.275, 0.272, 0.003),
    ),
}
ALL = Sentiments(
    share=1.0,
    means=(-0.232, -0.235, -0.248),
    deviations=(0.257, 0.458, 0.438),
    correlations=(0.587, 0.666, 0.941),
    contradictions=(0.055, 0.051, 0.004),
)


def statistics(sentiments: NDArray[np.float64], share: float = 1.0) -> Sentiments:
    """Computes the statistics of sentiments (clips, 3), rounded to three decimals."""
    one, other = sentiments[:, [0, 0, 1]], sentiments[:, [1, 2, 2]]
    contradict = (one * other < 0) & (np.minimum(np.abs(one), np.abs(other)) >= CLEAR)
    correlations = np.corrcoef(sentiments.T)[np.triu_indices(3, 1)]
    figures = (sentiments.mean(0), sentiments.std(0), correlations, contradict.mean(0))
    return Sentiments(round(float(share), 3), *(tuple(figure.round(3).tolist()) for figure in figures))


def read(file: Path) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """Reads the sentiments by voice, face and both in `tabulatedVotes.csv`, (clips, 3), and the heaps, (clips,)."""
    sentiments: dict[str, list[float]] = {}
    heaps: dict[str, str] = {}
    with file.open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            votes = {emotion: int(row[emotion[0]]) for emotion in VALENCE}
            said = sum(n * VALENCE[emotion] * float(row[f"mean{emotion}Resp"]) for emotion, n in votes.items())
            clip, by = row["fileName"], SAID_BY[int(row[""][0]) - 1]
            sentiments.setdefault(clip, [0.0] * 3)[SAID_BY.index(by)] = said / sum(votes.values()) / 100
            if by == "both":
                heaps[clip] = _heap(votes)
    return np.array([*sentiments.values()]), np.array([heaps[clip] for clip in sentiments])


def _heap(votes: dict[str, int]) -> str:
    signs = {"negative": -1, "neutral": 0, "positive": 1}
    counts = {name: sum(n for emotion, n in votes.items() if VALENCE[emotion] == sign) for name, sign in signs.items()}
    return max(counts, key=counts.__getitem__)


def draw(random: np.random.Generator, clips: int) -> NDArray[np.float64]:
    """
    Draws sentiments (clips, 4) in [-1, 1], distributed as those of CREMA-D: by text, by voice, by face, by all
    together.

    Text is an assumption, because CREMA-D's twelve sentences say nothing. Here, the words say as much as the voice
    does: both have the same relation to face and to all, and agree with each other only as much as that implies.
    """
    heaps = [*HEAPS.values()]
    shares = np.array([heap.share for heap in heaps])
    drawn = np.empty((clips, 4))
    of_clip = random.choice(len(heaps), clips, p=shares / shares.sum())
    for number, heap in enumerate(heaps):
        here = of_clip == number
        covariance = heap.covariance
        seen = random.multivariate_normal(np.zeros(2), covariance[1:, 1:], here.sum())  # face, both
        slope = np.linalg.solve(covariance[1:, 1:], covariance[1:, 0])
        own = np.sqrt(covariance[0, 0] - slope @ covariance[1:, 0])
        heard = (seen @ slope)[:, None] + random.normal(0, own, (here.sum(), 2))  # text, voice
        drawn[here] = np.hstack([heard, seen]) + np.array(heap.means)[[0, 0, 1, 2]]
    return drawn.clip(-1, 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="tabulatedVotes.csv of CREMA-D")
    sentiments, heaps = read(parser.parse_args().file)
    for name in HEAPS:
        print(name)
        pprint(statistics(sentiments[heaps == name], np.mean(heaps == name)))
    print("all clips")
    pprint(statistics(sentiments))
