"""Rates by convolution against quadrature, exact fractions and themselves in other shapes."""

import numpy as np
import pytest
from touchstone_statistics.bayes import Region
from touchstone_statistics.beta import BetaPosterior
from touchstone_statistics.rates import ORDERS, RateReading, orders_needed, read_rates
from touchstone_statistics.versus import (
    Pairs,
    credible_difference,
    credible_lift,
    within_difference,
    within_lift,
)


def random_pairs(count: int, seed: int) -> tuple[BetaPosterior, BetaPosterior]:
    """From fifty conversions to millions, at rates from 0.05 % to 95 %, arms up to 18 to 1."""
    rng = np.random.default_rng(seed)
    a = np.exp(rng.uniform(np.log(50), np.log(1e6), count))
    b = np.maximum(a * np.exp(rng.uniform(-3, 7.5, count)), 50.0)
    size = np.exp(rng.uniform(-2.9, 2.9, count))
    moved = a * size * np.exp(rng.normal(0, 0.1, count))
    return BetaPosterior(a, b), BetaPosterior(np.maximum(moved, 50.0), np.maximum(b * size, 50.0))


@pytest.mark.parametrize("increase", [True, False])
def test_series_and_quadrature_agree(increase: bool) -> None:
    control, treatment = random_pairs(150, seed=1)
    needed = orders_needed(control, treatment)
    assert set(needed.tolist()) == {0, *(highest for _, highest in ORDERS)}
    ours = read_rates(control, treatment, 0.1, increase)
    pairs = Pairs.of(control, treatment)
    expected = pairs.compare(increase)
    scale = np.hypot(control.std_dev, treatment.std_dev)
    found = ours.comparison
    assert found.probability_to_beat == pytest.approx(expected.probability_to_beat, abs=1e-9)
    for part in ("expected_loss", "loss_of_control"):
        error = np.abs(getattr(found, part) - getattr(expected, part)) / scale
        assert error.max() < 5e-9
    shift, lift = credible_difference(pairs, 0.1), credible_lift(pairs, 0.1)
    width = shift.high - shift.low, lift.high - lift.low
    for end in ("low", "high"):
        for mine, other, size in ((ours.difference, shift, width[0]), (ours.lift, lift, width[1])):
            assert np.max(np.abs(getattr(mine, end) - getattr(other, end)) / size) < 2e-8


@pytest.mark.parametrize("relative", [True, False])
def test_the_mass_of_a_region_agrees(relative: bool) -> None:
    control = BetaPosterior.of([3, 400, 9_000], [40, 5_000, 80_000])
    treatment = BetaPosterior.of([5, 410, 9_100], [41, 5_000, 80_000])
    region = Region(-0.02, 0.01, relative)
    ours = read_rates(control, treatment, region=region).within_region
    within = within_lift if relative else within_difference
    assert ours == pytest.approx(within(Pairs.of(control, treatment), -0.02, 0.01), abs=1e-9)
    assert read_rates(control, treatment).within_region is None
    with pytest.raises(ValueError, match="begins above -1"):
        read_rates(control, treatment, region=Region(-1.0, 0.1))


def test_a_grid_of_metrics_slices_and_treatments_is_its_cells() -> None:
    rng = np.random.default_rng(2)
    units = rng.integers(30, 20_000, (4, 3, 1)).astype(float)
    control = BetaPosterior.of(np.floor(units * 0.1), units)
    treatment = BetaPosterior.of(np.floor(units * [0.1, 0.12]), np.broadcast_to(units, (4, 3, 2)))
    together = read_rates(control, treatment)
    for index in np.ndindex(4, 3, 2):
        alone = read_rates(control[(*index[:2], 0)], treatment[index])
        assert flat(together, index) == pytest.approx(flat(alone, ()), abs=1e-8)


def flat(reading: RateReading, index: tuple[int, ...]) -> list[float]:
    parts = (
        reading.comparison.probability_to_beat,
        reading.comparison.expected_loss,
        reading.difference.low,
        reading.difference.high,
        reading.lift.low,
    )
    return [float(part[index]) for part in parts]


def test_far_apart_rates_are_certain_and_nothing_is_out_of_range() -> None:
    control = BetaPosterior.of([1_000, 9_000, 5_000], 10_000)
    reading = read_rates(control, BetaPosterior.of([9_000, 1_000, 5_000], 10_000))
    assert reading.comparison.probability_to_beat == pytest.approx([1.0, 0.0, 0.5], abs=1e-12)
    assert (reading.comparison.expected_loss >= 0).all()
    assert reading.difference.excludes(0.0).tolist() == [True, True, False]
    assert reading.lift.excludes(0.0).tolist() == [True, True, False]


def test_a_senseless_level_is_refused() -> None:
    with pytest.raises(ValueError, match="alpha is 0"):
        read_rates(BetaPosterior.of(1, 5), BetaPosterior.of(1, 5), alpha=0.0)
