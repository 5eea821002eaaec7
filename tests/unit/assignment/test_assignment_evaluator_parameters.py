"""Parameters: whichever experiment a unit is in sets them, launches stand behind, then defaults."""

from typing import Any

from google.protobuf import json_format
from touchstone.assignment.v1 import ruleset_pb2
from touchstone_assignment.compiled import Evaluator
from touchstone_assignment.parameters import ParameterDecision
from touchstone_assignment.subject import Subject

from tests.unit.assignment import ruling

UNITS = [Subject({"user": f"user-{number}"}) for number in range(500)]


def parameter(key: str, default: object) -> ruleset_pb2.ParameterRule:
    rule = ruleset_pb2.ParameterRule(key=key)
    json_format.ParseDict({"v": default}, rule.default_value.struct_value)
    rule.default_value.CopyFrom(rule.default_value.struct_value.fields["v"])
    return rule


def setting(key: str, *payloads: dict[str, Any], **changes: Any) -> ruleset_pb2.ExperimentRule:
    """An experiment of halves with these payloads."""
    rule = ruling.experiment(key, **changes)
    for variant, payload in zip(rule.variants, payloads, strict=True):
        variant.payload.update(payload)
    return rule


def world(*experiments: ruleset_pb2.ExperimentRule) -> Evaluator:
    return ruling.evaluator(
        *experiments,
        layers=[
            ruling.layer(parameters=[parameter("colour", "grey"), parameter("size", 3)]),
            ruling.layer(
                "launch",
                launch=True,
                parameters=[parameter("colour", "black"), parameter("fee", 1.5)],
            ),
            ruling.layer("devices", unit_type="device", parameters=[parameter("dpi", [1, 2])]),
        ],
    )


def test_the_experiment_of_the_layer_comes_before_the_launch_and_that_before_the_default() -> None:
    evaluator = world(
        setting("try", {"colour": "red"}, {"size": 4}, slots=ruling.slots((0, 5000))),
        setting("roll-out", {"colour": "blue"}, {"colour": "blue"}, layer="launch"),
    )
    seen = set()
    for unit in UNITS:
        tried = evaluator.decide("try", unit).variant
        launched = evaluator.decide("roll-out", unit).variant or ""
        found = evaluator.parameters(unit, ["colour", "size"])
        if tried == "control":
            assert found["colour"] == ParameterDecision("red", "try", "control")
            assert found["size"] == ParameterDecision(3)
        else:
            assert found["colour"] == ParameterDecision("blue", "roll-out", launched)
            size = ParameterDecision(4, "try", "green") if tried else ParameterDecision(3)
            assert found["size"] == size
        seen.add(tried)
    assert seen == {None, "control", "green"}


def test_without_keys_all_parameters_of_the_units_types_are_meant() -> None:
    evaluator = world()
    assert evaluator.parameters(Subject({"user": "u1"})) == {
        "colour": ParameterDecision("grey"),
        "size": ParameterDecision(3),
        "fee": ParameterDecision(1.5),
    }
    assert evaluator.parameters(Subject({"device": "d1"})) == {"dpi": ParameterDecision([1, 2])}
    assert set(evaluator.parameters(Subject({"device": "d", "user": "u"}))) == {
        "colour",
        "size",
        "fee",
        "dpi",
    }


def test_what_is_asked_for_by_key_has_its_default_without_an_id_and_unknown_keys_are_left_out() -> (
    None
):
    evaluator = world(setting("try", {"colour": "red"}, {"colour": "red"}))
    found = evaluator.parameters(Subject({"device": "d1"}), ["colour", "none"])
    assert found == {"colour": ParameterDecision("grey")}


def test_a_forced_variant_sets_parameters_wherever_the_units_slot_is() -> None:
    owner = setting("owner", {"size": 1}, {"size": 1})
    forced = setting("forced", {"size": 8}, {"size": 9}, slots=[], serving=2)
    forced.forced.add(unit_type="user", unit_id="qa", variant="green")
    evaluator = world(owner, forced)
    assert evaluator.parameters(Subject({"user": "qa"}), ["size"]) == {
        "size": ParameterDecision(9, "forced", "green")
    }
    found = evaluator.parameters(Subject({"user": "somebody"}), ["size"])["size"]
    assert found.experiment == "owner"


def test_a_unit_that_is_forced_out_gets_the_default() -> None:
    owner = setting("owner", {"size": 1}, {"size": 1})
    owner.forced.add(unit_type="user", unit_id="qa")
    evaluator = world(owner)
    assert evaluator.parameters(Subject({"user": "qa"}), ["size"])["size"] == ParameterDecision(3)


def test_payloads_that_are_values_set_parameters_too_and_other_fields_set_nothing() -> None:
    rule = ruling.experiment(value_type=6)
    for variant in rule.variants:
        variant.value.struct_value.update({"size": 5, "unrelated": True})
    evaluator = world(rule)
    assert evaluator.parameters(Subject({"user": "u1"}), ["size"])["size"].value == 5
    assert evaluator.experiments["button"].sets["green"] == {"size": 5}


def test_slots_of_a_domain_set_nothing_in_the_layer_that_it_is_cut_from() -> None:
    evaluator = ruling.evaluator(
        layers=[ruling.layer(parameters=[parameter("size", 3)])],
        domains=[
            ruleset_pb2.DomainRule(
                domain="all", layer="checkout", slots=ruling.slots(*ruling.WHOLE)
            )
        ],
    )
    found = evaluator.parameters(Subject({"user": "u1"}), ["size"])
    assert found == {"size": ParameterDecision(3)}
