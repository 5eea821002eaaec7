"""Which touches count for which conversions: against plain Python, on random events."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.attribution.domain.events import NO_MATCH, Conversions, Facets, Touches
from services.attribution.domain.journeys import DAY_US, JourneyRules, Repeats, build_journeys
from services.attribution.domain.visibility import (
    Direct,
    Visibility,
    Window,
    direct_of,
    reaches_of,
)

CHANNELS, INTERACTIONS = ("ads", "direct", "mail"), ("", "click", "view")
DAYS = st.integers(0, 30)
TOUCHES = st.lists(
    st.tuples(
        st.integers(0, 2), DAYS, st.integers(0, 2), st.integers(0, 2), st.integers(NO_MATCH, 1)
    ),
    max_size=25,
)
BOUGHT = st.lists(st.tuples(st.integers(0, 2), DAYS, st.integers(NO_MATCH, 1)), max_size=6)
WINDOWS = st.dictionaries(
    st.sampled_from([(c, i) for c in ("", *CHANNELS) for i in INTERACTIONS if c or i]),
    st.integers(1, 20),
    max_size=4,
)


@dataclass(frozen=True)
class Case:
    """Random events and rules."""

    touches: list[tuple[int, int, int, int, int]]
    bought: list[tuple[int, int, int]]
    windows: dict[tuple[str, str], int]
    handling: Direct
    repeats: Repeats
    associated: bool
    most: int

    @property
    def longest(self) -> int:
        return max([7, *self.windows.values()])

    def reach(self, touch: tuple[int, int, int, int, int]) -> int:
        channel, interaction = CHANNELS[touch[2]], INTERACTIONS[touch[3]]
        for key in ((channel, interaction), (channel, ""), ("", interaction)):
            if key in self.windows and any(key):
                return self.windows[key]
        return 7

    def counts(
        self, touch: tuple[int, int, int, int, int], conversion: tuple[int, int, int]
    ) -> bool:
        if self.associated and (touch[4] != conversion[2] or touch[4] == NO_MATCH):
            return False
        if self.handling is Direct.DROP and touch[2] == 1:
            return False
        return conversion[1] - touch[1] <= self.reach(touch)


CASES = st.builds(
    Case,
    touches=TOUCHES.map(lambda rows: sorted(rows, key=lambda row: row[:2])),
    bought=BOUGHT.map(lambda rows: sorted(rows, key=lambda row: row[:2])),
    windows=WINDOWS,
    handling=st.sampled_from(Direct),
    repeats=st.sampled_from(Repeats),
    associated=st.booleans(),
    most=st.sampled_from([2, 500]),
)


def skipped(case: Case, rows: list[int]) -> list[int]:
    """Without direct touches where another one counts."""
    other = [row for row in rows if case.touches[row][2] != 1]
    return other if case.handling is Direct.SKIP_IF_OTHER and other else rows


def by_hand(case: Case) -> tuple[list[list[int]], list[int], list[list[int]]]:
    """Rows of converting journeys, conversions without a touch, rows of the other journeys."""
    converting, direct, explained = [], [], set()
    for number, (unit, day, _) in enumerate(case.bought):
        before = [b[1] for b in case.bought if b[0] == unit and b[1] < day]
        since = max(before, default=-1) if case.repeats is Repeats.SPLIT else -1
        rows = [
            row
            for row, touch in enumerate(case.touches)
            if touch[0] == unit
            and since < touch[1] <= day
            and day - touch[1] <= case.longest
            and case.counts(touch, case.bought[number])
        ]
        explained |= set(rows)
        first = all(b[0] != unit for b in case.bought[:number])
        if case.repeats is Repeats.FIRST and not first:
            continue
        if case.repeats is Repeats.FIRST:
            gone = [r for r, t in enumerate(case.touches) if t[0] == unit and t[1] > day]
            explained |= set(gone)
        if rows:
            converting.append(skipped(case, rows)[-case.most :])
        else:
            direct.append(number)
    return converting, direct, runs(case, explained)


def runs(case: Case, explained: set[int]) -> list[list[int]]:
    """The longest runs of touches that nothing explains."""
    found: list[list[int]] = []
    previous: int | None = None
    for row, touch in enumerate(case.touches):
        if case.handling is Direct.DROP and touch[2] == 1:
            continue
        if row in explained:
            previous = None
            continue
        last = None if previous is None else case.touches[previous]
        if last is None or last[0] != touch[0] or touch[1] - last[1] > case.reach(last):
            found.append([])
        found[-1].append(row)
        previous = row
    return [skipped(case, run)[-case.most :] for run in found]


@settings(max_examples=400, deadline=None)
@given(CASES)
def test_journeys_are_what_plain_python_cuts(case: Case) -> None:
    facets = Facets(
        channels=CHANNELS,
        channel_codes=np.array([row[2] for row in case.touches], dtype=np.int32),
        interactions=INTERACTIONS,
        interaction_codes=np.array([row[3] for row in case.touches], dtype=np.int32),
    )
    touches = Touches(
        channels=CHANNELS,
        units=np.array([row[0] for row in case.touches], dtype=np.int64),
        times=np.array([row[1] * DAY_US for row in case.touches], dtype=np.int64),
        codes=facets.channel_codes,
        costs=np.full(len(case.touches), np.nan),
        facets=facets,
        matches=np.array([row[4] for row in case.touches], dtype=np.int64)
        if case.associated
        else None,
    )
    conversions = Conversions(
        units=np.array([row[0] for row in case.bought], dtype=np.int64),
        times=np.array([row[1] * DAY_US for row in case.bought], dtype=np.int64),
        values=np.zeros(len(case.bought)),
        matches=np.array([row[2] for row in case.bought], dtype=np.int64)
        if case.associated
        else None,
    )
    windows = [Window(*key, days * DAY_US) for key, days in case.windows.items()]
    visibility = Visibility(
        reaches=reaches_of(facets, windows, 7 * DAY_US) if windows else None,
        direct=direct_of(facets, ["direct"]),
        handling=case.handling,
    )
    rules = JourneyRules(case.longest * DAY_US, case.repeats, max_touches=case.most)

    journeys = build_journeys(touches, conversions, rules, visibility)

    offsets = journeys.offsets.tolist()
    rows = journeys.touch_rows.tolist()
    cut = [rows[begin:end] for begin, end in pairwise(offsets)]
    converting, direct, others = by_hand(case)
    assert cut[: journeys.converting] == converting
    assert journeys.direct_rows.tolist() == direct
    assert cut[journeys.converting :] == others


def test_the_most_specific_window_has_the_last_word() -> None:
    facets = Facets(
        channels=("ads", "mail"),
        channel_codes=np.array([0, 0, 1, 1], dtype=np.int32),
        interactions=("click", "view"),
        interaction_codes=np.array([0, 1, 0, 1], dtype=np.int32),
    )
    windows = [Window("ads", "view", 1), Window("", "view", 2), Window("ads", "", 3)]
    assert reaches_of(facets, windows, 9).tolist() == [3, 1, 9, 2]
