"""What a caller sees over a real connection, whatever goes wrong behind or before the handler."""

import asyncio

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from touchstone.assignment.v1 import assignment_service_pb2 as assignment_pb
from touchstone.assignment.v1 import assignment_service_pb2_grpc as assignment_rpc
from touchstone.attribution.v1 import attribution_pb2
from touchstone.attribution.v1 import attribution_service_pb2 as attribution_pb
from touchstone.attribution.v1 import attribution_service_pb2_grpc as attribution_rpc
from touchstone.common.v1 import access_service_pb2 as pb
from touchstone.common.v1 import access_service_pb2_grpc as rpc
from touchstone.common.v1 import rpc_pb2, unit_pb2

from shared.errors import Code, DomainError, FieldViolation
from shared.server.status import from_rpc_error

GET_CALLER = "/touchstone.common.v1.AccessService/GetCaller"
CREATE_KEY = "/touchstone.common.v1.AccessService/CreateKey"
ASSIGN = "/touchstone.assignment.v1.AssignmentService/Assign"


async def failure(call):
    """The domain error that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


async def get_caller(served, **options):
    stub = rpc.AccessServiceStub(served.channel)
    return await stub.GetCaller(pb.GetCallerRequest(), metadata=served.owner, **options)


def raw(served, method, body):
    return served.channel.unary_unary(method)(body, metadata=served.owner)


async def test_good_call_passes_and_leaves_one_line(serve, handlers, log):
    async with serve() as served:
        assert (await get_caller(served)).project == "answered"
    (line,) = log.of("touchstone.access")
    assert (line["method"], line["code"], line["project"]) == (GET_CALLER, "OK", "demo")
    assert line["duration_ms"] > 0
    assert "Bearer" not in log.text


@pytest.mark.parametrize(
    ("method", "body"),
    [
        (GET_CALLER, b"\xff\xff\xff\xff"),
        (CREATE_KEY, b"\x0a\x05ab"),
        (CREATE_KEY, b"\x0a\x02\xff\xfe"),
        (CREATE_KEY, b"\x0a"),
    ],
    ids=["noise", "cut-off", "not-utf8", "lone-tag"],
)
async def test_bytes_that_are_no_request_are_invalid(serve, handlers, method, body):
    async with serve() as served:
        error = await failure(raw(served, method, body))
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "MALFORMED_REQUEST")
    assert str(len(body)) in error.message
    assert handlers.seen == []


async def test_unknown_fields_are_tolerated(serve):
    async with serve() as served:
        body = await raw(served, GET_CALLER, b"\x9a\x06\x03abc")
    assert pb.GetCallerResponse.FromString(body).project == "answered"


async def test_struct_nested_too_deeply_is_invalid(serve):
    # Built by hand: the encoder of a client refuses to make it.
    value = b"\x1a\x00"
    for _ in range(300):
        field = b"\x0a\x01a" + b"\x12" + _varint(len(value)) + value
        struct = b"\x0a" + _varint(len(field)) + field
        value = b"\x2a" + _varint(len(struct)) + struct
    unit = b"\x12" + _varint(len(struct)) + struct
    async with serve() as served:
        error = await failure(raw(served, ASSIGN, b"\x0a" + _varint(len(unit)) + unit))
        assert error.reason == "MALFORMED_REQUEST"
        attributes = Struct()
        attributes.update({"a": {"b": [1, {"c": "d"}]}})
        await raw(served, ASSIGN, _assign_request(attributes=attributes).SerializeToString())


def _varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def _assign_request(count=1, unit_id="u", attributes=None):
    ids = [unit_pb2.UnitId(type="user", id=unit_id)]
    unit = assignment_pb.UnitContext(ids=ids, attributes=attributes)
    return assignment_pb.AssignRequest(units=[unit] * count)


async def test_every_violation_is_named_at_once(serve, handlers):
    async with serve() as served:
        request = pb.CreateKeyRequest(display_name="x" * 121)
        request.roles.extend([rpc_pb2.Role.ValueType(number) for number in (1, 1, 77)])
        call = rpc.AccessServiceStub(served.channel).CreateKey(request, metadata=served.owner)
        error = await failure(call)
    assert error.reason == "INVALID_FIELD"
    fields = {violation.field for violation in error.violations}
    assert {"parent", "display_name", "roles", "roles[2]"} <= fields
    assert "77" in next(v.description for v in error.violations if v.field == "roles[2]")
    assert handlers.seen == []


async def test_thousands_of_violations_still_fit_a_status(serve):
    async with serve() as served:
        units = _assign_request(count=5000, unit_id="\x01" * 200).units
        request = assignment_pb.CheckHoldoutsRequest(units=units)
        stub = assignment_rpc.AssignmentServiceStub(served.channel)
        error = await failure(stub.CheckHoldouts(request, metadata=served.owner))
    assert error.code is Code.INVALID_ARGUMENT
    assert error.violations[0].field == "units[0].ids[0].id"


async def test_largest_error_still_fits_a_status(serve, handlers):
    async def do():
        raise DomainError(
            Code.INVALID_ARGUMENT,
            "INVALID_FIELD",
            "é" * 5000,
            violations=[FieldViolation("ü" * 500, "ö" * 500)] * 100,
        )

    handlers.do = do
    async with serve() as served:
        error = await failure(get_caller(served))
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert error.violations


async def test_domain_error_arrives_whole(serve, handlers):
    async def do():
        raise DomainError(
            Code.RESOURCE_EXHAUSTED,
            "OVERLOADED",
            "the queue is full",
            metadata={"limit": "queue"},
            violations=[FieldViolation("a.b", "is 3")],
            retry_after_s=1.5,
        )

    handlers.do = do
    async with serve() as served:
        error = await failure(get_caller(served))
    assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert error.message == "the queue is full"
    assert error.metadata["limit"] == "queue"
    assert error.violations == (FieldViolation("a.b", "is 3"),)
    assert error.retry_after_s == 1.5


async def test_unexpected_failure_tells_its_request_id_and_nothing_else(serve, handlers, log):
    async def do():
        raise KeyError("password hunter2")

    handlers.do = do
    async with serve() as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await get_caller(served)
    error = from_rpc_error(caught.value)
    assert (error.code, error.reason) == (Code.INTERNAL, "INTERNAL")
    request_id = dict(caught.value.trailing_metadata())["x-request-id"]
    assert request_id in error.message
    assert error.metadata["request_id"] == request_id
    (line,) = log.of("touchstone.errors")
    assert (line["exception"], line["request_id"]) == ("KeyError", request_id)
    assert any("test_kit_wire" in place for place in line["traceback"])
    assert "hunter2" not in error.message + log.text + str(caught.value.trailing_metadata())


async def test_request_id_of_the_caller_is_kept_when_it_is_a_plain_word(serve, log):
    async with serve() as served:
        stub = rpc.AccessServiceStub(served.channel)
        for given in ("order-77", "a b", "x" * 65):
            metadata = (*served.owner, ("x-request-id", given))
            await stub.GetCaller(pb.GetCallerRequest(), metadata=metadata)
    ids = [line["request_id"] for line in log.of("touchstone.access")]
    assert ids[0] == "order-77"
    assert [len(found) for found in ids[1:]] == [16, 16]


async def test_server_ends_a_call_that_takes_too_long(serve, handlers, log):
    ended = asyncio.Event()

    async def do():
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()

    handlers.do = do
    async with serve(default_call_s=0.2) as served:
        error = await failure(get_caller(served))
        assert ended.is_set()
    assert (error.code, error.reason) == (Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
    assert log.of("touchstone.access")[0]["code"] == "DEADLINE_EXCEEDED"


async def test_work_stops_at_the_clients_deadline(serve, handlers):
    ended = asyncio.Event()

    async def do():
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()

    handlers.do = do
    async with serve() as served:
        error = await failure(get_caller(served, timeout=0.3))
        assert error.code is Code.DEADLINE_EXCEEDED
        async with asyncio.timeout(5):
            await ended.wait()


async def test_work_stops_when_the_client_cancels(serve, handlers, log):
    started, ended = asyncio.Event(), asyncio.Event()

    async def do():
        started.set()
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()

    handlers.do = do
    async with serve() as served:
        stub = rpc.AccessServiceStub(served.channel)
        call = stub.GetCaller(pb.GetCallerRequest(), metadata=served.owner)
        await started.wait()
        call.cancel()
        async with asyncio.timeout(5):
            await ended.wait()
        await asyncio.sleep(0.05)
    assert [line["code"] for line in log.of("touchstone.access")] == ["CANCELLED"]
    assert log.of("touchstone.errors") == []


def stream(served, **options):
    stub = attribution_rpc.AttributionServiceStub(served.channel)
    request = attribution_pb.StreamCreditsRequest(
        journeys=attribution_pb2.JourneyDefinition(event_name="order"),
        model=attribution_pb2.Model(linear=attribution_pb2.Linear()),
    )
    return stub.StreamCredits(request, metadata=served.owner, **options)


async def test_stream_passes_whole(serve):
    async with serve() as served:
        got = [part.summary.credits async for part in stream(served)]
    assert got == [0, 1, 2]


async def test_failure_in_the_middle_of_a_stream_is_told(serve, handlers, log):
    async def do():
        raise ValueError("hunter2")

    handlers.do = do
    async with serve() as served:
        call = stream(served)
        assert (await call.read()).summary.credits == 0
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert from_rpc_error(caught.value).code is Code.INTERNAL
    assert "hunter2" not in str(caught.value) + log.text


async def test_stream_that_the_client_leaves_stops_working(serve, handlers, log):
    started = asyncio.Event()

    async def do():
        started.set()
        await asyncio.sleep(30)

    handlers.do = do
    async with serve() as served:
        call = stream(served)
        await call.read()
        await started.wait()
        call.cancel()
        async with asyncio.timeout(5):
            while not log.of("touchstone.access"):  # noqa: ASYNC110  a line of a log is no event
                await asyncio.sleep(0.01)
    assert [line["code"] for line in log.of("touchstone.access")] == ["CANCELLED"]


async def test_message_that_is_too_large_is_refused(serve, handlers):
    async with serve(max_message_bytes=4096) as served:
        stub = assignment_rpc.AssignmentServiceStub(served.channel)
        error = await failure(stub.Assign(_assign_request(2000), metadata=served.owner))
        assert error.code is Code.RESOURCE_EXHAUSTED
        assert (await get_caller(served)).project == "answered"
    assert len(handlers.seen) == 1


async def test_calls_above_the_cap_are_refused_at_once(serve, handlers):
    release = asyncio.Event()
    handlers.do = release.wait
    async with serve(max_concurrent_rpcs=2) as served:
        calls = [asyncio.ensure_future(get_caller(served)) for _ in range(6)]
        done, waiting = await asyncio.wait(calls, timeout=1)
        codes = {(await failure(call)).code for call in done}
        assert codes == {Code.RESOURCE_EXHAUSTED}
        assert len(waiting) == 2
        release.set()
        await asyncio.gather(*waiting)


async def test_health_and_reflection_need_no_key(serve):
    async with serve() as served:
        health = health_pb2_grpc.HealthStub(served.channel)
        async with asyncio.timeout(5):
            while True:
                found = await health.Check(health_pb2.HealthCheckRequest())
                if found.status == health_pb2.HealthCheckResponse.SERVING:
                    break
        name = health_pb2.HealthCheckRequest(service="touchstone.common.v1.AccessService")
        assert (await health.Check(name)).status == health_pb2.HealthCheckResponse.SERVING
        reflection = reflection_pb2_grpc.ServerReflectionStub(served.channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        async for reply in reflection.ServerReflectionInfo(iter([request])):
            names = {service.name for service in reply.list_services_response.service}
        assert "touchstone.assignment.v1.AssignmentService" in names


async def test_method_that_does_not_exist_is_unimplemented(serve):
    async with serve() as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw(served, "/touchstone.common.v1.AccessService/MakeCoffee", b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_metadata_that_is_too_large_does_not_hurt_the_server(serve):
    async with serve() as served:
        stub = rpc.AccessServiceStub(served.channel)
        metadata = (*served.owner, ("x-large", "x" * 70_000))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetCaller(pb.GetCallerRequest(), metadata=metadata)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await get_caller(served)).project == "answered"
