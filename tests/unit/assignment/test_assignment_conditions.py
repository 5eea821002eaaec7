"""Every operator, exact and typed, alike for plain Python values and those of a Struct."""

import math
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct, Value
from hypothesis import given, settings
from hypothesis import strategies as st
from touchstone.assignment.v1 import condition_pb2, schema_pb2
from touchstone.assignment.v1.condition_pb2 import Condition
from touchstone_assignment.conditions import AttributeType, Audiences, IdSet, predicate
from touchstone_assignment.conditions.limits import LIMITS
from touchstone_assignment.conditions.operators import RULES, Operator
from touchstone_assignment.subject import Subject

NO_AUDIENCES = Audiences([], lambda digest: IdSet.of_ids([]))


def compare(operator: str, *values: object, attribute: str = "a") -> Condition:
    found = {"attribute": attribute, "operator": f"OPERATOR_{operator}", "values": list(values)}
    return json_format.ParseDict({"compare": found}, Condition())


def negated(condition: Condition) -> Condition:
    return Condition(negated=condition)


def ask(condition: Condition, attributes: Any) -> bool:
    return predicate(condition, NO_AUDIENCES)(Subject({}, attributes))


TRUE = [
    ("IS_SET", [], "x"),
    ("IS_SET", [], 0),
    ("IS_SET", [], False),
    ("IS_SET", [], ""),
    ("EQUAL", ["US"], "US"),
    ("EQUAL", [""], ""),
    ("EQUAL", [5], 5),
    ("EQUAL", [5], 5.0),
    ("EQUAL", [0], -0.0),
    ("EQUAL", [True], True),
    ("EQUAL", [False], False),
    ("IN", ["US", "CA"], "CA"),
    ("IN", ["US", 5, True], 5),
    ("IN", ["US", 5, True], True),
    ("LESS", [5], 4),
    ("LESS", [5], -math.inf),
    ("LESS_OR_EQUAL", [5], 5.0),
    ("GREATER", [5], 5.5),
    ("GREATER_OR_EQUAL", [5], 5),
    ("CONTAINS", ["lo", "zz"], "hello"),
    ("STARTS_WITH", ["zz", "he"], "hello"),
    ("ENDS_WITH", ["lo"], "hello"),
    ("CONTAINS", ["\U0001f600"], "a\U0001f600b"),
    ("MATCHES", ["l+o$"], "hello"),
    ("MATCHES", ["^.{2}$"], "漢字"),
    ("VERSION_EQUAL", ["1.2.3"], "1.2.3+build.5"),
    ("VERSION_LESS", ["1.10.0"], "1.9.0"),
    ("VERSION_LESS", ["1.0.0"], "1.0.0-rc.1"),
    ("VERSION_LESS_OR_EQUAL", ["1.0.0"], "1.0.0"),
    ("VERSION_GREATER", ["1.0.0-alpha"], "1.0.0-alpha.1"),
    ("VERSION_GREATER_OR_EQUAL", ["2.0.0"], "2.0.0"),
    ("VERSION_SAME_MINOR", ["1.2.0"], "1.2.99-rc.1"),
    ("VERSION_SAME_MAJOR", ["1.2.0"], "1.99.0"),
    ("BEFORE", ["2026-03-01T00:00:00Z"], "2026-03-01T00:59:59.999999999+01:00"),
    ("BEFORE", ["2026-03-01T00:00:00Z"], 1772323199.5),
    ("NOT_BEFORE", ["2026-03-01T00:00:00Z"], "2026-03-01t00:00:00z"),
    ("NOT_BEFORE", [1772323200], "2026-03-01T00:00:00Z"),
    ("NOT_BEFORE", [-86400], "1969-12-31T00:00:00Z"),
    ("IN_NETWORK", ["10.0.0.0/8"], "10.255.0.1"),
    ("IN_NETWORK", ["192.0.2.0/24", "2001:db8::/32"], "2001:DB8::1"),
    ("IN_NETWORK", ["10.0.0.0/8"], "::ffff:10.1.2.3"),
    ("IN_NETWORK", ["::ffff:10.0.0.0/104"], "10.1.2.3"),
    ("IN_NETWORK", ["0.0.0.0/0"], "203.0.113.9"),
]
FALSE = [
    ("EQUAL", ["US"], "us"),
    ("EQUAL", ["5"], 5),
    ("EQUAL", [5], "5"),
    ("EQUAL", [1], True),
    ("EQUAL", [0], False),
    ("EQUAL", [True], 1),
    ("EQUAL", [False], 0),
    ("EQUAL", ["\u00e9"], "e\u0301"),
    ("EQUAL", [5], math.nan),
    ("IN", ["US"], 5),
    ("IN", [1], True),
    ("IN", [True], 1),
    ("IN", [1, "x"], math.nan),
    ("LESS", [5], 5),
    ("LESS", [5], True),
    ("LESS", [5], "4"),
    ("LESS", [5], math.nan),
    ("GREATER", [5], math.nan),
    ("GREATER_OR_EQUAL", [0], False),
    ("CONTAINS", ["LO"], "hello"),
    ("CONTAINS", ["1"], 1),
    ("STARTS_WITH", ["lo"], "hello"),
    ("ENDS_WITH", ["he"], "hello"),
    ("MATCHES", ["^ello"], "hello"),
    ("MATCHES", ["5"], 5),
    ("VERSION_EQUAL", ["1.2.3"], "v1.2.3"),
    ("VERSION_EQUAL", ["1.2.3"], "1.2"),
    ("VERSION_EQUAL", ["1.2.3"], "1.2.3\n"),
    ("VERSION_EQUAL", ["1.2.3"], "01.2.3"),
    ("VERSION_EQUAL", ["1.2.3"], "1.2.3-01"),
    ("VERSION_EQUAL", ["1.2.3"], "1.2.٣"),
    ("VERSION_LESS", ["1.0.0"], 0.9),
    ("VERSION_SAME_MINOR", ["1.2.0"], "1.3.0"),
    ("VERSION_SAME_MAJOR", ["1.2.0"], "2.0.0"),
    ("BEFORE", ["2026-03-01T00:00:00Z"], "2026-02-28"),
    ("BEFORE", ["2026-03-01T00:00:00Z"], "2026-02-28T00:00:00"),
    ("BEFORE", ["2026-03-01T00:00:00Z"], "2026-02-29T00:00:00Z"),
    ("BEFORE", ["2026-03-01T00:00:00Z"], "2026-02-28T24:00:00Z"),
    ("BEFORE", ["2026-03-01T00:00:00Z"], "2026-02-28T00:00:00+24:00"),
    ("BEFORE", ["2026-03-01T00:00:00Z"], "1700000000"),
    ("BEFORE", ["2026-03-01T00:00:00Z"], True),
    ("BEFORE", ["2026-03-01T00:00:00Z"], math.nan),
    ("BEFORE", ["2026-03-01T00:00:00Z"], -math.inf),
    ("NOT_BEFORE", ["2026-03-01T00:00:00Z"], math.inf),
    ("IN_NETWORK", ["10.0.0.0/8"], "11.0.0.1"),
    ("IN_NETWORK", ["10.0.0.0/8"], "010.0.0.1"),
    ("IN_NETWORK", ["10.0.0.0/8"], 167772161),
    ("IN_NETWORK", ["::/0"], "10.0.0.1"),
    ("IN_NETWORK", ["::/0"], "::ffff:10.0.0.1"),
    ("IN_NETWORK", ["0.0.0.0/0"], "2001:db8::1"),
    ("IN_NETWORK", ["fe80::/10"], "fe80::1%eth0"),
    ("IN_NETWORK", ["10.0.0.0/8"], "10.0.0.1/32"),
]


def as_struct(value: Any) -> dict[str, object]:
    """What arrives when the value was sent: numbers are floats."""
    found = Struct()
    found.update({"a": value})
    return dict(found.items())


@pytest.mark.parametrize(("operator", "values", "value"), TRUE)
def test_what_is_true_is_true_of_plain_values_and_of_sent_ones(operator, values, value) -> None:
    condition = compare(operator, *values)
    for attributes in ({"a": value}, as_struct(value)):
        assert ask(condition, attributes) is True
        assert ask(negated(condition), attributes) is False


@pytest.mark.parametrize(("operator", "values", "value"), FALSE)
def test_what_is_false_is_false_of_plain_values_and_of_sent_ones(operator, values, value) -> None:
    condition = compare(operator, *values)
    for attributes in ({"a": value}, as_struct(value)):
        assert ask(condition, attributes) is False
        assert ask(negated(condition), attributes) is True


SAMPLE: dict[str, list[Any]] = {
    op.name: ["1.0.0"] if op.name.startswith("VERSION") else ["x"] for op in Operator
} | {
    "IS_SET": [],
    "LESS": [1],
    "LESS_OR_EQUAL": [1],
    "GREATER": [1],
    "GREATER_OR_EQUAL": [1],
    "MATCHES": ["."],
    "BEFORE": ["2026-03-01T00:00:00Z"],
    "NOT_BEFORE": ["2026-03-01T00:00:00Z"],
    "IN_NETWORK": ["0.0.0.0/0"],
}


class Odd:
    """Of no type that a rule knows, and equal to everything."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("operator", [op.name for op in Operator])
def test_a_missing_or_null_attribute_is_false_and_negated_true(operator) -> None:
    condition = compare(operator, *SAMPLE[operator])
    for attributes in ({}, {"a": None}, {"b": "x"}, as_struct(None)):
        assert ask(condition, attributes) is False
        assert ask(negated(condition), attributes) is True


@pytest.mark.parametrize("operator", [op.name for op in Operator if op is not Operator.IS_SET])
@pytest.mark.parametrize("value", [["x"], {"x": 1}, Odd(), b"x", 1j])
def test_a_value_of_no_known_type_is_false(operator, value) -> None:
    assert ask(compare(operator, *SAMPLE[operator]), {"a": value}) is False


def test_integers_are_the_doubles_nearest_to_them() -> None:
    assert ask(compare("EQUAL", 2.0**53), {"a": 2**53 + 1}) is True
    assert ask(compare("EQUAL", 2.0**53), as_struct(2**53 + 1)) is True
    assert ask(compare("LESS", 0), {"a": -(10**400)}) is False


@settings(deadline=None)
@given(st.one_of(st.integers(), st.floats(), st.booleans(), st.text(max_size=8)), st.data())
def test_what_is_sent_decides_as_what_is_held(value, data) -> None:
    if isinstance(value, int) and abs(value) > 10**300:
        return
    operator = data.draw(st.sampled_from(sorted(SAMPLE)))
    condition = compare(operator, *SAMPLE[operator])
    assert ask(condition, {"a": value}) is ask(condition, as_struct(value))


def test_text_without_utf_8_matches_nothing_and_raises_nothing() -> None:
    assert ask(compare("MATCHES", "."), {"a": "\ud800"}) is False


def test_text_beyond_the_limit_never_matches() -> None:
    longest = "x" * LIMITS.pattern_text_bytes
    assert ask(compare("MATCHES", "x"), {"a": longest}) is True
    assert ask(compare("MATCHES", "x"), {"a": longest + "x"}) is False
    assert (
        ask(compare("MATCHES", "x"), {"a": "x" + "é" * (LIMITS.pattern_text_bytes // 2)}) is False
    )


def test_lists_of_conditions() -> None:
    yes, no = compare("EQUAL", 1), compare("EQUAL", 2)
    for size in (1, 2, 3, 5):
        for right in range(size + 1):
            parts = [yes] * right + [no] * (size - right)
            every = condition_pb2.ConditionList(conditions=parts)
            assert ask(Condition(all=every), {"a": 1}) is (right == size)
            assert ask(Condition(any=every), {"a": 1}) is (right > 0)


def test_the_numbers_of_operators_and_the_names_of_types_are_the_contracts() -> None:
    sent = dict(condition_pb2.Operator.items())
    del sent["OPERATOR_UNSPECIFIED"]
    assert {f"OPERATOR_{op.name}": op.value for op in Operator} == sent
    assert set(RULES) == set(Operator)
    types = {
        name.removeprefix("ATTRIBUTE_TYPE_")
        for name in schema_pb2.AttributeType.DESCRIPTOR.values_by_name
    }
    assert {kind.value for kind in AttributeType} == types - {"UNSPECIFIED"}


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        (Condition(), "a condition is empty"),
        (Condition(compare=condition_pb2.Comparison(attribute="a")), "operator 0 of attribute 'a'"),
        (compare("EQUAL"), "0 values for operator EQUAL"),
        (compare("LESS", "x"), "a finite number"),
        (compare("MATCHES", "("), "missing )"),
        (Condition(audience="gone"), "audience 'gone' is not there"),
    ],
)
def test_what_no_decision_can_follow_from_is_not_compiled(condition, says) -> None:
    with pytest.raises(ValueError, match=says.replace("(", r"\(").replace(")", r"\)")):
        predicate(condition, NO_AUDIENCES)


def test_a_condition_is_compiled_once() -> None:
    """Changing the message afterwards changes nothing: nothing of it is read again."""
    condition = compare("IN", "x", "y")
    test = predicate(condition, NO_AUDIENCES)
    condition.compare.values[0].CopyFrom(Value(string_value="z"))
    assert test(Subject({}, {"a": "x"}))
    assert not test(Subject({}, {"a": "z"}))


@pytest.mark.parametrize(
    "pattern", [r"(?:.*a){200}z$", r"(?:a?){100}a{100}$", r"(a|aa)+$", r"^(([a-z])+.)+[A-Z]$"]
)
def test_a_hostile_expression_answers(pattern) -> None:
    """Backtracking engines need longer than the age of the universe for some of these."""
    assert ask(compare("MATCHES", pattern), {"a": "a" * 4_000 + "!"}) is False
