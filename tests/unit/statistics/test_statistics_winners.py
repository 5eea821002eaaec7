"""The winner's curse: closed forms against simulation, and totals that are covered."""

import numpy as np
import pytest
from scipy import integrate, stats
from touchstone_statistics.gaps import Gap
from touchstone_statistics.heterogeneity import Effects
from touchstone_statistics.winners import (
    MOST_FLATTERY_LEFT,
    MOST_OVERCORRECTION,
    Programme,
    error_variance,
    programme,
)


def effects(value: np.ndarray, std_err: np.ndarray | float) -> Effects:
    variance = np.broadcast_to(np.asarray(std_err, dtype=float) ** 2, value.shape)
    return Effects(value, variance, np.zeros(value.shape, dtype=np.uint8))


def simulated(
    truth: np.ndarray, std_err: np.ndarray | float, trials: int, seed: int
) -> tuple[list[Programme], np.ndarray]:
    """Programmes from estimates of given true effects, with the true totals of the shipped."""
    rng = np.random.default_rng(seed)
    estimates = rng.normal(truth, std_err, (trials, truth.shape[-1]))
    real = np.where(estimates > 1.96 * std_err, truth, 0.0).sum(axis=1)
    return [programme(effects(row, std_err), 1.96) for row in estimates], real


def test_the_published_formula() -> None:
    x, s = np.array([3.0, 1.0, -0.5]), np.array([1.0, 2.0, 0.25])
    ours = programme(effects(x, s), np.array([1.96, 1.645, 1.96]))
    expected = (s * stats.norm.pdf((np.array([1.96, 1.645, 1.96]) * s - x) / s)).sum()
    assert ours.flattery == pytest.approx(expected)
    assert (ours.experiments, ours.shipped, ours.naive) == (3, 1, 3.0)
    assert ours.corrected.value == pytest.approx(3.0 - expected)


def test_the_variance_of_the_error_and_its_mean_are_the_integrals() -> None:
    for u in (-6.0, -2.0, 0.0, 1.0, 1.96, 3.5, 8.0):

        def moment(power: int, u: float = u) -> float:
            """E of a power of W [W > u] - phi(u - W)."""

            def density(w: float) -> float:
                error = w * (w > u) - stats.norm.pdf(u - w)
                return float(error**power * stats.norm.pdf(w))

            left, right = (
                integrate.quad(density, start, end, epsabs=1e-13)[0]
                for start, end in ((-12.0, u), (u, 12.0))
            )
            return float(left + right)

        mean = stats.norm.pdf(u) - stats.norm.pdf(u / np.sqrt(2)) / np.sqrt(2)
        assert moment(1) == pytest.approx(mean, abs=1e-9)
        assert -MOST_OVERCORRECTION <= mean <= MOST_FLATTERY_LEFT
        expected = moment(2) - mean**2
        assert float(error_variance(np.asarray(u))) == pytest.approx(expected, abs=1e-9)


def test_the_correction_takes_most_of_the_flattery_away() -> None:
    # Forty experiments, true effects about as large as their standard errors.
    truth = np.random.default_rng(2).normal(0.0, 1.0, 40)
    ours, real = simulated(truth, 1.0, 800, 3)
    naive = np.mean([p.naive for p in ours] - real)
    corrected = np.mean([p.corrected.value for p in ours] - real)
    assert naive > 3.5
    assert abs(corrected) < 0.3 * naive


@pytest.mark.parametrize("kind", ["null", "normal", "few large", "all at the threshold"])
def test_the_interval_of_the_corrected_total_holds_for_any_true_effects(kind: str) -> None:
    rng = np.random.default_rng(4)
    truth = {
        "null": np.zeros(60),
        "normal": rng.normal(0, 1.5, 60),
        "few large": np.where(rng.random(60) < 0.2, rng.normal(3, 1, 60), 0.0),
        "all at the threshold": np.full(60, 1.96),
    }[kind]
    ours, real = simulated(truth, 1.0, 400, 5)
    covered = [p.corrected.low <= t <= p.corrected.high for p, t in zip(ours, real, strict=True)]
    # 400 programmes: five standard errors below 95 % are 89.6 %; the interval is conservative.
    assert np.mean(covered) > 0.94


def test_the_borrowed_total_covers_when_effects_are_normal_and_is_narrower() -> None:
    rng = np.random.default_rng(6)
    inside, widths = [], []
    for _ in range(400):
        truth, s = rng.normal(0.1, 0.8, 50), rng.uniform(0.5, 1.5, 50)
        ours, real = simulated(truth, s, 1, int(rng.integers(1 << 30)))
        assert ours[0].borrowed is not None
        inside.append(ours[0].borrowed.low <= real[0] <= ours[0].borrowed.high)
        corrected, borrowed = ours[0].corrected, ours[0].borrowed
        widths.append((borrowed.high - borrowed.low) / (corrected.high - corrected.low))
    assert np.mean(inside) == pytest.approx(0.95, abs=0.04)
    assert np.mean(widths) < 0.6


def test_missing_experiments_are_left_out() -> None:
    x, s = np.array([3.0, 9.0, 1.0, 2.5]), np.array([1.0, 0.0, 1.0, 1.0])
    gap = np.array([0, Gap.ZERO_VARIANCE, 0, 0], dtype=np.uint8)
    ours = programme(Effects(x, s**2, gap), 1.96)
    assert ours == programme(effects(x[[0, 2, 3]], s[[0, 2, 3]]), 1.96)
    assert ours.experiments == 3


def test_nothing_run_and_nothing_to_borrow_from() -> None:
    ours = programme(effects(np.zeros(0), 1.0), 1.96)
    assert ours.gap is Gap.NO_UNITS
    assert ours.shipped == 0
    pair = programme(effects(np.array([2.5, 0.1]), 1.0), 1.96)
    assert pair.borrowed is None
    assert pair.gap is Gap.NONE
