"""Every fault of a rule is told at once: where, which value, and what is allowed."""

from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from touchstone.assignment.v1.condition_pb2 import Condition, ConditionList
from touchstone_assignment.conditions import Audiences, IdSet, faults, predicate, versions
from touchstone_assignment.conditions.limits import LIMITS
from touchstone_assignment.conditions.operators import Operator

TYPES = {
    "country": "STRING",
    "age": "NUMBER",
    "vip": "BOOLEAN",
    "app": "VERSION",
    "since": "INSTANT",
    "ip": "ADDRESS",
}


def condition(found: dict[str, Any]) -> Condition:
    return json_format.ParseDict(found, Condition())


def comparing(attribute: str, operator: str, *values: object) -> dict[str, Any]:
    return {
        "compare": {
            "attribute": attribute,
            "operator": f"OPERATOR_{operator}",
            "values": list(values),
        }
    }


def compare(attribute: str, operator: str, *values: object) -> Condition:
    return condition(comparing(attribute, operator, *values))


def test_every_fault_is_told_with_its_path() -> None:
    rule = condition(
        {
            "all": {
                "conditions": [
                    comparing("country", "EQUAL", "US"),
                    comparing("age", "LESS", "old"),
                    {"negated": comparing("ip", "IN_NETWORK", "10.0.0.0/8", "10.0.0.1/8")},
                    {"any": {"conditions": [comparing("app", "VERSION_LESS", "1.2")]}},
                    {"audience": "gone"},
                ]
            }
        }
    )
    assert faults(rule, {}, "targeting", audiences={"there"}) == [
        ("targeting.all[1].compare.values[0]", "is 'old'; allowed: a finite number"),
        (
            "targeting.all[2].negated.compare.values[1]",
            "is '10.0.0.1/8'; allowed: no bits behind the prefix; did you mean '10.0.0.0/8'?",
        ),
        (
            "targeting.all[3].any[0].compare.values[0]",
            f"is '1.2'; allowed: {versions.ALLOWED}",
        ),
        (
            "targeting.all[4].audience",
            "is 'gone'; allowed: an audience of this project; create it first",
        ),
    ]


WRONG = [
    (compare("a", "IS_SET", 1), "values", "none for IS_SET"),
    (compare("a", "EQUAL"), "values", "exactly one for EQUAL"),
    (compare("a", "EQUAL", 1, 2), "values", "is 2 values; allowed: exactly one for EQUAL"),
    (compare("a", "IN"), "values", "1 to 1,000 for IN"),
    (compare("a", "EQUAL", None), "values[0]", "is null; allowed: text, a finite number, true"),
    (compare("a", "EQUAL", {"x": 1}), "values[0]", "is a list or an object"),
    (compare("a", "EQUAL", "x" * 1025), "values[0]", "at most 1024 bytes; this has 1025"),
    (compare("a", "CONTAINS", "x", ""), "values[1]", "text of at least one character"),
    (compare("a", "CONTAINS", 1), "values[0]", "text of at least one character"),
    (compare("a", "LESS", True), "values[0]", "is True; allowed: a finite number"),
    (compare("a", "MATCHES", "(?=x)"), "values[0]", "invalid perl operator"),
    (compare("a", "MATCHES", "x{1001}"), "values[0]", "invalid repetition size"),
    (compare("a", "MATCHES", "x" * 513), "values[0]", "at most 512 bytes; this has 513"),
    (compare("a", "MATCHES", r"\pL{2}"), "values[0]", "at most 2000 steps; this has"),
    (compare("a", "MATCHES", r"\pL{100}"), "values[0]", "pattern too large"),
    (compare("a", "MATCHES", ""), "values[0]", "an RE2 regular expression"),
    (compare("a", "VERSION_LESS", "v1.0.0"), "values[0]", "a semantic version"),
    (compare("a", "BEFORE", "2026-03-01"), "values[0]", "an RFC 3339 instant with its offset"),
    (compare("a", "IN_NETWORK", "10.0.0.0"), "values[0]", "CIDR notation"),
    (compare("a", "IN_NETWORK", "10.0.0.0/33"), "values[0]", "/0 to /32"),
    (compare("a", "IN_NETWORK", "10.0.0.0/255.0.0.0"), "values[0]", "CIDR notation"),
    (compare("1a", "IS_SET"), "attribute", "a letter or '_'"),
]


@pytest.mark.parametrize(("rule", "place", "says"), WRONG)
def test_a_fault_says_where_which_value_and_what_is_allowed(rule, place, says) -> None:
    ((field, text),) = faults(rule, {}, "f")
    assert field == f"f.compare.{place}"
    assert text.startswith("is ")
    assert "; allowed: " in text
    assert says in text


DECLARED = [
    (compare("city", "IS_SET"), "attribute", "that the project declares: age, app, country"),
    (compare("country", "LESS", 1), "operator", "operators for STRING"),
    (compare("age", "CONTAINS", "1"), "operator", "operators for NUMBER"),
    (compare("app", "BEFORE", 1), "operator", "operators for VERSION"),
    (compare("since", "VERSION_LESS", "1.0.0"), "operator", "operators for INSTANT"),
    (compare("country", "EQUAL", 1), "values[0]", "text, as attribute 'country' is of type STRING"),
    (compare("age", "IN", 1, "2"), "values[1]", "a number, as attribute 'age' is of type NUMBER"),
    (compare("vip", "EQUAL", 1), "values[0]", "true or false, as attribute 'vip'"),
    (compare("since", "EQUAL", True), "values[0]", "text or a number, as attribute 'since'"),
]


@pytest.mark.parametrize(("rule", "place", "says"), DECLARED)
def test_declared_attributes_bind_operators_and_values(rule, place, says) -> None:
    assert faults(rule, {}, "f") == []
    ((field, text),) = faults(rule, TYPES, "f")
    assert field == f"f.compare.{place}"
    assert says in text


@pytest.mark.parametrize(
    "rule",
    [
        compare("country", "IN", "US", "CA"),
        compare("age", "GREATER_OR_EQUAL", 18),
        compare("vip", "EQUAL", True),
        compare("app", "VERSION_SAME_MINOR", "1.2.0"),
        compare("app", "STARTS_WITH", "1."),
        compare("since", "NOT_BEFORE", 0),
        compare("since", "EQUAL", "2026-03-01T00:00:00Z"),
        compare("ip", "IN_NETWORK", "10.0.0.0/8"),
        compare("ip", "EQUAL", "10.0.0.1"),
    ],
)
def test_what_fits_has_no_faults(rule) -> None:
    assert faults(rule, TYPES, "f") == []


def nested(levels: int) -> Condition:
    rule = compare("a", "IS_SET")
    for _ in range(levels - 1):
        rule = Condition(negated=rule)
    return rule


def test_levels_are_limited() -> None:
    assert faults(nested(LIMITS.levels), {}, "f") == []
    ((field, text),) = faults(nested(LIMITS.levels + 1), {}, "f")
    assert field == "f" + ".negated" * LIMITS.levels
    assert text == "is 21 levels deep; allowed: at most 20 levels"


def wide(leaves: int) -> Condition:
    """The leaves in lists of at most 100, below one."""
    leaf = compare("a", "IS_SET")
    lists = [
        Condition(any=ConditionList(conditions=[leaf] * min(99, leaves - start)))
        for start in range(0, leaves, 99)
    ]
    return Condition(all=ConditionList(conditions=lists))


def test_conditions_are_limited() -> None:
    assert faults(wide(LIMITS.nodes - 12), {}, "f") == []
    ((_, text),) = faults(wide(LIMITS.nodes + 500), {}, "f")
    assert text == "is condition 1001; allowed: at most 1000 in all"


def test_empty_conditions_and_lists_are_faults() -> None:
    assert faults(Condition(), {}, "f") == [
        ("f", "is empty; allowed: one of all, any, negated, compare and audience")
    ]
    assert faults(Condition(any=ConditionList()), {}, "f") == [
        ("f.any.conditions", "is empty; allowed: 1 to 100 conditions")
    ]


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
    st.sampled_from(["1.2.3", "10.0.0.0/8", "2026-03-01T00:00:00Z", "a+", "::/0"]),
)


@settings(deadline=None)
@given(st.sampled_from(sorted(op.name for op in Operator)), st.lists(VALUES, max_size=3))
def test_a_rule_compiles_exactly_when_it_has_no_faults(operator, values) -> None:
    rule = compare("a", operator, *values)
    found = faults(rule, {}, "f")
    try:
        predicate(rule, Audiences([], lambda digest: IdSet.of_ids([])))
    except ValueError:
        assert found
    else:
        assert not found
