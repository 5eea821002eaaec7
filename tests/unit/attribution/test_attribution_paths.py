"""Paths: tables, transforms, lengths, and what is held back."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.attribution.domain.journey_statistics import measure
from services.attribution.domain.journeys import JourneyRules, Journeys, build_journeys
from services.attribution.domain.models import Linear
from services.attribution.domain.paths.lengths import channel_lengths, touch_lengths
from services.attribution.domain.paths.suppression import count_units
from services.attribution.domain.paths.table import PathOrder, PathTotals, tabulate_paths, top_paths
from services.attribution.domain.paths.transforms import (
    PathTransform,
    TransformStep,
    transform_paths,
    transformed,
)
from shared.errors import DomainError
from tests.unit.attribution.journey_cases import (
    PATHS,
    Paths,
    conversions_of,
    events_of_paths,
    journeys_of_paths,
    touches_of,
)

SMALL: Paths = [("A>B", 2.0), ("A>B", 3.0), ("A>B", None), ("B", 9.0), ("A>A>C", None)]


def spelled(journeys: Journeys) -> list[str]:
    names = [journeys.channels[code] for code in journeys.codes.tolist()]
    bounds = journeys.offsets.tolist()
    return [">".join(names[a:b]) for a, b in pairwise(bounds)]


def test_top_paths_by_hand() -> None:
    found = top_paths(journeys_of_paths(SMALL), 2, PathOrder.CONVERSIONS)

    assert [(row.path, row.totals) for row in found.top] == [
        (("A", "B"), PathTotals(1, 3, 3, 2, 5.0, 1)),
        (("B",), PathTotals(1, 1, 1, 1, 9.0, 0)),
    ]
    assert found.others == PathTotals(1, 1, 1, 0, 0.0, 1)
    assert found.suppressed is None
    by_value = top_paths(journeys_of_paths(SMALL), 1, PathOrder.VALUE)
    assert by_value.top[0].path == ("B",)


@given(PATHS)
def test_the_table_counts_every_journey_once(paths: Paths) -> None:
    table = tabulate_paths(journeys_of_paths(paths))
    expected = Counter(path for path, _ in paths)
    converted = Counter(path for path, value in paths if value is not None)

    found = {">".join(table.names(row)): row for row in range(len(table))}
    assert {path: table.journeys[row] for path, row in found.items()} == expected
    assert all(table.conversions[row] == converted[path] for path, row in found.items())
    assert list(found) == sorted(found, key=lambda path: path.split(">"))


@given(
    st.lists(
        st.tuples(
            st.integers(1, 3), st.lists(st.sampled_from([0, 1, 63, 499]), min_size=1, max_size=3)
        ),
        min_size=1,
        max_size=12,
    )
)
def test_paths_longer_than_a_number_are_told_apart_and_ordered(
    rows: list[tuple[int, list[int]]],
) -> None:
    """Beginnings of 500 channels that are alike for up to 30 touches: six of them fill a number."""
    sequences = [[code for code in codes for _ in range(10)] for _, codes in rows]
    sequences = [own[: len(own) - cut] for (cut, _), own in zip(rows, sequences, strict=True)]
    lengths = [len(own) for own in sequences]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    touches = np.arange(offsets[-1])
    journeys = Journeys(
        channels=tuple(f"c{number:03d}" for number in range(500)),
        offsets=offsets,
        codes=np.array([code for own in sequences for code in own], dtype=np.int32),
        times=touches,
        touch_rows=touches,
        units=np.arange(len(rows)),
        converting=1,
        conversion_rows=np.zeros(1, dtype=np.int64),
        conversion_times=offsets[1:2],
        values=np.array([2.5]),
        direct_rows=np.zeros(0, dtype=np.int64),
        direct_values=np.zeros(0),
    )

    table = tabulate_paths(journeys)

    found = [table.codes(row).tolist() for row in range(len(table))]
    assert found == sorted({tuple(own): own for own in sequences}.values())
    assert [found[place] for place in table.of_journey.tolist()] == sequences
    assert table.journeys.tolist() == [sequences.count(own) for own in found]
    assert table.values.tolist() == [2.5 * (own == sequences[0]) for own in found]
    assert [*table.texts()] == sorted(table.texts())


def test_paths_with_few_units_are_summed_in_one_row() -> None:
    paths: Paths = [*[("A", 1.0)] * 5, *[("B", None)] * 4, ("C", 7.0), ("D", None)]
    found = top_paths(journeys_of_paths(paths), 10, PathOrder.JOURNEYS, min_units=2)

    assert [row.path for row in found.top] == [("A",), ("B",)]
    assert found.suppressed == PathTotals(2, 2, 2, 1, 7.0, 1)


def test_one_suppressed_path_takes_the_smallest_reported_one_with_it() -> None:
    # Alone, the figures of C would follow from the total by subtraction.
    paths: Paths = [*[("A", 1.0)] * 5, *[("B", None)] * 4, ("C", 7.0)]
    found = top_paths(journeys_of_paths(paths), 10, PathOrder.JOURNEYS, min_units=2)

    assert [row.path for row in found.top] == [("A",)]
    assert found.suppressed == PathTotals(2, 5, 5, 1, 7.0, 4)


def test_nothing_is_said_where_even_the_sum_is_too_small() -> None:
    found = top_paths(journeys_of_paths(SMALL), 10, PathOrder.JOURNEYS, min_units=50)

    assert (found.top, found.others, found.suppressed, found.withheld_paths) == ((), None, None, 3)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6)), max_size=40), st.integers(1, 5))
def test_no_reported_cell_and_no_remainder_has_few_units(
    rows: list[tuple[int, int]], min_units: int
) -> None:
    cells = np.array([row[0] for row in rows], dtype=np.int64)
    units = np.array([row[1] for row in rows], dtype=np.int64)
    found = count_units(cells, units, 6, min_units)
    by_cell = {cell: {unit for c, unit in rows if c == cell} for cell in range(6)}

    assert found.units.tolist() == [len(by_cell[cell]) for cell in range(6)]
    assert all(found.units[found.reported] >= min_units)
    rest = set().union(*(by_cell[cell] for cell in np.flatnonzero(found.suppressed).tolist()))
    assert found.suppressed_units == len(rest)
    assert found.withheld == (0 < len(rest) < min_units)
    if found.withheld:
        assert not found.reported.any()


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 6)), min_size=1, max_size=60
    ),
    st.integers(1, 5),
)
def test_no_cell_follows_from_the_total_of_its_row_or_column(
    rows: list[tuple[int, int, int]], min_units: int
) -> None:
    by_cell = {(a, b): {u for x, y, u in rows if (x, y) == (a, b)} for a, b, _ in rows}
    cells = sorted(by_cell)
    sources, targets = np.array(cells, dtype=np.int64).T
    found = count_units(
        np.array([cells.index(row[:2]) for row in rows], dtype=np.int64),
        np.array([row[2] for row in rows], dtype=np.int64),
        len(cells),
        min_units,
        (sources, targets),
    )

    for line in (sources, targets, np.zeros_like(sources)):
        for name in set(line.tolist()):
            inside = np.flatnonzero(line == name).tolist()
            held = [cell for cell in inside if not found.reported[cell]]
            together = set().union(*(by_cell[cells[cell]] for cell in held))
            # Few units together only where the line tells of no cell at all.
            assert not 0 < len(together) < min_units or held == inside


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (PathTransform.UNIQUE, ["A>A>B>A", "B>B"]),
        (PathTransform.EXPOSURE, ["A>B>A", "B"]),
        (PathTransform.EXPOSURE_LAST, ["A>B>A", "B"]),
        (PathTransform.FIRST, ["A>B", "B"]),
        (PathTransform.LAST, ["B>A", "B"]),
        (PathTransform.FREQUENCY, ["A(3)>B(1)", "B(2)"]),
    ],
)
def test_transforms(transform: PathTransform, expected: list[str]) -> None:
    journeys = journeys_of_paths([("A>A>B>A", 1.0), ("B>B", None)])
    found = transform_paths(journeys, transform)

    assert spelled(found) == expected
    assert list(found.channels) == sorted(found.channels)
    assert found.values.tolist() == [1.0]


def test_the_last_of_a_run_is_the_later_touch() -> None:
    journeys = journeys_of_paths([("A>A>B", 1.0)])

    first = transform_paths(journeys, PathTransform.EXPOSURE)
    last = transform_paths(journeys, PathTransform.EXPOSURE_LAST)
    assert (first.touch_rows.tolist(), last.touch_rows.tolist()) == ([0, 2], [1, 2])


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (PathTransform.REMOVE_IF_NOT_ALL, ["A>B", "D>D", "A", "B>A"]),
        (PathTransform.REMOVE_IF_LAST_AND_NOT_ALL, ["A>D>B", "D>D", "D>A", "B>A"]),
    ],
)
def test_channels_leave_journeys_that_hold_others(
    transform: PathTransform, expected: list[str]
) -> None:
    paths: Paths = [("A>D>B>D>D", 1.0), ("D>D", 1.0), ("D>A>D", None), ("B>A", None)]

    assert spelled(transform_paths(journeys_of_paths(paths), transform, ["D", "X"])) == expected


def test_costs_stay_with_the_channel_of_touches_that_left() -> None:
    touches = touches_of(
        [(1, 0, "A"), (1, 1, "A"), (1, 2, "B"), (1, 3, "D"), (2, 0, "A")], costs=[1, 2, 4, 8, 16]
    )
    journeys = build_journeys(touches, conversions_of([(1, 9, 5.0)]), JourneyRules())
    steps = [
        TransformStep(PathTransform.REMOVE_IF_NOT_ALL, ("D",)),
        TransformStep(PathTransform.FREQUENCY),
    ]

    found = transformed(touches, journeys, steps)
    measured = measure(
        found.touches, found.journeys, [Linear()], JourneyRules().start_us, None, found.whole
    )

    assert spelled(found.journeys) == ["A(2)>B(1)", "A(1)"]
    assert measured.channels == ("A(1)", "A(2)", "B(1)", "D(0)")
    assert measured.by_channel.costs.tolist() == [16, 3, 4, 8]
    assert measured.by_channel.touches.tolist() == [1, 2, 1, 1]
    assert measured.by_channel.journeys.tolist() == [1, 1, 1, 0]


@given(PATHS, st.lists(st.sampled_from(PathTransform), max_size=3))
def test_transforms_keep_journeys_and_every_touch_that_was_made(
    paths: Paths, transforms: list[PathTransform]
) -> None:
    touches, conversions = events_of_paths(paths)
    journeys = build_journeys(touches, conversions, JourneyRules())
    steps = [TransformStep(one, ("A", "B") if one.removes else ()) for one in transforms]

    found = transformed(touches, journeys, steps)

    assert found.journeys.units.tolist() == journeys.units.tolist()
    assert found.whole.touch_rows.tolist() == journeys.touch_rows.tolist()
    assert found.journeys.channels == found.touches.channels == found.whole.channels
    # What stayed is named alike in the journeys, before the transforms, and as a touch.
    of_touch = dict(zip(found.whole.touch_rows.tolist(), found.whole.codes.tolist(), strict=True))
    assert [of_touch[row] for row in found.journeys.touch_rows.tolist()] == (
        found.journeys.codes.tolist()
    )
    assert found.touches.codes[journeys.touch_rows].tolist() == found.whole.codes.tolist()


@given(PATHS, st.sampled_from(PathTransform))
def test_a_transform_keeps_journeys_and_is_stable(paths: Paths, transform: PathTransform) -> None:
    journeys = journeys_of_paths(paths)
    once = transform_paths(journeys, transform)

    assert once.units.tolist() == journeys.units.tolist()
    assert once.converting == journeys.converting
    if transform is not PathTransform.FREQUENCY:
        assert spelled(transform_paths(once, transform)) == spelled(once)


def test_lengths() -> None:
    journeys = journeys_of_paths(SMALL)
    by_touches = touch_lengths(journeys, 2)
    assert [(b.length, b.units, b.journeys, b.conversions) for b in by_touches.bins] == [
        (1, 1, 1, 1),
        (2, 4, 4, 2),
    ]
    by_channels = channel_lengths(journeys, 5, min_units=2)
    assert by_channels.bins == ()
    assert by_channels.suppressed is not None
    assert by_channels.suppressed.journeys == 5


def test_limits_are_named() -> None:
    journeys = journeys_of_paths(SMALL)
    with pytest.raises(DomainError, match=r"paths\.limit"):
        top_paths(journeys, -1, PathOrder.VALUE)
    with pytest.raises(DomainError, match="min_units"):
        top_paths(journeys, 1, PathOrder.VALUE, min_units=0)
    with pytest.raises(DomainError, match="max_length"):
        touch_lengths(journeys, 0)
