"""Rows of two readings are joined as if they had been read at once."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.attribution.adapters.journey_rows import (
    NULL,
    Rows,
    Texts,
    joined,
    joined_texts,
    rows_of_table,
)

NAMES = st.sampled_from(["", "a", "aa", "b", "é", "z", "𝄞", "\uff5e"])
ROWS = st.lists(
    st.tuples(NAMES, st.integers(0, 3), st.one_of(st.none(), NAMES), st.floats(0, 9)), max_size=25
)
PLACES = st.lists(st.booleans(), min_size=25, max_size=25)

Event = tuple[str, int, str, str | None, float]


def rows_of(events: list[Event]) -> Rows:
    ordered = sorted(events, key=lambda event: (event[0].encode(), event[1], event[2].encode()))
    units, times, ids, texts, numbers = (
        zip(*ordered, strict=True) if ordered else ((), (), (), (), ())
    )
    return rows_of_table(
        pa.table(
            {
                "unit_id": pa.array(units, pa.string()),
                "event_time": pa.array(times, pa.timestamp("us", tz="UTC")),
                "event_id": pa.array(ids, pa.string()),
                "credited": pa.array(texts, pa.string()),
                "cost": pa.array(numbers, pa.float64()),
            }
        )
    )


def texts_of(texts: Texts) -> list[str | None]:
    names = texts.names.to_pylist()
    assert names == sorted(set(names), key=str.encode)
    return [None if code == NULL else names[code] for code in texts.codes.tolist()]


def plain(rows: Rows) -> tuple[list[object], ...]:
    assert rows.event_ids is not None
    return (
        rows.times.tolist(),
        rows.event_ids.to_pylist(),
        rows.numbers["cost"].tolist(),
        *(texts_of(rows.texts[name]) for name in ("unit_id", "credited")),
    )


@settings(max_examples=300, deadline=None)
@given(ROWS, PLACES)
def test_two_readings_are_one(
    drawn: list[tuple[str, int, str | None, float]], old: list[bool]
) -> None:
    events = [(u, t, f"{n % 7}-{n}", text, cost) for n, (u, t, text, cost) in enumerate(drawn)]
    parts = ([e for e, o in zip(events, old, strict=False) if o is kept] for kept in (True, False))
    kept, new = (rows_of(part) for part in parts)

    both = joined(kept, new, identified=True)

    assert plain(both) == plain(rows_of(events))
    assert plain(rows_of_table(both.table())) == plain(both)
    for texts in both.texts.values():
        assert texts.used().names.equals(texts.names), "a name is there that no row has"


@pytest.mark.parametrize("from_us", [None, 1, 9])
@pytest.mark.parametrize("until_us", [None, 0, 2])
def test_rows_between_two_times(from_us: int | None, until_us: int | None) -> None:
    events: list[Event] = [("u", time, f"e{time}", f"c{time}", 1.0) for time in range(4)]

    found = rows_of(events).between(from_us, until_us)

    wanted = [
        event
        for event in events
        if (from_us is None or event[1] >= from_us) and (until_us is None or event[1] < until_us)
    ]
    assert plain(found) == plain(rows_of(wanted))


def test_texts_of_two_columns_have_common_names() -> None:
    one, other = rows_of([("b", 0, "1", "x", 0.0)]), rows_of([("a", 0, "2", None, 0.0)])

    assert texts_of(joined_texts(one.units, other.units)) == ["b", "a"]
    assert texts_of(joined_texts(one.texts["credited"], other.texts["credited"])) == ["x", None]
