"""What clients rely on besides values: changes, reconnects, outages and the names of errors."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import json_format
from touchstone.assignment.v1 import experiment_service_pb2 as experiments
from touchstone.assignment.v1 import layer_service_pb2 as layers

from tests.openfeature.environments import (
    NODE_IN_PROCESS,
    NODE_OFREP,
    NODE_RPC,
    PYTHON_OFREP,
    PYTHON_RPC,
    PYTHON_V2,
    PYTHON_V3,
    WEB_OFREP,
    Client,
    Kind,
    each,
)
from tests.openfeature.running import Running, second_process
from tests.openfeature.world import PARENT, Service

WAIT_S = 60.0
USER = {"targetingKey": "user-1"}


def some(*kinds: Kind) -> pytest.MarkDecorator:
    """A parameter of a test for each client that this machine can run."""
    return pytest.mark.parametrize("kind", [each(kind) for kind in kinds])


STREAMING = (PYTHON_RPC, PYTHON_V3, PYTHON_V2, NODE_RPC, NODE_IN_PROCESS)
EVERY = (*STREAMING, PYTHON_OFREP, NODE_OFREP)


def make_experiment(service: Service, experiment_id: str, kind: Kind) -> None:
    """An experiment that gives everybody the value on."""
    dialect = (kind.dialect or "flagd-v2").upper().replace("-", "_")
    request = layers.CreateLayerRequest(parent=PARENT, layer_id=f"of-{experiment_id}")
    found = {"unit_type": "user", "hash_version": f"HASH_VERSION_{dialect}"}
    json_format.ParseDict(found, request.layer)
    service.call(service.layers.CreateLayer, request)
    service.create_experiment(
        experiment_id,
        unit_type="user",
        layer=f"{PARENT}/layers/of-{experiment_id}",
        hash_version=f"HASH_VERSION_{dialect}",
        traffic_slots=10_000,
        value_type="VALUE_TYPE_STRING",
        control_variant="off",
        variants=[
            {"key": "off", "weight": 0, "value": "off"},
            {"key": "on", "weight": 10_000, "value": "on"},
        ],
    )


def pause(service: Service, experiment_id: str) -> None:
    """From now on everybody gets off."""
    request = experiments.PauseExperimentRequest(name=service.name(experiment_id))
    service.call(service.experiments.PauseExperiment, request)


def value(client: Client, key: str = "switch") -> tuple[Any, str]:
    found = client.details(key, "string", "?", **USER)
    return found["value"], found["reason"]


def eventually(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, f"it did not come to that: {what}"
        time.sleep(0.1)


@some(*STREAMING)
def test_change_is_told_with_its_flags_and_seen(own: Running, kind: Kind) -> None:
    with own.service() as service:
        make_experiment(service, "switch", kind)
        make_experiment(service, "other", kind)
        with own.client(kind) as client:
            ready = [name.upper() for name, _ in client.events()]
            assert any("READY" in name for name in ready)
            for _ in range(3):
                found, reason = value(client)
                assert (found, reason in {"SPLIT", "TARGETING_MATCH"}) == ("on", True)
            pause(service, "switch")
            eventually(lambda: value(client)[0] == "off", "the change is seen")
            told = {flag for name, flags in client.events() for flag in flags if "C" in name}
            assert "switch" in told
            assert value(client, "other")[0] == "on"


@some(*STREAMING)
def test_change_during_a_disconnection_is_seen_after_it(own: Running, kind: Kind) -> None:
    with own.service() as service:
        make_experiment(service, "switch", kind)
    with own.client(kind) as client:
        assert value(client)[0] == "on"
        own.process.terminate()
        with second_process(own) as service:
            pause(service, "switch")
        own.process.start()
        eventually(lambda: value(client)[0] == "off", "the change is seen")


@some(PYTHON_V3, PYTHON_V2, NODE_IN_PROCESS)
def test_in_process_goes_on_deciding_without_the_service(own: Running, kind: Kind) -> None:
    with own.service() as service:
        make_experiment(service, "switch", kind)
    with own.client(kind) as client:
        before = client.evaluate([["switch", "string", "?"]], [{"targetingKey": "a"}, USER])
        own.process.kill()
        after = client.evaluate([["switch", "string", "?"]], [{"targetingKey": "a"}, USER])
    assert before == after == [[["on", None]]] * 2


@some(PYTHON_RPC, PYTHON_OFREP, NODE_OFREP)
def test_without_the_service_the_code_falls_back_and_comes_back(own: Running, kind: Kind) -> None:
    with own.service() as service:
        make_experiment(service, "switch", kind)
    short = {"deadline_ms": 500} if kind is PYTHON_RPC else {}
    with own.client(kind, **short) as client:
        assert value(client)[0] == "on"
        own.process.kill()
        found = client.details("switch", "string", "?", **USER)
        assert (found["value"], found["error"]) == ("?", "GENERAL")
        own.process.start()
        eventually(lambda: value(client)[0] == "on", "the client comes back")


@some(*EVERY, WEB_OFREP)
def test_errors_have_the_names_of_openfeature(running: Running, kind: Kind) -> None:
    end = kind.dialect.removeprefix("flagd") or "-v2"
    with running.client(kind) as client:
        missing = client.details("nothing", "string", "?", **USER)
        wrong = client.details(f"button{end}", "boolean", True, **USER)
    assert (missing["value"], missing["error"]) == ("?", "FLAG_NOT_FOUND")
    assert (wrong["value"], wrong["error"]) == (True, "TYPE_MISMATCH")


@some(PYTHON_OFREP, NODE_OFREP)
def test_missing_id_is_named_by_ofrep(running: Running, kind: Kind) -> None:
    with running.client(kind) as client:
        found = client.details("button-v2", "string", "?", country="DE")
    assert (found["value"], found["error"]) == ("?", "TARGETING_KEY_MISSING")


@some(NODE_RPC, NODE_IN_PROCESS, NODE_OFREP, PYTHON_OFREP, PYTHON_V3, WEB_OFREP)
def test_metadata_says_what_decided(running: Running, kind: Kind) -> None:
    end = kind.dialect.removeprefix("flagd") or "-v2"
    with running.client(kind) as client:
        context = {"targetingKey": "user-77", "org": "org-77"}
        if kind is WEB_OFREP:
            client.evaluate([], [context])
        found = client.details(f"rank{end}", "integer", -1, **context)["metadata"]
    assert found["flagSetId"] == "acme"
    assert (found["experiment"], found["layer"]) == (f"rank{end}", f"search{end}")
    assert found["hashVersion"] == f"flagd{end}"
    assert int(found["version"]) >= int(found["configVersion"]) > 0


@some(WEB_OFREP)
def test_browsers_provider_sees_a_change_by_its_tag(own: Running, kind: Kind) -> None:
    with own.service() as service:
        make_experiment(service, "switch", kind)
        with own.client(kind, pollInterval=200, context=USER) as client:
            flags = [["switch", "string", "?"]]
            assert client.evaluate(flags, [USER]) == [[["on", None]]]
            pause(service, "switch")
            seen: list[Any] = []

            def changed() -> bool:
                seen.extend(client.events())
                return any("CONFIGURATION" in name.upper() for name, _ in seen)

            eventually(changed, "the change is told")
            assert client.evaluate(flags, [USER]) == [[["off", None]]]
