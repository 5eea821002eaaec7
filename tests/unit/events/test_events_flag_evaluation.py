"""Every spelling of a flag's evaluation, and which evaluations are exposures."""

import json
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.events.domain.flag_evaluation import (
    NAMES,
    NO_CHOICE,
    VALUE_BYTES,
    event_id,
    is_exposure,
    read_error_message,
    read_evaluation,
    read_value,
)

REASONS = frozenset({"split", "targeting_match"})
SPLIT = {
    "feature_flag.key": "checkout",
    "feature_flag.result.variant": "treatment",
    "feature_flag.result.reason": "split",
    "feature_flag.context.id": "u1",
}
SPELLINGS = [
    ("key", "feature_flag.key"),
    ("context_id", "feature_flag.context.id"),
    ("variant", "feature_flag.variant"),
    ("variant", "feature_flag.result.variant"),
    ("reason", "feature_flag.evaluation.reason"),
    ("reason", "feature_flag.result.reason"),
    ("provider", "feature_flag.provider_name"),
    ("provider", "feature_flag.provider.name"),
    ("flag_set", "feature_flag.set.id"),
    ("version", "feature_flag.version"),
    ("error_type", "error.type"),
    ("error_message", "error.message"),
    ("error_message", "feature_flag.error.message"),
    ("error_message", "feature_flag.evaluation.error.message"),
]


def changed(**changes):
    names = {"key": "feature_flag.key", "context_id": "feature_flag.context.id"}
    names |= {"variant": "feature_flag.result.variant", "reason": "feature_flag.result.reason"}
    names |= {"error_type": "error.type"}
    return read_evaluation(SPLIT | {names[key]: value for key, value in changes.items()})


@pytest.mark.parametrize(("field", "name"), SPELLINGS, ids=[name for _, name in SPELLINGS])
def test_spelling_is_understood(field, name):
    attributes = {name: "something"}
    evaluation = read_evaluation(attributes)
    said = {key: value for key, value in evaluation._asdict().items() if value}
    if message := read_error_message(attributes):
        said["error_message"] = message
    assert said == {field: "something"}
    assert name in NAMES


@pytest.mark.parametrize("empty", ["", None])
def test_of_two_spellings_the_one_that_says_something_counts(empty):
    both = {"feature_flag.result.variant": empty, "feature_flag.variant": "b"}
    assert read_evaluation(both).variant == "b"
    both = {"feature_flag.result.variant": "new", "feature_flag.variant": "old"}
    assert read_evaluation(both).variant == "new"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("control", '"control"'),
        ('"control"', '"control"'),
        ('{"a": [1]}', '{"a": [1]}'),
        ("[1,2]", "[1,2]"),
        ("{not json", '"{not json"'),
        ("12", '"12"'),
        (True, "true"),
        (12, "12"),
        (1.5, "1.5"),
        (float("nan"), '"nan"'),
        (b"\x00\xff", '"AP8="'),
        ({"a": [1, None, {"b": "ü"}]}, '{"a":[1,null,{"b":"ü"}]}'),
        ([True, "x"], '[true,"x"]'),
        (None, ""),
        ("x" * VALUE_BYTES, ""),
        ("[" * 4000, json.dumps("[" * 4000)),
    ],
)
def test_value_is_kept_as_json_wherever_it_stands(value, expected):
    assert read_value({"feature_flag.result.value": value}, None) == expected
    assert read_value({}, {"value": value}) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"value": false}', "false"),
        ('{"value": "b"}', '"b"'),
        ("evaluated", ""),
        ("{", ""),
        ({"other": 1}, ""),
        ([1], ""),
        (None, ""),
    ],
)
def test_body_is_read_where_it_holds_a_value(body, expected):
    assert read_value({}, body) == expected


@pytest.mark.parametrize("reason", ["split", "SPLIT", "Targeting_Match"])
def test_chosen_variant_of_a_known_unit_is_an_exposure(reason):
    assert is_exposure(changed(reason=reason), REASONS)


@pytest.mark.parametrize(
    "changes",
    [
        *({"reason": reason} for reason in sorted(NO_CHOICE)),
        *({"reason": reason} for reason in ("STATIC", "cached", "stale", "unknown", "", "my own")),
        {"error_type": "parse_error"},
        {"key": "newCheckout"},
        {"key": "1-checkout"},
        {"key": "checkout\n"},
        {"key": "c" * 64},
        {"variant": ""},
        {"variant": "Treatment"},
        {"variant": "t" * 64},
        {"context_id": ""},
    ],
    ids=str,
)
def test_everything_else_is_an_evaluation_only(changes):
    assert not is_exposure(changed(**changes), REASONS)


def test_reasons_are_a_choice_of_the_operator():
    assert is_exposure(changed(reason="cached"), REASONS | {"cached"})


@pytest.mark.parametrize(
    ("version", "number"),
    [("7", 7), (7, 7), ("0", 0), ("v7", 0), ("-1", 0), ("٣", 0), ("9" * 19, 0), ("", 0)],
)
def test_version_is_a_number_where_it_can_be_one(version, number):
    assert read_evaluation({"feature_flag.version": version}).config_version == number


PARTS = st.lists(st.text(max_size=8), min_size=6, max_size=6)


@given(st.integers(0, 2**64 - 1), PARTS, PARTS)
def test_id_is_the_same_for_the_same_record_only(time_ns, one, other):
    assert event_id(time_ns, one) == event_id(time_ns, list(one))
    assert (event_id(time_ns, one) == event_id(time_ns, other)) is (one == other)
    found = uuid.UUID(event_id(time_ns, one))
    assert (found.version, found.variant) == (8, uuid.RFC_4122)
    assert found.int >> 80 == time_ns // 1_000_000


def test_id_tells_where_one_part_ends():
    assert event_id(1, ("ab", "c")) != event_id(1, ("a", "bc"))


def test_id_never_changes_from_release_to_release():
    """A record that is sent again after an upgrade is still a duplicate."""
    parts = ("pod-1", "checkout", "u1", "treatment", "split", "")
    assert event_id(1_790_000_000_000_000_001, parts) == "01a0c450-6c00-8182-a354-3691efaa2efe"
