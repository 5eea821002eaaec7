"""Devices, logins and customers: what is logged under one id reaches what is asked of another."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.assignment.v1 import experiment_pb2
from touchstone.assignment.v1 import experiment_service_pb2 as experiment_pb
from touchstone.assignment.v1 import experiment_service_pb2_grpc as experiment_grpc
from touchstone.attribution.v1 import attribution_pb2
from touchstone.attribution.v1 import attribution_service_pb2 as attribution_pb
from touchstone.attribution.v1 import attribution_service_pb2_grpc as attribution_grpc
from touchstone.common.v1 import identity_pb2, unit_pb2
from touchstone.events.v1 import event_pb2
from touchstone.events.v1 import events_service_pb2 as events_pb
from touchstone.events.v1 import events_service_pb2_grpc as events_grpc
from touchstone.events.v1 import identity_service_pb2 as identity_service_pb
from touchstone.events.v1 import identity_service_pb2_grpc as identity_grpc
from touchstone.results.v1 import metric_pb2, results_pb2
from touchstone.results.v1 import metric_service_pb2 as metric_pb
from touchstone.results.v1 import metric_service_pb2_grpc as metric_grpc
from touchstone.results.v1 import results_service_pb2 as results_service_pb
from touchstone.results.v1 import results_service_pb2_grpc as results_grpc

from tests.e2e.suite import Suite

START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
PROJECT = "projects/default"
RETROACTIVE = identity_pb2.STITCHING_RETROACTIVE
POINT_IN_TIME = identity_pb2.STITCHING_POINT_IN_TIME


class Shop:
    """Logs what happens, and asks who gets the credit."""

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self.token = ""
        self.ids = itertools.count()

    def log(self, unit: str, minute: float, *linked: str, **payload: Any) -> str:
        event = event_pb2.Event(
            event_id=f"{next(self.ids):06}",
            unit=named(unit),
            event_time=at(minute),
            linked_units=[named(other) for other in linked],
            **payload,
        )
        stub = events_grpc.EventsServiceStub(self.suite.channel("events"))
        request = events_pb.LogEventsRequest(events=[event])
        reply = stub.LogEvents(request, metadata=self.suite.metadata)
        assert reply.accepted == 1, reply
        self.token = reply.consistency_token
        return event.event_id

    def touch(self, unit: str, minute: float, channel: str, *linked: str) -> None:
        self.log(unit, minute, *linked, touchpoint=event_pb2.Touchpoint(channel=channel))

    def buy(self, unit: str, minute: float, name: str, value: float = 1) -> None:
        self.log(unit, minute, conversion=event_pb2.Conversion(event_name=name, value=value))

    def link(self, unit: str, other: str, minute: float, unlink: bool = False) -> None:
        action = event_pb2.IDENTIFY_ACTION_UNLINK if unlink else event_pb2.IDENTIFY_ACTION_LINK
        self.log(unit, minute, identify=event_pb2.Identify(other_unit=named(other), action=action))

    def credits(self, name: str, stitching: int = RETROACTIVE) -> list[tuple[str, str, float]]:
        """Customer, channel and weight of each credit, sorted."""
        stub = attribution_grpc.AttributionServiceStub(self.suite.channel("attribution"))
        request = attribution_pb.StreamCreditsRequest(
            journeys=attribution_pb2.JourneyDefinition(
                event_name=name,
                unit_type="customer",
                stitching=stitching,  # type: ignore[arg-type]
            ),
            model=attribution_pb2.Model(linear=attribution_pb2.Linear()),
            consistency_token=self.token,
        )
        parts = list(stub.StreamCredits(request, metadata=self.suite.metadata))
        provenance = parts[-1].summary.provenance
        found = [credit for part in parts for credit in part.credits]
        assert {c.identity_version for c in found} <= {provenance.identity_version}
        assert provenance.identity_version.startswith("p0-e")
        assert provenance.journeys.stitching == stitching
        return sorted((c.unit.id, c.channel, c.weight) for c in found)

    def identity(self, unit: str) -> identity_service_pb.ResolveIdentityResponse:
        stub = identity_grpc.IdentityServiceStub(self.suite.channel("events"))
        request = identity_service_pb.ResolveIdentityRequest(
            parent=PROJECT, unit=named(unit), consistency_token=self.token
        )
        reply: identity_service_pb.ResolveIdentityResponse = stub.ResolveIdentity(
            request, metadata=self.suite.metadata
        )
        return reply


def named(text: str) -> unit_pb2.UnitId:
    """`device:tablet` as a unit."""
    id_type, _, unit_id = text.partition(":")
    return unit_pb2.UnitId(type=id_type, id=unit_id)


def at(minute: float) -> Timestamp:
    time = Timestamp()
    time.FromDatetime(START + dt.timedelta(minutes=minute))
    return time


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    running = Suite(tmp_path_factory.mktemp("identity") / "data")
    running.start()
    yield Shop(running)
    assert running.stop() == 0


def test_the_channels_of_a_device_are_credited_when_its_customer_buys(shop: Shop) -> None:
    shop.touch("device:d1", 1, "search")
    shop.touch("device:d1", 2, "display")
    shop.link("device:d1", "login:l1", 3)
    shop.link("login:l1", "customer:c1", 4)
    shop.buy("customer:c1", 5, "order-1")
    assert shop.credits("order-1") == [("c1", "display", 0.5), ("c1", "search", 0.5)]
    shown = shop.suite.run("identity", "resolve", "device", "d1", "-o", "json")
    assert json.loads(shown.stdout)["identity"]["canonical"] == {"type": "customer", "id": "c1"}


def test_a_shared_tablet_is_the_first_customers_except_for_what_names_the_other(shop: Shop) -> None:
    shop.link("device:tablet", "customer:ann", 0)
    shop.link("device:tablet", "customer:bob", 1)
    shop.touch("device:tablet", 2, "mail")
    shop.touch("device:tablet", 3, "push", "customer:bob")
    shop.buy("customer:ann", 4, "order-2")
    shop.buy("customer:bob", 4, "order-2")
    assert shop.credits("order-2") == [("ann", "mail", 1.0), ("bob", "push", 1.0)]
    shown = shop.suite.run("identity", "edges", "device", "tablet", "-o", "csv")
    assert "active" in shown.stdout.splitlines()[1]
    assert "refused_limit" in shown.stdout.splitlines()[2]


def test_one_phone_with_many_customer_numbers_merges_none_of_them(shop: Shop) -> None:
    shop.touch("phone:+46", 0, "sms")
    for number in range(5):
        shop.link("customer:n" + str(number), "phone:+46", 1 + number)
        shop.buy(f"customer:n{number}", 10, "order-3")
    assert shop.credits("order-3") == [("n0", "sms", 1.0)]
    assert len(shop.identity("customer:n4").identity.members) == 1


def test_the_policy_is_shown_and_set_from_the_command_line(shop: Shop) -> None:
    def policy(*arguments: str) -> dict[str, Any]:
        done = shop.suite.run("identity", "policy", *arguments, "-o", "json")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    assert policy()["version"] == "0"
    tried = policy("--allow", "household=9", "--block", "Demo", "--dry-run")
    assert {"type": "household", "limit": 9, "rank": 0} in tried["id_types"]
    assert "demo" in tried["blocked_ids"]
    assert policy()["version"] == "0"
    wrong = shop.suite.run("identity", "policy", "--allow", "household=many", status=2)
    assert "TYPE=NUMBER" in wrong.stderr


def test_after_an_unlink_the_credit_is_another(shop: Shop) -> None:
    shop.touch("device:sold", 0, "video")
    shop.link("device:sold", "customer:old", 1)
    shop.buy("customer:old", 5, "order-4")
    shop.buy("customer:new", 5, "order-4")
    assert shop.credits("order-4") == [("old", "video", 1.0)]
    before = shop.identity("device:sold").identity_version
    shop.link("device:sold", "customer:old", 6, unlink=True)
    assert shop.credits("order-4") == []
    shop.link("device:sold", "customer:new", 7)
    assert shop.credits("order-4") == [("new", "video", 1.0)]
    assert shop.identity("device:sold").identity_version != before


def test_a_point_in_time_differs_in_the_credit_of_what_came_before_the_login(shop: Shop) -> None:
    shop.touch("device:late", 1, "before")
    shop.link("device:late", "customer:kim", 2)
    shop.touch("device:late", 3, "after")
    shop.touch("customer:kim", 3, "own")
    shop.buy("customer:kim", 4, "order-5")
    third = 1 / 3
    assert shop.credits("order-5") == [
        ("kim", "after", third),
        ("kim", "before", third),
        ("kim", "own", third),
    ]
    assert shop.credits("order-5", POINT_IN_TIME) == [("kim", "after", 0.5), ("kim", "own", 0.5)]


def experiment(shop: Shop, name: str, unit_type: str) -> None:
    """A running experiment on units of a type, with one metric of its own."""
    metric_grpc.MetricServiceStub(shop.suite.channel("results")).CreateMetric(
        metric_pb.CreateMetricRequest(
            parent=PROJECT,
            metric_id=name,
            metric=metric_pb2.Metric(kind=metric_pb2.METRIC_KIND_MEAN, event_name=name),
        ),
        metadata=shop.suite.metadata,
    )
    stub = experiment_grpc.ExperimentServiceStub(shop.suite.channel("assignment"))
    request = experiment_pb.CreateExperimentRequest(
        parent=PROJECT,
        experiment_id=name,
        experiment=experiment_pb2.Experiment(
            unit_type=unit_type,
            variants=[experiment_pb2.Variant(key=key, weight=5000) for key in ("a", "b")],
            metrics=[f"{PROJECT}/metrics/{name}"],
        ),
    )
    stub.CreateExperiment(request, metadata=shop.suite.metadata)
    start = experiment_pb.StartExperimentRequest(name=f"{PROJECT}/experiments/{name}")
    stub.StartExperiment(start, metadata=shop.suite.metadata)


def expose(shop: Shop, name: str, unit: str, variant: str) -> None:
    shop.log(unit, 0, exposure=event_pb2.Exposure(experiment=name, variant=variant))


def results(shop: Shop, name: str, stitching: int = RETROACTIVE) -> results_pb2.Results:
    stub = results_grpc.ResultsServiceStub(shop.suite.channel("results"))
    request = results_service_pb.GetResultsRequest(
        experiment=f"{PROJECT}/experiments/{name}",
        consistency_token=shop.token,
        stitching=stitching,  # type: ignore[arg-type]
    )
    reply: results_service_pb.GetResultsResponse = stub.GetResults(
        request, metadata=shop.suite.metadata
    )
    return reply.results


def sums(found: results_pb2.Results) -> list[tuple[int, float]]:
    return [(arm.units, arm.sum.value) for arm in found.metrics[0].arms]


def test_a_metric_of_customers_judges_an_experiment_on_devices(shop: Shop) -> None:
    experiment(shop, "on-devices", "device")
    for number, variant in enumerate("aabb"):
        shop.link(f"device:x{number}", f"customer:x{number}", 0)
        expose(shop, "on-devices", f"device:x{number}", variant)
        shop.buy(f"customer:x{number}", 1, "on-devices", 10.0**number)
    found = results(shop, "on-devices")
    assert sums(found) == [(2, 11.0), (2, 1100.0)]
    assert found.provenance.identity_version.startswith("p0-e")
    shop.link("device:x9", "customer:x0", 2)
    shop.buy("customer:x0", 3, "on-devices", 7.0)
    found = results(shop, "on-devices")
    assert sums(found) == [(2, 10.0), (2, 1100.0)]
    assert (found.ambiguous_exposures, found.ambiguous_conversions) == (0, 2)


def test_a_metric_of_devices_judges_an_experiment_on_customers(shop: Shop) -> None:
    experiment(shop, "on-customers", "customer")
    for number, variant in enumerate("ab"):
        expose(shop, "on-customers", f"customer:y{number}", variant)
        for device in range(2):
            shop.link(f"device:y{number}{device}", f"customer:y{number}", 5)
            shop.buy(f"device:y{number}{device}", 1 + device, "on-customers", 10.0**number)
    assert sums(results(shop, "on-customers")) == [(1, 2.0), (1, 20.0)]
    shown = shop.suite.run("results", "show", "on-customers", "--point-in-time", "-o", "json")
    assert (
        json.loads(shown.stdout)["results"]["provenance"]["stitching"] == "STITCHING_POINT_IN_TIME"
    )
    then = results(shop, "on-customers", POINT_IN_TIME)
    assert sums(then) == [(1, 0.0), (1, 0.0)]
    assert then.provenance.stitching == POINT_IN_TIME
