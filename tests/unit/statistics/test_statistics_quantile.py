"""Quantiles against numpy, the asymptotic formula and simulation, with and without clusters."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.estimand import Estimate
from touchstone_statistics.gaps import FloatArray, Gap
from touchstone_statistics.inference import Fixed
from touchstone_statistics.moments import Moments
from touchstone_statistics.quantile import (
    QuantileCounts,
    clustering,
    quantile_estimate,
    ranks,
)


def counts_of(samples: FloatArray, quantile: float) -> QuantileCounts:
    """Counts of many samples at once, one a row."""
    ordered = np.sort(samples, axis=-1)
    count = samples.shape[-1]
    place = ranks(count, quantile)
    low, centre, high = (
        ordered[..., int(rank) - 1] for rank in (place.low, place.centre, place.high)
    )
    return QuantileCounts(np.full(low.shape, float(count)), low, centre, high)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 400), st.sampled_from([0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99]))
def test_the_value_is_numpys_inverted_distribution(count: int, quantile: float) -> None:
    values = np.random.default_rng(count).lognormal(size=count)
    ours = QuantileCounts.from_values(values, quantile)
    assert ours.centre == np.quantile(values, quantile, method="inverted_cdf")
    place = ranks(count, quantile)
    assert 1 <= place.low <= place.centre <= place.high <= count


def test_a_histogram_is_the_values_it_counts() -> None:
    values, heights = np.array([0.0, 1.0, 2.5, 9.0]), np.array([40, 3, 50, 30])
    one = QuantileCounts.from_histogram(values, heights, 0.4)
    other = QuantileCounts.from_values(np.repeat(values, heights), 0.4)
    for name in ("count", "low", "centre", "high"):
        assert getattr(one, name) == getattr(other, name)


@pytest.mark.parametrize("quantile", [0.5, 0.9])
def test_the_error_is_the_asymptotic_one(quantile: float) -> None:
    samples = np.random.default_rng(1).normal(size=(400, 4000))
    ours = quantile_estimate(counts_of(samples, quantile), quantile)
    density = stats.norm.pdf(stats.norm.ppf(quantile))
    expected = np.sqrt(quantile * (1 - quantile) / 4000) / density
    assert ours.std_err.mean() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(
    ("quantile", "count", "low", "high"),
    [
        # 1,500 trials: Monte Carlo standard error 0.56 points; four of them.
        (0.1, 1000, 0.027, 0.073),
        (0.5, 1000, 0.027, 0.073),
        (0.9, 1000, 0.027, 0.073),
        # With ten values above the quantile of a skewed metric the test is cautious.
        (0.99, 1000, 0.0, 0.05),
    ],
)
def test_equal_arms_are_called_different_as_often_as_promised(
    quantile: float, count: int, low: float, high: float
) -> None:
    rng = np.random.default_rng(2)
    arms = [
        quantile_estimate(counts_of(rng.lognormal(0, 1, (1500, count)), quantile), quantile)
        for _ in range(2)
    ]
    reading = Fixed().read(Contrast(arms[0], arms[1]))
    assert low < np.mean(reading.p_value < 0.05) < high


def clustered(rng: np.random.Generator, repetitions: int, users: int) -> QuantileCounts:
    """Page loads of visitors: eight a visitor, who are slow or fast; the median of each trial."""
    slow = rng.normal(0, 1, (repetitions, users, 1))
    loads = slow + rng.normal(0, 0.7, (repetitions, users, 8))
    plain = counts_of(loads.reshape(repetitions, -1), 0.5)
    below = (loads <= plain.centre[:, None, None]).sum(axis=-1).astype(np.float64)
    rows = np.stack([below, np.full(below.shape, 8.0)], axis=-1)
    mean = rows.mean(axis=1)
    centred = rows - mean[:, None]
    moments = Moments.of(
        np.full(repetitions, users), mean, np.einsum("rui,ruj->rij", centred, centred)
    )
    return QuantileCounts(plain.count, plain.low, plain.centre, plain.high, moments)


def test_visitors_with_many_events_are_not_many_visitors() -> None:
    rng = np.random.default_rng(3)
    arms = [clustered(rng, 1200, 200) for _ in range(2)]
    ours = [quantile_estimate(arm, 0.5) for arm in arms]
    rejected = np.mean(Fixed().read(Contrast(ours[0], ours[1])).p_value < 0.05)
    # 1,200 trials: Monte Carlo standard error 0.63 points; four of them.
    assert rejected == pytest.approx(0.05, abs=0.025)
    assert ours[0].std_err.mean() == pytest.approx(float(ours[0].value.std()), rel=0.06)
    naive = [quantile_estimate(QuantileCounts(a.count, a.low, a.centre, a.high), 0.5) for a in arms]
    assert np.mean(Fixed().read(Contrast(naive[0], naive[1])).p_value < 0.05) > 0.25
    assert float(clustering(arms[0], 0.5).mean()) > 3


def test_events_are_counted_by_their_unit() -> None:
    rng = np.random.default_rng(4)
    values, owners = rng.normal(size=600), rng.integers(0, 150, 600)
    counts = QuantileCounts.from_events(values, owners, 0.75)
    assert counts.clusters is not None
    per_unit = [
        [(values[owners == u] <= counts.centre).sum(), (owners == u).sum()]
        for u in np.unique(owners)
    ]
    expected = Moments.from_rows(per_unit)
    np.testing.assert_allclose(counts.clusters.co_moment, expected.co_moment)
    # Owners that say nothing about the value leave the variance about as it is.
    assert clustering(counts, 0.75) == pytest.approx(1.0, abs=0.25)
    assert quantile_estimate(counts, 0.75).units == len(np.unique(owners))


def gaps(values: object, quantile: float) -> Estimate:
    return quantile_estimate(QuantileCounts.from_values(np.asarray(values), quantile), quantile)


def test_what_cannot_be_known_has_a_reason() -> None:
    nothing = gaps([], 0.5)
    assert nothing.gap == Gap.NO_UNITS
    # z^2 q / (1 - q) is 34.6 for the ninth decile.
    assert gaps(np.arange(34), 0.9).spread_gap == Gap.TOO_FEW_UNITS
    assert gaps(np.arange(34), 0.9).gap == Gap.NONE
    assert gaps(np.arange(35), 0.9).spread_gap == Gap.NONE
    assert gaps(np.arange(34), 0.1).spread_gap == Gap.TOO_FEW_UNITS
    assert gaps([0.0] * 80 + [1.0] * 20, 0.5).spread_gap == Gap.ZERO_VARIANCE
    lone = QuantileCounts.from_events(np.arange(50.0), np.zeros(50), 0.5)
    assert quantile_estimate(lone, 0.5).spread_gap == Gap.ONE_UNIT


def test_senseless_input_is_refused() -> None:
    with pytest.raises(ValueError, match="quantile is"):
        ranks(10, 1.0)
    with pytest.raises(ValueError, match="must be ascending"):
        QuantileCounts.from_histogram([2.0, 1.0], [1, 1], 0.5)
    with pytest.raises(ValueError, match="may be negative"):
        QuantileCounts.from_histogram([1.0, 2.0], [1, -1], 0.5)
    with pytest.raises(ValueError, match="they differ"):
        QuantileCounts.from_events([1.0, 2.0], [1], 0.5)
