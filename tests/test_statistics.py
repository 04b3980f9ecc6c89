"""What is said from a few seeds, held against scipy, hand-made values and simulations."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from selfmm_hf.evaluation.statistics import bootstrap_interval, compare, sign_flip_p, summary


def test_the_interval_of_a_mean_is_that_of_scipy():
    values = [0.766, 0.771, 0.759, 0.768, 0.780]
    found = summary(values)
    assert (found.n, found.mean, found.sd) == (5, pytest.approx(np.mean(values)), pytest.approx(np.std(values, ddof=1)))
    expected = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected)


def test_one_seed_has_no_interval():
    found = summary([0.7])
    assert found.mean == 0.7 and all(math.isnan(one) for one in (found.sd, found.low, found.high))
    compared = compare([0.7], [0.5])
    assert (compared.difference, compared.p, compared.least_p) == (pytest.approx(0.2), 1.0, 1.0)


def test_what_is_not_defined_stays_so():
    assert math.isnan(summary([0.1, math.nan]).mean) and math.isnan(compare([0.1, math.nan], [0.2, 0.3]).p)


def test_intervals_hold_the_truth_as_often_as_they_say():
    random = np.random.default_rng(0)
    found = [summary(random.normal(2, 3, size=5)) for _ in range(2000)]
    assert 0.935 < np.mean([one.low <= 2 <= one.high for one in found]) < 0.965


def test_the_paired_interval_and_test():
    one, other = [0.70, 0.72, 0.71, 0.69, 0.73], [0.75, 0.76, 0.70, 0.74, 0.78]
    compared = compare(one, other)
    expected = stats.ttest_rel(one, other).confidence_interval(0.95)
    assert (compared.low, compared.high) == pytest.approx(tuple(expected))
    assert compared.difference == pytest.approx(np.mean(one) - np.mean(other)) and compared.least_p == 2 / 32
    # scipy's exact permutation test draws the same signs
    exact = stats.permutation_test((one, other), lambda x, y, axis: np.mean(x - y, axis=axis),
                                   permutation_type="samples", n_resamples=np.inf, vectorized=True)  # fmt: skip
    assert compared.p == pytest.approx(exact.pvalue)
    assert compare(other, one).p == compared.p


@pytest.mark.parametrize("differences", [[1.0], [1, 2, 4], [0.1, 0.1, 0.1, 0.1, 0.1], [3, -1, 2, 0, -2.5, 1], [0, 0]])
def test_the_sign_flip_test_counts_all_signs(differences):
    observed = abs(sum(differences)) - 1e-9
    flipped = [
        abs(sum(sign * one for sign, one in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    assert sign_flip_p(differences) == np.mean([total >= observed for total in flipped])


def test_with_many_differences_signs_are_drawn():
    random = np.random.default_rng(3)
    few = random.normal(0.5, 1, size=16)
    assert sign_flip_p(np.append(few, 0.0)) == pytest.approx(sign_flip_p(few), abs=0.01)
    assert 0 < sign_flip_p(np.ones(40)) < 1e-3


def test_the_sign_flip_test_errs_as_seldom_as_it_says():
    random = np.random.default_rng(1)
    p = np.array([sign_flip_p(random.standard_t(2, size=7)) for _ in range(800)])
    assert 0.03 < np.mean(p <= 0.05) <= 0.065


def simulated(random, seeds, clips, effect):
    """Errors of two configurations: clips are easy or hard for both, and some are easier for one of them."""
    hardness = random.gamma(2, 0.35, size=clips)
    liking = random.normal(effect, 0.2, size=clips)
    noise = random.normal(0, 0.3, size=(2, seeds, clips))
    return hardness + liking + noise[0], hardness + noise[1]


def test_the_bootstrap_interval_holds_the_truth_for_other_clips():
    random = np.random.default_rng(2)
    inside = []
    for _ in range(300):
        low, high = bootstrap_interval(*simulated(random, 3, 100, 0.05), resamples=300)
        inside.append(low <= 0.05 <= high)
    assert 0.91 <= np.mean(inside) <= 0.98


def test_the_bootstrap_interval_is_that_of_scipy():
    one, other = simulated(np.random.default_rng(4), 1, 200, 0.1)
    low, high = bootstrap_interval(one, other)
    expected = stats.bootstrap(((one - other)[0],), np.mean, rng=np.random.default_rng(5)).confidence_interval
    assert (low, high) == pytest.approx(tuple(expected), abs=0.01)
    assert bootstrap_interval(one, other) == (low, high), "the same numbers each time"
    assert bootstrap_interval(one, one) == (0, 0)
    assert np.isnan(bootstrap_interval(one[:, :1], other[:, :1])).all(), "other clips of one cannot be drawn"
