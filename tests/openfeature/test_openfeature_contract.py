"""What clients rely on besides values: changes, reconnects, outages and the names of errors."""

from __future__ import annotations

import time
from collections.abc import Callable

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
UNITS = [{"targetingKey": f"user-{n}"} for n in range(50)]


def some(*kinds: Kind) -> pytest.MarkDecorator:
    """A parameter of a test for each client that this machine can run."""
    return pytest.mark.parametrize("kind", [each(kind) for kind in kinds])


STREAMING = (PYTHON_RPC, PYTHON_V3, PYTHON_V2, NODE_RPC, NODE_IN_PROCESS)
EVERY = (*STREAMING, PYTHON_OFREP, NODE_OFREP)


def make_experiment(service: Service, experiment_id: str, kind: Kind) -> None:
    """An experiment that gives everybody a variant."""
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
        control_variant="control",
        variants=[{"key": "control", "weight": 5000}, {"key": "treatment", "weight": 5000}],
    )


def pause(service: Service, experiment_id: str) -> None:
    """From now on nobody gets one."""
    request = experiments.PauseExperimentRequest(name=service.name(experiment_id))
    service.call(service.experiments.PauseExperiment, request)


def variant(client: Client, key: str = "switch") -> str:
    """`none` when the unit gets none, by whatever reason; `error` without the service."""
    found = client.details(key, "string", "?", **USER)
    assert found["reason"] not in {"STATIC", "CACHED"}
    if found["error"]:
        return "error"
    return "none" if found["variant"] == "default" else "some"


def eventually(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, f"it did not come to that: {what}"
        time.sleep(0.1)


@some(*STREAMING)
def test_change_is_told_with_its_flags_and_seen(running: Running, kind: Kind) -> None:
    switch, other = (f"{name}-{EVERY.index(kind)}" for name in ("switch", "other"))
    with running.service() as service:
        make_experiment(service, switch, kind)
        make_experiment(service, other, kind)
        with running.client(kind) as client:
            assert any("READY" in name.upper() for name, _ in client.events())
            assert [variant(client, switch) for _ in range(3)] == ["some"] * 3
            pause(service, switch)
            eventually(lambda: variant(client, switch) == "none", "the change is seen")
            told = [flags for name, flags in client.events() if "CONFIGURATION" in name.upper()]
            assert switch in {flag for flags in told for flag in flags}
            assert variant(client, other) == "some"


@some(*EVERY)
def test_outage_is_survived_and_what_changed_meanwhile_is_seen(own: Running, kind: Kind) -> None:
    with own.service() as service:
        make_experiment(service, "switch", kind)
    with own.client(kind, **({"deadline_ms": 3000} if kind is PYTHON_RPC else {})) as client:
        before = client.evaluate([["switch", "string", "?"]], UNITS)
        assert {value for [[value, _]] in before} == {"control", "treatment"}
        own.process.terminate()
        if kind.dialect:
            assert client.evaluate([["switch", "string", "?"]], UNITS) == before
        elif kind is not NODE_RPC:  # which tries again for as long as a minute
            found = client.details("switch", "string", "?", **USER)
            assert (found["value"], found["error"]) == ("?", "GENERAL")
        with second_process(own) as service:
            pause(service, "switch")
        own.process.start()
        eventually(lambda: variant(client) == "none", "the change is seen")


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
def test_browsers_provider_sees_a_change_by_its_tag(running: Running, kind: Kind) -> None:
    with running.service() as service:
        make_experiment(service, "switch-web", kind)
        with running.client(kind, pollInterval=200, context=USER) as client:
            assert variant(client, "switch-web") == "some"
            pause(service, "switch-web")
            seen: list[str] = []

            def changed() -> bool:
                seen.extend(name.upper() for name, _ in client.events())
                return any("CONFIGURATION" in name for name in seen)

            eventually(changed, "the change is told")
            assert variant(client, "switch-web") == "none"
