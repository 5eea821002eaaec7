"""The ruleset of a configuration holds all that decides and nothing else."""

from dataclasses import replace
from typing import Any

import pytest
from google.protobuf import json_format
from touchstone.assignment.v1 import ruleset_pb2
from touchstone_assignment.bucketing import HashVersion

from services.assignment.domain.audience import Audience, ListedIds
from services.assignment.domain.domain import Domain
from services.assignment.domain.experiment import (
    Allocation,
    Experiment,
    Prerequisite,
    State,
    Switchback,
    ValueType,
    Variant,
)
from services.assignment.domain.forced import ForcedVariant, forced_id
from services.assignment.domain.holdout import Holdout
from services.assignment.domain.layer import Holder, LayerKind
from services.assignment.domain.parameter import Parameter
from services.assignment.ports import ProjectConfig
from services.assignment.wire.ruleset import to_ruleset
from services.assignment.wire.server_only import MAX_FORCED_SENT
from tests.unit.assignment.making import START, Make

GERMANS = '{"compare":{"attribute":"country","operator":"OPERATOR_EQUAL","values":["DE"]}}'


def ruleset_of(*experiments: Experiment, **parts: Any) -> ruleset_pb2.Ruleset:
    by_id = {found.experiment_id: found for found in experiments}
    layers = parts.pop("layers", {"checkout": Make().layer()})
    return to_ruleset(ProjectConfig(7, by_id, layers, **parts), "acme")


def forced(unit_id: str, variant: str = "green") -> ForcedVariant:
    key = forced_id("button", "user", unit_id)
    return ForcedVariant("acme", key, 1, START, "button", "user", unit_id, variant)


def test_an_experiment_carries_all_that_decides_it(make: Make) -> None:
    running = make.experiment(
        State.RUNNING,
        hash_version=HashVersion.FLAGD_V3,
        variants=(
            Variant("control", 5000, "Title", '{"size":1}', "1"),
            Variant("green", 5000, payload=None, value="2", dropped=True),
        ),
        value_type=ValueType.INTEGER,
        targeting=GERMANS,
        prerequisites=(Prerequisite("other", ("a",)),),
        switchback=Switchback(3600, 60, "region"),
    )
    layer = make.layer().allocate("button", 2500, make.at(2)).allocate("x", 100, make.at(3))
    many = {found.resource_id: found for found in (forced("b"), forced("a"), forced("c", "gone"))}
    (rule,) = ruleset_of(running, layers={"checkout": layer}, forced=many).experiments
    assert json_format.MessageToDict(rule, preserving_proto_field_name=True) == {
        "experiment": "button",
        "config_version": "1",
        "serving": "SERVING_RUNNING",
        "unit_type": "user",
        "layer": "checkout",
        "slots": [{"end": 2500}],
        "salt": "split/button",
        "hash_version": "HASH_VERSION_FLAGD_V3",
        "variants": [
            {"key": "control", "weight": 5000, "value": 1.0, "payload": {"size": 1.0}},
            {"key": "green", "weight": 5000, "value": 2.0, "dropped": True},
        ],
        "value_type": "VALUE_TYPE_INTEGER",
        "targeting": {
            "compare": {"attribute": "country", "operator": "OPERATOR_EQUAL", "values": ["DE"]}
        },
        "prerequisites": [{"experiment": "other", "variants": ["a"]}],
        # A variant that the experiment does not have any more is forced on nobody.
        "forced": [
            {"unit_type": "user", "unit_id": "a", "variant": "green"},
            {"unit_type": "user", "unit_id": "b", "variant": "green"},
        ],
        "switchback": {"window_s": "3600", "washout_s": "60", "region_attribute": "region"},
        "control": "control",
    }


@pytest.mark.parametrize(
    ("value_type", "variant", "value"),
    [
        (ValueType.KEY, Variant("a", 1), "a"),
        (ValueType.BOOLEAN, Variant("a", 1, value="false"), False),
        (ValueType.STRING, Variant("a", 1, value='"7"'), "7"),
        (ValueType.FLOAT, Variant("a", 1, value="0.5"), 0.5),
        (ValueType.OBJECT, Variant("a", 1, payload='{"x":[null]}'), {"x": [None]}),
    ],
)
def test_values_go_by_the_value_type(
    make: Make, value_type: ValueType, variant: Variant, value: object
) -> None:
    found = make.experiment(variants=(variant,), value_type=value_type)
    (rule,) = ruleset_of(found).experiments
    assert json_format.MessageToDict(rule.variants[0].value) == value
    assert not rule.variants[0].HasField("payload")


@pytest.mark.parametrize(
    ("state", "changes", "serving"),
    [
        (State.RUNNING, {}, "SERVING_RUNNING"),
        (State.DRAFT, {}, "SERVING_NOT_RUNNING"),
        (State.PAUSED, {}, "SERVING_NOT_RUNNING"),
        (State.STOPPED, {}, "SERVING_NOT_RUNNING"),
        (State.DRAFT, {"killed": True}, "SERVING_KILLED"),
        (State.RUNNING, {"killed": True}, "SERVING_KILLED"),
    ],
)
def test_serving_follows_from_the_state_and_the_kill_switch(
    make: Make, state: State, changes: dict[str, Any], serving: str
) -> None:
    (rule,) = ruleset_of(replace(make.experiment(state), **changes)).experiments
    assert ruleset_pb2.Serving.Name(rule.serving) == serving


def test_what_another_system_assigns_is_external_even_when_killed(make: Make) -> None:
    found = replace(make.experiment(State.RUNNING), design=make.external(), killed=True)
    (rule,) = ruleset_of(found).experiments
    assert rule.serving == ruleset_pb2.SERVING_EXTERNAL


def test_what_decides_nothing_any_more_is_left_out(make: Make) -> None:
    layers = {"checkout": make.layer(), "unused": make.layer(layer_id="unused")}
    found = ruleset_of(
        make.experiment(State.ARCHIVED),
        layers=layers,
        domains={"d": Domain("acme", "d", 1, START, "checkout", 5, "user", released=True)},
        holdouts={
            "h": Holdout(
                "acme", "h", 1, START, "user", 5, "s", HashVersion.FLAGD_V2, end_time=START
            )
        },
    )
    assert found == ruleset_pb2.Ruleset(format=1, project="acme", config_version=7)


def test_layers_domains_and_holdouts_are_as_they_stand(make: Make) -> None:
    layer = make.layer(
        kind=LayerKind.LAUNCH, domain="outer", parameters=(Parameter("size", '{"a":[1]}'),)
    ).give(Holder(domain_id="d"), 300, make.at(2))
    found = ruleset_of(
        layers={"checkout": layer},
        domains={"d": Domain("acme", "d", 1, START, "checkout", 300, "user")},
        holdouts={
            "h": Holdout(
                "acme", "h", 1, START, "user", 5, "s", HashVersion.FLAGD_V3, ("b", "a"), ("y", "x")
            )
        },
    )
    assert json_format.MessageToDict(found, preserving_proto_field_name=True) == {
        "format": 1,
        "project": "acme",
        "config_version": "7",
        "layers": [
            {
                "layer": "checkout",
                "unit_type": "user",
                "salt": "layer/checkout",
                "hash_version": "HASH_VERSION_FLAGD_V2",
                "domain": "outer",
                "launch": True,
                "parameters": [{"key": "size", "default_value": {"a": [1.0]}}],
            }
        ],
        "domains": [{"domain": "d", "layer": "checkout", "slots": [{"end": 300}]}],
        "holdouts": [
            {
                "holdout": "h",
                "unit_type": "user",
                "salt": "s",
                "hash_version": "HASH_VERSION_FLAGD_V3",
                "slots": 5,
                "layers": ["a", "b"],
                "experiments": ["x", "y"],
            }
        ],
    }


def test_released_slots_are_nobodys(make: Make) -> None:
    layer = make.layer().allocate("button", 500, make.at(2))
    stopped = layer.release("button", make.start - make.start, make.at(3))
    (rule,) = ruleset_of(make.experiment(State.STOPPED), layers={"checkout": stopped}).experiments
    assert list(rule.slots) == []


def audience(key: str, members: str | ListedIds) -> Audience:
    return Audience("acme", key, 1, START, members, START)


def test_audiences_are_rules_or_lists() -> None:
    found = ruleset_of(
        audiences={
            "rule": audience("rule", GERMANS),
            "list": audience("list", ListedIds("user", 2, "ab")),
        }
    )
    assert json_format.MessageToDict(found, preserving_proto_field_name=True)["audiences"] == [
        {"audience": "list", "unit_type": "user", "digest": "ab", "count": "2"},
        {
            "audience": "rule",
            "condition": {
                "compare": {"attribute": "country", "operator": "OPERATOR_EQUAL", "values": ["DE"]}
            },
        },
    ]


def test_what_only_the_server_knows_makes_an_experiment_its_own(make: Make) -> None:
    alone: dict[str, dict[str, Any]] = {
        "sticky": {"sticky": True},
        "linked": {"anonymous_unit_type": "device"},
        "bandit": {"allocation": Allocation.BANDIT},
        "by-list": {"targeting": '{"audience":"list"}'},
        "by-list-behind-a-rule": {"targeting": '{"negated":{"audience":"deep"}}'},
        "needing": {"prerequisites": (Prerequisite("sticky"),)},
        "needing-deep": {"prerequisites": (Prerequisite("needing"),)},
    }
    anybody: dict[str, dict[str, Any]] = {
        "plain": {},
        "by-rule": {"targeting": '{"audience":"rule"}'},
        "needing-plain": {"prerequisites": (Prerequisite("plain"),)},
    }
    found = ruleset_of(
        *(make.experiment(State.DRAFT, key, **change) for key, change in (alone | anybody).items()),
        audiences={
            "list": audience("list", ListedIds("user")),
            "deep": audience("deep", '{"any":{"conditions":[{"audience":"list"}]}}'),
            "rule": audience("rule", GERMANS),
        },
    )
    assert {rule.experiment for rule in found.experiments if rule.server_only} == set(alone)


@pytest.mark.parametrize(("more", "server_only"), [(0, False), (1, True)])
def test_many_forced_variants_stay_with_the_server(
    make: Make, more: int, server_only: bool
) -> None:
    many = [forced(f"u{number}") for number in range(MAX_FORCED_SENT + more)]
    by_id = {found.resource_id: found for found in many}
    (rule,) = ruleset_of(make.experiment(), forced=by_id).experiments
    assert rule.server_only is server_only
    assert len(rule.forced) == len(many)


def test_equal_configurations_give_equal_bytes_in_any_order(make: Make) -> None:
    experiments = {key: make.experiment(State.DRAFT, key) for key in ("a", "b", "c")}
    backwards = dict(reversed(experiments.items()))
    written = [
        to_ruleset(ProjectConfig(7, found, {"checkout": make.layer()}), "acme").SerializeToString(
            deterministic=True
        )
        for found in (experiments, backwards)
    ]
    assert written[0] == written[1]
