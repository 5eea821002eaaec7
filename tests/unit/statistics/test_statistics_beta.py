"""Beta posteriors against exact sums of fractions and scipy's adaptive quadrature."""

import math
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from touchstone_statistics.bayes import Bayes, LiftPrior
from touchstone_statistics.beta import BetaPosterior
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.estimand import Estimate
from touchstone_statistics.versus import (
    Pairs,
    credible_difference,
    credible_lift,
    within_difference,
    within_lift,
)

COUNTS = st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
Shapes = tuple[int, int]


def belief(shapes: Shapes) -> BetaPosterior:
    return BetaPosterior(np.asarray(float(shapes[0])), np.asarray(float(shapes[1])))


def exact_chance(left: Shapes, right: Shapes) -> Fraction:
    """P(Beta(left) > Beta(right)) for integers as a sum of fractions (Miller 2014)."""
    (a, b), (c, d) = left, right

    def beta(x: int, y: int) -> Fraction:
        return Fraction(math.factorial(x - 1) * math.factorial(y - 1), math.factorial(x + y - 1))

    terms = (beta(c + i, b + d) / ((b + i) * beta(1 + i, b) * beta(c, d)) for i in range(a))
    return sum(terms, Fraction(0))


def exact_loss(control: Shapes, treatment: Shapes) -> Fraction:
    """E[(C - T)+] = E[C] P(C+ > T) - E[T] P(C > T+), where + adds one to the first shape."""
    (a, b), (c, d) = control, treatment
    first = Fraction(a, a + b) * exact_chance((a + 1, b), treatment)
    return first - Fraction(c, c + d) * exact_chance(control, (c + 1, d))


@pytest.mark.parametrize(
    ("control", "treatment"),
    [
        ((1, 1), (1, 1)),
        ((3, 5), (2, 9)),
        ((40, 61), (45, 70)),
        ((1, 200), (150, 3)),
        ((12, 500), (31, 480)),
        ((2, 2), (200, 210)),
    ],
)
def test_chance_and_losses_match_exact_fractions(control: Shapes, treatment: Shapes) -> None:
    pairs = Pairs.of(belief(control), belief(treatment))
    rise, fall = pairs.compare(), pairs.compare(increase_is_better=False)
    chance = float(exact_chance(treatment, control))
    loss, gain = exact_loss(control, treatment), exact_loss(treatment, control)
    assert rise.probability_to_beat == pytest.approx(chance, abs=1e-10)
    assert fall.probability_to_beat == pytest.approx(1 - chance, abs=1e-10)
    assert rise.expected_loss == pytest.approx(float(loss), abs=1e-11, rel=1e-9)
    assert rise.loss_of_control == pytest.approx(float(gain), abs=1e-11, rel=1e-9)
    assert fall.expected_loss == rise.loss_of_control


def quad(f: Any, marks: list[float]) -> float:
    return sum(integrate.quad(f, *ends, epsabs=0, epsrel=1e-12)[0] for ends in pairwise(marks))


def marks_of(*posteriors: Any) -> list[float]:
    shares = (1e-15, 1e-6, 0.1, 0.5, 0.9)
    return sorted(
        [p.ppf(q) for p in posteriors for q in shares]
        + [p.isf(q) for p in posteriors for q in (1e-6, 1e-15)]
    )


@pytest.mark.parametrize(
    ("control", "treatment"),
    [((2_000, 20_000), (2_100, 20_000)), ((3, 10**6), (11, 10**6)), ((5, 12), (123_456, 10**6))],
)
def test_large_counts_match_adaptive_quadrature(
    control: tuple[int, int], treatment: tuple[int, int]
) -> None:
    ours = Pairs.of(BetaPosterior.of(*control), BetaPosterior.of(*treatment)).compare()
    a = stats.beta(1 + control[0], 1 + control[1] - control[0])
    b = stats.beta(1 + treatment[0], 1 + treatment[1] - treatment[0])
    chance = quad(lambda x: b.pdf(x) * a.cdf(x), marks_of(b))
    assert ours.probability_to_beat == pytest.approx(chance, abs=1e-10)
    # E[(A - B)+] = integral of P(B < x) P(A > x).
    loss = quad(lambda x: b.cdf(x) * a.sf(x), marks_of(a, b))
    assert ours.expected_loss == pytest.approx(loss, abs=1e-12, rel=1e-7)


@pytest.mark.parametrize(
    ("control", "treatment"),
    [((3, 40), (9, 50)), ((400, 9_000), (5, 60)), ((0, 10), (0, 90_000)), ((98, 100), (990, 999))],
)
def test_credible_sets_hold_their_mass(
    control: tuple[int, int], treatment: tuple[int, int]
) -> None:
    posteriors = BetaPosterior.of(*control), BetaPosterior.of(*treatment)
    pairs = Pairs.of(*posteriors)
    a, b = (stats.beta(float(p.successes), float(p.failures)) for p in posteriors)
    shift, lift = credible_difference(pairs, 0.1), credible_lift(pairs, 0.1)
    for end, mass in ((shift.low, 0.05), (shift.high, 0.95)):
        found = quad(lambda x, d=float(end): a.pdf(x) * b.cdf(x + d), marks_of(a))
        assert found == pytest.approx(mass, abs=1e-8)
    for end, mass in ((lift.low, 0.05), (lift.high, 0.95)):
        found = quad(lambda x, r=float(end): a.pdf(x) * b.cdf(x * (1 + r)), marks_of(a))
        assert found == pytest.approx(mass, abs=1e-8)


def test_the_region_of_equivalence_holds_what_is_between_its_ends() -> None:
    pairs = Pairs.of(BetaPosterior.of(900, 9_000), BetaPosterior.of(905, 9_000))
    shift, lift = credible_difference(pairs, 0.1), credible_lift(pairs, 0.1)
    assert within_difference(pairs, float(shift.low), float(shift.high)) == pytest.approx(0.9)
    assert within_lift(pairs, float(lift.low), float(lift.high)) == pytest.approx(0.9)
    far = Pairs.of(BetaPosterior.of(900, 9_000), BetaPosterior.of(2_000, 9_000))
    # Deep in a tail the mass is that of the tail, to its own digits.
    tail = float(far.differences.tail(np.ones(1), np.array([0.001]), upper=False)[0])
    assert 0 < tail < 1e-50
    assert within_difference(far, -0.5, 0.001) == pytest.approx(tail, rel=1e-9)


@settings(deadline=None, max_examples=40)
@given(COUNTS, COUNTS)
def test_difference_and_lift_agree_about_zero(
    control: tuple[int, int], treatment: tuple[int, int]
) -> None:
    pairs = Pairs.of(BetaPosterior.of(*control), BetaPosterior.of(*treatment))
    chance = float(pairs.compare().probability_to_beat)
    assume(min(abs(chance - 0.025), abs(chance - 0.975)) > 1e-7)
    decided = not 0.025 < chance < 0.975
    assert bool(credible_difference(pairs).excludes(0.0)) == decided
    assert bool(credible_lift(pairs).excludes(0.0)) == decided


@settings(deadline=None, max_examples=40)
@given(COUNTS, COUNTS)
def test_the_chances_of_both_directions_add_up_to_one(
    control: tuple[int, int], treatment: tuple[int, int]
) -> None:
    held, tried = BetaPosterior.of(*control), BetaPosterior.of(*treatment)
    rise, fall = Pairs.of(held, tried).compare(), Pairs.of(held, tried).compare(False)
    assert rise.probability_to_beat + fall.probability_to_beat == pytest.approx(1.0, abs=1e-9)
    # E[(T - C)+] - E[(C - T)+] = E[T] - E[C]
    change = float(tried.mean - held.mean)
    assert fall.expected_loss - rise.expected_loss == pytest.approx(change, abs=1e-9)


def test_a_batch_is_its_cells_one_by_one() -> None:
    converted = np.array([[3, 400], [0, 77]])
    units = np.array([[10, 9_000], [50, 80]])
    control = BetaPosterior.of(converted, units)
    treatment = BetaPosterior.of(converted[..., None] + [1, 2, 0], units[..., None] + 2)
    held = BetaPosterior(control.successes[..., None], control.failures[..., None])
    pairs = Pairs.of(held, treatment)
    batch, ends = pairs.compare(), credible_lift(pairs)
    assert batch.expected_loss.shape == ends.low.shape == (2, 2, 3)
    for index in np.ndindex(2, 2, 3):
        alone = Pairs.of(control[index[:2]], treatment[index])
        chance = alone.compare().probability_to_beat
        assert batch.probability_to_beat[index] == pytest.approx(float(chance), abs=1e-9)
        assert ends.high[index] == pytest.approx(float(credible_lift(alone).high), abs=1e-7)


def test_it_agrees_with_the_normal_posterior_on_a_large_proportion() -> None:
    n, successes = 40_000, (4_000, 4_150)
    none = np.zeros((), dtype=np.uint8)
    rates = [s / n for s in successes]
    arms = [
        Estimate(np.asarray(r), np.asarray(r * (1 - r) / n), np.asarray(float(n)), none, none)
        for r in rates
    ]
    normal = Bayes(LiftPrior(0.0, 1e3)).read(Contrast(arms[0], arms[1]))
    exact = Pairs.of(*(BetaPosterior.of(count, n) for count in successes)).compare()
    assert exact.probability_to_beat == pytest.approx(float(normal.probability_to_beat), abs=1e-3)


def test_a_prior_counts_as_the_units_it_stands_for() -> None:
    informed, flat = BetaPosterior.of(5, 50, prior=(3.0, 9.0)), BetaPosterior.of(7, 60)
    assert informed.successes == flat.successes
    assert informed.failures == flat.failures


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="6 of 5 units converted; it must be 0 to 5"):
        BetaPosterior.of([1, 6], 5)
    with pytest.raises(ValueError, match="the prior has shapes"):
        BetaPosterior.of(1, 5, prior=(0.0, 1.0))
    pairs = Pairs.of(BetaPosterior.of(1, 5), BetaPosterior.of(1, 5))
    with pytest.raises(ValueError, match="alpha is 1"):
        credible_difference(pairs, 1.0)
    with pytest.raises(ValueError, match="low must be below high"):
        within_difference(pairs, 0.1, -0.1)
    with pytest.raises(ValueError, match="begins above -1"):
        within_lift(pairs, -1.0, 0.1)
