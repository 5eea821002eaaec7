"""Log records through the gRPC door of the composed service, down to the tables."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as collector
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc
from pydantic import ValidationError
from touchstone.events.v1 import event_pb2, rejected_events_service_pb2_grpc
from touchstone.events.v1 import rejected_events_service_pb2 as rejected_pb

from services.events.api.otlp_wire import MOST_PARTS, RECORD_BYTES
from services.events.composition import compose
from services.events.settings import Settings
from shared.clock import SystemClock
from shared.errors import Code, DomainError
from shared.lake.snapshot import LakeEventTables
from shared.security.bootstrap import make_owner_key
from shared.security.caller import Role
from shared.server.run import start_server
from shared.server.status import from_rpc_error
from shared.testing.ports import free_port
from shared.testing.serving import add_key, bearer

TIME_NS = 1_790_000_000_123_456_789
SPLIT = {
    "feature_flag.key": "checkout",
    "feature_flag.result.variant": "treatment",
    "feature_flag.result.reason": "split",
    "feature_flag.context.id": "u1",
}


def export(
    *records: dict[str, Any],
    resource: dict[str, str] | None = None,
    scope: tuple[str, str] = ("hooks", "1.0"),
    **fields: Any,
) -> collector.ExportLogsServiceRequest:
    """An export of records with these attributes, each a nanosecond later than the last."""
    request = collector.ExportLogsServiceRequest()
    logs = request.resource_logs.add()
    for key, text in (resource or {"service.name": "shop", "service.instance.id": "pod-1"}).items():
        logs.resource.attributes.add(key=key).value.string_value = text
    scoped = logs.scope_logs.add()
    scoped.scope.name, scoped.scope.version = scope
    for place, attributes in enumerate(records):
        defaults = {"time_unix_nano": TIME_NS + place, "event_name": "feature_flag.evaluation"}
        record = scoped.log_records.add(**(defaults | fields))
        for key, value in attributes.items():
            kind = {str: "string_value", bool: "bool_value", int: "int_value"}[type(value)]
            setattr(record.attributes.add(key=key).value, kind, value)
    return request


@dataclass
class Door:
    """A running service and how to send to it."""

    settings: Settings
    stub: "logs_service_pb2_grpc.LogsServiceStub"
    key: tuple[tuple[str, str], ...]
    rejected: "rejected_events_service_pb2_grpc.RejectedEventsServiceAsyncStub"

    async def kept(self) -> list[rejected_pb.RejectedEvent]:
        """The rejected events, the newest first."""
        request = rejected_pb.ListRejectedEventsRequest(parent="projects/acme")
        reply = await self.rejected.ListRejectedEvents(request, metadata=self.key)
        return list(reply.rejected_events)

    async def event(self, name: str) -> event_pb2.Event:
        request = rejected_pb.GetRejectedEventRequest(name=name)
        reply = await self.rejected.GetRejectedEvent(request, metadata=self.key)
        return reply.rejected_event.event

    async def failure(self, request: collector.ExportLogsServiceRequest) -> DomainError:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await self.send(request)
        return from_rpc_error(raised.value)

    async def send(
        self, request: collector.ExportLogsServiceRequest
    ) -> collector.ExportLogsPartialSuccess:
        reply: collector.ExportLogsServiceResponse
        reply = await self.stub.Export(request, metadata=self.key)
        return reply.partial_success

    async def rows(self, table: str, count: int) -> list[dict[str, Any]]:
        """The rows of a table, when there are as many as wanted."""
        for _ in range(200):
            with LakeEventTables(self.settings.lake_path).snapshot("acme").read() as now:
                rows: list[dict[str, Any]] = now[table].to_pyarrow().to_pylist()
            if len(rows) >= count:
                return rows
            await asyncio.sleep(0.05)
        raise AssertionError(f"{len(rows)} rows of {count}")


def settings(folder: Path, **changes: Any) -> Settings:
    address = f"127.0.0.1:{free_port()}"
    return Settings(data=folder, events_address=address, flush_interval_s=0.05, **changes)


@asynccontextmanager
async def opened(folder: Path, **changes: Any) -> AsyncIterator[Door]:
    application = compose(settings(folder, **changes))
    running = await start_server(application)
    key = add_key(application.platform, "acme", Role.INGEST, Role.EXPERIMENTER)
    async with grpc.aio.insecure_channel(running.address) as channel:
        stub = logs_service_pb2_grpc.LogsServiceStub(channel)
        rejected = rejected_events_service_pb2_grpc.RejectedEventsServiceStub(channel)
        yield Door(application.settings, stub, bearer(key.text), rejected)  # type: ignore[arg-type]
    await running.drain()


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with opened(tmp_path) as found:
        yield found


async def test_chosen_variant_becomes_an_exposure(door: Door) -> None:
    more = {"feature_flag.provider.name": "flagd", "feature_flag.version": "7"}
    partial = await door.send(export(SPLIT | more | {"feature_flag.set.id": "prod"}))
    assert (partial.rejected_log_records, partial.error_message) == (0, "")
    [row] = await door.rows("exposures", 1)
    assert (row["experiment"], row["variant"], row["unit_type"], row["unit_id"]) == (
        "checkout",
        "treatment",
        "user",
        "u1",
    )
    assert (row["config_version"], row["reason"], row["source"]) == (7, "split", "shop")
    assert row["evaluator"] == "flagd (hooks 1.0)"
    assert row["properties"] == '{"flag_set":"prod"}'
    assert row["event_time"].isoformat() == "2026-09-21T14:13:20.123456+00:00"


async def test_any_other_evaluation_of_a_unit_is_kept_as_one(door: Door) -> None:
    error = {
        "feature_flag.result.reason": "ERROR",
        "feature_flag.result.value": True,
        "error.type": "flag_not_found",
        "error.message": "no such flag",
        "feature_flag.set.id": "prod",
        "feature_flag.version": "v7",
    }
    partial = await door.send(export(SPLIT | error, scope=("hooks", "")))
    assert partial.error_message == ""
    [row] = await door.rows("evaluations", 1)
    names = ("flag", "variant", "reason", "evaluator", "flag_set", "version", "value_json")
    assert [row[name] for name in names] == [
        *("checkout", "treatment", "error", None, "prod", "v7", "true"),
    ]
    assert (row["error_type"], row["properties"]) == (
        "flag_not_found",
        '{"error_message":"no such flag"}',
    )


async def test_name_may_stand_in_an_attribute_and_time_where_it_was_observed(door: Door) -> None:
    named = SPLIT | {"event.name": "feature_flag.evaluation"}
    request = export(named, event_name="", time_unix_nano=0, observed_time_unix_nano=TIME_NS)
    assert (await door.send(request)).error_message == ""
    assert [r["unit_id"] for r in await door.rows("exposures", 1)] == ["u1"]


@pytest.mark.parametrize("place", ["record", "resource"])
async def test_unit_type_may_be_named(door: Door, place: str) -> None:
    named = {"touchstone.unit.type": "device"}
    record = SPLIT | (named if place == "record" else {})
    resource = {"touchstone.unit.type": "browser"} if place == "record" else named
    await door.send(export(record, resource=resource))
    assert [r["unit_type"] for r in await door.rows("exposures", 1)] == ["device"]


async def test_sdk_is_named_where_the_scope_has_no_version(door: Door) -> None:
    sdk = {"telemetry.sdk.language": "python", "telemetry.sdk.version": "1.45.2"}
    provider = {"feature_flag.provider_name": "p"}
    await door.send(export(SPLIT | provider, resource=sdk, scope=("shop", "")))
    assert [r["evaluator"] for r in await door.rows("exposures", 1)] == ["p (python 1.45.2)"]


async def test_refused_rejected_and_ignored_records_are_told_apart(door: Door) -> None:
    without = {
        name: {k: v for k, v in SPLIT.items() if k != f"feature_flag.{name}"}
        for name in ("context.id", "key")
    }
    bad_unit = SPLIT | {"feature_flag.context.id": "u\x001"}
    request = export(SPLIT, without["context.id"], without["context.id"], without["key"], bad_unit)
    other = export({}, {}, event_name="exception").resource_logs
    request.resource_logs.extend([*other, *export(SPLIT, time_unix_nano=0).resource_logs])
    partial = await door.send(request)
    assert partial.rejected_log_records == 5
    for part in (
        "2 refused without feature_flag.context.id: set a targeting key",
        "1 refused without feature_flag.key",
        "1 refused without a time",
        "1 rejected, kept with their reasons: unit.id ",
        "2 ignored, which are not feature_flag.evaluation",
    ):
        assert part in partial.error_message
    assert len(await door.rows("exposures", 1)) == 1


@pytest.mark.parametrize(
    ("missing", "field"),
    [("key", "evaluation.flag"), ("context.id", "unit.id"), ("time", "event_time")],
)
async def test_refused_records_are_kept_once_with_what_they_say(
    door: Door, missing: str, field: str
) -> None:
    record = {k: v for k, v in SPLIT.items() if k != f"feature_flag.{missing}"}
    times: dict[str, Any] = {"time_unix_nano": 0} if missing == "time" else {}
    for _ in range(2):
        assert (await door.send(export(record, **times))).rejected_log_records == 1
    [kept] = await door.kept()
    assert (kept.field, kept.source, kept.door) == (field, "shop", "LogsService/Export")
    event = await door.event(kept.name)
    assert event.event_id == kept.event_id
    told = event.exposure if event.HasField("exposure") else event.evaluation
    assert told.variant == "treatment"
    assert event.unit.id == ("" if missing == "context.id" else "u1")
    assert event.HasField("event_time") is (missing != "time")


async def test_record_that_is_too_long_is_refused_unread(door: Door) -> None:
    long = SPLIT | {"feature_flag.result.value": "x" * RECORD_BYTES}
    partial = await door.send(export(long, SPLIT))
    assert partial.rejected_log_records == 1
    assert f"1 refused of more than {RECORD_BYTES} bytes" in partial.error_message
    assert len(await door.rows("exposures", 1)) == 1


@pytest.mark.parametrize("kind", ["ignored", "refused", "stored"])
async def test_every_record_counts_against_the_rate(tmp_path: Path, kind: str) -> None:
    record: dict[str, Any] = {} if kind == "refused" else SPLIT
    name = "exception" if kind == "ignored" else "feature_flag.evaluation"
    async with opened(tmp_path, rate_events_per_s=10) as door:
        await door.send(export(*([record] * 40), event_name=name))
        error = await door.failure(export(record, event_name=name))
    assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert error.retry_after_s is not None


async def test_bytes_count_against_the_rate_before_they_are_read(tmp_path: Path) -> None:
    async with opened(tmp_path, rate_bytes_per_s=1000) as door:
        await door.send(export({"a": "x" * 9000}, event_name="exception"))
        error = await door.failure(export(SPLIT))
    assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, "RATE_LIMITED")


async def test_too_many_records_are_told_the_limit_and_count(tmp_path: Path) -> None:
    """Also when nothing is done with them: to look at them was work."""
    request = collector.ExportLogsServiceRequest()
    scoped = request.resource_logs.add().scope_logs.add()
    for _ in range(MOST_PARTS):
        scoped.log_records.add()
    async with opened(tmp_path, rate_events_per_s=1000) as door:
        error = await door.failure(request)
        assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
        assert f"at most {MOST_PARTS}" in error.message
        assert error.retry_after_s is None
        assert (await door.failure(export(SPLIT))).reason == "RATE_LIMITED"


async def test_export_that_is_large_for_its_rate_is_stored_whole(tmp_path: Path) -> None:
    """Were its parts charged one by one, it could be sent again for ever."""
    records = [SPLIT | {"feature_flag.context.id": f"u{n}"} for n in range(2500)]
    async with opened(tmp_path, rate_events_per_s=100) as door:
        assert (await door.send(export(*records))).error_message == ""
        assert len(await door.rows("exposures", 2500)) == 2500


async def test_ignored_records_alone_are_no_rejection(door: Door) -> None:
    partial = await door.send(export({}, event_name="exception"))
    assert partial.rejected_log_records == 0
    assert partial.error_message == (
        "log records: 1 ignored, which are not feature_flag.evaluation"
    )


async def test_empty_export_is_answered(door: Door) -> None:
    assert (await door.send(collector.ExportLogsServiceRequest())).error_message == ""


async def test_export_that_comes_again_is_counted_once(door: Door) -> None:
    records = [{**SPLIT, "feature_flag.context.id": f"u{n}"} for n in range(3)]
    for _ in range(2):
        assert (await door.send(export(*records))).error_message == ""
    for resource in ({"service.instance.id": "pod-2"}, {"service.name": "other"}):
        assert (await door.send(export(*records, resource=resource))).error_message == ""
    assert len(await door.rows("exposures", 9)) == 9


async def test_evaluations_of_one_moment_are_told_apart(door: Door) -> None:
    """A clock of milliseconds, and nothing of them is lost to a conflict."""
    cached = SPLIT | {"feature_flag.result.reason": "cached"}
    other = SPLIT | {"feature_flag.result.variant": "control"}
    request = export(SPLIT, cached, other, time_unix_nano=TIME_NS)
    in_span = export(SPLIT, time_unix_nano=TIME_NS, span_id=b"12345678")
    request.resource_logs.extend(in_span.resource_logs)
    assert (await door.send(request)).error_message == ""
    assert len(await door.rows("exposures", 3)) == 3
    assert len(await door.rows("evaluations", 1)) == 1


async def test_one_export_may_hold_more_than_a_batch_of_events(door: Door) -> None:
    records = [SPLIT | {"feature_flag.context.id": f"u{n}"} for n in range(5001)]
    assert (await door.send(export(*records))).error_message == ""
    assert len(await door.rows("exposures", 5001)) == 5001


async def test_long_descriptions_are_cut_and_long_names_are_rejected(door: Door) -> None:
    long = "é" * 200
    described = {
        "feature_flag.provider.name": long,
        "feature_flag.set.id": long,
        "feature_flag.version": long,
    }
    evaluation = SPLIT | described | {"feature_flag.result.reason": long, "error.type": long}
    unnamed = SPLIT | {"feature_flag.key": "k" * 300}
    partial = await door.send(export(evaluation, unnamed, resource={"service.name": long}))
    assert partial.rejected_log_records == 1
    assert "evaluation.flag" in partial.error_message or "exposure" in partial.error_message
    [row] = await door.rows("evaluations", 1)
    assert row["evaluator"] == row["flag_set"] == row["source"] == "é" * 64
    assert (row["reason"], row["error_type"]) == ("é" * 32, "é" * 64)


async def test_door_needs_the_role_ingest(tmp_path: Path) -> None:
    application = compose(settings(tmp_path))
    running = await start_server(application)
    viewer = add_key(application.platform, "acme", Role.VIEWER)
    async with grpc.aio.insecure_channel(running.address) as channel:
        stub = logs_service_pb2_grpc.LogsServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.Export(export(SPLIT), metadata=bearer(viewer.text))
    assert raised.value.code() is grpc.StatusCode.PERMISSION_DENIED
    await running.drain()


async def test_store_that_is_away_is_unavailable_with_a_delay(tmp_path: Path) -> None:
    application = compose(settings(tmp_path))
    running = await start_server(application)
    key = add_key(application.platform, "acme", Role.INGEST)
    assert application.stop is not None
    await application.stop()
    async with grpc.aio.insecure_channel(running.address) as channel:
        stub = logs_service_pb2_grpc.LogsServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.Export(export(SPLIT), metadata=bearer(key.text))
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    error: DomainError = from_rpc_error(raised.value)
    assert error.retry_after_s is not None
    await running.drain()


async def test_retry_after_a_restart_is_a_duplicate(tmp_path: Path) -> None:
    """The ids are derived, so that nothing of the door needs to be remembered."""
    chosen = settings(tmp_path)
    key = ""
    for _ in range(2):
        application = compose(chosen)
        platform = application.platform
        key = key or (
            make_owner_key(
                platform.database, platform.audit_keys, SystemClock(), platform.ids, "acme"
            ).text
        )
        running = await start_server(application)
        async with grpc.aio.insecure_channel(running.address) as channel:
            stub = logs_service_pb2_grpc.LogsServiceStub(channel)
            rejected = rejected_events_service_pb2_grpc.RejectedEventsServiceStub(channel)
            door = Door(chosen, stub, bearer(key), rejected)
            partial = await door.send(export(SPLIT))
            assert (partial.rejected_log_records, partial.error_message) == (0, "")
            assert len(await door.rows("exposures", 1)) == 1
        await running.drain()


@pytest.mark.parametrize("reasons", ["", "split,", "static", "split,DEFAULT", "a b"])
def test_reasons_that_never_choose_are_no_setting(tmp_path: Path, reasons: str) -> None:
    with pytest.raises(ValidationError, match="makes no exposure"):
        Settings(data=tmp_path, otlp_exposure_reasons=reasons)


def test_reasons_may_be_more(tmp_path: Path) -> None:
    chosen = Settings(data=tmp_path, otlp_exposure_reasons="Split, cached")
    assert chosen.otlp_reasons == {"split", "cached"}
