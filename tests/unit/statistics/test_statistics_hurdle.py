"""Revenue with a hurdle against scipy's quadrature, its own model in simulation, and limits."""

import numpy as np
import pytest
from scipy import stats
from touchstone_statistics.estimand import Estimate
from touchstone_statistics.gaps import FloatArray, Gap
from touchstone_statistics.hurdle import HurdlePosterior
from touchstone_statistics.normal import NormalPrior
from touchstone_statistics.versus import Pairs, credible_difference, credible_lift
from touchstone_statistics.wave import Wave


def logs_of(mean: list[float], variance: list[float], buyers: list[float]) -> Estimate:
    """Mean logarithm of amounts, from the variance of the amounts' logarithms."""
    none = np.zeros(len(mean), dtype=np.uint8)
    n = np.array(buyers)
    return Estimate(np.array(mean), np.array(variance) / n, n, none, none)


def two_arms() -> tuple[HurdlePosterior, dict[str, FloatArray]]:
    data = {
        "buyers": np.array([60.0, 75.0]),
        "units": np.array([2_000.0, 2_100.0]),
        "mean": np.array([3.0, 3.1]),
        "variance": np.array([1.0, 1.1]),
    }
    logs = logs_of(*(list(data[name]) for name in ("mean", "variance", "buyers")))
    posterior, gap = HurdlePosterior.of(data["buyers"], data["units"], logs)
    assert not gap.any()
    return posterior, data


def drawn(data: dict[str, FloatArray], size: int, seed: int) -> FloatArray:
    rng = np.random.default_rng(seed)
    n, units = data["buyers"], data["units"]
    variance = (n - 1) * data["variance"] / rng.chisquare(n - 1, (size, 2))
    mean = data["mean"] + np.sqrt(variance / n) * rng.normal(size=(size, 2))
    rate = rng.beta(1 + n, 1 + units - n, (size, 2))
    return np.asarray(rate * np.exp(mean + variance / 2))


def test_the_distribution_function_is_the_double_integral() -> None:
    posterior, _ = two_arms()
    rate, spread = stats.beta(61, 1941), stats.invgamma(59 / 2, scale=59 / 2)
    value = np.array([0.5, 0.9, 1.05, 2.2])

    def panel(low: float, high: float) -> tuple[FloatArray, FloatArray]:
        nodes, weights = np.polynomial.legendre.leggauss(150)
        return low + (high - low) * (nodes + 1) / 2, weights * (high - low) / 2

    p, p_weight = panel(rate.ppf(1e-14), rate.isf(1e-14))
    v, v_weight = panel(spread.ppf(1e-14), spread.isf(1e-14))
    score = (np.log(value[:, None, None] / p[:, None]) - 3.0 - v / 2) / np.sqrt(v / 60)
    inner = np.sum(stats.norm.cdf(score) * spread.pdf(v) * v_weight, axis=2)
    expected = np.sum(inner * rate.pdf(p) * p_weight, axis=1)
    below, above = (tail(np.tile(value, (2, 1)))[0] for tail in (posterior.below, posterior.above))
    assert below == pytest.approx(expected, abs=1e-10)
    assert above == pytest.approx(1 - expected, abs=1e-10)


def test_comparison_and_intervals_match_a_simulation() -> None:
    posterior, data = two_arms()
    pairs = Pairs.of(posterior[0], posterior[1])
    size = 400_000
    draws = drawn(data, size, seed=5)
    change, ratio = draws[:, 1] - draws[:, 0], draws[:, 1] / draws[:, 0] - 1
    ours = pairs.compare()
    assert ours.probability_to_beat == pytest.approx(np.mean(change > 0), abs=0.003)
    assert ours.expected_loss == pytest.approx(np.mean(np.maximum(-change, 0)), rel=0.02)
    assert ours.loss_of_control == pytest.approx(np.mean(np.maximum(change, 0)), rel=0.01)
    for found, sample in ((credible_difference(pairs), change), (credible_lift(pairs), ratio)):
        # The share of draws below an end: four standard errors of 0.025 of them.
        for end, mass in ((found.low, 0.025), (found.high, 0.975)):
            assert np.mean(sample < end) == pytest.approx(mass, abs=0.001)


def test_losses_differ_by_the_difference_of_the_means() -> None:
    posterior, _ = two_arms()
    ours = Pairs.of(posterior[0], posterior[1]).compare()
    points, weights = posterior.nodes()
    assert np.sum(points * weights, axis=1) == pytest.approx(posterior.mean, rel=1e-10)
    gap = posterior.mean[1] - posterior.mean[0]
    assert ours.loss_of_control - ours.expected_loss == pytest.approx(gap, rel=1e-10)


def test_with_many_buyers_it_is_the_normal_of_the_delta_method() -> None:
    """Var(log mean) = (1 - p) / (n p) + s^2 / m + s^4 / (2 m) for m buyers (Zhou and Gao 1997)."""
    buyers = 200_000.0
    posterior, _ = HurdlePosterior.of(
        np.array([buyers]), np.array([10 * buyers]), logs_of([2.0], [1.5], [buyers])
    )
    variance = 0.9 / buyers + 1.5 / buyers + 1.5**2 / (2 * buyers)
    assert posterior.law.std_dev[0] ** 2 == pytest.approx(variance, rel=1e-4)
    assert posterior.mean[0] == pytest.approx(0.1 * np.exp(2.75), rel=1e-4)


def test_a_mean_that_nobody_has_seen_enough_of_has_a_reason() -> None:
    buyers, variance = [8.0, 8.0, 100.0, 100.0], [1.0, 0.01, 1.0, 30.0]
    logs = logs_of([3.0] * 4, variance, buyers)
    posterior, gap = HurdlePosterior.of(np.array(buyers), np.full(4, 2_000.0), logs)
    few = Gap.TOO_FEW_UNITS
    assert list(gap) == [few, few, Gap.NONE, few]
    assert np.isfinite(posterior.mean).all()
    _, alone = HurdlePosterior.of(np.array(buyers[:1]), np.full(1, 2_000.0), logs[:1])
    assert list(alone) == [few]
    # What is known of the spread from elsewhere closes the gap.
    known = NormalPrior(mean=3.0, units=1.0, shape=100.0, rate=100.0)
    _, informed = HurdlePosterior.of(np.array(buyers[:1]), np.full(1, 2_000.0), logs[:1], known)
    assert list(informed) == [Gap.NONE]


def test_a_batch_is_its_cells_one_by_one() -> None:
    posterior, _ = two_arms()
    alone, _ = HurdlePosterior.of(
        np.array([75.0]), np.array([2_100.0]), logs_of([3.1], [1.1], [75])
    )
    value = np.array([[0.7, 1.2, 2.0]])
    assert alone.below(value) == pytest.approx(posterior[1:].below(value), abs=1e-10)


def test_a_wave_of_a_gamma_variable_is_its_distribution() -> None:
    shape, period = 40.0, np.array([300.0])
    frequency = Wave.frequencies(period, 120)
    transform = (1 + 1j * frequency) ** -shape * np.exp(1j * frequency * shape)
    wave = Wave.of(np.array([shape]), np.array([shape**0.5]), period, transform)
    value, law = np.array([[12.0, 25.0, 40.0, 70.0, 400.0]]), stats.gamma(shape)
    assert wave.below(value)[0] == pytest.approx(law.cdf(value[0]), abs=1e-12)
    assert wave.above(value)[0] == pytest.approx(law.sf(value[0]), abs=1e-12)
    assert wave.density(value)[0] == pytest.approx(law.pdf(value[0]), abs=1e-12)
