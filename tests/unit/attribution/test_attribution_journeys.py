"""Journeys are cut as their rules say: by hand, and against a plain loop over units."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.attribution.domain.events import Conversions, Touches
from services.attribution.domain.journeys import (
    DAY_US,
    JourneyRules,
    Journeys,
    Repeats,
    build_journeys,
)
from services.attribution.domain.windows import expand, first_at_or_after
from shared.errors import Code, DomainError
from tests.unit.attribution.journey_cases import (
    CONVERSION_ROWS,
    RULES,
    TOUCH_ROWS,
    ConversionRow,
    TouchRow,
    conversions_of,
    touches_of,
)


def spelled(journeys: Journeys) -> list[tuple[str, ...]]:
    bounds = zip(journeys.offsets[:-1], journeys.offsets[1:], strict=True)
    return [
        tuple(journeys.channels[code] for code in journeys.codes[begin:end])
        for begin, end in bounds
    ]


def cut(
    touch_days: Sequence[tuple[float, str]],
    conversion_days: Sequence[float],
    rules: JourneyRules | None = None,
) -> Journeys:
    touches = touches_of([(7, int(day * DAY_US), channel) for day, channel in touch_days])
    conversions = conversions_of([(7, int(day * DAY_US), 1.0) for day in conversion_days])
    return build_journeys(touches, conversions, rules or JourneyRules())


def test_both_ends_of_the_window_count() -> None:
    journeys = cut([(0, "a"), (10, "b"), (40, "c")], [40], JourneyRules(lookback_us=30 * DAY_US))

    assert spelled(journeys) == [("b", "c"), ("a",)]
    assert journeys.converting == 1


def test_a_touch_one_microsecond_outside_the_window_is_not_credited() -> None:
    touches = touches_of([(1, 0, "early"), (1, 1, "edge"), (1, 11, "tie"), (1, 12, "late")])
    journeys = build_journeys(touches, conversions_of([(1, 11, 1.0)]), JourneyRules(lookback_us=10))

    assert spelled(journeys) == [("edge", "tie"), ("early",), ("late",)]


def test_all_lets_a_touch_serve_several_conversions() -> None:
    journeys = cut([(0, "a"), (2, "b")], [1, 3])

    assert spelled(journeys) == [("a",), ("a", "b")]
    assert journeys.converting == 2


def test_split_gives_a_conversion_the_touches_since_the_one_before() -> None:
    journeys = cut([(0, "a"), (1, "b"), (2, "c")], [1, 3, 4], JourneyRules(repeats=Repeats.SPLIT))

    assert spelled(journeys) == [("a", "b"), ("c",)]
    assert journeys.direct_rows.tolist() == [2]


def test_split_lets_conversions_of_one_instant_see_the_same_touches() -> None:
    journeys = cut([(0, "a"), (2, "b")], [1, 1, 3, 3], JourneyRules(repeats=Repeats.SPLIT))

    assert spelled(journeys) == [("a",), ("a",), ("b",), ("b",)]


def test_first_drops_later_conversions_and_touches() -> None:
    journeys = cut([(0, "a"), (2, "b"), (9, "c")], [1, 3], JourneyRules(repeats=Repeats.FIRST))

    assert spelled(journeys) == [("a",)]
    assert journeys.repeats_left_out == 1


def test_a_conversion_without_touch_is_direct() -> None:
    journeys = cut([(5, "a")], [4])

    assert journeys.direct_rows.tolist() == [0]
    assert journeys.direct_values.tolist() == [1.0]
    assert spelled(journeys) == [("a",)]
    assert journeys.converting == 0


def test_touches_without_conversion_are_cut_at_gaps_longer_than_the_lookback() -> None:
    rules = JourneyRules(lookback_us=10 * DAY_US)
    journeys = cut([(0, "a"), (10, "b"), (20.5, "c"), (21, "d")], [], rules)

    assert spelled(journeys) == [("a", "b"), ("c", "d")]


def test_conversions_before_the_start_explain_touches_but_are_not_reported() -> None:
    rules = JourneyRules(start_us=10 * DAY_US)
    journeys = cut([(1, "a"), (3, "never"), (11, "b")], [2, 12], rules)

    assert spelled(journeys) == [("a", "never", "b")]
    assert journeys.conversion_rows.tolist() == [1]

    split = cut(
        [(1, "a"), (3, "c"), (11, "b")],
        [4, 12],
        JourneyRules(start_us=10 * DAY_US, repeats=Repeats.SPLIT),
    )
    assert spelled(split) == [("b",)]


def test_a_journey_keeps_its_most_recent_touches() -> None:
    journeys = cut([(0, "a"), (1, "b"), (2, "c")], [3], JourneyRules(max_touches=2))

    assert spelled(journeys) == [("b", "c")]
    assert journeys.truncated == 1


def test_no_events_make_no_journeys() -> None:
    journeys = build_journeys(touches_of([]), conversions_of([]), JourneyRules())

    assert len(journeys) == 0
    assert len(journeys.direct_rows) == 0


def test_arrays_cannot_be_written() -> None:
    journeys = cut([(0, "a")], [1])

    with pytest.raises(ValueError, match="read-only"):
        journeys.codes[0] = 3


@pytest.mark.parametrize(
    ("lookback_us", "max_touches"), [(0, 5), (-1, 5), (367 * DAY_US, 5), (1, 0), (1, 10_001)]
)
def test_rules_refuse_what_they_cannot_keep(lookback_us: int, max_touches: int) -> None:
    with pytest.raises(DomainError) as refusal:
        JourneyRules(lookback_us=lookback_us, max_touches=max_touches)
    assert refusal.value.code is Code.INVALID_ARGUMENT


def test_unsorted_and_infinite_columns_are_refused() -> None:
    with pytest.raises(DomainError, match="row 1 before row 0"):
        Conversions(np.array([1, 1]), np.array([5, 4]), np.zeros(2))
    with pytest.raises(DomainError, match="finite"):
        Conversions(np.array([1]), np.array([5]), np.array([np.nan]))
    with pytest.raises(DomainError, match="finite"):
        Touches(("a",), np.array([1]), np.array([5]), np.array([0]), np.array([np.inf]))
    with pytest.raises(DomainError, match="channel names"):
        Touches(("a",), np.array([1]), np.array([5]), np.array([1]), np.array([1.0]))
    with pytest.raises(DomainError, match="one length"):
        Touches(("a",), np.array([1, 2]), np.array([5]), np.array([0]), np.array([1.0]))


@given(
    st.lists(st.lists(st.integers(-5, 5), max_size=9).map(sorted), min_size=1, max_size=5),
    st.data(),
)
def test_segments_are_searched_like_single_arrays(
    segments: list[list[int]], data: st.DataObject
) -> None:
    ends = np.cumsum([len(segment) for segment in segments])
    begins = ends - [len(segment) for segment in segments]
    instants = np.array([data.draw(st.integers(-6, 6)) for _ in segments])
    values = np.array([time for segment in segments for time in segment] or [0], dtype=np.int64)

    found = first_at_or_after(values, begins, ends, instants)

    expected = [
        begin + np.searchsorted(segment, instant)
        for begin, segment, instant in zip(begins, segments, instants, strict=True)
    ]
    assert found.tolist() == expected


def test_expand_lists_the_rows_of_ranges() -> None:
    rows, offsets = expand(np.array([3, 0, 7]), np.array([5, 0, 8]))

    assert rows.tolist() == [3, 4, 7]
    assert offsets.tolist() == [0, 2, 2, 3]


@given(TOUCH_ROWS, CONVERSION_ROWS, RULES)
def test_the_builder_equals_a_plain_loop(
    touch_rows: list[TouchRow], conversion_rows: list[ConversionRow], rules: JourneyRules
) -> None:
    touches, conversions = touches_of(touch_rows), conversions_of(conversion_rows)

    journeys = build_journeys(touches, conversions, rules)

    slices = [
        tuple(journeys.touch_rows[begin:end].tolist())
        for begin, end in zip(journeys.offsets[:-1], journeys.offsets[1:], strict=True)
    ]
    plain = PlainLoop(touches, conversions, rules)
    assert slices[: journeys.converting] == [rows for rows in plain.converting if rows]
    assert journeys.conversion_rows.tolist() == plain.credited
    assert journeys.direct_rows.tolist() == plain.direct
    assert slices[journeys.converting :] == plain.without
    assert journeys.units.tolist() == [int(touches.units[rows[-1]]) for rows in slices]
    assert journeys.converted.sum() == journeys.converting


class PlainLoop:
    """The rules of the journeys module, read aloud with loops over rows."""

    def __init__(self, touches: Touches, conversions: Conversions, rules: JourneyRules) -> None:
        self._touches, self._conversions, self._rules = touches, conversions, rules
        self.converting: list[tuple[int, ...]] = []
        self.credited: list[int] = []
        self.direct: list[int] = []
        self._seen: set[int] = set()
        self._gone: dict[int, int] = {}
        for row in range(len(conversions)):
            self._convert(row)
        self.without = list(self._runs())

    def _convert(self, row: int) -> None:
        unit, time = int(self._conversions.units[row]), int(self._conversions.times[row])
        first = self._rules.repeats is Repeats.FIRST
        earlier = [
            int(other)
            for other_unit, other in zip(
                self._conversions.units, self._conversions.times, strict=True
            )
            if other_unit == unit and other < time
        ]
        after = max(earlier, default=-(2**62)) if self._rules.repeats is Repeats.SPLIT else -(2**62)
        window = [
            touch
            for touch in range(len(self._touches))
            if self._touches.units[touch] == unit
            and after < self._touches.times[touch] <= time
            and time - self._touches.times[touch] <= self._rules.lookback_us
        ]
        self._seen.update(window)
        if time < self._rules.start_us or (first and unit in self._gone):
            return
        if first:
            self._gone[unit] = time
        if window:
            self.credited.append(row)
            self.converting.append(tuple(window[-self._rules.max_touches :]))
        else:
            self.direct.append(row)

    def _runs(self) -> Iterator[tuple[int, ...]]:
        run: list[int] = []
        for touch in [*range(len(self._touches)), None]:
            open_ = touch is not None and not self._left(touch)
            if run and not (open_ and self._continues(run[-1], touch)):
                if self._touches.times[run[-1]] >= self._rules.start_us:
                    yield tuple(run[-self._rules.max_touches :])
                run = []
            if open_:
                run.append(touch)

    def _left(self, touch: int) -> bool:
        unit, time = int(self._touches.units[touch]), int(self._touches.times[touch])
        return touch in self._seen or time > self._gone.get(unit, 2**62)

    def _continues(self, before: int, touch: int) -> bool:
        units, times = self._touches.units, self._touches.times
        gap = int(times[touch] - times[before])
        return bool(units[before] == units[touch]) and gap <= self._rules.lookback_us
