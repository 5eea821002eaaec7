"""Sequences: who holds them, and how much of a chain can be followed."""

import datetime as dt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.attribution.adapters.memory import ConversionRow, MemoryJourneyLog, TouchRow
from services.attribution.application.definition import JourneyDefinition
from services.attribution.application.paths import (
    GetSequenceEffect,
    Group,
    PathQuestion,
    SequenceEffect,
    get_sequence_effect,
)
from services.attribution.application.questions import Question
from services.attribution.domain.journeys import DAY_US
from services.attribution.domain.markov import count_chain, sequence_removal_effect
from services.attribution.domain.paths.sequences import holding
from services.attribution.limits import AttributionLimits
from shared.errors import Code, DomainError
from tests.unit.attribution.journey_cases import PATHS, Paths, journeys_of_paths


def merged(path: str, order: int) -> str:
    """The path with at most `order` touches of one channel in a row."""
    kept = ""
    for channel in path.replace(">", ""):
        if not kept.endswith(channel * order):
            kept += channel
    return kept


@given(PATHS, st.text("ABCD", min_size=1, max_size=4), st.integers(1, 3))
def test_a_journey_holds_what_its_chain_walks_through(
    paths: Paths, sequence: str, order: int
) -> None:
    journeys = journeys_of_paths(paths, channels="ABCD")
    # Converting journeys come first.
    ordered = sorted(paths, key=lambda row: row[1] is None)

    found = holding(journeys, ["ABCD".index(channel) for channel in sequence], order)

    assert found.tolist() == [sequence in merged(path, order) for path, _ in ordered]


@given(PATHS, st.sampled_from(["A", "AB", "ABA", "BCD"]))
def test_from_the_longest_path_on_the_effect_is_the_share_that_holds_it(
    paths: Paths, sequence: str
) -> None:
    journeys = journeys_of_paths(paths, channels="ABCD")
    codes = ["ABCD".index(channel) for channel in sequence]
    converting, others = count_chain(journeys, 6)
    held = holding(journeys, codes, 6)[: journeys.converting]

    effect = sequence_removal_effect(converting + others, codes)

    expected = held.mean() if journeys.converting else 0.0
    assert effect == pytest.approx(expected, abs=1e-9)


def test_a_chain_with_too_many_states_is_refused() -> None:
    generator = np.random.default_rng(1)
    names = [chr(code) for code in range(0x4E00, 0x4E00 + 60)]
    paths: Paths = [
        (">".join(names[code] for code in generator.integers(0, 60, 900)), 1.0) for _ in range(120)
    ]
    journeys = journeys_of_paths(paths)
    converting, others = count_chain(journeys, 4)

    with pytest.raises(DomainError) as raised:
        sequence_removal_effect(converting + others, [0, 1] * 10)
    assert raised.value.code is Code.RESOURCE_EXHAUSTED
    assert "1000000" in raised.value.message.replace(",", "")


def effect_of(touched: dict[str, list[str]], bought: dict[str, list[int]]) -> SequenceEffect:
    """Of a sequence, by days of touches of each unit and by days on which it bought."""
    touches = [
        TouchRow(f"t-{unit}-{day}", "demo", unit, day * DAY_US, channel)
        for unit, channels in touched.items()
        for day, channel in enumerate(channels)
        if channel
    ]
    conversions = [
        ConversionRow(f"c-{unit}-{day}", "demo", unit, day * DAY_US, "buy", 1.0)
        for unit, days in bought.items()
        for day in days
    ]
    log = MemoryJourneyLog(touches, conversions, dt.datetime(2026, 2, 1, tzinfo=dt.UTC))
    definition = JourneyDefinition("buy", lookback_us=3 * DAY_US)
    asked = PathQuestion(Question("demo", definition), min_units=50)
    command = GetSequenceEffect(asked, ("ads", "mail"), 2, ignore_non_converting=False)
    return get_sequence_effect(command, log, AttributionLimits()).found


def test_few_units_with_other_journeys_do_not_follow_from_all() -> None:
    touched = {f"unit-{number}": ["ads", "mail"] for number in range(60)}
    bought = {unit: [2] for unit in touched}
    everybody = effect_of(touched, bought)
    assert (everybody.removal_effect, everybody.held) == (1.0, Group(60, 60, 60))

    # Three of them come again by mail alone, two weeks later: their conversions would be the
    # difference of all and of those that hold the sequence.
    again = {unit: [*path, *[""] * 12, "mail"] for unit, path in [*touched.items()][:3]}
    few = effect_of(touched | again, bought | {unit: [2, 15] for unit in again})

    assert few.everyone == Group(60, 63, 63)
    assert (few.removal_effect, few.held) == (None, None)
