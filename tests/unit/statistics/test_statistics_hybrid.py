"""The split of alpha between a running test and one at the planned end."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from touchstone_statistics.anytime import Anytime
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.estimand import Estimate
from touchstone_statistics.hybrid import Hybrid
from touchstone_statistics.inference import Fixed
from touchstone_statistics.interval import Side


def scored(z: object, units: object) -> Contrast:
    """A contrast whose difference is `z` standard errors of one, with `units` in both arms."""
    z, size = np.broadcast_arrays(np.asarray(z, dtype=float), np.asarray(units, dtype=float) / 2)
    none, half = np.zeros(z.shape, dtype=np.uint8), np.full(z.shape, 0.5)
    control = Estimate(np.full(z.shape, 10.0), half, size, none, none)
    return Contrast(control, Estimate(10.0 + z, half, size, none, none))


def test_it_is_a_sequence_before_the_end_and_a_fixed_test_at_it() -> None:
    contrast = scored([2.5, 2.5], [5_000, 10_000])
    reading = Hybrid(10_000).read(contrast)
    running = Anytime(10_000, 0.025).read(contrast)
    fixed = Fixed(0.025).read(contrast)
    assert reading.critical is not None
    assert running.critical is not None
    assert fixed.critical is not None
    assert reading.critical[0] == running.critical[0]
    assert reading.critical[1] == fixed.critical[1]
    assert reading.critical[1] == pytest.approx(2.2418, abs=1e-3)
    assert reading.p_value == pytest.approx([2 * running.p_value[0], 2 * fixed.p_value[1]])
    assert list(reading.p_value < 0.05) == [False, True]
    assert reading.lift.low[1] == fixed.lift.low[1]


def test_monitoring_for_degradations_alone_finds_them_sooner_and_nothing_else() -> None:
    both, falls = Hybrid(10_000), Hybrid(10_000, monitored=Side.LESS)
    contrast = scored([-3.2, 8.0], [8_000, 8_000])
    assert list(both.read(contrast).p_value < 0.05) == [False, True]
    reading = falls.read(contrast)
    assert reading.critical == pytest.approx(
        np.broadcast_to(np.asarray(Anytime(10_000, 0.0125, Side.LESS).read(contrast).critical), 2)
    )
    assert list(reading.p_value < 0.05) == [False, False]
    assert np.all(np.isneginf(reading.difference.low))
    # At the end both directions count again, at the same level as without.
    ended = scored([-2.5, 2.5], [10_000, 10_000])
    assert list(falls.read(ended).p_value) == list(both.read(ended).p_value)


@settings(max_examples=200, deadline=None)
@given(
    st.floats(-8, 8),
    st.floats(10, 2e5),
    st.floats(1e-3, 0.5),
    st.sampled_from(
        [
            (Side.TWO_SIDED, None),
            (Side.TWO_SIDED, Side.LESS),
            (Side.GREATER, None),
            (Side.LESS, None),
        ]
    ),
)
def test_intervals_exclude_zero_exactly_when_p_is_below_alpha(
    z: float, units: float, alpha: float, sides: tuple[Side, Side | None]
) -> None:
    reading = Hybrid(1e5, alpha, *sides).read(scored(z, units))
    if abs(float(reading.p_value) / alpha - 1) > 1e-9:
        rejected = bool(reading.p_value < alpha)
        assert bool(reading.difference.excludes(0.0)) == rejected
        assert bool(reading.lift.excludes(0.0)) == rejected


@pytest.mark.parametrize("monitored", [None, Side.LESS])
def test_looking_all_month_and_at_the_end_keeps_the_level(monitored: Side | None) -> None:
    rng = np.random.default_rng(31)
    looks, trials, per_look = 28, 5000, 1000.0
    z = rng.normal(size=(trials, looks)).cumsum(axis=1) / np.sqrt(np.arange(1, looks + 1))
    units = np.broadcast_to(per_look * np.arange(1, looks + 1), z.shape)
    reading = Hybrid(per_look * looks, monitored=monitored).read(scored(z, units))
    rejected = reading.p_value < 0.05
    # 5,000 trials: Monte Carlo standard error 0.25 points.
    assert 0.02 < rejected.any(axis=1).mean() < 0.05
    assert rejected[:, -1].mean() == pytest.approx(0.025, abs=0.006)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Hybrid(0.0), r"planned_units is 0\.0"),
        (lambda: Hybrid(10.0, 0.9), r"alpha is 0\.9"),
        (lambda: Hybrid(10.0, side=Side.LESS, monitored=Side.LESS), "leave monitored out"),
        (lambda: Hybrid(10.0, monitored=Side.TWO_SIDED), "it must be GREATER, LESS or None"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(make: object, words: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=words):
        make()
