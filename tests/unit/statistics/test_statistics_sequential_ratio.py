"""Sample-ratio tests: under continuous looks and for few units."""

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from touchstone_statistics.gaps import Gap, NotEstimable
from touchstone_statistics.sequential_ratio import SequentialRatio, exact_sample_ratio


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=60), st.integers(0, 2**32 - 1))
def test_it_is_the_product_of_predictive_ratios_in_any_order(arms: list[int], seed: int) -> None:
    # The defining recursion: each unit multiplies by the predictive share over the weight.
    weights, k = np.array([0.5, 0.3, 0.2]), 100.0
    counts, log_e = np.zeros(3), 0.0
    for arm in np.random.default_rng(seed).permutation(arms):
        predictive = (k * weights[arm] + counts[arm]) / (k + counts.sum())
        log_e += math.log(predictive / weights[arm])
        counts[arm] += 1
    assert SequentialRatio(weights, k).read(counts).log_e == pytest.approx(log_e, abs=1e-9)


def test_it_matches_savvi() -> None:
    # savvi 0.3.1, Multinomial(0.05, [0.5, 0.3, 0.2], k=100): one over its odds at two looks.
    test = SequentialRatio(np.array([0.5, 0.3, 0.2]), 100.0)
    found = test.read(np.array([[120.0, 95, 40], [620, 355, 270]]))
    assert np.exp(-found.log_e) == pytest.approx([0.26316834324357, 3.99039435589477], rel=1e-10)


def test_looks_keep_the_strongest_evidence() -> None:
    test = SequentialRatio(np.array([1.0, 1.0]))
    off = test.read(np.array([6000, 5000]))
    assert off.p_value < 0.001
    back = test.read(np.array([11_000, 11_000]), off.log_e_max)
    assert back.log_e < off.log_e
    assert back.p_value == off.p_value
    assert test.read(np.array([0, 0])).p_value == 1.0


def test_many_slices_are_read_at_once_and_arms_of_no_weight_are_a_fault() -> None:
    test = SequentialRatio(np.array([0.5, 0.0, 0.5]))
    found = test.read(np.array([[500.0, 0, 510], [500, 7, 510], [500, 0, 900]]))
    assert found.p_value.shape == (3,)
    assert found.p_value[0] == found.p_value[1] > 0.1
    assert found.p_value[2] < 1e-6
    assert list(found.unexpected_units) == [0, 7, 0]


def test_looking_after_every_unit_keeps_the_level_and_pearson_does_not() -> None:
    rng = np.random.default_rng(42)
    trials, units = 1000, 1500
    first = (rng.random((trials, units)) < 0.5).cumsum(axis=1)
    total = np.arange(1, units + 1)
    counts = np.stack([first, total - first], axis=-1)
    found = SequentialRatio(np.array([1.0, 1.0]), 100.0).read(counts)
    alarms = (np.exp(-found.log_e) < 0.05).any(axis=1).mean()
    # 1,000 trials: Monte Carlo standard error 0.7 points at 5 %.
    assert alarms < 0.05
    chi_squared = ((2 * first - total) ** 2 / total)[:, 100:]
    assert (chi_squared > stats.chi2.isf(0.05, 1)).any(axis=1).mean() > 0.2


def test_a_split_of_49_to_51_is_found() -> None:
    rng = np.random.default_rng(43)
    first = rng.binomial(1000, 0.49, (1000, 60)).cumsum(axis=1)
    total = 1000 * np.arange(1, 61)
    found = SequentialRatio(np.array([1.0, 1.0])).read(np.stack([first, total - first], axis=-1))
    assert (np.exp(-found.log_e) < 0.01).any(axis=1).mean() > 0.9


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.floats(0.1, 0.9))
def test_two_arms_match_the_binomial_test_of_scipy(first: int, second: int, share: float) -> None:
    ours = exact_sample_ratio(np.array([first, second]), np.array([share, 1 - share]))
    if first + second == 0:
        assert ours == NotEstimable(Gap.NO_UNITS)
    else:
        assert ours == pytest.approx(stats.binomtest(first, first + second, share).pvalue, rel=1e-6)


def test_three_arms_match_an_enumeration_in_exact_fractions() -> None:
    shares = [Fraction(1, 2), Fraction(1, 3), Fraction(1, 6)]
    observed, total = (2, 1, 5), 8

    def chance(split: tuple[int, ...]) -> Fraction:
        ways = math.factorial(total)
        likelihood = Fraction(1)
        for count, share in zip(split, shares, strict=True):
            ways //= math.factorial(count)
            likelihood *= share**count
        return ways * likelihood

    splits = [s for s in product(range(total + 1), repeat=3) if sum(s) == total]
    exact = sum(chance(s) for s in splits if chance(s) <= chance(observed))
    ours = exact_sample_ratio(np.array(observed), np.array([3.0, 2.0, 1.0]))
    assert ours == pytest.approx(float(exact), rel=1e-12)


def test_what_cannot_be_enumerated_is_not_answered() -> None:
    none = NotEstimable(Gap.NOT_APPLICABLE)
    assert exact_sample_ratio(np.array([5000, 5000, 5000]), np.ones(3)) == none
    assert exact_sample_ratio(np.array([3, 4]), np.array([1.0, 0.0])) == none
    assert exact_sample_ratio(np.array([2, 9, 2]), np.array([1.0, 0.0, 1.0])) == 1.0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SequentialRatio(np.array([1.0, -1.0])), "one finite number from 0 on"),
        (lambda: SequentialRatio(np.array([1.0, 0.0])), "at least two must be above 0"),
        (lambda: SequentialRatio(np.ones(2), 0.0), r"concentration is 0\.0"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(make: object, words: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=words):
        make()
