"""Normal posteriors of contrasts against closed forms and scipy's adaptive quadrature."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import integrate, special, stats
from touchstone_statistics.bayes import Bayes, DifferencePrior, LiftPrior, Region, unit_loss
from touchstone_statistics.best import best_arm
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.estimand import Estimate
from touchstone_statistics.gaps import Gap
from touchstone_statistics.interval import Shape
from touchstone_statistics.peeking import PEEKING, Rule, peeking_of


def summarised(means: list[float], variances: list[float]) -> Contrast:
    none = np.zeros((), dtype=np.uint8)
    arms = [
        Estimate(np.asarray(m), np.asarray(v), np.asarray(100.0), none, none)
        for m, v in zip(means, variances, strict=True)
    ]
    return Contrast(arms[0], arms[1])


def test_the_normal_posterior_is_the_conjugate_one() -> None:
    posterior = Bayes(LiftPrior(0.1, 0.2)).read(summarised([10.0, 12.0], [1.0, 3.0]))
    precision = 1 / 4.0 + 1 / (0.2 * 10) ** 2
    mean = (2.0 / 4.0 + 0.1 * 10 / (0.2 * 10) ** 2) / precision
    assert posterior.mean == pytest.approx(mean, rel=1e-12)
    assert posterior.std_dev == pytest.approx(precision**-0.5, rel=1e-12)
    normal = stats.norm(mean, precision**-0.5)
    assert posterior.probability_to_beat == pytest.approx(normal.sf(0), rel=1e-12)
    loss, _ = integrate.quad(lambda x: -x * normal.pdf(x), -np.inf, 0, epsabs=1e-12)
    assert posterior.expected_loss == pytest.approx(loss, rel=1e-8)
    assert posterior.difference.low == pytest.approx(normal.ppf(0.025), rel=1e-12)


def test_a_metric_that_should_fall_turns_the_chances_round() -> None:
    contrast = summarised([10.0, 9.0], [1.0, 1.0])
    rising, falling = Bayes().read(contrast), Bayes().read(contrast, increase_is_better=False)
    assert rising.probability_to_beat + falling.probability_to_beat == pytest.approx(1.0)
    # E[(-d)+] - E[d+] = -E[d]
    assert rising.expected_loss - falling.expected_loss == pytest.approx(-float(rising.mean))


@given(
    st.tuples(st.floats(-100, 100), st.floats(-100, 100)),
    st.tuples(st.floats(0.01, 100), st.floats(0.01, 100)),
)
def test_credible_sets_of_difference_and_lift_agree_about_zero(
    means: tuple[float, float], variances: tuple[float, float]
) -> None:
    assume(abs(means[0]) > 1e-3)
    posterior = Bayes().read(summarised(list(means), list(variances)))
    chance = float(posterior.probability_to_beat)
    assume(min(abs(chance - 0.025), abs(chance - 0.975)) > 1e-9)
    decided = not 0.025 < chance < 0.975
    assert bool(posterior.difference.excludes(0.0)) == decided
    assert bool(posterior.lift.excludes(0.0)) == decided


def test_the_lift_posterior_matches_a_simulation_of_its_model() -> None:
    posterior = Bayes(LiftPrior(0.0, 0.1)).read(summarised([10.0, 11.0], [0.04, 0.05]))
    rng = np.random.default_rng(7)
    # Weight prior draws by the likelihood: control mean flat, difference from the prior.
    control, difference = rng.normal(10, 0.2, 400_000), rng.normal(0, 1.0, 400_000)
    weight = stats.norm.pdf(11.0, control + difference, math.sqrt(0.05))
    lift = np.sort(difference / control)
    order = np.argsort(difference / control)
    cumulative = np.cumsum(weight[order]) / weight.sum()
    assert posterior.lift.shape == Shape.BETWEEN
    for end, mass in ((posterior.lift.low, 0.025), (posterior.lift.high, 0.975)):
        assert float(end) == pytest.approx(np.interp(mass, cumulative, lift), abs=2e-3)


def arms_of(means: list[float], variances: list[float]) -> Estimate:
    none = np.zeros(len(means), dtype=np.uint8)
    return Estimate(np.array(means), np.array(variances), np.full(len(means), 9.0), none, none)


@pytest.mark.parametrize("increase", [True, False])
@pytest.mark.parametrize("variances", [[0.04, 0.09], [1e-8, 0.3], [0.3, 1e-8]])
def test_the_best_of_two_is_the_chance_to_beat(variances: list[float], increase: bool) -> None:
    prior = LiftPrior(0.02, 0.1)
    best = best_arm(arms_of([2.0, 2.3], variances), prior, increase)
    beat = Bayes(prior).read(summarised([2.0, 2.3], variances), increase).probability_to_beat
    assert best.probability[1] == pytest.approx(float(beat), abs=1e-11)
    assert best.probability.sum() == pytest.approx(1.0, abs=1e-14)


@pytest.mark.parametrize(
    "std_devs",
    [
        [1.0, 1e-3, 0.3, 0.05],
        [0.2, 0.25, 0.21, 0.3],
        [1.0, 1e-3, 0.3],
        [1e-3, 0.4, 0.3],
        [0.2, 0.2, 0.2],
    ],
)
def test_the_best_of_many_matches_adaptive_quadrature(std_devs: list[float]) -> None:
    # A prior this wide is flat: the arms are independent normals.
    std_dev = np.array(std_devs)
    mean = np.array([1.0, 1.1, 0.8, 1.05])[: std_dev.size]
    ours = best_arm(arms_of(list(mean), list(std_dev**2)), LiftPrior(0.0, 1e6), True)
    marks = sorted({m + s * z for m, s in zip(mean, std_dev, strict=True) for z in range(-8, 9)})
    for arm in range(std_dev.size):
        others = [i for i in range(std_dev.size) if i != arm]

        def integrand(x: float, k: int = arm, rest: list[int] = others) -> float:
            density = stats.norm.pdf(x, mean[k], std_dev[k])
            return float(density * np.prod(special.ndtr((x - mean[rest]) / std_dev[rest])))

        expected = sum(integrate.quad(integrand, *ends)[0] for ends in pairwise(marks))
        assert ours.probability[arm] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("arms", [2, 3, 4])
def test_the_best_arm_of_many_cells_is_that_of_each(arms: int) -> None:
    rng = np.random.default_rng(5)
    mean, variance = rng.normal(10, 1, (3, 2, arms)), rng.uniform(0.1, 2.0, (3, 2, arms))
    none = np.zeros(mean.shape, dtype=np.uint8)
    none[1, 1, 0] = Gap.NO_UNITS
    together = Estimate(mean, variance, np.full(mean.shape, 9.0), none, none)
    prior = LiftPrior(0.01, 0.1)
    best = best_arm(together, prior, increase_is_better=False)
    assert set(best.gap[1, 1]) == {Gap.NO_UNITS}
    for cell in [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1)]:
        alone = best_arm(together[cell], prior, increase_is_better=False)
        assert best.probability[cell] == pytest.approx(alone.probability, abs=1e-14)
        assert best.probability[cell].sum() == pytest.approx(1.0, abs=1e-14)


def test_the_best_of_three_matches_a_simulation_of_its_model() -> None:
    prior = LiftPrior(0.02, 0.05)
    best = best_arm(arms_of([10.0, 10.3, 10.2], [0.04, 0.05, 0.02]), prior, True)
    rng = np.random.default_rng(2)
    control = rng.normal(10, 0.2, 500_000)
    arms = [control, *(control + rng.normal(0.2, 0.5, control.size) for _ in range(2))]
    weight = stats.norm.pdf(10.3, arms[1], 0.05**0.5) * stats.norm.pdf(10.2, arms[2], 0.02**0.5)
    winner = np.argmax(arms, axis=0)
    for arm in range(3):
        share = weight[winner == arm].sum() / weight.sum()
        assert best.probability[arm] == pytest.approx(share, abs=0.005)


@pytest.mark.parametrize(
    ("means", "variances", "gap"),
    [([1.0, 1.0], [0.1, 0.0], Gap.ZERO_VARIANCE), ([0.0, 1.0], [1.0, 1.0], Gap.ZERO_CONTROL_MEAN)],
)
def test_no_best_arm_without_uncertainty(
    means: list[float], variances: list[float], gap: Gap
) -> None:
    assert set(best_arm(arms_of(means, variances), LiftPrior(), True).gap) == {gap}


@pytest.mark.parametrize("prior", [(0.0, 0.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_a_senseless_prior_is_refused(prior: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="the prior has"):
        LiftPrior(*prior)


def test_a_prior_on_the_difference_is_that_on_the_lift_times_the_control() -> None:
    contrast = summarised([-8.0, -7.0], [0.4, 0.3])
    relative = Bayes(LiftPrior(0.05, 0.1)).read(contrast)
    absolute = Bayes(DifferencePrior(0.4, 0.8)).read(contrast)
    for part in ("mean", "std_dev", "probability_to_beat", "expected_loss"):
        assert getattr(absolute, part) == pytest.approx(float(getattr(relative, part)), rel=1e-14)


def test_a_difference_has_a_posterior_where_the_lift_has_none() -> None:
    contrast = summarised([0.0, 1.0], [1.0, 1.0])
    posterior = Bayes(DifferencePrior(0.0, 1.0)).read(contrast)
    assert posterior.gap == Gap.NONE
    assert posterior.lift_gap == Gap.ZERO_CONTROL_MEAN
    assert posterior.mean == pytest.approx(1 / 3)
    assert Bayes().read(contrast).gap == Gap.ZERO_CONTROL_MEAN


@given(
    st.tuples(st.floats(1, 100), st.floats(1, 100)),
    st.tuples(st.floats(0.01, 10), st.floats(0.01, 10)),
    st.floats(-0.5, 0.5),
)
def test_the_credible_lift_excludes_the_null_lift_exactly_when_the_chance_says_so(
    means: tuple[float, float], variances: tuple[float, float], null_lift: float
) -> None:
    contrast = replace(summarised(list(means), list(variances)), null_lift=null_lift)
    posterior = Bayes(LiftPrior(0.0, 0.2)).read(contrast)
    assume(abs(float(posterior.two_sided) - 0.05) > 1e-9)
    assert bool(posterior.lift.excludes(null_lift)) == (posterior.two_sided < 0.05)
    chance = float(posterior.probability_to_beat)
    assert posterior.two_sided == pytest.approx(2 * min(chance, 1 - chance), abs=1e-12)


def test_the_chance_to_clear_a_margin_matches_a_simulation_of_its_model() -> None:
    margin = replace(summarised([10.0, 9.8], [0.04, 0.05]), null_lift=-0.03)
    region = Region(-0.03, 0.01)
    posterior = Bayes(LiftPrior(0.0, 0.1), region=region).read(margin)
    rng = np.random.default_rng(11)
    control, difference = rng.normal(10, 0.2, 400_000), rng.normal(0, 1.0, 400_000)
    weight = stats.norm.pdf(9.8, control + difference, math.sqrt(0.05))
    lift = difference / control
    chance = weight[lift > -0.03].sum() / weight.sum()
    assert posterior.probability_to_beat == pytest.approx(chance, abs=0.005)
    inside = weight[(lift > -0.03) & (lift < 0.01)].sum() / weight.sum()
    assert posterior.within_region == pytest.approx(inside, abs=0.005)


def test_the_mass_of_an_absolute_region_is_that_of_the_normal() -> None:
    contrast = summarised([10.0, 10.5], [0.1, 0.1])
    posterior = Bayes(region=Region(-0.2, 0.3, relative=False)).read(contrast)
    normal = stats.norm(float(posterior.mean), float(posterior.std_dev))
    assert posterior.within_region == pytest.approx(normal.cdf(0.3) - normal.cdf(-0.2), rel=1e-12)
    tail = Bayes(region=Region(-9.0, -8.0, relative=False)).read(contrast).within_region
    assert tail == pytest.approx(normal.cdf(-8.0), rel=1e-9)


def test_the_unit_loss_keeps_its_digits_far_out() -> None:
    gain = np.array([-3.0, 0.0, 2.0, 12.0, 24.9, 25.1, 36.0])
    expected = [
        integrate.quad(lambda x, g=g: np.exp(-x * g - x * x / 2) * x, 0, np.inf, epsabs=0)[0]
        * stats.norm.pdf(g)
        for g in gain
    ]
    assert unit_loss(gain) == pytest.approx(expected, rel=1e-9)


def test_arms_that_share_variance_are_compared_by_their_difference() -> None:
    apart = summarised([10.0, 11.0], [0.3, 0.4])
    shared = replace(apart, covariance=0.25)
    prior = LiftPrior(0.0, 10.0)
    chance = Bayes(prior).read(shared).probability_to_beat
    assert chance == pytest.approx(stats.norm.cdf(1 / math.sqrt(0.7 - 0.5)), abs=1e-4)


@pytest.mark.parametrize("ends", [(0.1, 0.1), (0.1, -0.1), (float("-inf"), 0.0)])
def test_a_senseless_region_is_refused(ends: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="the region is"):
        Region(*ends)


def test_the_row_of_a_prior_in_between_is_that_of_the_wider_one() -> None:
    assert peeking_of(Rule.CHANCE, 0.05, 0.07).prior_std_dev == 0.1
    assert peeking_of(Rule.CHANCE, 0.05, 5.0).daily_looks == pytest.approx(0.46)
    with pytest.raises(ValueError, match=r"known are \[0.025, 0.05\]"):
        peeking_of(Rule.CHANCE, 0.2, 0.1)
    assert all(row.daily_looks > row.one_look for row in PEEKING)
