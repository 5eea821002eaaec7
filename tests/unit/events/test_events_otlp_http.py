"""Log records through the HTTP door of the composed service."""

import asyncio
import gzip
import http.client
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as collector
from pydantic import ValidationError

from services.events.composition import compose
from services.events.settings import Settings
from shared.security.caller import Role
from shared.server.run import RunningServer, start_server
from shared.testing.ports import free_port
from shared.testing.serving import add_key
from tests.unit.events.test_events_otlp import SPLIT, export

PROTOBUF = "application/x-protobuf"


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def partial(self) -> collector.ExportLogsPartialSuccess:
        return collector.ExportLogsServiceResponse.FromString(self.body).partial_success

    @property
    def reason(self) -> str:
        info = error_details_pb2.ErrorInfo()
        for detail in status_pb2.Status.FromString(self.body).details:
            detail.Unpack(info)
        return str(info.reason)


@dataclass
class Door:
    running: RunningServer
    address: str
    key: str

    async def post(self, body: bytes, **headers: str) -> Reply:
        return await asyncio.to_thread(self._post, body, headers)

    def _post(self, body: bytes, headers: dict[str, str]) -> Reply:
        host, _, port = self.address.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=20)
        given = {"authorization": f"Bearer {self.key}", "content-type": PROTOBUF}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request("POST", "/v1/logs", body, given)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, found, response.read())
        finally:
            connection.close()


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async for found in opened(tmp_path):
        yield found


async def opened(folder: Path, **changes: Any) -> AsyncIterator[Door]:
    address = f"127.0.0.1:{free_port()}"
    application = compose(
        Settings(
            data=folder,
            events_address=f"127.0.0.1:{free_port()}",
            events_http_address=address,
            flush_interval_s=0.05,
            **changes,
        )
    )
    running = await start_server(application)
    key = add_key(application.platform, "acme", Role.INGEST)
    yield Door(running, address, key.text)
    await running.drain()


async def test_export_is_answered_with_what_was_not_stored(door: Door) -> None:
    nobody = {key: value for key, value in SPLIT.items() if "context" not in key}
    reply = await door.post(export(SPLIT, nobody).SerializeToString())
    assert (reply.status, reply.headers["content-type"]) == (200, PROTOBUF)
    assert reply.partial.rejected_log_records == 1
    assert "feature_flag.context.id" in reply.partial.error_message


async def test_the_same_export_by_either_encoding_is_counted_once(door: Door) -> None:
    body = export(SPLIT).SerializeToString()
    for reply in (
        await door.post(body),
        await door.post(gzip.compress(body), content_encoding="gzip"),
    ):
        assert (reply.status, reply.body) == (200, b"")
    assert door.running.application.ready()


@pytest.mark.parametrize("broken", ["cut", "text"])
async def test_bytes_that_are_no_export_are_told(door: Door, broken: str) -> None:
    body = export(SPLIT).SerializeToString()
    body = body[:-1] if broken == "cut" else body.replace(b"treatment", b"\xff" * 9)
    reply = await door.post(body)
    assert (reply.status, reply.reason) == (400, "MALFORMED_REQUEST")
    assert "ExportLogsServiceRequest" in status_pb2.Status.FromString(reply.body).message


async def test_json_is_told_what_is_spoken(door: Door) -> None:
    reply = await door.post(b'{"resourceLogs": []}', content_type="application/json")
    assert (reply.status, reply.reason) == (415, "INVALID_FIELD")
    assert PROTOBUF in status_pb2.Status.FromString(reply.body).message


async def test_door_needs_the_role_ingest(door: Door) -> None:
    viewer = add_key(door.running.application.platform, "acme", Role.VIEWER)
    reply = await door.post(
        export(SPLIT).SerializeToString(), authorization=f"Bearer {viewer.text}"
    )
    assert (reply.status, reply.reason) == (403, "MISSING_ROLE")


async def test_project_that_sends_too_fast_is_told_when_to_come_again(tmp_path: Path) -> None:
    async for door in opened(tmp_path, rate_events_per_s=10):
        records = [SPLIT | {"feature_flag.context.id": f"u{n}"} for n in range(40)]
        assert (await door.post(export(*records).SerializeToString())).status == 200
        reply = await door.post(export(*records, scope=("other", "1")).SerializeToString())
        assert (reply.status, reply.reason) == (429, "RATE_LIMITED")
        assert int(reply.headers["retry-after"]) >= 1


async def test_store_that_is_away_is_503_with_a_delay(door: Door) -> None:
    assert door.running.application.stop is not None
    await door.running.application.stop()
    reply = await door.post(export(SPLIT).SerializeToString())
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")


async def test_without_an_address_there_is_no_door(tmp_path: Path) -> None:
    application = compose(Settings(data=tmp_path, events_address=f"127.0.0.1:{free_port()}"))
    assert application.http is None
    application.platform.database.close()


@pytest.mark.parametrize("address", ["7712", "127.0.0.1:0", "127.0.0.1:70000", "a b:1"])
def test_address_is_a_host_and_a_port(tmp_path: Path, address: str) -> None:
    with pytest.raises(ValidationError, match="an address is HOST:PORT"):
        Settings(data=tmp_path, events_http_address=address)
