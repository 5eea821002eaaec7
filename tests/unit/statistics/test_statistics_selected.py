"""Effects that were chosen for being significant: closed forms, coverage among the chosen."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.estimand import Estimate
from touchstone_statistics.gaps import Gap
from touchstone_statistics.inference import Fixed
from touchstone_statistics.interval import Shape
from touchstone_statistics.selected import corrected, truth_at

ENDS = np.array([0.025, 0.5, 0.975])


def contrast(control: np.ndarray, treatment: np.ndarray, std_err: float = 1.0) -> Contrast:
    def arm(value: np.ndarray) -> Estimate:
        none = np.zeros(value.shape, dtype=np.uint8)
        variance = np.full(value.shape, std_err**2 / 2)
        return Estimate(value, variance, np.full(value.shape, 1e9), none, none)

    return Contrast(arm(control), arm(treatment))


@pytest.mark.parametrize("size", [1.97, 2.3, 3.0, 5.0, 9.0])
def test_the_bounds_solve_the_truncated_normal(size: float) -> None:
    """Against a root finder over scipy's own distribution functions."""

    def excess(truth: float, wanted: float) -> float:
        chosen = stats.norm.sf(1.96 - truth) + stats.norm.cdf(-1.96 - truth)
        return float(stats.norm.sf(size - truth) / chosen - wanted)

    ours = truth_at(np.array([size]), np.array([1.96]), ENDS)[:, 0]
    theirs = [optimize.brentq(excess, -30, 30, args=(wanted,), xtol=1e-13) for wanted in ENDS]
    assert ours == pytest.approx(theirs, abs=1e-9)


def test_just_beyond_the_threshold_nothing_is_left_and_far_beyond_it_everything() -> None:
    at_bar = truth_at(np.array([1.96]), np.array([1.96]), ENDS)[:, 0]
    assert at_bar[1] == pytest.approx(0.0, abs=1e-9)
    assert at_bar[0] == pytest.approx(-at_bar[2])
    # There the bound is the truth under which the sign alone is right with that probability.
    sides = stats.norm.sf(1.96 - at_bar[2]), stats.norm.cdf(-1.96 - at_bar[2])
    assert sides[0] / sum(sides) == pytest.approx(0.975)
    far = truth_at(np.array([12.0]), np.array([1.96]), ENDS)[:, 0]
    assert far == pytest.approx(12.0 + stats.norm.ppf(ENDS), abs=1e-9)


@pytest.mark.parametrize("truth", [0.0, 1.0, 2.5])
def test_among_the_chosen_the_interval_covers_and_the_estimate_is_the_median(truth: float) -> None:
    rng = np.random.default_rng(7)
    seen = contrast(np.zeros(200_000) + 50.0, 50.0 + rng.normal(truth, 1.0, 200_000))
    found = corrected(seen, np.array(1.96))
    chosen = found.gap == Gap.NONE
    assert chosen.mean() == pytest.approx(
        stats.norm.sf(1.96 - truth) + stats.norm.cdf(-1.96 - truth), abs=0.005
    )
    inside = ~found.difference_interval.excludes(truth)[chosen]
    assert inside.mean() == pytest.approx(0.95, abs=0.01)
    assert (found.difference[chosen] > truth).mean() == pytest.approx(0.5, abs=0.025)
    # What the choice does to the plain interval, where there is little to find.
    if truth == 1.0:
        plain = ~Fixed().read(seen).difference.excludes(truth)[chosen]
        assert plain.mean() < 0.9


@given(st.floats(-9, 9), st.floats(0.5, 4), st.floats(3, 200))
def test_intervals_of_difference_and_lift_agree_and_mirror(
    score: float, bar: float, control: float
) -> None:
    one = corrected(contrast(np.array([control]), np.array([control + score])), np.array(bar))
    assert bool(one.gap[0] == Gap.NONE) is (abs(score) > bar) or abs(abs(score) - bar) < 1e-9
    if one.gap[0] != Gap.NONE:
        return
    assert one.difference_interval.low[0] <= one.difference[0] <= one.difference_interval.high[0]
    assert abs(one.difference[0]) <= abs(score) + 1e-9
    if one.lift_interval.shape[0] == Shape.BETWEEN:
        low, high = one.lift_interval.low[0], one.lift_interval.high[0]
        assert low <= one.lift[0] <= high
        for ours, other in (
            (low, one.difference_interval.low),
            (high, one.difference_interval.high),
        ):
            assert abs(other[0]) < 1e-9 or (ours > 0) == (other[0] > 0)


def test_what_was_not_chosen_and_what_cannot_be_is_said() -> None:
    seen = contrast(np.array([10.0, 10.0, 0.0]), np.array([11.0, 14.0, 4.0]))
    found = corrected(seen, np.array([1.96, 1.96, 1.96]))
    assert found.gap.tolist() == [Gap.NOT_APPLICABLE, Gap.NONE, Gap.NONE]
    assert found.lift_gap.tolist() == [Gap.NOT_APPLICABLE, Gap.NONE, Gap.ZERO_CONTROL_MEAN]
    unreachable = corrected(seen, np.array([np.inf, np.inf, np.inf]))
    assert set(unreachable.gap.tolist()) == {Gap.NOT_APPLICABLE}
    with pytest.raises(ValueError, match=r"alpha is 0\.7"):
        corrected(seen, np.array(1.96), alpha=0.7)
