"""Events and journeys for the tests of the attribution domain."""

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from services.attribution.domain.events import Conversions, Touches
from services.attribution.domain.journeys import (
    DAY_US,
    JourneyRules,
    Journeys,
    Repeats,
    build_journeys,
)

TouchRow = tuple[int, int, str]
"""Unit, time, channel."""
ConversionRow = tuple[int, int, float]
"""Unit, time, value."""
Paths = list[tuple[str, float | None]]
"""Channels in order, and the value of the conversion that they led to, or None."""


def touches_of(
    rows: Sequence[TouchRow],
    channels: Sequence[str] | None = None,
    costs: Sequence[float] | None = None,
) -> Touches:
    """Touches sorted by unit and time; equal ones keep their order, as event ids would have it."""
    names = tuple(sorted({row[2] for row in rows})) if channels is None else tuple(channels)
    order = sorted(range(len(rows)), key=lambda row: rows[row][:2])
    return Touches(
        channels=names,
        units=np.array([rows[row][0] for row in order], dtype=np.int64),
        times=np.array([rows[row][1] for row in order], dtype=np.int64),
        codes=np.array([names.index(rows[row][2]) for row in order], dtype=np.int32),
        costs=np.array([costs[row] if costs else np.nan for row in order], dtype=np.float64),
    )


def conversions_of(rows: Sequence[ConversionRow]) -> Conversions:
    ordered = sorted(rows, key=lambda row: row[:2])
    return Conversions(
        units=np.array([row[0] for row in ordered], dtype=np.int64),
        times=np.array([row[1] for row in ordered], dtype=np.int64),
        values=np.array([row[2] for row in ordered], dtype=np.float64),
    )


def events_of_paths(
    paths: Paths, channels: Sequence[str] | None = None
) -> tuple[Touches, Conversions]:
    """One unit a path such as ("A>B>A", 10.0): a touch a day, then a conversion, or None."""
    touches: list[TouchRow] = []
    conversions: list[ConversionRow] = []
    for unit, (path, value) in enumerate(paths):
        steps = path.split(">")
        touches.extend((unit, day * DAY_US, step) for day, step in enumerate(steps))
        if value is not None:
            conversions.append((unit, len(steps) * DAY_US, value))
    return touches_of(touches, channels), conversions_of(conversions)


def journeys_of_paths(paths: Paths, channels: Sequence[str] | None = None) -> Journeys:
    touches, conversions = events_of_paths(paths, channels)
    return build_journeys(touches, conversions, JourneyRules())


DAYS = st.integers(0, 40).map(lambda day: day * DAY_US)
TOUCH_ROWS = st.lists(
    st.tuples(st.integers(0, 5), DAYS, st.sampled_from(["ads", "mail", "search", "video"])),
    max_size=40,
)
CONVERSION_ROWS = st.lists(
    st.tuples(st.integers(0, 6), DAYS, st.integers(0, 9).map(float)), max_size=12
)
RULES = st.builds(
    JourneyRules,
    lookback_us=st.integers(1, 20).map(lambda day: day * DAY_US),
    repeats=st.sampled_from(Repeats),
    start_us=st.one_of(st.just(-(2**62)), DAYS),
    max_touches=st.sampled_from([3, 500]),
)
PATHS = st.lists(
    st.tuples(
        st.lists(st.sampled_from("ABCD"), min_size=1, max_size=6).map(">".join),
        st.one_of(st.none(), st.integers(0, 9).map(float)),
    ),
    min_size=1,
    max_size=30,
)
