"""Every RPC has a rule and a home."""

import importlib

import pytest

from shared.security.caller import Role
from shared.server.run import Application
from shared.settings import SERVICES
from shared.testing.ports import free_port
from tests.security.contracts import methods

METHODS = methods()


def test_every_contract_is_seen():
    packages = {method.path.split(".")[1] for method in METHODS if "touchstone" in method.path}
    assert packages == {"common", "assignment", "events", "results", "attribution"}
    assert "/opentelemetry.proto.collector.logs.v1.LogsService/Export" in {m.path for m in METHODS}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.path)
def test_rpc_has_a_rule_that_admits_somebody(method):
    assert method.rule is not None, f"give {method.path} a (touchstone.common.v1.rule)"
    assert method.rule.roles or method.rule.any_role
    if method.rule.per_item:
        field = method.descriptor.input_type.fields_by_name[method.rule.per_item]
        assert field.is_repeated


def test_whoever_may_do_more_may_read_what_a_viewer_reads():
    roles = {method.path: method.rule.roles for method in METHODS if method.rule}
    read = {path: held for path, held in roles.items() if Role.VIEWER in held}
    events = {path: held for path, held in read.items() if path.startswith("/touchstone.events.")}
    assert [path for path, held in read.items() if Role.EXPERIMENTER not in held] == []
    assert [path for path, held in events.items() if Role.ADMIN not in held] == []
    assert "/touchstone.events.v1.EventsService/GetWatermark" in events
    assert "/touchstone.events.v1.RetentionService/GetRetention" in events


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.path)
def test_rpc_that_changes_state_says_so_and_can_be_repeated(method):
    verb = method.descriptor.name
    verbs = (
        "Get",
        "List",
        "Verify",
        "Stream",
        "Assign",
        "Log",
        "Export",
        "Resolve",
        "BatchResolve",
        "Wait",
        "Test",
        "Check",
        "Compare",
        "Calibrate",
        "Plan",
        "Simulate",
        "Evaluate",
        "Compute",
        "Watch",
        "EventStream",
        "Sync",
        "Fetch",
        "Value",
        "Predict",
        "Allocate",
    )
    reads = verb.startswith(verbs)
    assert method.rule.mutation is not reads
    # A contract that is not ours has no place for it; its changes are safe to repeat.
    if method.rule.mutation and method.path.startswith("/touchstone."):
        assert "request_id" in method.descriptor.input_type.fields_by_name


@pytest.fixture
def applications(tmp_path):
    """The four services, composed and not started."""
    found: dict[str, Application] = {}
    addresses = {f"{name}_address": f"127.0.0.1:{free_port()}" for name in SERVICES}
    for name in SERVICES:
        settings = importlib.import_module(f"services.{name}.settings").Settings
        compose = importlib.import_module(f"services.{name}.composition").compose
        found[name] = compose(settings(data=tmp_path, **addresses))
    yield found
    for one in found.values():
        one.platform.database.close()


def test_every_contract_service_is_served_by_exactly_one_of_the_four(applications):
    served = [servicer.name for one in applications.values() for servicer in one.servicers]
    expected = {method.descriptor.containing_service.full_name for method in METHODS}
    # Three of them have operations, which each shows and only the one that began them works on.
    for _ in range(2):
        served.remove("google.longrunning.Operations")
    assert sorted(served) == sorted(expected)


def test_every_rpc_is_implemented(applications):
    implementations = {s.name: s.implementation for a in applications.values() for s in a.servicers}
    for method in METHODS:
        service = method.descriptor.containing_service.full_name
        own = type(implementations[service])
        assert method.descriptor.name in vars(own), f"{method.path} is not in {own.__name__}"
