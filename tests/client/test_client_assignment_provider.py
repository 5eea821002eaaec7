"""Touchstone behind OpenFeature, in process: values, reasons, metadata and events."""

from __future__ import annotations

import re
from typing import Any

import pytest
from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEvent
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason
from openfeature.provider import ProviderStatus
from touchstone.assignment.v1 import experiment_pb2, ruleset_pb2
from touchstone_assignment.local.provider import TouchstoneProvider

from tests.client.local_rig import KEY, PROJECT, Running, experiment, follows, rules
from tests.client.rig import CLIENT, eventually


@pytest.fixture
def running():
    service = Running()
    service.start()
    yield service
    api.shutdown()
    service.stop()


def client_of(local, name, **more):
    api.set_provider_and_wait(TouchstoneProvider(local, **({"wait_s": 20} | more)), name)
    return api.get_client(name)


def context(unit="u1", **attributes):
    return EvaluationContext(unit, attributes)


def typed(name, value_type, *values, **more):
    rule = experiment(name, value_type=value_type, control="v0", **more)
    del rule.variants[:]
    for n, value in enumerate(values):
        variant = rule.variants.add(key=f"v{n}", weight=10_000 // len(values))
        if isinstance(value, bool):
            variant.value.bool_value = value
        elif isinstance(value, str):
            variant.value.string_value = value
        elif isinstance(value, dict):
            variant.value.struct_value.update(value)
        else:
            variant.value.number_value = value
    return rule


def test_a_served_variant_comes_with_its_reason_and_where_it_is_from(running):
    client = client_of(running.local(), "served")
    details = client.get_string_details("green", "none", context())
    assert details.value == details.variant in ("on", "off")
    assert details.reason == Reason.SPLIT
    assert details.error_code is None
    assert dict(details.flag_metadata) == {
        "flagSetId": PROJECT,
        "version": "3",
        "experiment": "green",
        "layer": "green",
        "configVersion": 3,
        "hashVersion": "flagd-v2",
        "decision": "SPLIT",
    }


def test_every_type_has_values_of_its_type(running):
    running.fake.say(
        rules(
            typed("flag", experiment_pb2.VALUE_TYPE_BOOLEAN, True, True),
            typed("text", experiment_pb2.VALUE_TYPE_STRING, "a", "a"),
            typed("whole", experiment_pb2.VALUE_TYPE_INTEGER, 3, 3),
            typed("number", experiment_pb2.VALUE_TYPE_FLOAT, 2.0, 2.0),
            typed("half", experiment_pb2.VALUE_TYPE_FLOAT, 0.5, 0.5),
            typed("object", experiment_pb2.VALUE_TYPE_OBJECT, {"n": 1}, {"n": 1}),
        )
    )
    client = client_of(running.local(), "typed")
    found: list[Any] = [
        client.get_boolean_value("flag", False, context()),
        client.get_string_value("text", "z", context()),
        client.get_integer_value("whole", 9, context()),
        client.get_float_value("number", 9.0, context()),
        client.get_float_value("whole", 9.0, context()),
        client.get_object_value("object", {}, context()),
    ]
    assert found == [True, "a", 3, 2.0, 3.0, {"n": 1}]
    assert [type(each) for each in found] == [bool, str, int, float, float, dict]
    for method, key, default in (
        (client.get_integer_details, "flag", 9),
        (client.get_boolean_details, "text", False),
        (client.get_string_details, "whole", "z"),
        (client.get_integer_details, "half", 9),
        (client.get_object_details, "text", {}),
    ):
        details = method(key, default, context())
        assert (details.value, details.error_code) == (default, ErrorCode.TYPE_MISMATCH)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"serving": ruleset_pb2.SERVING_KILLED}, Reason.DISABLED),
        ({"serving": ruleset_pb2.SERVING_NOT_RUNNING}, Reason.DISABLED),
        ({"slots": []}, Reason.DEFAULT),
    ],
)
def test_a_unit_without_a_variant_gets_the_controls_value(running, more, reason):
    running.fake.say(rules(experiment(**more)))
    client = client_of(running.local(), "none")
    details = client.get_string_details("green", "mine", context())
    assert (details.value, details.variant, details.reason) == ("off", "default", reason)


def test_a_forced_variant_is_a_match(running):
    forced = ruleset_pb2.ForcedRule(unit_type="user", unit_id="qa", variant="on")
    running.fake.say(rules(experiment(forced=[forced])))
    details = client_of(running.local(), "forced").get_string_details("green", "", context("qa"))
    assert (details.value, details.reason) == ("on", Reason.TARGETING_MATCH)


def test_an_attribute_with_the_name_of_the_unit_type_is_the_id(running):
    local = running.local()
    client = client_of(local, "ids")
    for n in range(20):
        expected = local.decide("green", {"user": f"u{n}"}).variant
        of_attribute = client.get_string_value("green", "", context("other", user=f"u{n}"))
        assert client.get_string_value("green", "", context(f"u{n}")) == expected == of_attribute
    details = client.get_string_details("green", "mine", EvaluationContext())
    assert (details.value, details.error_code) == ("mine", ErrorCode.TARGETING_KEY_MISSING)


def test_what_is_no_flag_is_not_found(running):
    running.fake.say(rules(experiment(serving=ruleset_pb2.SERVING_EXTERNAL)))
    client = client_of(running.local(), "unknown")
    for key in ("green", "no-such", "param.no_such"):
        details = client.get_string_details(key, "mine", context())
        assert (details.value, details.error_code) == ("mine", ErrorCode.FLAG_NOT_FOUND)


def test_a_parameter_is_a_flag(running):
    rule = experiment()
    rule.variants[1].payload["colour"] = "green"
    ruleset = rules(rule)
    parameter = ruleset.layers[0].parameters.add(key="colour")
    parameter.default_value.string_value = "red"
    running.fake.say(ruleset)
    local = running.local()
    client = client_of(local, "parameters")
    seen = set()
    for n in range(50):
        details = client.get_string_details("param.colour", "none", context(f"u{n}"))
        on = local.decide("green", {"user": f"u{n}"}).variant == "on"
        expected = ("green", "on", Reason.SPLIT) if on else ("red", "default", Reason.DEFAULT)
        assert (details.value, details.variant, details.reason) == expected
        seen.add(on)
    assert seen == {True, False}


def test_what_only_the_server_decides_is_an_error_with_the_codes_default(running):
    running.fake.say(rules(experiment(server_only=True)))
    details = client_of(running.local(), "only").get_string_details("green", "mine", context())
    assert (details.value, details.error_code) == ("mine", ErrorCode.GENERAL)
    assert "SERVER_ONLY" in (details.error_message or "")


def test_ready_changed_stale_and_ready_again_are_told(running):
    seen: list[tuple[ProviderEvent, Any]] = []
    local = running.local(stale_after_s=0.3)
    client = client_of(local, "events")
    for event in ProviderEvent:
        client.add_handler(event, lambda details, event=event: seen.append((event, details)))
    assert client.get_provider_status() is ProviderStatus.READY
    running.fake.say(rules(experiment(salt="other", config_version=4), version=4))
    follows(local, 4)
    eventually(
        lambda: (
            (ProviderEvent.PROVIDER_CONFIGURATION_CHANGED, ["green"])
            in [(event, details.flags_changed) for event, details in seen]
        )
    )
    running.stop()
    eventually(lambda: client.get_provider_status() is ProviderStatus.STALE)
    assert client.get_string_value("green", "none", context()) in ("on", "off")
    running.start()
    eventually(lambda: client.get_provider_status() is ProviderStatus.READY)


def test_without_rules_it_is_not_ready_until_they_come(running):
    running.stop()
    local = running.local()
    with pytest.raises(Exception, match=r"no rules after 0\.1 s"):
        api.set_provider_and_wait(TouchstoneProvider(local, wait_s=0.1), "late")
    client = api.get_client("late")
    details = client.get_string_details("green", "mine", context())
    assert (details.value, details.error_code) == ("mine", ErrorCode.PROVIDER_NOT_READY)
    running.start()
    eventually(lambda: client.get_provider_status() is ProviderStatus.READY)
    assert client.get_string_value("green", "mine", context()) in ("on", "off")


def test_the_shutdown_ends_the_threads(running):
    local = running.local()
    client_of(local, "shut")
    api.shutdown()
    assert not local.status().connected


GUIDE = CLIENT.parents[1] / "docs" / "how-to" / "evaluate-in-process.md"


def test_the_examples_of_the_guide_do_what_they_say(running, tmp_path):
    ruleset = rules(experiment("green-button"))
    parameter = ruleset.layers[0].parameters.add(key="button_colour")
    parameter.default_value.string_value = "red"
    running.fake.say(ruleset)
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    code = "\n".join(blocks)
    for written, here in (
        ("127.0.0.1:7701", f"127.0.0.1:{running.port}"),
        ('key="..."', f'key="{KEY}"'),
        ("/var/lib/shop/touchstone", str(tmp_path)),
    ):
        assert written in code
        code = code.replace(written, here)
    names: dict[str, Any] = {}
    exec(compile(code, str(GUIDE), "exec"), names)
    assert names["answer"].variant in ("on", "off")
    assert (tmp_path / "shop.rules").exists()
