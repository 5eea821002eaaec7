"""Which figures are called thin, and how models of sets divide a conversion among touches."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from services.attribution.domain.channel_sets import SetHistogram, count_sets
from services.attribution.domain.credits import credits_by_channel
from services.attribution.domain.held_out.fit import judge
from services.attribution.domain.learned.logistic import Bagging, fit_bagged, logistic_credits
from services.attribution.domain.learned.probabilistic import pair_rates
from services.attribution.domain.set_weights import set_weights
from services.attribution.domain.shapley.additive import touch_weights
from services.attribution.domain.thinness import (
    Thin,
    no_interval,
    thin_fits,
    thin_intervals,
    thin_states,
)
from tests.unit.attribution.journey_cases import PATHS, Paths, journeys_of_paths


def test_wide_intervals_name_their_channel() -> None:
    rows = [("A", 100.0, 90.0, 110.0), ("B", 2.0, 0.0, 4.0), ("C", 0.0, 0.0, 0.0)]

    (thin,) = thin_intervals("linear", rows)

    assert (thin.reason, thin.channel) == (Thin.WIDE_INTERVAL, "B")
    assert "between 0 and 4" in thin.message
    none = no_interval("linear", "too few")
    assert (none.reason, none.message) == (Thin.NO_INTERVAL, "no interval: too few")


def test_many_wide_intervals_are_one_warning_that_names_the_worst() -> None:
    rows = [(f"C{n:03}", 2.0, 0.0, 4.0 + n) for n in range(500)]

    (many,) = thin_intervals("linear", [("none", 0.0, 0.0, 1.0), ("fine", 2.0, 1.5, 2.5), *rows])

    assert (many.channel, many.message.split()[:2]) == ("", ["501", "channels"])
    named = ["none", *(f"C{n}" for n in range(499, 495, -1))]
    places = [many.message.index(f"{name!r}") for name in named]
    assert places == sorted(places)
    assert "C495" not in many.message
    assert len(thin_intervals("linear", rows[:10])) == 10


def test_states_are_held_against_conversions() -> None:
    assert thin_states("markov_1", 10, 100) == ()
    assert thin_states("markov_2", 11, 100)[0].reason is Thin.MANY_STATES


def test_fits_that_do_not_hold_up_are_named() -> None:
    generator = np.random.default_rng(1)
    chances = generator.random(4_000) * 0.6 + 0.2
    converted = generator.random(4_000) < chances
    good = judge("good", chances, converted)
    few = judge("few", chances[:20], converted[:20])
    blind = judge("blind", np.full(4_000, 0.9), converted)
    slope = replace(good, model="slope", slope=0.2)

    found = thin_fits([good, few, blind, slope])

    assert [(row.model, row.reason) for row in found] == [
        ("few", Thin.FEW_HELD_OUT),
        ("blind", Thin.LEARNED_NOTHING),
        ("slope", Thin.MISCALIBRATED),
    ]


def histogram_of(paths: Paths) -> SetHistogram:
    return count_sets(journeys_of_paths(paths, tuple("ABCD")))


@given(PATHS)
def test_a_conversion_is_divided_once_among_touches(paths: Paths) -> None:
    journeys, histogram = journeys_of_paths(paths, tuple("ABCD")), histogram_of(paths)
    rates = pair_rates(histogram)
    weights = set_weights(journeys, rates.set_shares)

    if journeys.converting:
        assert np.add.reduceat(weights, journeys.converting_offsets[:-1]) == pytest.approx(
            np.ones(journeys.converting)
        )
    equal = set_weights(journeys, lambda members: members.astype(np.float64))
    assert equal == pytest.approx(touch_weights(journeys))


def test_credits_of_touches_sum_to_those_of_the_regression() -> None:
    paths: Paths = [("A>B", 1.0), ("A", None), ("B>C>B", 2.0), ("C", None), ("A>C", 4.0)]
    journeys, histogram = journeys_of_paths(paths, tuple("ABCD")), histogram_of(paths)
    model = fit_bagged(histogram, Bagging(rounds=5))
    found = credits_by_channel(set_weights(journeys, model.set_shares), journeys)
    expected = logistic_credits(model, histogram)

    assert found.conversions == pytest.approx(expected.conversions)
    assert found.values == pytest.approx(expected.values)
