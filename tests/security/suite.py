"""The four services as they are composed, in one process, with two tenants in them."""

from __future__ import annotations

import asyncio
import datetime as dt
import importlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import field_mask_pb2, message_factory
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Value
from touchstone.assignment.v1 import (
    audience_pb2,
    audience_service_pb2,
    domain_pb2,
    domain_service_pb2,
    experiment_pb2,
    experiment_service_pb2,
    layer_pb2,
    schema_pb2,
    schema_service_pb2,
)
from touchstone.assignment.v1 import layer_service_pb2 as layer_service
from touchstone.attribution.v1 import (
    attribution_pb2,
    attribution_service_pb2,
    calibration_pb2,
    calibration_service_pb2,
    grouping_service_pb2,
    report_service_pb2,
    schedule_service_pb2,
    spend_service_pb2,
)
from touchstone.common.v1 import filter_pb2, unit_pb2
from touchstone.events.v1 import (
    erasure_service_pb2,
    event_pb2,
    events_service_pb2,
    identity_service_pb2,
)
from touchstone.results.v1 import (
    analysis_plan_pb2,
    analysis_plan_service_pb2,
    metric_pb2,
    metric_service_pb2,
)

from shared.errors import DomainError
from shared.security.caller import Role
from shared.security.keys import ApiKey, SqlKeyStore, make_key
from shared.server.run import Platform, RunningServer, start_server
from shared.server.status import from_rpc_error
from shared.settings import SERVICES
from shared.testing.ports import free_port
from shared.testing.serving import Metadata, bearer
from tests.security.contracts import KEY_ID, Method, condition, methods

# Stands in everything of the first tenant that another one must never see.
SECRET = b"geheim"
EVERY_ROLE = frozenset(Role)


@dataclass
class Answer:
    """What a call ended with: messages or an error."""

    messages: list[Message] = field(default_factory=list)
    error: DomainError | None = None

    @property
    def text(self) -> bytes:
        parts = [m.SerializeToString() for m in self.messages]
        return b"".join(parts) + (self.error.message.encode() if self.error else b"")


class Suite:
    """Channels to the running services, and keys of the tenants alpha and beta."""

    def __init__(self, running: dict[str, RunningServer]) -> None:
        self.running = running
        self.platform: Platform = running["assignment"].application.platform
        self.alpha = self.key("alpha", EVERY_ROLE)
        self.beta = self.key("beta", EVERY_ROLE)
        self._by_service = {
            servicer.name: grpc.insecure_channel(server.address)
            for server in running.values()
            for servicer in server.application.servicers
        }

    def key(self, project: str, roles: frozenset[Role]) -> Metadata:
        """The metadata of a new key."""
        new = make_key(self.platform.ids, project, "geheim key", roles, self.platform.clock.now())
        self.store(new.key)
        return bearer(new.text)

    def store(self, key: ApiKey) -> None:
        with self.platform.database.begin() as connection:
            keys = SqlKeyStore(connection)
            if not keys.has_project(key.project):
                keys.add_project(key.project, key.create_time)
            keys.add(key)

    def call(self, method: Method, body: bytes | Message, metadata: Metadata) -> Answer:
        """Calls an RPC with a request, or with any bytes."""
        channel = self._by_service[method.descriptor.containing_service.full_name]
        data = body.SerializeToString() if isinstance(body, Message) else body
        reply = message_factory.GetMessageClass(method.descriptor.output_type)
        answer = Answer()
        # The stubs of grpc know no call without a serialiser.
        shape: Any = channel.unary_stream if method.streams else channel.unary_unary
        try:
            found = shape(method.path)(data, metadata=metadata, timeout=60)
            for part in found if method.streams else [found]:
                answer.messages.append(reply.FromString(part))
                if method.rule is not None and method.rule.watch:
                    found.cancel()  # it would go on for ever
                    break
        except grpc.RpcError as error:
            answer.error = from_rpc_error(error)  # type: ignore[arg-type]  # it is a Call as well
        return answer

    def close(self) -> None:
        for channel in self._by_service.values():
            channel.close()


@contextmanager
def running_suite(folder: Path, **settings: Any) -> Iterator[Suite]:
    """The suite on free ports over a folder; the first tenant owns one thing of each kind."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def wait(work):
        return asyncio.run_coroutine_threadsafe(work, loop).result(60)

    settings |= {f"{name}_address": f"127.0.0.1:{free_port()}" for name in SERVICES}
    running: dict[str, RunningServer] = {
        name: wait(_start(name, folder, settings)) for name in SERVICES
    }
    suite = Suite(running)
    populate(suite)
    try:
        yield suite
    finally:
        suite.close()
        for server in running.values():
            wait(server.drain())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        del suite, running
        loop.close()


async def _start(name: str, folder: Path, chosen: dict[str, Any]) -> RunningServer:
    settings = importlib.import_module(f"services.{name}.settings").Settings
    compose = importlib.import_module(f"services.{name}.composition").compose
    return await start_server(compose(settings(data=folder, **chosen)))


def populate(suite: Suite) -> None:
    """Makes what the requests of `contracts` name, in the project alpha."""
    now = suite.platform.clock.now()
    new = make_key(suite.platform.ids, "alpha", "geheim", frozenset({Role.VIEWER}), now)
    suite.store(replace(new.key, key_id=KEY_ID))
    by_name = {method.descriptor.name: method for method in methods()}
    parent = "projects/alpha"
    requests = {
        "CreateLayer": layer_service.CreateLayerRequest(
            parent=parent,
            layer_id="lay",
            layer=layer_pb2.Layer(
                display_name="geheim",
                unit_type="user",
                parameters=[
                    layer_pb2.Parameter(key="word", default_value=Value(string_value="geheim"))
                ],
            ),
        ),
        "CreateDomain": domain_service_pb2.CreateDomainRequest(
            parent=parent,
            domain_id="dom",
            domain=domain_pb2.Domain(
                display_name="geheim", layer=f"{parent}/layers/lay", traffic_slots=1000
            ),
        ),
        "CreateHoldout": domain_service_pb2.CreateHoldoutRequest(
            parent=parent,
            holdout_id="hol",
            holdout=domain_pb2.Holdout(display_name="geheim", slots=1),
        ),
        "CreateUnitType": schema_service_pb2.CreateUnitTypeRequest(
            parent=parent,
            unit_type_id="user",
            unit_type=schema_pb2.UnitType(display_name="geheim"),
        ),
        "CreateAttribute": schema_service_pb2.CreateAttributeRequest(
            parent=parent,
            attribute_id="country",
            attribute=schema_pb2.Attribute(
                display_name="geheim", type=schema_pb2.ATTRIBUTE_TYPE_STRING
            ),
        ),
        "CreateExperiment": experiment_service_pb2.CreateExperimentRequest(
            parent=parent,
            experiment_id="exp",
            experiment=experiment_pb2.Experiment(
                display_name="geheim",
                hypothesis="geheim",
                layer=f"{parent}/layers/lay",
                unit_type="user",
                traffic_slots=9000,
                variants=[
                    experiment_pb2.Variant(key="geheim-a", weight=5000),
                    experiment_pb2.Variant(key="geheim-b", weight=5000),
                ],
                control_variant="geheim-a",
            ),
        ),
        "CreateAudience": audience_service_pb2.CreateAudienceRequest(
            parent=parent,
            audience_id="lis",
            audience=audience_pb2.Audience(id_list=audience_pb2.IdList(unit_type="user")),
        ),
        "UploadAudienceIds": audience_service_pb2.UploadAudienceIdsRequest(
            name=f"{parent}/audiences/lis", upload_id="up", ids=["geheim"]
        ),
        "CommitAudienceIds": audience_service_pb2.CommitAudienceIdsRequest(
            name=f"{parent}/audiences/lis", upload_id="up", parts=1
        ),
        "StartExperiment": experiment_service_pb2.StartExperimentRequest(
            name=f"{parent}/experiments/exp"
        ),
        "SetForcedVariant": experiment_service_pb2.SetForcedVariantRequest(
            experiment=f"{parent}/experiments/exp",
            forced_variant=experiment_service_pb2.ForcedVariant(
                unit=unit_pb2.UnitId(type="user", id="looking"), variant="geheim-a"
            ),
        ),
        "CreateMetric": metric_service_pb2.CreateMetricRequest(
            parent=parent,
            metric_id="met",
            metric=metric_pb2.Metric(
                display_name="geheim",
                kind=metric_pb2.METRIC_KIND_PROPORTION,
                event_name="order",
                filter=filter_pb2.Filter(
                    compare=filter_pb2.FieldComparison(
                        field="properties.plan",
                        operator=filter_pb2.FILTER_OPERATOR_EQUAL,
                        values=[Value(string_value="geheim")],
                    )
                ),
            ),
        ),
        "CreateChannelGrouping": grouping_service_pb2.CreateChannelGroupingRequest(
            parent=parent,
            channel_grouping_id="gro",
            channel_grouping=attribution_pb2.ChannelGrouping(
                display_name="geheim", otherwise="geheim"
            ),
        ),
        "CreateReportSchedule": schedule_service_pb2.CreateReportScheduleRequest(
            parent=parent,
            report_schedule_id="sch",
            report_schedule=schedule_service_pb2.ReportSchedule(
                display_name="geheim",
                paused=True,
                daily=schedule_service_pb2.TimeOfDay(hour=6),
                run=report_service_pb2.RunAttributionRequest(
                    parent=parent, journeys=attribution_pb2.JourneyDefinition(event_name="order")
                ),
            ),
        ),
        "UpdateAnalysisPlan": analysis_plan_service_pb2.UpdateAnalysisPlanRequest(
            analysis_plan=analysis_plan_pb2.AnalysisPlan(
                name=f"{parent}/experiments/exp/analysisPlan", dimensions=["properties.geheim"]
            ),
            update_mask=field_mask_pb2.FieldMask(paths=["dimensions"]),
        ),
        "UpdateIdentityPolicy": identity_service_pb2.UpdateIdentityPolicyRequest(
            policy=identity_service_pb2.IdentityPolicy(
                name=f"{parent}/identityPolicy", blocked_ids=["geheim"]
            ),
            update_mask=field_mask_pb2.FieldMask(paths=["blocked_ids"]),
        ),
        "LogEvents": events_service_pb2.LogEventsRequest(events=list(_events(now))),
        "ImportSpend": spend_service_pb2.ImportSpendRequest(
            parent=parent,
            rows=[
                spend_service_pb2.Spend(
                    source="geheim",
                    channel="geheim-mail",
                    campaign="geheim",
                    day="2026-01-31",
                    amount=1,
                    currency="CNY",
                )
            ],
        ),
        "CreateCalibrationLink": calibration_service_pb2.CreateCalibrationLinkRequest(
            parent=parent,
            calibration_link_id="cal",
            calibration_link=calibration_pb2.CalibrationLink(
                description="geheim",
                channel="geheim-mail",
                metric=f"{parent}/metrics/met",
                experiment_comparison=calibration_pb2.ExperimentComparison(
                    experiment=f"{parent}/experiments/exp",
                    treatment_variant="geheim-b",
                    control_variant="geheim-a",
                ),
                treatment=calibration_pb2.CHANNEL_SWITCH_ON,
            ),
        ),
        "EraseUnit": erasure_service_pb2.EraseUnitRequest(
            parent=parent, unit=unit_pb2.UnitId(type="user", id="nobody"), reason="geheim"
        ),
    }
    for name, request in requests.items():
        answer = suite.call(by_name[name], request, suite.alpha)
        assert answer.error is None, f"{name}: {answer.error}"
        assert not getattr(answer.messages[0], "rejected", ()), answer.messages
    ruled = audience_service_pb2.CreateAudienceRequest(
        parent=parent,
        audience_id="aud",
        audience=audience_pb2.Audience(display_name="geheim", condition=condition()),
    )
    assert suite.call(by_name["CreateAudience"], ruled, suite.alpha).error is None
    refused = events_service_pb2.LogEventsRequest(events=list(_conflicting(now)))
    answer = suite.call(by_name["LogEvents"], refused, suite.alpha)
    assert len(getattr(answer.messages[0], "rejected", ())) == 1, answer
    _keep_report(suite, by_name)


def _keep_report(suite: Suite, by_name: dict[str, Method]) -> None:
    """Runs a report once its events can be read, and waits until it is there."""
    direct = attribution_pb2.DirectRule(channels=["geheim-typed"])
    journeys = attribution_pb2.JourneyDefinition(event_name="order", direct=direct)
    models = [
        attribution_pb2.Model(first_touch=attribution_pb2.FirstTouch()),
        attribution_pb2.Model(last_touch=attribution_pb2.LastTouch()),
    ]
    read = attribution_service_pb2.GetAttributionRequest(journeys=journeys)
    _until(suite, by_name["GetAttribution"], read, b"geheim-walk")
    run = report_service_pb2.RunAttributionRequest(
        parent="projects/alpha", report_id="rep", journeys=journeys, models=models, min_units=1
    )
    begun = suite.call(by_name["RunAttribution"], run, suite.alpha)
    assert begun.error is None, begun.error
    get = report_service_pb2.GetReportRequest(name="projects/alpha/attributionReports/rep")
    _until(suite, by_name["GetReport"], get, SECRET)


def _until(suite: Suite, method: Method, request: Message, text: bytes) -> None:
    """Calls until the answer holds the text."""
    end = time.monotonic() + 60
    while text not in (answer := suite.call(method, request, suite.alpha)).text:
        assert time.monotonic() < end, f"{method.path}: {answer}"
        time.sleep(0.1)


def _conflicting(now):
    for value in (1.0, 2.0):
        event = event_pb2.Event(
            event_id="e-1",
            unit=unit_pb2.UnitId(type="user", id="geheim"),
            source="geheim",
            conversion=event_pb2.Conversion(event_name="other", value=value),
        )
        event.event_time.FromDatetime(now)
        yield event


def _events(now):
    link = event_pb2.Event(event_id="geheim-link", unit=unit_pb2.UnitId(type="user", id="unit-1"))
    link.identify.other_unit.CopyFrom(unit_pb2.UnitId(type="device", id="geheim-device"))
    link.event_time.FromDatetime(now)
    yield link
    for number in range(40):
        unit = unit_pb2.UnitId(type="user", id=f"geheim-{number}")
        payloads: dict[str, Any] = {
            "exposure": event_pb2.Exposure(experiment="exp", variant=f"geheim-{'ab'[number % 2]}"),
            "touchpoint": event_pb2.Touchpoint(channel="geheim-mail", cost=1),
            "conversion": event_pb2.Conversion(event_name="order", value=float(number)),
        }
        for minute, (kind, payload) in enumerate(payloads.items()):
            event = event_pb2.Event(
                event_id=f"geheim-{kind}-{number}", unit=unit, source="shop", **{kind: payload}
            )
            event.event_time.FromDatetime(now - dt.timedelta(minutes=10 - minute))
            yield event
    # Another channel, so that models can differ.
    walk = event_pb2.Event(event_id="geheim-walk", unit=unit_pb2.UnitId(type="user", id="geheim-0"))
    walk.touchpoint.CopyFrom(event_pb2.Touchpoint(channel="geheim-walk", cost=1))
    walk.event_time.FromDatetime(now - dt.timedelta(minutes=11))
    yield walk
