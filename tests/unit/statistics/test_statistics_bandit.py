"""Weights of bandits and what they are for: finding the best arm, with unbiased estimates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from touchstone_statistics.adaptive import Propensities, by_propensity, over_periods
from touchstone_statistics.bandit import (
    TOTAL_WEIGHT,
    Bandit,
    Hold,
    Policy,
    floored,
    top_two,
    whole_weights,
)
from touchstone_statistics.bayes import LiftPrior
from touchstone_statistics.best import Best, best_arm
from touchstone_statistics.estimand import Estimate, Mean, estimate
from touchstone_statistics.gaps import FloatArray, Gap
from touchstone_statistics.moments import Moments

SHARES = st.lists(st.floats(0, 1), min_size=2, max_size=8).filter(lambda w: sum(w) > 1e-6)


def known(*chance: float) -> Best:
    return Best(np.array(chance), np.zeros(len(chance), dtype=np.uint8))


def test_the_top_two_weights_are_those_of_the_draws() -> None:
    chance = np.array([0.55, 0.3, 0.1, 0.05])
    rng = np.random.default_rng(1)
    draws = rng.choice(4, (400_000, 12), p=chance)
    # The challenger is the first draw that is not the leader; twelve draws nearly always hold one.
    other = draws != draws[:, :1]
    found = other.any(axis=1)
    challenger = draws[np.arange(len(draws)), np.argmax(other, axis=1)]
    leader = rng.random(len(draws)) < 0.4
    picked = np.where(leader, draws[:, 0], challenger)[leader | found]
    share = np.bincount(picked, minlength=4) / picked.size
    assert top_two(chance, 0.4) == pytest.approx(share, abs=0.003)


def test_top_two_of_two_arms_is_an_even_split_and_no_weight_is_lost_at_the_ends() -> None:
    assert top_two(np.array([0.8, 0.2])) == pytest.approx([0.5, 0.5])
    # The best arm keeps its half when nobody doubts it, the others share the rest.
    assert top_two(np.array([0.0, 0.0, 1.0])) == pytest.approx([0.25, 0.25, 0.5])
    assert top_two(np.array([1e-30, 3e-30, 1.0])) == pytest.approx([0.125, 0.375, 0.5])


@given(SHARES, st.floats(0.01, 1))
def test_top_two_weights_add_up_to_one(weights: list[float], leader_share: float) -> None:
    chance = np.array(weights) / sum(weights)
    moved = top_two(chance, leader_share)
    assert moved.sum() == pytest.approx(1.0)
    assert (moved >= 0).all()


@given(SHARES, st.floats(0, 0.12))
def test_floors_keep_the_order_and_the_sum(weights: list[float], floor: float) -> None:
    share = np.array(weights) / sum(weights)
    moved = floored(share, floor)
    assert moved.sum() == pytest.approx(1.0)
    assert (moved >= floor - 1e-15).all()
    assert (np.diff(moved[np.argsort(share)]) >= -1e-15).all()


@given(SHARES)
def test_whole_weights_add_up_and_are_off_by_less_than_one(weights: list[float]) -> None:
    whole = whole_weights(np.array(weights), TOTAL_WEIGHT)
    assert whole.sum() == TOTAL_WEIGHT
    assert (whole >= 0).all()
    assert np.abs(whole - np.array(weights) / sum(weights) * TOTAL_WEIGHT).max() < 1.0 + 1e-9


def test_thirds_give_the_spare_unit_to_the_first_arm() -> None:
    assert whole_weights(np.ones(3), 10_000).tolist() == [3334, 3333, 3333]


def test_weights_follow_the_chances_above_a_floor() -> None:
    made = Bandit(floor=0.05).weigh(known(0.7, 0.2, 0.1), np.full(3, 500.0), periods=3)
    assert made.hold == Hold.NONE
    assert made.weights.tolist() == [6450, 2200, 1350]


@pytest.mark.parametrize(
    ("best", "units", "periods", "hold"),
    [
        (known(0.9, 0.1), [100.0, 99.0], 5, Hold.TOO_FEW_UNITS),
        (known(0.9, 0.1), [500.0, 500.0], 1, Hold.TOO_FEW_PERIODS),
        (
            Best(np.zeros(2), np.full(2, Gap.ZERO_VARIANCE, dtype=np.uint8)),
            [500.0, 500.0],
            5,
            Hold.NO_POSTERIOR,
        ),
    ],
)
@pytest.mark.parametrize("policy", list(Policy))
def test_weights_are_equal_until_there_is_evidence(
    best: Best, units: list[float], periods: int, hold: Hold, policy: Policy
) -> None:
    made = Bandit(policy, least_periods=2).weigh(best, np.array(units), periods)
    assert made.hold == hold
    assert made.weights.tolist() == [5000, 5000]


def test_each_stratum_has_weights_of_its_own() -> None:
    best = Best(np.array([[0.9, 0.1], [0.2, 0.8]]), np.zeros((2, 2), dtype=np.uint8))
    made = Bandit(floor=0.0).weigh(best, np.array([[500.0, 500.0], [500.0, 5.0]]), periods=2)
    assert made.hold.tolist() == [Hold.NONE, Hold.TOO_FEW_UNITS]
    assert made.weights.tolist() == [[9000, 1000], [5000, 5000]]


def test_senseless_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="leader_share is 0"):
        Bandit(leader_share=0.0)
    with pytest.raises(ValueError, match="least_units is -1"):
        Bandit(least_units=-1)
    with pytest.raises(ValueError, match="floor is 1"):
        Bandit(floor=1.0)
    with pytest.raises(ValueError, match="3 arms leave room for at most"):
        Bandit(floor=0.4).weigh(known(0.5, 0.3, 0.2), np.full(3, 500.0), 3)
    with pytest.raises(ValueError, match=r"chance is 0\.0"):
        Propensities(np.array([0]), np.array([0.0]), np.array([1.0]))


def drifting(trials: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """Counts and conversions (periods, trials, arms) of equal arms whose rate doubles.

    The second period gives the arm that looked better in the first nine tenths of the traffic.
    """
    rng = np.random.default_rng(seed)
    first = rng.multinomial(1_000, [0.5, 0.5], trials)
    seen = rng.binomial(first, 0.1)
    ahead = (seen / first)[:, 1] > (seen / first)[:, 0]
    share = np.where(ahead[:, None], [0.1, 0.9], [0.9, 0.1])
    second = rng.multinomial(1_000, share)
    units = np.stack([first, second])
    converted = np.stack([seen, rng.binomial(second, 0.2)])
    return units.astype(float), converted.astype(float)


def test_pooling_over_changing_weights_is_biased_and_periods_are_not() -> None:
    units, converted = drifting(4_000, seed=9)
    rate = converted / units
    co_moment = (units * rate * (1 - rate))[..., None, None]
    periods = estimate(Moments.of(units, rate[..., None], co_moment), Mean(0))
    ours = over_periods(periods, units.sum(axis=2))
    # Both arms convert at 0.15 over the traffic of both periods.
    error = ours.value - 0.15
    room = 4 * error.std(axis=0) / len(error) ** 0.5
    assert (np.abs(error.mean(axis=0)) < room).all()
    covered = np.abs(error) < 1.96 * ours.std_err
    assert covered.mean() == pytest.approx(0.95, abs=0.01)
    # The twin that pools units sees the favoured arm mostly when rates are high.
    pooled = converted.sum(axis=0) / units.sum(axis=0)
    favoured = np.argmax(units[1], axis=1)
    rows = np.arange(len(pooled))
    gain = pooled[rows, favoured] - pooled[rows, 1 - favoured]
    assert gain.mean() > 0.04
    unbiased = ours.value[rows, favoured] - ours.value[rows, 1 - favoured]
    # What is left is the luck of the first period that made it the favoured one.
    assert unbiased.mean() < 0.01


def test_a_period_without_an_arm_leaves_it_without_an_estimate() -> None:
    units = np.array([[50.0, 60.0], [70.0, 0.0], [0.0, 0.0]])
    periods = estimate(Moments.of(units, units[..., None], units[..., None, None]), Mean(0))
    ours = over_periods(periods, units.sum(axis=1))
    assert list(ours.gap) == [Gap.NONE, Gap.NO_UNITS]
    assert ours.value[0] == pytest.approx((110 * 50 + 70 * 70) / 180)
    nothing = over_periods(periods[2:], np.zeros(1))
    assert list(nothing.gap) == [Gap.NO_UNITS, Gap.NO_UNITS]
    never = over_periods(periods[:0], np.zeros(0))
    assert list(never.gap) == list(never.spread_gap) == [Gap.NO_UNITS, Gap.NO_UNITS]


def test_the_degrees_of_freedom_of_one_period_are_its_own() -> None:
    none = np.zeros((1, 2), dtype=np.uint8)
    periods = Estimate(np.ones((1, 2)), np.ones((1, 2)), np.array([[30.0, 9.0]]), none, none)
    assert over_periods(periods, np.array([39.0])).dof.tolist() == [29.0, 8.0]


@pytest.mark.parametrize("augmented", [False, True])
def test_propensity_weighting_is_unbiased_and_covers(augmented: bool) -> None:
    rng = np.random.default_rng(12)
    means, errors, covered = np.array([1.0, 1.5]), [], []
    for _ in range(400):
        stratum = rng.integers(0, 2, 600)
        favoured = np.where(stratum == 1, 0.8, 0.3)
        arm = (rng.random(600) < favoured).astype(np.int64)
        chance = np.where(arm == 1, favoured, 1 - favoured)
        outcome = means[arm] + 2.0 * stratum + rng.normal(0, 1, 600)
        forecast = 0.8 + 1.8 * stratum[:, None] + np.zeros((600, 2)) if augmented else None
        found = by_propensity(Propensities(arm, chance, outcome, forecast), 2)
        errors.append(found.value - (means + 1.0))
        covered.append(np.abs(errors[-1]) < 1.96 * found.std_err)
    room = 4 * np.std(errors, axis=0) / 400**0.5
    assert (np.abs(np.mean(errors, axis=0)) < room).all()
    # Four standard errors of a share of 800.
    assert np.mean(covered) == pytest.approx(0.95, abs=0.035)


def test_with_equal_chances_hajek_is_the_mean_of_the_arm() -> None:
    arm, outcome = np.array([0, 1, 1, 0, 1]), np.array([1.0, 5.0, 3.0, 2.0, 4.0])
    found = by_propensity(Propensities(arm, np.full(5, 0.5), outcome), 3)
    assert found.value[:2] == pytest.approx([1.5, 4.0])
    assert list(found.gap) == [Gap.NONE, Gap.NONE, Gap.NO_UNITS]


def run_bandit(policy: Policy | None, trials: int, seed: int) -> tuple[float, float]:
    """Share of trials that end with the right arm, and conversions lost for each unit."""
    rng = np.random.default_rng(seed)
    rates = np.array([0.06, 0.11, 0.13])
    bandit = Bandit(policy or Policy.THOMPSON, floor=0.02)
    units, converted = np.zeros((trials, 3)), np.zeros((trials, 3))
    share = np.full((trials, 3), 1 / 3)
    none = np.zeros((trials, 3), dtype=np.uint8)
    lost = 0.0
    for period in range(1, 16):
        new = rng.multinomial(300, share)
        units += new
        converted += rng.binomial(new, rates)
        lost += float((new * (rates.max() - rates)).sum())
        rate = converted / units
        arms = Estimate(rate, rate * (1 - rate) / units, units, none, none)
        best = best_arm(arms, LiftPrior(0.0, 1e3), True)
        if policy is not None:
            share = bandit.weigh(best, units, period).share
    found = np.argmax(best.probability, axis=1) == 2
    return float(found.mean()), lost / units.sum()


def test_top_two_finds_the_best_more_often_than_even_weights_and_thompson_loses_least() -> None:
    even, lost_even = run_bandit(None, 4_000, seed=3)
    found, lost_top_two = run_bandit(Policy.TOP_TWO, 4_000, seed=3)
    _, lost_thompson = run_bandit(Policy.THOMPSON, 4_000, seed=3)
    # Three standard errors of a difference of two shares near 0.95 of 4000.
    assert found > even + 3 * (2 * 0.95 * 0.05 / 4_000) ** 0.5
    assert lost_thompson < lost_top_two < lost_even
