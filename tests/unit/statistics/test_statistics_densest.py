"""Sets of highest density: the shortest of their mass, with ends that are equally dense."""

import numpy as np
import pytest
from touchstone_statistics.beta import BetaPosterior
from touchstone_statistics.densest import densest_difference, densest_lift
from touchstone_statistics.gamma import GammaPosterior
from touchstone_statistics.versus import (
    Pairs,
    credible_difference,
    credible_lift,
    difference_of,
    quantile,
    within_difference,
    within_lift,
)

CONTROL, TREATMENT = (
    BetaPosterior.of([3, 40, 1], [40, 400, 2_000]),
    BetaPosterior.of([9, 44, 6], [50, 400, 1_500]),
)


def test_the_difference_is_shorter_than_equal_tails_and_holds_as_much() -> None:
    pairs = Pairs.of(CONTROL, TREATMENT)
    ours, equal = densest_difference(pairs, 0.1), credible_difference(pairs, 0.1)
    assert (ours.high - ours.low < equal.high - equal.low).all()
    for cell in range(3):
        alone = Pairs.of(CONTROL[cell], TREATMENT[cell])
        ends = float(ours.low[cell]), float(ours.high[cell])
        assert within_difference(alone, *ends) == pytest.approx(0.9, abs=1e-7)
        margin = difference_of(alone)
        below = float(margin.tail(ours.low[[cell]], False)[0][0])
        # Moving the set either way while it keeps its mass makes it longer.
        for share in (0.9 * below, below + 0.1 * (0.1 - below)):
            parts = margin.tail, margin.centre, margin.scale
            length = quantile(*parts, 0.1 - share, True) - quantile(*parts, share, False)
            assert length[0] > ends[1] - ends[0]


def test_the_ends_are_equally_dense() -> None:
    pairs = Pairs.of(CONTROL, TREATMENT)
    found = densest_difference(pairs)
    ones = np.ones(3)
    low, high = (pairs.differences.slope(ones, end, False) for end in (found.low, found.high))
    assert low == pytest.approx(high, rel=1e-6)


def test_the_lift_of_rates_is_shorter_and_holds_as_much() -> None:
    pairs = Pairs.of(GammaPosterior.of(5, 40.0), GammaPosterior.of(9, 38.0))
    ours, equal = densest_lift(pairs), credible_lift(pairs)
    assert ours.high - ours.low < 0.9 * (equal.high - equal.low)
    assert within_lift(pairs, float(ours.low), float(ours.high)) == pytest.approx(0.95, abs=1e-7)


def test_a_symmetric_difference_has_equal_tails() -> None:
    same = BetaPosterior.of(30, 300)
    ours, equal = (read(Pairs.of(same, same)) for read in (densest_difference, credible_difference))
    assert ours.low == pytest.approx(float(equal.low), abs=1e-9)
    assert ours.high == pytest.approx(float(equal.high), abs=1e-9)


def test_a_senseless_level_is_refused() -> None:
    with pytest.raises(ValueError, match="alpha is 1"):
        densest_difference(Pairs.of(CONTROL, TREATMENT), 1.0)
