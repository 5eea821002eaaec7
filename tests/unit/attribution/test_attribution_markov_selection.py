"""How orders are judged on journeys that the chain has not seen."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.attribution.domain.journeys import Journeys
from services.attribution.domain.markov import Chance, count_chain, select_order
from services.attribution.domain.markov.orders import (
    area_under_curve,
    last_state_chances,
    penalised,
)
from shared.errors import DomainError
from tests.unit.attribution.journey_cases import PATHS, Paths, journeys_of_paths

NAMES = "ABCD"
UNTIMED = settings(deadline=None)
"""How long one example takes says how busy the machine is."""


@UNTIMED
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=25))
def test_the_area_is_the_share_of_pairs_in_order(scored: list[tuple[int, bool]]) -> None:
    chances = np.array([score / 4 for score, _ in scored])
    converted = np.array([flag for _, flag in scored])
    pairs = [(a > b) + (a == b) / 2 for a in chances[converted] for b in chances[~converted]]

    found = area_under_curve(chances, converted)

    assert found == (pytest.approx(sum(pairs) / len(pairs)) if pairs else None)


def test_the_penalty_by_hand() -> None:
    # 11 journeys, 4 states: 1 - .2 * 10/6.
    assert penalised(0.8, 11, 4) == pytest.approx(2 / 3)
    assert penalised(0.8, 5, 4) is None
    assert penalised(None, 11, 4) is None


def test_chances_of_the_last_state_by_hand() -> None:
    # A ends twice, once in a conversion, and leads once to B, which always converts.
    journeys = journeys_of_paths([("A", 1.0), ("A", None), ("A>B", 1.0)], NAMES)
    converting, others = count_chain(journeys, 1)
    asked = journeys_of_paths([("B>A", None), ("B", None), ("C", None)], NAMES)

    at_end = last_state_chances(converting + others, asked)
    eventually = last_state_chances(converting + others, asked, Chance.EVENTUALLY)

    # C was never seen: two of three journeys converted.
    assert at_end == pytest.approx([1 / 2, 1, 2 / 3])
    assert eventually == pytest.approx([2 / 3, 1, 2 / 3])


@UNTIMED
@given(PATHS, st.integers(1, 4))
def test_chances_at_the_end_are_calibrated_on_their_own_journeys(paths: Paths, order: int) -> None:
    journeys = journeys_of_paths(paths, NAMES)
    converting, others = count_chain(journeys, order)

    chances = last_state_chances(converting + others, journeys)

    assert chances.sum() == pytest.approx(journeys.converting)


def simulated(seed: int, count: int) -> Journeys:
    """Journeys of three touches that convert when the last two are A, then B."""
    generator = np.random.default_rng(seed)
    paths: Paths = []
    for _ in range(count):
        path = "".join(generator.choice([*"ABC"], 3))
        rate = 0.6 if path.endswith("AB") else 0.2
        paths.append((">".join(path), 1.0 if generator.random() < rate else None))
    return journeys_of_paths(paths, NAMES)


def test_the_order_that_made_the_journeys_is_chosen() -> None:
    training, held_out = simulated(5, 6_000), simulated(6, 6_000)

    found = select_order(training, held_out, 3)
    eventually = select_order(training, held_out, 3, Chance.EVENTUALLY)

    assert found.order == 2
    first, second, third = found.fits
    assert second.log_loss < min(first.log_loss, third.log_loss)
    assert second.log_loss < eventually.fits[1].log_loss
    assert second.auc is not None
    assert first.auc is not None
    assert second.auc > first.auc + 0.03
    assert [fit.states for fit in found.fits] == [3, 9, 27]


def test_log_loss_by_hand() -> None:
    training = journeys_of_paths([("A", 1.0), ("A", None), ("B", None)], NAMES)
    held_out = journeys_of_paths([("A", 1.0), ("B", None), ("C", None)], NAMES)

    (fit,) = select_order(training, held_out, 1, prior_journeys=1.0).fits

    # Drawn to the overall rate of 1/3 by one journey: A (1 + 1/3)/3, B (0 + 1/3)/2, C 1/3.
    expected = -(math.log(4 / 9) + math.log(5 / 6) + math.log(2 / 3)) / 3
    assert fit.log_loss == pytest.approx(expected)
    assert fit.unseen == 1


def test_an_unseen_state_is_told_by_the_lower_order() -> None:
    training = journeys_of_paths([("B>A", 1.0), ("B>A", 1.0), ("C", None)], NAMES)
    held_out = journeys_of_paths([("D>A", 1.0), ("C", None)], NAMES)

    first, second = select_order(training, held_out, 2, prior_journeys=0.0).fits

    assert (first.unseen, second.unseen) == (0, 1)
    assert first.auc == second.auc == 1.0


def test_journeys_that_all_converted_have_no_area() -> None:
    journeys = journeys_of_paths([("A", 1.0), ("B", 1.0)], NAMES)

    found = select_order(journeys, journeys, 2)

    assert [fit.auc for fit in found.fits] == [None, None]
    assert found.order == 1


def test_nothing_to_fit_or_other_channels_are_refused() -> None:
    journeys = journeys_of_paths([("A", 1.0)], NAMES)

    with pytest.raises(DomainError, match="channels"):
        select_order(journeys, journeys_of_paths([("A", 1.0)]), 1)
    with pytest.raises(DomainError, match="prior"):
        select_order(journeys, journeys, 1, prior_journeys=-1.0)
