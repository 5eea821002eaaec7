"""Parameters of layers: one owner, one type, more may come, and payloads set nothing else."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from touchstone_assignment.subject import Subject

from services.assignment.application.update_experiment import UpdateExperiment, update_experiment
from services.assignment.application.update_layer import UpdateLayer, update_layer
from services.assignment.domain.experiment import State, Variant
from services.assignment.domain.layer import Layer, LayerKind
from services.assignment.domain.limits import LIMITS
from services.assignment.domain.parameter import JsonType, Parameter, json_type
from services.assignment.domain.parameter_rules import check_payload
from shared.errors import Code, DomainError
from tests.unit.assignment.making import Make
from tests.unit.assignment.storing import START, Stored

SIZE, COLOUR = Parameter("size", "1"), Parameter("colour", '"red"')
JSON = st.recursive(
    st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=4,
)


def update(stored: Stored, layer_id: str = "checkout", **changes: Any) -> Layer:
    command = UpdateLayer("acme", layer_id, **changes)
    return stored.change(lambda c: update_layer(command, c, START))


def setting(*payloads: dict[str, object]) -> tuple[Variant, ...]:
    weight = 10_000 // len(payloads)
    return tuple(
        Variant(f"v{index}", weight, payload=json.dumps(payload))
        for index, payload in enumerate(payloads)
    )


def test_a_layer_is_made_with_parameters_and_gets_more(stored: Stored) -> None:
    stored.layer("checkout", parameters=(SIZE,))
    described = replace(SIZE, description="of the button")
    changed = update(stored, parameters=(COLOUR, described), display_name="Checkout")
    assert changed.parameters == (COLOUR, described)
    assert (changed.display_name, changed.etag) == ("Checkout", "v2")
    assert stored.load().layers["checkout"] == changed
    assert stored.load(as_of=1).layers["checkout"].parameters == (SIZE,)
    assert update(stored, display_name="Checkout").config_version == 2


def test_a_key_has_one_layer_of_each_kind_and_one_type(stored: Stored) -> None:
    stored.layer("checkout", parameters=(SIZE,))
    stored.layer("launches", kind=LayerKind.LAUNCH, parameters=(replace(SIZE, default="7"),))
    refused: dict[str, dict[str, Any]] = {
        "is 'size', which EXPERIMENT layer 'checkout' has": {"parameters": (SIZE,)},
        "is 'size', which LAUNCH layer 'launches' has": {
            "kind": LayerKind.LAUNCH,
            "parameters": (SIZE,),
        },
        "hold the key 'colour' 2 times": {"parameters": (COLOUR, COLOUR)},
        "of 'none' is null or not there": {"parameters": (Parameter("none", "null"),)},
        "is 65538 bytes; allowed: 65536 bytes": {
            "parameters": (Parameter("long", '"' + "x" * LIMITS.max_payload_bytes + '"'),)
        },
    }
    for message, fields in refused.items():
        with pytest.raises(DomainError) as caught:
            stored.layer("another", **fields)
        assert caught.value.code is Code.INVALID_ARGUMENT
        assert message in caught.value.message
    stored.layer("texts", parameters=(COLOUR,))
    with pytest.raises(DomainError, match=r"is of type number; allowed: string.*layer 'texts'"):
        update(stored, "launches", parameters=(SIZE, replace(COLOUR, default="1")))


def test_parameters_do_not_go_and_keep_their_type(stored: Stored) -> None:
    stored.layer("checkout", parameters=(SIZE, COLOUR))
    with pytest.raises(DomainError) as caught:
        update(stored, parameters=(replace(SIZE, default='"big"'),))
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert "parameters lack 'colour'" in caught.value.message
    assert "size.default_value is of type string; allowed: number" in caught.value.message


def test_a_default_changes_only_while_nothing_runs(stored: Stored) -> None:
    stored.layer("checkout", parameters=(SIZE,))
    stored.experiment("button", layer="checkout", variants=setting({}, {"size": 2}))
    assert update(stored, parameters=(replace(SIZE, default="3"),)).parameters[0].value == 3
    stored.move("button", State.RUNNING)
    with pytest.raises(DomainError, match="running button: another default of size") as caught:
        update(stored, parameters=(SIZE,))
    assert (caught.value.code, caught.value.reason) == (Code.FAILED_PRECONDITION, "WRONG_STATE")
    three = replace(SIZE, default="3")
    assert update(stored, parameters=(three, COLOUR)).parameters == (three, COLOUR)
    stored.move("button", State.STOPPED)
    assert update(stored, parameters=(SIZE, COLOUR)).parameters == (SIZE, COLOUR)


def test_a_stale_etag_and_a_missing_layer_are_told(stored: Stored) -> None:
    stored.layer("checkout")
    update(stored, display_name="A", etag="v1")
    with pytest.raises(DomainError) as caught:
        update(stored, display_name="B", etag="v1")
    assert (caught.value.code, caught.value.reason) == (Code.ABORTED, "STALE_ETAG")
    with pytest.raises(DomainError) as caught:
        update(stored, "gone", display_name="B")
    assert caught.value.code is Code.NOT_FOUND


def test_a_payload_sets_parameters_of_the_layer_by_their_type(stored: Stored) -> None:
    stored.layer("checkout", parameters=(SIZE, COLOUR))
    wrong = setting({"size": "big"}, {"sise": 2, "colour": None})
    with pytest.raises(DomainError) as caught:
        stored.experiment("button", layer="checkout", variants=wrong)
    assert [violation.field for violation in caught.value.violations] == [
        "variants[0].payload.size",
        "variants[1].payload.sise",
        "variants[1].payload.colour",
    ]
    assert "allowed: colour, size" in caught.value.violations[1].description
    stored.experiment("button", layer="checkout", variants=setting({"size": 2}, {"colour": "x"}))
    change = UpdateExperiment("acme", "button", {"variants": wrong})
    with pytest.raises(DomainError, match="sise"):
        stored.change(lambda c: update_experiment(change, c, START))


def test_the_first_parameters_bind_the_experiments_that_are_there(stored: Stored) -> None:
    stored.layer("checkout")
    stored.experiment("button", layer="checkout", variants=setting({"size": 1}, {"old": True}))
    with pytest.raises(DomainError, match=r"experiment 'button'.*payload.old.*no parameter"):
        update(stored, parameters=(SIZE,))
    update(stored, parameters=(SIZE, Parameter("old", "false")))
    stored.move("button", State.ARCHIVED)


@pytest.mark.parametrize("keeping", [{"sticky": True}, {"anonymous_unit_type": "device"}])
def test_units_that_keep_variants_and_parameters_do_not_meet(
    stored: Stored, keeping: dict[str, Any]
) -> None:
    (field,) = keeping
    stored.layer("checkout", parameters=(SIZE,))
    stored.layer("plain")
    with pytest.raises(DomainError, match=rf"^{field} is .*in a layer with parameters") as caught:
        stored.experiment("button", layer="checkout", **keeping)
    assert caught.value.code is Code.INVALID_ARGUMENT
    stored.experiment("draft", layer="checkout")
    change = UpdateExperiment("acme", "draft", keeping)
    with pytest.raises(DomainError, match=rf"^{field} is "):
        stored.change(lambda c: update_experiment(change, c, START))
    stored.experiment("kept", layer="plain", **keeping)
    with pytest.raises(DomainError, match=rf"experiment 'kept'.*has {field}"):
        update(stored, "plain", parameters=(COLOUR,))


def test_a_launch_stands_behind_an_experiment_and_before_the_default(stored: Stored) -> None:
    stored.layer("checkout", parameters=(SIZE,))
    stored.layer("launches", kind=LayerKind.LAUNCH, parameters=(SIZE,))
    stored.running(
        "rollout",
        layer="launches",
        traffic_slots=5000,
        variants=setting({"size": 20}, {"size": 20}),
    )
    stored.running(
        "button", layer="checkout", traffic_slots=5000, variants=setting({"size": 30}, {"size": 31})
    )
    evaluator = stored.evaluator()
    seen = set()
    for number in range(1000):
        subject = Subject({"user": f"u{number}"})
        found = evaluator.parameters(subject, ["size"])["size"]
        in_button = evaluator.decide("button", subject).variant is not None
        in_rollout = evaluator.decide("rollout", subject).variant is not None
        expected = {30, 31} if in_button else {20} if in_rollout else {1}
        assert found.value in expected
        seen.add(found.value)
    assert seen == {30, 31, 20, 1}


@settings(deadline=None)
@given(JSON, JSON)
def test_a_payload_passes_if_and_only_if_it_has_the_type_of_the_default(
    default: object, value: object
) -> None:
    layer = Make().layer(parameters=(Parameter("key", json.dumps(default)),))
    variants: Sequence[Variant] = setting({"key": value}, {})
    if json_type(value) is json_type(default):
        check_payload(layer, variants)
    else:
        with pytest.raises(DomainError, match=r"variants\[0\].payload.key"):
            check_payload(layer, variants)


def test_types_are_those_of_json() -> None:
    values = [True, 1, 1.5, "x", [], {}, None]
    assert [json_type(value) for value in values] == [
        JsonType.BOOLEAN,
        JsonType.NUMBER,
        JsonType.NUMBER,
        JsonType.STRING,
        JsonType.ARRAY,
        JsonType.OBJECT,
        None,
    ]
