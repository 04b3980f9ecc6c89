"""Statistics over a few seeds: means with intervals, and differences between two configurations."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

LEVEL = 0.95
RESAMPLES = 100_000  # of the signs; all signs are tried for up to 16 differences


@dataclass(frozen=True)
class Summary:
    """
    Summary of a metric over seeds.

    Attributes:
        n: Number of seeds.
        mean, sd: Mean, and sample standard deviation (n - 1); NaN for one seed.
        low, high: 95 % t interval of the mean, which assumes normally distributed values; NaN for one seed.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """
    Comparison of two configurations over the same seeds.

    Attributes:
        n: Number of common seeds.
        difference: Mean of the differences, one minus other.
        low, high: 95 % t interval of that mean; NaN for one seed.
        p: P-value of the two-sided sign-flip permutation test, which assumes no distribution.
        least_p: The least p that is possible, 2 / 2^n: fewer than 6 seeds cannot show anything at the level of .05.
    """

    n: int
    difference: float
    low: float
    high: float
    p: float
    least_p: float


def summary(values: ArrayLike) -> Summary:
    """Summarises at least one value; NaN if one of them is."""
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
    Returns how often the mean of `differences`, with signs drawn at random, is as far from 0 as it is: over all signs
    for up to 16 differences, otherwise over draws, which are the same each time. NaN if a difference is.
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
    Returns the 95 % interval of the difference of two configurations, for these very runs, if the test split had other
    clips: as many, drawn with replacement, the same for both. (Seeds are not drawn as well: with 5 values, such an
    interval holds the truth 83 times in 100. For seeds, see the t interval.) NaN for one clip.

    Args:
        one, other: A figure of each clip whose mean is the metric, such as the absolute error: (seeds, clips), in the
            same order for both.
    """
    from scipy.stats import bootstrap

    differences = (np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)).mean(0)
    if len(differences) == 1:
        return math.nan, math.nan
    found = bootstrap((differences,), np.mean, n_resamples=resamples, confidence_level=LEVEL, method="percentile",
                      random_state=0, batch=100)  # fmt: skip
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
