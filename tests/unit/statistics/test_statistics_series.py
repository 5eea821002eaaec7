"""Differences of counted rates by their cumulants, against closed forms and quadrature."""

import numpy as np
import pytest
from scipy import special, stats
from touchstone_statistics.beta import BetaPosterior
from touchstone_statistics.cumulants import of_beta, of_gamma, of_log, of_log_moments
from touchstone_statistics.gamma import GammaPosterior, lift_of_rates, rate_beats
from touchstone_statistics.rates import ORDERS, read_rates
from touchstone_statistics.series import Series
from touchstone_statistics.versus import Pairs

LEAST = [count for count, _ in ORDERS]


def gammas(least: float, count: int = 60) -> tuple[GammaPosterior, GammaPosterior]:
    """Around the fewest events that a number of cumulants is for, and arms of other sizes."""
    rng = np.random.default_rng(int(least))
    events = least * np.exp(rng.uniform(0, 0.1, count))
    other = events * np.exp(rng.uniform(0, 3, count))
    exposure = events * np.exp(rng.uniform(-5, 5, count))
    moved = exposure * (other / events) * np.exp(rng.normal(0, 0.05, count))
    return GammaPosterior(events, exposure), GammaPosterior(other, moved)


@pytest.mark.parametrize("least", LEAST)
def test_the_lift_of_gamma_rates_is_the_closed_form(least: float) -> None:
    control, treatment = gammas(least)
    found, exact = read_rates(control, treatment), lift_of_rates(control, treatment)
    width = exact.high - exact.low
    assert np.max(np.abs(found.lift.low - exact.low) / width) < 3e-12
    assert np.max(np.abs(found.lift.high - exact.high) / width) < 3e-12
    chance = found.comparison.probability_to_beat
    assert np.max(np.abs(chance - rate_beats(control, treatment))) < 1e-12


@pytest.mark.parametrize("least", LEAST)
def test_the_loss_of_gamma_rates_is_the_closed_form(least: float) -> None:
    """E[(C - T)+] by tail chances of gamma variables with one event more, where digits are left."""
    control, treatment = gammas(least)
    found = read_rates(control, treatment).comparison.expected_loss
    more = GammaPosterior(control.events + 1, control.exposure)
    after = GammaPosterior(treatment.events + 1, treatment.exposure)
    lost = control.mean * rate_beats(treatment, more) - treatment.mean * rate_beats(after, control)
    scale = np.hypot(control.std_dev, treatment.std_dev)
    assert np.max(np.abs(found - lost) / scale) < 2e-11


@pytest.mark.parametrize("least", LEAST)
def test_chances_and_losses_of_beta_rates_are_those_of_quadrature(least: float) -> None:
    rng = np.random.default_rng(7)
    few = least * np.exp(rng.uniform(0, 0.1, 40))
    many = few * np.exp(rng.uniform(0, 6, 40))
    swap = rng.random(40) < 0.5
    a, b = np.where(swap, few, many), np.where(swap, many, few)
    control = BetaPosterior(a, b)
    treatment = BetaPosterior(a * 1.5, b * 1.5 * np.exp(rng.normal(0, 0.05, 40)))
    found = read_rates(control, treatment).comparison
    pairs = Pairs.of(control, treatment).compare()
    scale = np.hypot(control.std_dev, treatment.std_dev)
    assert found.probability_to_beat == pytest.approx(pairs.probability_to_beat, abs=3e-12)
    assert np.max(np.abs(found.expected_loss - pairs.expected_loss) / scale) < 5e-12


def test_far_levels_are_found_as_near_ones_are() -> None:
    """The polynomial about a normal quantile does not reach them."""
    control, treatment = gammas(100.0)
    for alpha in (0.5, 1e-3, 1e-6):
        found = read_rates(control, treatment, alpha).lift
        exact = lift_of_rates(control, treatment, alpha)
        width = exact.high - exact.low
        assert np.max(np.abs(found.high - exact.high) / width) < 1e-15 / alpha + 1e-11
        assert np.max(np.abs(found.low - exact.low) / width) < 1e-15 / alpha + 1e-11


def test_cumulants_are_those_of_the_books() -> None:
    """Johnson, Kotz and Balakrishnan (1995), sections 25.3 and 17.3."""
    a, b = np.array([3.0, 40.0]), np.array([5.0, 7.0])
    n = a + b
    std_dev = np.sqrt(a * b / (n + 1)) / n
    skew = 2 * (b - a) * np.sqrt(n + 1) / ((n + 2) * np.sqrt(a * b))
    excess = 6 * ((a - b) ** 2 * (n + 1) - a * b * (n + 2)) / (a * b * (n + 2) * (n + 3))
    assert of_beta(a, b, std_dev, 4) == pytest.approx(np.array([skew / 6, excess / 24]))
    shape, rate = np.array([4.0, 50.0]), np.array([0.1, 30.0])
    made = of_gamma(shape, rate, np.sqrt(shape) / rate, 4)
    assert made == pytest.approx(np.array([2 / np.sqrt(shape) / 6, 6 / shape / 24]))


@pytest.mark.parametrize("other", [None, 1.0, 1e4])
def test_cumulants_of_logarithms_are_polygamma(other: float | None) -> None:
    a = np.array([100.0, 3_000.0])
    b = None if other is None else a * other

    def gone(order: int) -> np.ndarray:
        less = 0.0 if b is None else special.polygamma(order, a + b)
        return np.asarray(special.polygamma(order, a) - less)

    mean, variance = of_log_moments(a, b)
    whole = 0.0 if b is None else special.digamma(a + b) - np.log(a + b)
    assert mean == pytest.approx(special.digamma(a) - np.log(a) - whole, rel=1e-10)
    assert variance == pytest.approx(gone(1), rel=1e-12)
    made = of_log(a, b, np.sqrt(variance), 6)
    for row, order in enumerate(range(3, 7)):
        expected = gone(order - 1) / special.factorial(order) / variance ** (order / 2)
        assert made[row] == pytest.approx(expected, rel=1e-11)


def test_a_distribution_without_higher_cumulants_is_normal() -> None:
    mean, std_dev = np.array([0.3, -2.0]), np.array([1.0, 4.0])
    normal = Series.of(mean, std_dev, np.zeros((8, 2)))
    above, below, excess, shortfall = normal.chances(0.1)
    assert below == pytest.approx(stats.norm.cdf(0.1, mean, std_dev), abs=1e-15)
    assert above + below == pytest.approx(1.0, abs=1e-15)
    assert excess - shortfall == pytest.approx(mean - 0.1, abs=1e-14)
    low, high = normal.ends(0.1)
    assert low == pytest.approx(stats.norm.ppf(0.05, mean, std_dev))
    assert high == pytest.approx(stats.norm.ppf(0.95, mean, std_dev))
    within = stats.norm.cdf(1.0, mean, std_dev) - stats.norm.cdf(-1.0, mean, std_dev)
    assert normal.within(-1.0, 1.0) == pytest.approx(within)
