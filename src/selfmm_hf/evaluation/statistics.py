"""Statistics over a few seeds: means with intervals, and differences between two configurations."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

LEVEL = 0.95
RESAMPLES = 100_000  # of the signs: up to 16 differences, all signs are tried


@dataclass(frozen=True)
class Summary:
    """
    Of a metric over seeds.

    Attributes:
        n: Seeds.
        mean, sd: Mean, and sample standard deviation (n - 1); NaN for one seed.
        low, high: 95 % t interval of the mean; NaN for one seed. It takes the seeds' values as normally distributed.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """
    Of two configurations over the same seeds.

    Attributes:
        n: Common seeds.
        difference: Mean of the differences, one minus other.
        low, high: 95 % t interval of that mean; NaN for one seed.
        p: Of the two-sided sign-flip permutation test. It needs no distribution, but has a least value:
        least_p: 2 / 2^n, so that less than 6 seeds cannot show anything at the level of .05.
    """

    n: int
    difference: float
    low: float
    high: float
    p: float
    least_p: float


def summary(values: ArrayLike) -> Summary:
    """Of at least one value; NaN where one of them is."""
    values = np.asarray(values, dtype=np.float64)
    n, mean = len(values), float(values.mean())
    if n == 1:
        return Summary(1, mean, math.nan, math.nan, math.nan)
    from scipy.stats import t

    sd = float(values.std(ddof=1))
    low, high = t.interval(LEVEL, n - 1, mean, sd / math.sqrt(n)) if sd else (mean, mean)
    return Summary(n, mean, sd, float(low), float(high))


def compare(one: ArrayLike, other: ArrayLike) -> Comparison:
    """
    Pairs the values of two configurations, seed by seed.

    Args:
        one, other: (seeds,), in the same order of seeds.
    """
    differences = np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    of = summary(differences)
    return Comparison(of.n, of.mean, of.low, of.high, sign_flip_p(differences), min(1.0, 2.0 ** (1 - of.n)))


def sign_flip_p(differences: ArrayLike) -> float:
    """
    How often the mean of `differences`, with signs drawn at random, is as far from 0 as it is: exactly, over all signs,
    for up to 16 of them, else over draws, the same ones each time. NaN where a difference is.
    """
    from scipy.stats import permutation_test

    differences = np.asarray(differences, dtype=np.float64)
    if not np.isfinite(differences).all():
        return math.nan
    if len(differences) == 1:
        return 1.0  # both signs are as far

    def distance(one: np.ndarray, other: np.ndarray, axis: int) -> np.ndarray:
        return np.abs(np.mean(one - other, axis=axis))

    pairs = (differences, np.zeros_like(differences))
    test = permutation_test(pairs, distance, permutation_type="samples", n_resamples=RESAMPLES, alternative="greater",
                            vectorized=True, random_state=0)  # fmt: skip
    return float(test.pvalue)


def bootstrap_interval(one: ArrayLike, other: ArrayLike, resamples: int = 10_000) -> tuple[float, float]:
    """
    95 % interval of the difference of two configurations, of the very runs that there are, were the clips of the test
    split others: as many, drawn with replacement, the same for both. (Not drawn from the seeds as well: of 5 values,
    such an interval holds the truth 83 times in 100; theirs is the t interval.)

    Args:
        one, other: A figure of each clip, of which the metric is the mean, such as the absolute error: (seeds, clips),
            in the same order of both.
    """
    from scipy.stats import bootstrap

    differences = (np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)).mean(0)
    found = bootstrap((differences,), np.mean, n_resamples=resamples, confidence_level=LEVEL, method="percentile",
                      random_state=0, batch=100)  # fmt: skip
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
