"""Exports are cut into pieces by their bytes, before anything of them is decoded."""

import random
import tracemalloc

import pytest
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as collector
from opentelemetry.proto.logs.v1 import logs_pb2

from services.events.api.otlp_records import RecordRule, read_records
from services.events.api.otlp_wire import (
    MOST_PARTS,
    ORIGIN_BYTES,
    PIECE_BYTES,
    PIECE_RECORDS,
    RECORD_BYTES,
    EncodedExport,
)
from shared.errors import Code, DomainError

RULE = RecordRule("user", frozenset({"split"}))


def cut(body: bytes) -> EncodedExport:
    export = EncodedExport(body)
    export.cut()
    return export


def field(tag: int, value: bytes) -> bytes:
    size, length = len(value), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([tag]) + length + bytes([size]) + value


def texts(export: EncodedExport) -> list[tuple[str, str, int, str]]:
    """Of each record: its resource, scope, time and body, as they are found in the pieces."""
    return [
        (
            logs_pb2.ResourceLogs.FromString(run.resource)
            .resource.attributes[0]
            .value.string_value,
            logs_pb2.ScopeLogs.FromString(run.scope).scope.name,
            record.time_unix_nano,
            record.body.string_value,
        )
        for runs in export.pieces
        for run in runs
        for record in logs_pb2.ScopeLogs.FromString(export.body[run.start : run.end]).log_records
    ]


@pytest.mark.parametrize("seed", range(8))
def test_pieces_hold_every_record_once_with_its_resource_and_scope(seed: int) -> None:
    draw = random.Random(seed)
    request, wanted = collector.ExportLogsServiceRequest(), []
    for resource in map(str, range(draw.randrange(5))):
        logs = request.resource_logs.add(schema_url="x" * draw.randrange(200))
        logs.resource.attributes.add(key="name").value.string_value = resource
        for scope in map(str, range(draw.randrange(4))):
            scoped = logs.scope_logs.add(schema_url="y" * draw.randrange(3))
            scoped.scope.name = scope
            for _ in range(draw.choice([0, 1, 400, 1500])):
                record = scoped.log_records.add(time_unix_nano=draw.randrange(1, 9))
                record.body.string_value = "z" * draw.randrange(1000)
                wanted.append((resource, scope, record.time_unix_nano, record.body.string_value))
    export = cut(request.SerializeToString())
    assert texts(export) == wanted
    for runs in export.pieces:
        assert sum(run.end - run.start for run in runs) <= PIECE_BYTES
        count = sum(
            len(logs_pb2.ScopeLogs.FromString(export.body[run.start : run.end]).log_records)
            for run in runs
        )
        assert count <= PIECE_RECORDS


def test_resource_and_scope_may_stand_behind_their_records() -> None:
    """No encoder that is known does so, and the format allows it."""
    record = field(0x12, logs_pb2.LogRecord(time_unix_nano=7).SerializeToString())
    scope = field(0x0A, field(0x0A, b"late"))
    resource = logs_pb2.ResourceLogs()
    resource.resource.attributes.add(key="name").value.string_value = "behind"
    inner = field(0x12, record + scope + record) + resource.SerializeToString()
    assert texts(cut(field(0x0A, inner))) == [("behind", "late", 7, "")] * 2


def test_fields_of_other_kinds_are_passed_over() -> None:
    """As a later version of the format may have them."""
    others = b"\x98\x06\x96\x01" + b"\x99\x06" + b"8" * 8 + b"\x9d\x06" + b"4" * 4
    record = field(0x12, logs_pb2.LogRecord(time_unix_nano=7).SerializeToString())
    body = others + field(0x0A, others + field(0x12, others + record + others))
    [[run]] = cut(body).pieces
    [found] = logs_pb2.ScopeLogs.FromString(body[run.start : run.end]).log_records
    assert found.time_unix_nano == 7


@pytest.mark.parametrize(
    "body",
    [
        b"\xff" * 11,
        b"\x0a",
        b"\x0a\x05\x12\x01",
        field(0x0A, b"\x12\x02\x12"),
        field(0x0A, field(0x12, b"\x12\x7f")),
        b"\x00\x00",
        b"\x0b\x0c",
        b"\x19\x00",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    ],
    ids=lambda body: body.hex(),
)
def test_bytes_that_are_no_export_are_told(body: bytes) -> None:
    with pytest.raises(DomainError, match="ExportLogsServiceRequest") as raised:
        cut(body)
    assert (raised.value.code, raised.value.reason) == (Code.INVALID_ARGUMENT, "MALFORMED_REQUEST")


@pytest.mark.parametrize(
    "body",
    [
        field(0x0A, field(0x12, b"\x12\x00" * 1_990_000)),
        field(0x0A, b"\x12\x00" * 1_990_000),
        b"\x0a\x00" * 1_990_000,
        b"\x78\x00" * 1_990_000,
    ],
    ids=["records", "scopes", "resources", "unknown fields"],
)
def test_export_of_too_many_parts_is_refused_for_little(body: bytes) -> None:
    """Four megabytes, of which no more is looked at than the limit."""
    export = EncodedExport(body)
    tracemalloc.start()
    with pytest.raises(DomainError, match=f"at most {MOST_PARTS}") as raised:
        export.cut()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (raised.value.code, raised.value.reason) == (Code.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
    assert raised.value.retry_after_s is None
    assert export.parts == MOST_PARTS + 1
    assert peak < 2 * len(body)


def test_as_many_parts_as_are_allowed_are_read_piece_by_piece() -> None:
    around = 2
    body = field(0x0A, field(0x12, b"\x12\x00" * (MOST_PARTS - around)))
    export = cut(body)
    assert export.parts == MOST_PARTS
    reads = [read_records(body, runs, RULE) for runs in export.pieces]
    assert sum(read.ignored for read in reads) == MOST_PARTS - around
    assert max(read.ignored for read in reads) == PIECE_RECORDS


@pytest.mark.parametrize("tag", [0x0A, 0x12], ids=["resource", "scope"])
def test_description_that_is_too_long_is_refused(tag: int) -> None:
    long = field(0x0A, field(0x0A, b"x" * ORIGIN_BYTES))
    body = field(0x0A, long if tag == 0x0A else field(0x12, long))
    with pytest.raises(DomainError, match=f"at most {ORIGIN_BYTES}"):
        cut(body)


def test_record_that_is_too_long_is_counted_and_not_read() -> None:
    long, short = field(0x12, b"\0" * (RECORD_BYTES + 1)), field(0x12, b"")
    export = cut(field(0x0A, field(0x12, short + long + short)))
    assert export.oversized == 1
    assert len(texts_of_bare(export)) == 2


def texts_of_bare(export: EncodedExport) -> list[logs_pb2.LogRecord]:
    return [
        record
        for runs in export.pieces
        for run in runs
        for record in logs_pb2.ScopeLogs.FromString(export.body[run.start : run.end]).log_records
    ]


def test_what_a_resource_says_is_not_multiplied_by_its_records() -> None:
    """It is written into every event, and one may be long while records are short."""
    logs = logs_pb2.ResourceLogs()
    for name in ("touchstone.unit.type", "service.name", "telemetry.sdk.version"):
        logs.resource.attributes.add(key=name).value.string_value = "x" * (ORIGIN_BYTES // 4)
    scoped = logs.scope_logs.add()
    for _ in range(PIECE_RECORDS):
        scoped.log_records.add(event_name="feature_flag.evaluation")
    body = field(0x0A, logs.SerializeToString())
    export = cut(body)
    sizes = [read_records(body, runs, RULE).request.ByteSize() for runs in export.pieces]
    assert sum(sizes) < 1024 * PIECE_RECORDS
