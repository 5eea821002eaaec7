"""Student's t posteriors against scipy, the formulas of the update and a published example."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from touchstone_statistics.estimand import Estimate, Mean, estimate
from touchstone_statistics.gaps import Gap
from touchstone_statistics.interval import Shape
from touchstone_statistics.moments import Moments
from touchstone_statistics.normal import NormalPosterior, NormalPrior, lift_of_means
from touchstone_statistics.versus import Pairs, credible_difference, credible_lift


def arms_of(*rows: list[float]) -> Estimate:
    each = [Moments.from_rows(np.reshape(values, (-1, 1))) for values in rows]
    together = Moments.of(
        [m.units for m in each], [m.mean for m in each], [m.co_moment for m in each]
    )
    return estimate(together, Mean(0))


def pairs_of(
    means: tuple[float, float], variances: tuple[float, float], units: tuple[float, float]
) -> Pairs[NormalPosterior]:
    none = np.zeros(2, dtype=np.uint8)
    arms = Estimate(np.array(means), np.array(variances), np.array(units), none, none)
    posterior, gap = NormalPosterior.of(arms)
    assert not gap.any()
    return Pairs.of(posterior[0], posterior[1])


def test_without_a_prior_it_is_the_t_distribution_of_the_data() -> None:
    rows = [3.0, 4.5, 5.0, 8.0, 2.0]
    posterior, gap = NormalPosterior.of(arms_of(rows))
    reference = stats.t(4, np.mean(rows), np.std(rows, ddof=1) / np.sqrt(5))
    value = np.array([[-3.0, 4.0, 9.0]])
    assert gap == [Gap.NONE]
    assert posterior.below(value)[0] == pytest.approx(reference.cdf(value[0]), rel=1e-10)
    assert posterior.above(value)[0] == pytest.approx(reference.sf(value[0]), rel=1e-10)
    assert posterior.density(value)[0] == pytest.approx(reference.pdf(value[0]), rel=1e-10)
    assert posterior.std_dev == pytest.approx(reference.std(), rel=1e-12)


def test_the_update_can_be_made_in_two_steps() -> None:
    """The belief after some units is the prior of those that follow."""
    first, second = [3.0, 4.5, 5.0, 8.0], [1.0, 7.0, 6.5]
    prior = NormalPrior(mean=2.0, units=3.0, shape=2.0, rate=5.0)

    def update(before: NormalPrior, rows: list[float]) -> NormalPrior:
        n, m, s2 = len(rows), np.mean(rows), np.var(rows, ddof=1)
        held = before.units + n
        mean = (before.units * before.mean + n * m) / held
        rate = (
            before.rate
            + 0.5 * (n - 1) * s2
            + before.units * n * (m - before.mean) ** 2 / (2 * held)
        )
        return NormalPrior(float(mean), held, before.shape + n / 2, float(rate))

    stepwise, _ = NormalPosterior.of(arms_of(second), update(prior, first))
    at_once, _ = NormalPosterior.of(arms_of(first + second), prior)
    for part in ("centre", "scale", "dof"):
        assert getattr(stepwise, part) == pytest.approx(getattr(at_once, part), rel=1e-12)


@pytest.mark.parametrize("units", [(4, 5), (4, 900), (30, 40), (10**5, 10**6)])
def test_the_comparison_matches_adaptive_quadrature(units: tuple[float, float]) -> None:
    pairs = pairs_of((10.0, 11.0), (0.4, 0.3), units)
    a, b = (
        stats.t(float(p.dof[0]), float(p.centre[0]), float(p.scale[0]))
        for p in (pairs.control, pairs.treatment)
    )
    ours = pairs.compare()

    def over(f: Any) -> float:
        ends = pairwise([-np.inf, 5.0, 9.0, 10.0, 11.0, 12.0, 16.0, np.inf])
        return sum(integrate.quad(f, *part, epsabs=1e-13, limit=200)[0] for part in ends)

    chance = over(lambda x: b.pdf(x) * a.cdf(x))
    assert ours.probability_to_beat == pytest.approx(chance, abs=1e-9)
    loss = over(lambda x: b.cdf(x) * a.sf(x))
    assert ours.expected_loss == pytest.approx(loss, rel=1e-7)
    ends = credible_difference(pairs)
    for end, mass in ((ends.low, 0.025), (ends.high, 0.975)):
        found = over(lambda x, d=float(end): a.pdf(x) * b.cdf(x + d))
        assert found == pytest.approx(mass, abs=1e-9)


def test_the_behrens_fisher_interval_is_the_published_one() -> None:
    """Equal arms of 7 units each: Sukhatme (1938), 5 % point of d at 6 and 6 degrees, 45 degrees.

    The table, as Fisher and Yates (1963), table VI, reprint it, gives 2.435.
    """
    pairs = pairs_of((0.0, 0.0), (0.5, 0.5), (7, 7))
    assert credible_difference(pairs).high == pytest.approx(2.435, abs=0.001)


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(st.floats(1, 20), st.floats(1, 20)),
    st.tuples(st.floats(0.01, 50), st.floats(0.01, 50)),
    st.tuples(st.integers(5, 10**5), st.integers(5, 10**5)),
)
def test_difference_and_lift_agree_about_zero(
    means: tuple[float, float], variances: tuple[float, float], units: tuple[int, int]
) -> None:
    pairs = pairs_of(means, variances, units)
    chance = float(pairs.compare().probability_to_beat)
    lift = lift_of_means(pairs)
    if min(abs(chance - 0.025), abs(chance - 0.975)) < 1e-6:
        return
    decided = not 0.025 < chance < 0.975
    assert bool(credible_difference(pairs).excludes(0.0)) == decided
    if lift.shape == Shape.BETWEEN:
        assert bool(lift.excludes(0.0)) == decided
    else:
        assert pairs.control.below(np.zeros((1, 1)))[0, 0] >= 0.025


def test_a_treatment_that_may_be_nothing_has_a_lift_down_to_minus_one() -> None:
    lift = lift_of_means(pairs_of((10.0, 0.1), (0.1, 0.1), (50, 50)))
    assert lift.low == -1.0
    assert -1.0 < lift.high < -0.8
    clear = pairs_of((10.0, 9.0), (0.1, 0.1), (50, 50))
    assert lift_of_means(clear).low == credible_lift(clear).low


def test_too_little_data_has_a_reason() -> None:
    _, gap = NormalPosterior.of(arms_of([1.0, 2.0, 3.0], [4.0, 4.0, 4.0, 4.0], [1.0], []))
    assert list(gap) == [Gap.TOO_FEW_UNITS, Gap.ZERO_VARIANCE, Gap.ONE_UNIT, Gap.NO_UNITS]


@pytest.mark.parametrize(
    ("field", "value"), [("units", -1.0), ("shape", -1.0), ("rate", float("inf")), ("mean", np.nan)]
)
def test_a_senseless_prior_is_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field} is {value}"):
        NormalPrior(**{field: value})
