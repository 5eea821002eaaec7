"""Excluded units: the test of equal shares against scipy, and the bounds against enumeration."""

import itertools

import numpy as np
import pytest
from scipy import stats
from touchstone_statistics.exclusion import (
    exclusions,
    largest_bias,
    largest_shares,
    worst_case,
)
from touchstone_statistics.gaps import Gap


def test_equal_shares_are_tested_as_in_scipy() -> None:
    kept, excluded = np.array([9000.0, 8900.0, 4500.0]), np.array([40.0, 90.0, 20.0])
    ours = exclusions(kept, excluded)
    expected = stats.chi2_contingency(np.array([kept, excluded]), correction=False)
    assert ours.statistic == pytest.approx(expected.statistic)
    assert ours.p_value == pytest.approx(expected.pvalue)
    assert ours.dof == expected.dof
    assert ours.alert
    assert ours.share[1] == pytest.approx(90 / 8990)
    assert ours.overall_share == pytest.approx(150 / 22_550)


@pytest.mark.parametrize(
    ("kept", "excluded", "gap"),
    [
        ([0.0, 0.0], [0.0, 0.0], Gap.NO_UNITS),
        ([5.0, 0.0], [1.0, 0.0], Gap.NOT_APPLICABLE),
        ([5.0, 5.0], [0.0, 0.0], Gap.ZERO_VARIANCE),
        ([0.0, 0.0], [4.0, 5.0], Gap.ZERO_VARIANCE),
    ],
)
def test_nothing_to_test_has_a_reason(kept: list[float], excluded: list[float], gap: Gap) -> None:
    ours = exclusions(np.array(kept), np.array(excluded))
    assert ours.gap is gap
    assert not ours.alert


def test_the_bounds_are_reached_and_never_passed() -> None:
    # Ten units an arm that convert or not, two and one of them excluded: all that they can be.
    control, treatment = [1, 0, 0, 1, 0, 0, 0, 0], [1, 1, 0, 1, 0, 0, 1, 0, 0]
    possible = [
        np.mean(treatment + list(t)) - np.mean(control + list(c))
        for c in itertools.product((0, 1), repeat=2)
        for t in itertools.product((0, 1), repeat=1)
    ]
    means = np.array([np.mean(control), np.mean(treatment)])
    bounds = worst_case(means, np.array([0.2, 0.1]), 0.0, 1.0)
    assert bounds.low[0] == pytest.approx(min(possible))
    assert bounds.high[0] == pytest.approx(max(possible))
    bias = largest_bias(means, np.array([0.2, 0.1]), 0.0, 1.0)
    difference = means[1] - means[0]
    assert bias[0] == pytest.approx(max(abs(d - difference) for d in possible))


def test_unknown_first_variants_widen_the_bounds_to_every_split_of_the_excluded() -> None:
    kept, means = np.array([80.0, 120.0]), np.array([0.25, 0.3])
    bounds = worst_case(means, largest_shares(kept, 10.0), 0.0, 1.0)
    for lost in range(11):
        shares = np.array([lost / (80 + lost), (10 - lost) / (130 - lost)])
        inner = worst_case(means, shares, 0.0, 1.0)
        assert bounds.low[0] <= inner.low[0]
        assert inner.high[0] <= bounds.high[0]
    np.testing.assert_allclose(largest_shares(np.zeros(2), 0.0), 0.0)


def test_without_exclusions_there_is_no_bias() -> None:
    means = np.array([[0.1, 0.2, 0.3], [1.0, 2.0, 3.0]])
    assert largest_bias(means, np.zeros(3), 0.0, 5.0).tolist() == [[0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize(("lowest", "highest"), [(1.0, 0.0), (0.0, float("inf"))])
def test_an_unbounded_metric_has_no_bound(lowest: float, highest: float) -> None:
    with pytest.raises(ValueError, match="lie between"):
        worst_case(np.zeros(2), np.zeros(2), lowest, highest)
