"""Properties by columns and one by one are the same."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from touchstone.events.v1.event_pb2 import Event

from services.cli.importing.bulk.flat_properties import flat_properties
from services.cli.importing.bulk.properties import encoded_properties

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70)
flat = st.dictionaries(texts, st.none() | st.booleans() | numbers | texts, max_size=5)
nested = st.dictionaries(texts, st.lists(texts, max_size=2) | flat, max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.none() | flat | nested, max_size=8), st.booleans())
def test_properties_mean_what_their_json_says(
    objects: list[dict[str, Any] | None], escaped: bool
) -> None:
    cells = [None if o is None else json.dumps(o, ensure_ascii=escaped) for o in objects]
    found, wrong = encoded_properties(pa.array(cells, pa.string()), ())
    assert not wrong
    for properties, data in zip(objects, found.to_pylist(), strict=True):
        if properties is None:
            assert data is None
            continue
        event = Event()
        event.properties.SetInParent()
        event.properties.update(properties)
        assert Event.FromString(data) == event


@pytest.mark.parametrize(
    ("text", "by_columns"),
    [
        ("{}", True),
        ('{"a": "", "b": 0, "c": -0.0, "d": null, "e": true, "f": false}', True),
        ('{"a": "null", "b": "true", "c": "12"}', True),
        ('{"a": "ü😀", "": "no name"}', True),
        ('{"a": "x\\"y"}', False),
        ('{"a": [1]}', False),
        (' {"a": 1}', False),
    ],
)
def test_flat_objects_take_the_fast_way(text: str, by_columns: bool) -> None:
    """And the others give the same by the slow one."""
    assert flat_properties().encoded(pa.array([text])).is_valid()[0].as_py() is by_columns
    found, _ = encoded_properties(pa.array([text]), ())
    event = Event()
    event.properties.SetInParent()
    event.properties.update(json.loads(text))
    assert Event.FromString(found[0].as_py()) == event


def test_wrong_cells_are_told_among_good_ones() -> None:
    cells = ['{"a": 1}', "[1]", None, '{"a": NaN}', "torn", '{"b": [1]}', '"text"', "5"]
    found, wrong = encoded_properties(pa.array(cells), ())
    assert [place for place, _ in wrong] == [1, 3, 4, 6, 7]
    assert all("allowed: a JSON object with finite numbers" in reason for _, reason in wrong)
    assert [data is None for data in found.to_pylist()] == [
        *(False, True, True, True, True),
        *(False, True, True),
    ]
