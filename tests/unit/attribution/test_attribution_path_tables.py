"""Time lags, steps between channels, and funnels."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.attribution.domain.events import MilestoneEvents
from services.attribution.domain.journeys import DAY_US, JourneyRules, Journeys, build_journeys
from services.attribution.domain.paths.funnel import Followed, FunnelStep, Reach, funnel
from services.attribution.domain.paths.lags import LagBin, LagTable, LagTotal, Quantile, time_lags
from services.attribution.domain.paths.steps import Mark, State, count_steps
from shared.errors import DomainError
from tests.unit.attribution.journey_cases import (
    CONVERSION_ROWS,
    PATHS,
    TOUCH_ROWS,
    Paths,
    TouchRow,
    conversions_of,
    journeys_of_paths,
    touches_of,
)

NAMES = ("lead", "order")
EVENT_ROWS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 40).map(lambda d: d * DAY_US), st.integers(0, 1)),
    max_size=20,
)
STEPS = st.lists(
    st.one_of(
        st.sets(st.sampled_from(["ads", "mail", "search", "tv"])).map(
            lambda names: Reach(tuple(sorted(names)))
        ),
        st.sampled_from([Reach(event="lead"), Reach(event="order"), Reach(event="never")]),
    ),
    min_size=1,
    max_size=4,
)


def events_of(rows: Sequence[tuple[int, int, int]]) -> MilestoneEvents:
    units, times, codes = (np.array(sorted(rows), dtype=np.int64).reshape(-1, 3)).T
    return MilestoneEvents(NAMES, units, times, codes.astype(np.int32))


def by_touches(*steps: str) -> Followed:
    return Followed([Reach(tuple(step)) for step in steps])


def test_time_lags_by_hand() -> None:
    touches = touches_of([(1, 0, "A"), (1, 2 * DAY_US, "B"), (2, 0, "A"), (3, 0, "A")])
    conversions = conversions_of([(1, 5 * DAY_US, 1.0), (2, 1, 1.0)])
    table = LagTable((0.5, 1.0), (DAY_US, 3 * DAY_US))

    lags = time_lags(build_journeys(touches, conversions, JourneyRules()), table)

    assert lags.first_touch.quantiles == (Quantile(0.5, 1), Quantile(1.0, 5 * DAY_US))
    assert lags.first_touch.bins == (LagBin(0, DAY_US, 1, 1), LagBin(3 * DAY_US, None, 1, 1))
    assert lags.last_touch.quantiles == (Quantile(0.5, 1), Quantile(1.0, 3 * DAY_US))
    assert lags.between_touches.bins == (LagBin(DAY_US, 3 * DAY_US, 1, 1),)
    nothing = time_lags(journeys_of_paths([("A", None)]), table).first_touch
    assert (nothing.lags, nothing.quantiles[0].lag_us, nothing.bins) == (0, None, ())


@given(PATHS, st.floats(0, 1))
def test_a_quantile_is_the_first_lag_that_enough_do_not_exceed(paths: Paths, level: float) -> None:
    found = time_lags(journeys_of_paths(paths), LagTable((level,))).first_touch
    lags = sorted(len(path.split(">")) * DAY_US for path, value in paths if value is not None)

    assert found.lags == len(lags)
    assert sum(row.lags for row in found.bins) == len(lags)
    expected = lags[max(0, math.ceil(level * len(lags)) - 1)] if lags else None
    assert found.quantiles[0].lag_us == expected


def test_few_units_have_no_lag_of_their_own() -> None:
    paths: Paths = [*[("A", 1.0)] * 5, *[("A>B", 1.0)] * 3, ("A>B>C>D", 1.0)]
    table = LagTable((0.5, 1.0), (2 * DAY_US, 3 * DAY_US, 4 * DAY_US), min_units=2)

    found = time_lags(journeys_of_paths(paths), table).first_touch

    # The longest lag is one unit's; alone its bin would follow from the total.
    assert found.quantiles == (Quantile(0.5, DAY_US), Quantile(1.0, None))
    assert found.bins == (LagBin(0, 2 * DAY_US, 5, 5),)
    assert found.suppressed == LagTotal(4, 4)
    hidden = time_lags(journeys_of_paths(paths[-1:]), table).first_touch
    assert (hidden.units, hidden.lags, hidden.withheld_bins) == (None, None, 1)


@given(TOUCH_ROWS, st.floats(0, 1), st.integers(1, 4))
def test_a_quantile_has_enough_units_on_either_side(
    touches: list[TouchRow], level: float, min_units: int
) -> None:
    journeys = build_journeys(touches_of(touches), conversions_of([]), JourneyRules())
    found = time_lags(journeys, LagTable((level,), min_units=min_units)).between_touches
    gaps = [
        (int(journeys.times[row] - journeys.times[row - 1]), int(journeys.units[journey]))
        for journey in range(len(journeys))
        for row in range(journeys.offsets[journey] + 1, journeys.offsets[journey + 1])
    ]
    ordered = sorted(lag for lag, _ in gaps)
    lag = ordered[max(0, math.ceil(level * len(gaps)) - 1)] if gaps else 0
    sides = (
        len({unit for each, unit in gaps if each <= lag}),
        len({unit for each, unit in gaps if each >= lag}),
    )

    assert found.quantiles[0].lag_us == (lag if gaps and min(sides) >= min_units else None)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"levels": (1.5,)}, "levels"),
        ({"edges_us": (0,)}, "edges"),
        ({"edges_us": (2, 2)}, "edges"),
        ({"edges_us": (400 * DAY_US,)}, "edges"),
    ],
)
def test_a_wrong_table_is_refused(fields: Any, named: str) -> None:
    with pytest.raises(DomainError, match=named):
        LagTable(**fields)


def test_steps_with_and_without_self_loops() -> None:
    journeys = journeys_of_paths([("A>A>B", 1.0), ("A", None)])

    def counts(self_loops: bool) -> dict[tuple[State, State], tuple[int, float]]:
        found = count_steps(journeys, self_loops=self_loops)
        return {(s.source, s.target): (s.count, round(s.probability, 6)) for s in found.steps}

    assert counts(True) == {
        (Mark.START, "A"): (2, 1.0),
        ("A", "A"): (1, 0.333333),
        ("A", "B"): (1, 0.333333),
        ("A", Mark.NULL): (1, 0.333333),
        ("B", Mark.CONVERSION): (1, 1.0),
    }
    assert counts(False) == {
        (Mark.START, "A"): (2, 1.0),
        ("A", "B"): (1, 0.5),
        ("A", Mark.NULL): (1, 0.5),
        ("B", Mark.CONVERSION): (1, 1.0),
    }


def test_rare_steps_are_held_back_with_those_that_they_would_follow_from() -> None:
    paths: Paths = [*[("A", 1.0)] * 5, ("B", 1.0), ("C", None)]

    found = count_steps(journeys_of_paths(paths), self_loops=True, min_units=2)

    # All conversions less those from A would be that from B.
    assert [(step.source, step.target) for step in found.steps] == [(Mark.START, "A")]
    assert (found.suppressed_steps, found.suppressed_count) == (5, 9)


@given(PATHS)
def test_the_steps_from_a_state_have_probabilities_that_sum_to_one(paths: Paths) -> None:
    found = count_steps(journeys_of_paths(paths), self_loops=True)
    sums: dict[State, float] = {}
    for step in found.steps:
        sums[step.source] = sums.get(step.source, 0.0) + step.probability

    assert all(total == pytest.approx(1) for total in sums.values())
    assert sum(step.count for step in found.steps if step.source is Mark.START) == len(paths)


def test_a_funnel_of_touches_by_hand() -> None:
    paths: Paths = [("A>C>B", 1.0), ("B>A", 2.0), ("C>B", None), ("A", None), ("B>C>B>A", 1.0)]
    found = funnel(journeys_of_paths(paths), by_touches("AC", "B"))

    # Entered by A: A>C>B and A, and B>A, whose B came too early; by C: C>B and B>C>B>A.
    assert found.steps == (FunnelStep(5, 5, 3, 1), FunnelStep(3, 3, 2, 1))
    assert {row.channel: row.steps for row in found.by_channel} == {
        "A": (FunnelStep(3, 3, 2, 1), FunnelStep(1, 1, 1, 0)),
        "C": (FunnelStep(2, 2, 1, 0), FunnelStep(2, 2, 1, 1)),
    }
    held = funnel(journeys_of_paths(paths), by_touches("AC", "B"), min_units=3)
    assert held.by_channel == ()
    assert (held.suppressed, held.suppressed_channels) == (found.steps, 2)


def test_a_step_with_few_units_is_held_back_and_does_not_follow_from_the_one_before() -> None:
    paths: Paths = [*[("A>B", None)] * 1, *[("A", None)] * 4, *[("C>B", None)] * 5]
    found = funnel(journeys_of_paths(paths), by_touches("AC", "B"), min_units=2)

    rows = {row.channel: row.steps for row in found.by_channel}
    # One unit came from A to B; as all came from C, C is held back too.
    assert rows == {
        "A": (FunnelStep(5, 5, 0, None), None),
        "C": (FunnelStep(5, 5, 0, None), None),
    }
    assert found.steps == (FunnelStep(10, 10, 0, 4), FunnelStep(6, 6, 0, 6))
    assert found.suppressed == (FunnelStep(0, 0, 0, 0), FunnelStep(6, 6, 0, 6))


def test_events_are_steps() -> None:
    rows: list[TouchRow] = [(1, 0, "ads"), (1, 2, "mail"), (2, 0, "ads"), (3, 0, "mail")]
    conversions = conversions_of([(1, 9, 1.0)])
    journeys = build_journeys(touches_of(rows), conversions, JourneyRules())
    events = events_of([(1, 1, 0), (1, 10, 0), (2, 5, 0), (3, 99, 0)])
    steps = [Reach(), Reach(event="lead"), Reach(("mail",))]

    found = funnel(journeys, Followed(steps, events, lookback_us=50))

    # The lead of unit 3 came too late after its only touch.
    assert {row.channel: row.steps for row in found.by_channel} == {
        "ads": (FunnelStep(2, 2, 1, 0), FunnelStep(2, 2, 1, 1), FunnelStep(1, 1, 1, 0)),
        "mail": (FunnelStep(1, 1, 0, 1), FunnelStep(0, 0, 0, 0), FunnelStep(0, 0, 0, 0)),
    }
    twice = funnel(journeys, Followed([Reach(event="lead")] * 2, events, lookback_us=50))
    assert [step and step.journeys for step in twice.steps] == [2, 0]


def walked(journeys: Journeys, followed: Followed) -> tuple[Counter[int], Counter[str]]:
    """The funnel by a walk over each journey: who came to each step, and by which channel."""
    reached: Counter[int] = Counter()
    entries: Counter[str] = Counter()
    events = followed.events
    for row in range(len(journeys)):
        begin, end = journeys.offsets[row : row + 2].tolist()
        until = journeys.times[end - 1] + followed.lookback_us
        if row < journeys.converting:
            until = journeys.conversion_times[row]
        mine = [
            (time, events.names[code], number)
            for number, (unit, time, code) in enumerate(
                zip(events.units, events.times, events.codes, strict=True)
            )
            if unit == journeys.units[row] and journeys.times[begin] <= time <= until
        ]
        at, touch, used = journeys.times[begin], begin, set[int]()
        for number, step in enumerate(followed.steps):
            if step.event:
                found = [e for e in mine if e[1] == step.event and e[0] >= at and e[2] not in used]
                if not found:
                    break
                at = found[0][0]
                used.add(found[0][2])
                before = [t for t in range(begin, end) if journeys.times[t] <= at][-1]
                later = [t for t in range(begin, end) if journeys.times[t] >= at]
                touch = max(touch, later[0] if later else end)
            else:
                wanted = set(step.channels) or set(journeys.channels)
                places = range(touch, end)
                hits = [t for t in places if journeys.channels[journeys.codes[t]] in wanted]
                if not hits:
                    break
                before, at, touch = hits[0], journeys.times[hits[0]], hits[0] + 1
            reached[number] += 1
            if number == 0:
                entries[journeys.channels[journeys.codes[before]]] += 1
    return reached, entries


@given(TOUCH_ROWS, CONVERSION_ROWS, EVENT_ROWS, STEPS)
def test_funnels_agree_with_a_walk_over_each_journey(
    touches: list[TouchRow],
    conversions: list[tuple[int, int, float]],
    events: list[tuple[int, int, int]],
    steps: list[Reach],
) -> None:
    rules = JourneyRules(lookback_us=9 * DAY_US)
    journeys = build_journeys(touches_of(touches), conversions_of(conversions), rules)
    followed = Followed(steps, events_of(events), rules.lookback_us)

    found = funnel(journeys, followed)
    reached, entries = walked(journeys, followed)

    counts = [step.journeys for step in found.steps if step is not None]
    assert counts == [reached[number] for number in range(len(steps))]
    by_channel = {row.channel: row.steps[0] for row in found.by_channel}
    assert {name: step and step.journeys for name, step in by_channel.items()} == entries
    for number in range(len(steps)):
        rows = [row.steps[number] for row in found.by_channel]
        assert sum(step.journeys for step in rows if step is not None) == counts[number]


@given(TOUCH_ROWS, CONVERSION_ROWS, EVENT_ROWS, STEPS, st.integers(2, 4))
def test_no_step_of_a_funnel_shows_few_units_nor_do_the_others_together(
    touches: list[TouchRow],
    conversions: list[tuple[int, int, float]],
    events: list[tuple[int, int, int]],
    steps: list[Reach],
    min_units: int,
) -> None:
    rules = JourneyRules(lookback_us=9 * DAY_US)
    journeys = build_journeys(touches_of(touches), conversions_of(conversions), rules)
    followed = Followed(steps, events_of(events), rules.lookback_us)

    whole = funnel(journeys, followed)
    found = funnel(journeys, followed, min_units)

    rows = [found.steps, found.suppressed, *(row.steps for row in found.by_channel)]
    for number in range(len(steps)):
        told = [row[number] for row in rows]
        assert all(step is None or step.units == 0 or step.units >= min_units for step in told)
        total, *parts = told
        exact = whole.steps[number]
        assert total is None or (exact is not None and total.journeys == exact.journeys)
        # What is held back is told of as a whole, or nothing is told of the step at all.
        if parts[0] is not None and total is not None:
            sums = sum(step.journeys for step in parts if step is not None)
            assert sums == total.journeys
        if parts[0] is None:
            assert not any(step.units for step in parts[1:] if step is not None)


def test_a_funnel_has_steps() -> None:
    with pytest.raises(DomainError, match="steps"):
        funnel(journeys_of_paths([("A", None)]), Followed([]))
