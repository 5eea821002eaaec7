"""Rows in order of unit, time and event id, whether the ids are there or have to be asked for."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.attribution.adapters.row_order import KEYS, rows_in_order

SCHEMA = pa.schema(
    [
        ("unit_id", pa.string()),
        ("event_time", pa.timestamp("us", tz="UTC")),
        ("event_id", pa.string()),
        ("credited", pa.string()),
        ("cost", pa.float64()),
    ]
)
Event = tuple[str, int, str, str, float]
# The far times make units times instants more than one number holds.
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["", "a", "ab", "z", "é"]),
        st.sampled_from([0, 1, 2, -(2**61), 2**61]),
        st.text("ab9é", max_size=3),
        st.sampled_from(["mail", "ads"]),
        st.floats(0, 1),
    ),
    max_size=20,
    unique_by=lambda event: event[:3],
)


def nothing_is_asked(_: pa.Table) -> pa.Table:
    raise AssertionError("the rows say all that is needed")


def as_table(events: list[Event]) -> pa.Table:
    columns = zip(*events, strict=True) if events else [[]] * len(SCHEMA)
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], SCHEMA)


@pytest.mark.parametrize("identified", [True, False])
@given(events=EVENTS)
def test_rows_are_in_the_order_of_all_three(identified: bool, events: list[Event]) -> None:
    expected = sorted(events, key=lambda event: (event[0].encode(), event[1], event[2].encode()))
    table = as_table(events)

    def of_instants(instants: pa.Table) -> pa.Table:
        assert instants.column_names == [*KEYS[:2]]
        times = instants["event_time"].cast(pa.int64()).to_pylist()
        chosen = {*zip(instants["unit_id"].to_pylist(), times, strict=True)}
        kept = [event for event in expected if (event[0], event[1]) in chosen]
        return as_table(kept).drop_columns(["event_id"])

    asked = table if identified else table.drop_columns(["event_id"])
    found = rows_in_order(asked, nothing_is_asked if identified else of_instants)

    units = found.units
    assert [units.names[code].as_py() for code in units.codes] == [e[0] for e in expected]
    credited = found.texts["credited"]
    assert [credited.names[code].as_py() for code in credited.codes] == [e[3] for e in expected]
    assert found.times.tolist() == [event[1] for event in expected]
    assert found.numbers["cost"].tolist() == [event[4] for event in expected]
    if identified:
        assert found.event_ids is not None
        assert found.event_ids.to_pylist() == [event[2] for event in expected]


def test_ids_are_not_asked_for_where_times_differ() -> None:
    table = as_table([("b", 1, "x", "mail", 0.5), ("a", 2, "y", "ads", 0.1), ("a", 1, "z", "", 0)])

    found = rows_in_order(table.drop_columns(["event_id"]), nothing_is_asked)

    assert found.times.tolist() == [1, 2, 1]
    assert found.numbers["cost"].tolist() == [0.0, 0.1, 0.5]


@given(
    units=st.lists(st.integers(0, 2000), min_size=1, max_size=200),
    spread=st.sampled_from([1, 2**20, 2**40, 2**46, 2**50, 2**62]),
)
def test_times_that_one_number_cannot_hold_with_the_unit_are_sorted_too(
    units: list[int], spread: int
) -> None:
    events = [
        (f"{unit:04}", (7919 * row * row) % 1000 * (spread // 1000 or 1) + row % 3, f"{row:03}")
        for row, unit in enumerate(units)
    ]
    table = as_table([(*event, "mail", 0.0) for event in events])

    found = rows_in_order(table, nothing_is_asked)

    ids = found.event_ids
    assert ids is not None
    assert ids.to_pylist() == [event[2] for event in sorted(events)]
