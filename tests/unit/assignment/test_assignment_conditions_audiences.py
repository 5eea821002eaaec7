"""Audiences: compiled once, shared, without circles, and bounded in full."""

import pytest
from google.protobuf import json_format
from touchstone.assignment.v1.condition_pb2 import Condition, ConditionList
from touchstone.assignment.v1.ruleset_pb2 import AudienceRule
from touchstone_assignment.conditions import Audiences, IdSet, predicate
from touchstone_assignment.conditions.limits import LIMITS
from touchstone_assignment.subject import Subject

IS_SET = json_format.ParseDict(
    {"compare": {"attribute": "a", "operator": "OPERATOR_IS_SET"}}, Condition()
)


def no_list(digest: str) -> IdSet:
    raise LookupError(digest)


def all_of(*parts: Condition) -> Condition:
    return Condition(all=ConditionList(conditions=parts))


def asked(audience: str) -> Condition:
    return Condition(audience=audience)


def test_an_audience_by_list_holds_the_ids_of_its_type() -> None:
    ids = {"d1": IdSet.of_ids(["u-1", "u-2", "用户"])}
    audiences = Audiences(
        [
            AudienceRule(audience="vip", unit_type="user", digest="d1"),
            AudienceRule(audience="none-yet", unit_type="user"),
        ],
        ids.__getitem__,
    )
    vip, none_yet = audiences.predicate("vip"), audiences.predicate("none-yet")
    assert [vip(Subject({"user": unit})) for unit in ("u-1", "u-3", "用户", "\ud800")] == [
        True,
        False,
        True,
        False,
    ]
    assert not vip(Subject({"device": "u-1"}))
    assert not none_yet(Subject({"user": "u-1"}))
    outside = predicate(Condition(negated=asked("vip")), audiences)
    assert outside(Subject({"device": "u-1"}))
    assert not outside(Subject({"user": "u-1"}))


def test_an_audience_is_compiled_once_and_only_when_it_is_asked_for() -> None:
    fetched = []

    def fetch(digest: str) -> IdSet:
        fetched.append(digest)
        return IdSet.of_ids(["u"])

    audiences = Audiences(
        [
            AudienceRule(audience="listed", unit_type="user", digest="d"),
            AudienceRule(audience="both", condition=all_of(asked("listed"), asked("listed"))),
            AudienceRule(audience="broken", condition=asked("gone")),
        ],
        fetch,
    )
    assert fetched == []
    both = audiences.predicate("both")
    assert audiences.predicate("both") is both
    assert fetched == ["d"]
    assert both(Subject({"user": "u"}))


def test_a_content_that_is_missing_is_said() -> None:
    audiences = Audiences([AudienceRule(audience="a", unit_type="user", digest="d")], no_list)
    with pytest.raises(LookupError, match="d"):
        audiences.predicate("a")


def test_a_circle_is_refused_and_named() -> None:
    audiences = Audiences(
        [
            AudienceRule(audience="a", condition=asked("b")),
            AudienceRule(audience="b", condition=Condition(negated=asked("c"))),
            AudienceRule(audience="c", condition=all_of(IS_SET, asked("b"))),
        ],
        no_list,
    )
    for _ in range(2):
        with pytest.raises(ValueError, match="circle: b -> c -> b"):
            audiences.predicate("a")


def chain(length: int) -> Audiences:
    rules = [AudienceRule(audience="a1", condition=IS_SET)]
    rules += [AudienceRule(audience=f"a{n}", condition=asked(f"a{n - 1}")) for n in range(2, 50)]
    return Audiences(rules[:length], no_list)


def test_levels_count_through_audiences() -> None:
    assert chain(LIMITS.levels).predicate(f"a{LIMITS.levels}")(Subject({}, {"a": 1}))
    with pytest.raises(ValueError, match="more than 20 levels"):
        chain(LIMITS.levels + 1).predicate(f"a{LIMITS.levels + 1}")


def test_audiences_that_multiply_are_refused() -> None:
    """Nineteen small audiences would make one decision of half a million comparisons."""
    rules = [AudienceRule(audience="a0", condition=all_of(IS_SET, IS_SET))]
    rules += [
        AudienceRule(audience=f"a{n}", condition=all_of(asked(f"a{n - 1}"), asked(f"a{n - 1}")))
        for n in range(1, 10)
    ]
    audiences = Audiences(rules, no_list)
    assert audiences.audience("a8").nodes == 3 * 2**8 + 2 * (2**8 - 1) + 2**8 - 1
    many = all_of(*[asked("a8")] * 8)
    with pytest.raises(ValueError, match="more than 10000 parts"):
        predicate(many, audiences)
