"""Whoever asks for a least number of units is told no figure and no name of fewer, wherever it
could stand: in rows, sums, warnings, intervals, fits, paths, steps and funnels.
"""

import datetime as dt
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from services.attribution.adapters.memory import ConversionRow, MemoryJourneyLog, TouchRow
from services.attribution.application.definition import JourneyDefinition
from services.attribution.application.get_attribution import GetAttribution, get_attribution
from services.attribution.application.paths import (
    GetFunnel,
    GetPathLengths,
    GetTimeLags,
    GetTransitions,
    PathQuestion,
    get_funnel,
    get_path_lengths,
    get_time_lags,
    get_transitions,
)
from services.attribution.application.questions import Question
from services.attribution.application.reporting import HeldOutUnits, Reporting
from services.attribution.domain.bootstrap.weights import Resampling
from services.attribution.domain.journey_statistics import measure
from services.attribution.domain.journeys import DAY_US
from services.attribution.domain.models import (
    Fractribution,
    Linear,
    Markov,
    OrderedShapley,
    Probabilistic,
)
from services.attribution.domain.paths.funnel import Reach
from services.attribution.domain.paths.lags import LagTable
from services.attribution.domain.paths.table import PathOrder, top_paths
from services.attribution.domain.reported import hide_channels
from services.attribution.limits import AttributionLimits
from services.attribution.wire.answers import encode_attribution
from services.attribution.wire.paths import (
    encode_funnel,
    encode_lags,
    encode_lengths,
    encode_transitions,
)
from tests.unit.attribution.journey_cases import events_of_paths, journeys_of_paths

NOW = dt.datetime(2026, 2, 1, tzinfo=dt.UTC)
LIMITS = AttributionLimits()
DEFINITION = JourneyDefinition("buy")
NAMES = ("channel-a", "channel-b", "channel-c", "channel-d", "channel-e")
WORLDS = st.lists(
    st.tuples(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4), st.booleans()),
    min_size=1,
    max_size=14,
)
"""A path for each unit, and whether it bought."""
World = list[tuple[list[str], bool]]


def log_of(world: World) -> MemoryJourneyLog:
    touches = [
        TouchRow(f"t-{unit}-{day}", "demo", f"unit-{unit}", day * DAY_US, channel)
        for unit, (path, _) in enumerate(world)
        for day, channel in enumerate(path)
    ]
    bought = [
        ConversionRow(f"c-{unit}", "demo", f"unit-{unit}", 5 * DAY_US, "buy", 1.5)
        for unit, (_, buys) in enumerate(world)
        if buys
    ]
    return MemoryJourneyLog(touches, bought, NOW)


def units_of(world: World) -> dict[str, set[int]]:
    met: dict[str, set[int]] = defaultdict(set)
    for unit, (path, _) in enumerate(world):
        for channel in path:
            met[channel].add(unit)
    return met


@settings(deadline=None, max_examples=25)
@given(WORLDS, st.integers(2, 5))
def test_nothing_in_an_answer_names_or_gives_away_a_channel_of_few(
    world: World, least: int
) -> None:
    models = (Linear(), Markov(), OrderedShapley(3), Probabilistic(), Fractribution())
    reporting = Reporting(Resampling(8), HeldOutUnits(0.4), least)
    question = Question("demo", DEFINITION, models)
    answer = get_attribution(GetAttribution(question, reporting), log_of(world), LIMITS)
    reply = encode_attribution(DEFINITION, answer)
    met = units_of(world)
    told = {row.channel for row in reply.activity} & met.keys()

    said = reply.SerializeToString().decode(errors="replace")
    assert not any(name in said for name in met.keys() - told)
    assert all(len(met[channel]) >= least for channel in told)
    # What is left of every total, when all that is told is taken from it, is of enough units.
    hidden = set().union(*(met[channel] for channel in met.keys() - told))
    assert not hidden or len(hidden) >= least or not told
    for result in reply.results:
        assert {row.channel for row in result.channels} & met.keys() == told
        assert not (hidden and len(hidden) < least and result.HasField("suppressed"))
    for fit in reply.fits:
        assert all(row.journeys >= least for row in fit.bins)


@settings(deadline=None, max_examples=25)
@given(WORLDS, st.integers(2, 5))
def test_no_table_of_paths_names_a_channel_of_few(world: World, least: int) -> None:
    asked = PathQuestion(Question("demo", DEFINITION), least)
    steps = (Reach(), Reach(event="buy"))
    calls: list[tuple[Any, Callable[..., Any], Callable[..., Any]]] = [
        (GetPathLengths(asked, 3), get_path_lengths, encode_lengths),
        (GetTimeLags(asked, LagTable(min_units=least)), get_time_lags, encode_lags),
        (GetTransitions(asked, self_loops=True), get_transitions, encode_transitions),
        (GetFunnel(asked, steps), get_funnel, encode_funnel),
    ]
    few = [channel for channel, units in units_of(world).items() if len(units) < least]
    for command, count, encode in calls:
        reply = encode(command, count(command, log_of(world), LIMITS))
        said = reply.SerializeToString().decode(errors="replace")
        assert not any(channel in said for channel in few), type(command)


@settings(deadline=None)
@given(WORLDS, st.integers(2, 5), st.integers(0, 3))
def test_paths_of_hidden_channels_are_told_of_together_or_not_at_all(
    world: World, least: int, limit: int
) -> None:
    paths = [(">".join(path), 1.0 if buys else None) for path, buys in world]
    journeys = journeys_of_paths(paths)
    statistics = measure(events_of_paths(paths)[0], journeys, [Linear()], 0)
    hidden = hide_channels(journeys, statistics.by_channel, least)

    found = top_paths(journeys, limit, PathOrder.CONVERSIONS, least, hidden.hidden)

    names = {c for c, few in zip(journeys.channels, hidden.hidden, strict=True) if few}
    assert not any(names & set(row.path) for row in found.top)
    rows = [*(row.totals for row in found.top), found.others, found.suppressed]
    told = [row for row in rows if row is not None]
    assert all(row.units >= least for row in told)
    if not found.withheld_paths:
        assert sum(row.journeys for row in told) == len(journeys)
        assert sum(row.conversions for row in told) == journeys.converting
    else:
        assert not told
