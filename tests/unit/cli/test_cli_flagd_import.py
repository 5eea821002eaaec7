"""What of a flagd document becomes an experiment, and what is said of the rest."""

import json
from typing import Any

import pytest
import typer
from google.protobuf.json_format import MessageToDict
from touchstone.assignment.v1 import experiment_pb2 as pb

from services.cli.importing.flagd import Taken, read_document, take_flags

HALVES = [["control", 50], ["green", 50]]
IS_US = {"==": [{"var": "country"}, "US"]}


def flag(targeting: Any, **changes: Any) -> dict[str, Any]:
    return {
        "state": "ENABLED",
        "variants": {"control": "control", "green": "green"},
        "defaultVariant": "control",
        "targeting": targeting,
    } | changes


def take(found: Any, key: str = "button", **more: Any) -> Taken:
    (taken,) = take_flags({"flags": {key: found}, **more})
    return taken


def made(found: Any, **more: Any) -> pb.Experiment:
    taken = take(found, **more)
    assert taken.experiment is not None, taken.why_not
    return taken.experiment


def weights(found: pb.Experiment) -> dict[str, int]:
    return {variant.key: variant.weight for variant in found.variants}


def asked(condition: Any, **more: Any) -> dict[str, Any]:
    targeting = {"if": [condition, {"fractional": HALVES}, None]}
    found: dict[str, Any] = MessageToDict(made(flag(targeting), **more).targeting)
    return found


def test_a_split_becomes_an_experiment():
    found = made(flag({"fractional": HALVES}))
    assert weights(found) == {"control": 5000, "green": 5000}
    assert (found.control_variant, found.unit_type, found.traffic_slots) == (
        "control",
        "user",
        10_000,
    )
    assert found.value_type == pb.VALUE_TYPE_KEY
    assert not found.HasField("targeting")


@pytest.mark.parametrize(
    ("arms", "expected", "slots"),
    [
        ([["control"], ["green"]], {"control": 5000, "green": 5000}, 10_000),
        ([["control", 1], ["green", 2]], {"control": 3333, "green": 6667}, 10_000),
        ([["control", 10], ["green", 10], [None, 80]], {"control": 5000, "green": 5000}, 2000),
        ([["control", 1], ["green", 1], ["control", 2]], {"control": 7500, "green": 2500}, 10_000),
        ([["control", 5], ["green", 5], ["blue", 0]], {"control": 5000, "green": 5000}, 10_000),
    ],
)
def test_weights_are_of_ten_thousand(arms, expected, slots):
    found = made(flag({"fractional": arms}))
    assert (weights(found), found.traffic_slots) == (expected, slots)


@pytest.mark.parametrize(
    ("bucket_by", "unit_type"),
    [
        ({"var": "targetingKey"}, "user"),
        ({"var": ["targetingKey"]}, "user"),
        ({"cat": [{"var": "$flagd.flagKey"}, {"var": "targetingKey"}]}, "user"),
        ({"cat": ["salt:", {"var": "org_id"}]}, "org_id"),
    ],
)
def test_whose_id_is_hashed_is_the_unit(bucket_by, unit_type):
    assert made(flag({"fractional": [bucket_by, *HALVES]})).unit_type == unit_type


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ((False, True), pb.VALUE_TYPE_BOOLEAN),
        (("a", "b"), pb.VALUE_TYPE_STRING),
        ((1, 2), pb.VALUE_TYPE_INTEGER),
        ((1, 2.5), pb.VALUE_TYPE_FLOAT),
        (({"a": 1}, {}), pb.VALUE_TYPE_OBJECT),
    ],
)
def test_values_have_their_type(values, kind):
    variants = dict(zip(("control", "green"), values, strict=True))
    found = made(flag({"fractional": HALVES}, variants=variants))
    assert found.value_type == kind
    if kind == pb.VALUE_TYPE_OBJECT:
        assert MessageToDict(found.variants[0].payload) == {"a": 1.0}
    else:
        assert [MessageToDict(variant.value) for variant in found.variants] == list(values)


@pytest.mark.parametrize(
    ("rule", "operator", "values"),
    [
        (IS_US, "EQUAL", ["US"]),
        ({"===": ["US", {"var": "country"}]}, "EQUAL", ["US"]),
        ({"in": [{"var": "country"}, ["US", "GB"]]}, "IN", ["US", "GB"]),
        ({"in": ["U", {"var": "country"}]}, "CONTAINS", ["U"]),
        ({"<": [{"var": "country"}, 5]}, "LESS", [5.0]),
        ({"<": [5, {"var": "country"}]}, "GREATER", [5.0]),
        ({">=": [{"var": "country"}, 5]}, "GREATER_OR_EQUAL", [5.0]),
        ({"starts_with": [{"var": "country"}, "U"]}, "STARTS_WITH", ["U"]),
        ({"ends_with": [{"var": "country"}, "U"]}, "ENDS_WITH", ["U"]),
        ({"sem_ver": [{"var": "country"}, "^", "2.0.0"]}, "VERSION_SAME_MAJOR", ["2.0.0"]),
        ({"!=": [{"var": "country"}, None]}, "IS_SET", None),
    ],
)
def test_comparisons_are_taken(rule, operator, values):
    expected = {"attribute": "country", "operator": f"OPERATOR_{operator}"}
    if values is not None:
        expected["values"] = values
    assert asked(rule) == {"compare": expected}


def test_conditions_are_put_together():
    found = asked({"and": [IS_US, {"!": [{"or": [IS_US, IS_US]}]}]})
    assert set(found["all"]["conditions"][1]["negated"]) == {"any"}
    assert asked({"!=": [{"var": "country"}, "US"]}).keys() == {"negated"}
    between = asked({"<": [1, {"var": "age"}, 9]})["all"]["conditions"]
    operators = [part["compare"]["operator"] for part in between]
    assert operators == ["OPERATOR_GREATER", "OPERATOR_LESS"]


def test_shared_rules_are_looked_up():
    found = asked({"$ref": "home"}, **{"$evaluators": {"home": IS_US}})
    assert found["compare"]["attribute"] == "country"


def test_a_list_of_flags_is_taken_by_their_keys():
    document = {"flags": [{"key": "a", **flag({"fractional": HALVES})}, {"key": "b"}, 5]}
    taken = list(take_flags(document))
    assert [(one.key, one.experiment is not None) for one in taken] == [
        ("a", True),
        ("b", False),
        ("flags[2]", False),
    ]


NOT_TAKEN: list[tuple[dict[str, Any], str]] = [
    (flag(None), "no targeting"),
    (flag({}), "no targeting"),
    (flag({"if": [IS_US, "green", None]}), "no `fractional`"),
    (flag({"if": [IS_US, {"fractional": HALVES}, "green"]}), '"green"'),
    (flag({"if": [IS_US, {"fractional": HALVES}, IS_US, "green"]}), "neither"),
    (flag({"fractional": HALVES}, defaultVariant=None), "default variant None"),
    (flag({"fractional": HALVES}, defaultVariant="off"), "'off'"),
    (flag({"fractional": [["control", 1]]}), "fewer than two"),
    (flag({"fractional": [["control", 1], ["blue", 1]]}), "'blue'"),
    (flag({"fractional": [["control", 0], ["green", 0]]}), "sum to 0"),
    (flag({"fractional": [["control", 1], ["green", 100_000]]}), "1/10,000"),
    (flag({"fractional": [["control", {"-": [1, 2]}], ["green", 1]]}), "whole number"),
    (flag({"fractional": [["control", 1], [{"var": "x"}, 1]]}), "a rule and no variant"),
    (flag({"fractional": [{"cat": [{"var": "a"}, {"var": "b"}]}, *HALVES]}), "one id"),
    (flag({"fractional": [{"var": "user.id"}, *HALVES]}), "no unit type"),
    (flag({"fractional": HALVES}, variants={"control": 1, "green": "a"}), "int, str"),
    (flag({"fractional": HALVES}, variants={"control": [1], "green": [2]}), "list"),
    (flag({"if": [{"in": [{"var": "targetingKey"}, ["a"]]}, {"fractional": HALVES}]}), "force"),
    (flag({"if": [{"==": [{"var": "a.b"}, 1]}, {"fractional": HALVES}]}), '"a.b"'),
    (flag({"if": [{"%": [{"var": "a"}, 2]}, {"fractional": HALVES}]}), "`%`"),
    (flag({"if": [{"!!": [{"var": "a"}]}, {"fractional": HALVES}]}), "`!!`"),
    (flag({"if": [{"$ref": "gone"}, {"fractional": HALVES}]}), '"gone"'),
    (flag({"if": [{"sem_ver": [{"var": "a"}, ">", "2"]}, {"fractional": HALVES}]}), "'2'"),
    (flag({"if": [True, {"fractional": HALVES}]}), "no condition"),
]


@pytest.mark.parametrize(("found", "why"), NOT_TAKEN)
def test_what_cannot_be_taken_says_why(found, why):
    taken = take(found)
    assert taken.experiment is None
    assert why in taken.why_not


@pytest.mark.parametrize("key", ["Upper", "under_score", "a.b", "1st", "x" * 64, ""])
def test_a_key_that_is_no_id_is_not_taken(key):
    assert "its key" in take(flag({"fractional": HALVES}), key).why_not


def test_a_rule_that_asks_for_itself_is_not_taken():
    loop: dict[str, Any] = {"$evaluators": {"a": {"!": [{"$ref": "a"}]}}}
    targeting = {"if": [{"$ref": "a"}, {"fractional": HALVES}]}
    assert "itself" in take(flag(targeting), **loop).why_not


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"flags": 5}', "{", "\ufeff{}"])
def test_a_file_that_is_no_document_is_refused(tmp_path, text):
    path = tmp_path / "flags.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(typer.BadParameter):
        read_document(path)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(typer.BadParameter):
        read_document(tmp_path / "none.json")


def test_a_document_is_read(tmp_path):
    path = tmp_path / "flags.json"
    path.write_text(json.dumps({"flags": {"button": flag({"fractional": HALVES})}}))
    assert len(list(take_flags(read_document(path)))) == 1
