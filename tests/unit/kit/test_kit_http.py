"""RPCs behind HTTP: the guard of every call, and what a client may not do to a server."""

import asyncio
import contextlib
import gzip
import http.client
import shutil
import socket
import ssl
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from google.rpc import error_details_pb2, status_pb2
from touchstone.common.v1 import access_service_pb2 as pb
from touchstone.common.v1 import rpc_pb2

from shared.errors import DomainError, limit_exceeded, overloaded
from shared.security.audit import SqlAuditLog
from shared.security.caller import Role
from shared.server.http import HttpDoor, HttpLimits, HttpRoute, ProtobufCodec
from shared.server.run import start_server
from shared.testing.ports import free_port
from shared.testing.serving import add_key, application, serving
from tests.unit.kit.certificates import Authority, install, tls

CALLER = "/touchstone.common.v1.AccessService/GetCaller"
KEYS = "/touchstone.common.v1.AccessService/CreateKey"
PROTOBUF = "application/x-protobuf"
LARGE = b"\x82\x7d\xf9\x07" + b"x" * 1017  # a field that the contract does not know


@pytest.fixture
def open_door(handlers, tmp_path):
    """Serves the handlers by HTTP too; keyword arguments are settings or limits."""

    @asynccontextmanager
    async def open_door(limits=None, more=(), **settings):
        found = application(tmp_path / "data", handlers.servicers(), **settings)
        door = HttpDoor(
            f"127.0.0.1:{free_port()}",
            "assignment_http_address",
            [
                HttpRoute("/caller", CALLER, ProtobufCodec()),
                HttpRoute("/keys", KEYS, ProtobufCodec()),
                *more,
            ],
            limits or HttpLimits(),
        )
        async with serving(replace(found, http=door)) as served:
            yield Door(served, door.address)

    return open_door


class Door:
    def __init__(self, served, address):
        self.served, self.address = served, address
        host, _, port = address.rpartition(":")
        self.host, self.port = host, int(port)
        self.key = served.owner[0][1]

    async def post(self, body=b"", path="/caller", method="POST", **headers):
        return await asyncio.to_thread(self._post, body, path, method, headers)

    def _post(self, body, path, method, headers):
        given = {"authorization": self.key, "content-type": PROTOBUF}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection(self.host, self.port, timeout=20)
        try:
            chosen = {name: value for name, value in given.items() if value is not None}
            connection.request(method, path, body, chosen)
            response = connection.getresponse()
            return Reply(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def raw(self, data=b""):
        """A connection on which exactly these bytes were sent."""
        found = socket.create_connection((self.host, self.port), timeout=20)
        found.sendall(data)
        return found


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.body = status, body
        self.headers = {name.lower(): value for name, value in headers.items()}

    @property
    def error(self):
        assert self.headers["content-type"] == PROTOBUF
        return status_pb2.Status.FromString(self.body)

    @property
    def reason(self):
        info = error_details_pb2.ErrorInfo()
        for detail in self.error.details:
            detail.Unpack(info)
        return info.reason


def bearer_of(door, project):
    return f"Bearer {add_key(door.served.platform, project, Role.VIEWER).text}"


async def until(condition):
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to that")


def header(door, length, *more):
    lines = ["POST /caller HTTP/1.1", "Host: x", f"Content-Type: {PROTOBUF}", *more]
    return ("\r\n".join([*lines, f"Content-Length: {length}"]) + "\r\n\r\n").encode()


def until_closed(connection):
    """What still comes before the other end closes the connection."""
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
    except ConnectionResetError:
        pass
    return received


async def test_call_gets_through_with_its_id(open_door, handlers, log):
    asked = pb.CreateKeyRequest(parent="projects/demo", roles=[rpc_pb2.ROLE_VIEWER])
    async with open_door() as door:
        await door.post(asked.SerializeToString(), "/keys")
        reply = await door.post(pb.GetCallerRequest().SerializeToString(), x_request_id="mine-1")
    assert reply.status == 200
    assert pb.GetCallerResponse.FromString(reply.body).project == "answered"
    assert (reply.headers["x-request-id"], reply.headers["content-type"]) == ("mine-1", PROTOBUF)
    assert "server" not in reply.headers
    line = log.of("touchstone.access")[-1]
    assert (line["method"], line["code"], line["request_id"]) == (CALLER, "OK", "mine-1")
    assert handlers.seen == [asked, pb.GetCallerRequest()]


@pytest.mark.parametrize("authorization", [None, "", "Bearer nonsense", "Basic eDp5"])
async def test_without_a_key_nothing_is_answered(open_door, handlers, authorization):
    async with open_door() as door:
        reply = await door.post(authorization=authorization)
        with door.served.platform.database.read() as connection:
            log = SqlAuditLog(connection, door.served.platform.audit_keys)
            assert [e.event.method for e in log.entries("-")] == [CALLER]
    assert (reply.status, reply.reason) == (401, "INVALID_CREDENTIAL")
    assert reply.headers["www-authenticate"] == "Bearer"
    assert handlers.seen == []


async def test_body_of_a_stranger_is_not_waited_for(open_door):
    """The header says that a megabyte comes. It does not, and the answer is there at once."""
    async with open_door() as door:
        with door.raw(header(door, 2**20)) as connection:
            start = time.monotonic()
            assert (await asyncio.to_thread(connection.recv, 100)).startswith(b"HTTP/1.1 401")
            assert time.monotonic() - start < 5


async def test_role_is_needed(open_door):
    async with open_door() as door:
        viewer = add_key(door.served.platform, "demo", Role.VIEWER)
        reply = await door.post(path="/keys", authorization=f"Bearer {viewer.text}")
    assert (reply.status, reply.reason) == (403, "MISSING_ROLE")


async def test_path_and_verb_are_told(open_door):
    async with open_door() as door:
        nowhere = await door.post(path="/v1/nothing")
        read = await door.post(method="GET")
    assert (nowhere.status, nowhere.body) == (404, b"no such path; there is: /caller, /keys\n")
    assert (read.status, read.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({"content_type": "application/json"}, "content-type"),
        ({"content_type": None}, "content-type"),
        ({"content_encoding": "deflate"}, "content-encoding"),
        ({"content_encoding": "gzip, gzip"}, "content-encoding"),
    ],
)
async def test_what_is_not_spoken_is_told(open_door, headers, field):
    async with open_door() as door:
        reply = await door.post(b"{}", **headers)
    assert (reply.status, reply.reason) == (415, "INVALID_FIELD")
    assert reply.error.message.startswith(f"{field} is ")


@pytest.mark.parametrize("content_type", [PROTOBUF, "Application/X-Protobuf; charset=utf-8"])
async def test_compressed_body_is_decompressed(open_door, content_type):
    body = pb.GetCallerRequest().SerializeToString()
    async with open_door() as door:
        reply = await door.post(
            gzip.compress(body), content_encoding="GZIP", content_type=content_type
        )
    assert reply.status == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"not gzip", gzip.compress(b"x" * 999)[:-9], gzip.compress(b"") * 2],
    ids=["empty", "other", "cut", "two members"],
)
async def test_body_that_is_not_one_gzip_member_is_invalid(open_door, body):
    async with open_door() as door:
        reply = await door.post(body, content_encoding="gzip")
    assert (reply.status, reply.reason) == (400, "INVALID_FIELD")
    assert "allowed: one complete gzip member" in reply.error.message


async def test_bytes_that_are_no_message_are_invalid(open_door):
    async with open_door() as door:
        reply = await door.post(b"\xff" * 9)
    assert (reply.status, reply.reason) == (400, "MALFORMED_REQUEST")


async def test_body_is_bounded_however_it_comes(open_door, handlers):
    """As it is sent, in pieces, and decompressed: a thousandth of it is sent, then. What is too
    much is not even made.
    """
    large, bomb = b"\0" * 4096, gzip.compress(b"\0" * 2**27)
    async with open_door(max_message_bytes=2048) as door:
        replies = [
            await door.post(large),
            await door.post(iter([large])),
            await door.post(gzip.compress(large), content_encoding="gzip"),
        ]
    async with open_door() as door:
        tracemalloc.start()
        replies.append(await door.post(bomb, content_encoding="gzip"))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 2**25
    assert [(r.status, r.reason) for r in replies] == [(413, "LIMIT_EXCEEDED")] * 4
    assert handlers.seen == []


async def test_one_call_too_many_is_sent_away(open_door, handlers):
    gate = asyncio.Event()
    handlers.do = gate.wait
    async with open_door(max_concurrent_rpcs=1) as door:
        first = asyncio.create_task(door.post())
        await until(lambda: handlers.seen)
        second = await door.post()
        gate.set()
        assert (await first).status == 200
        assert (await door.post()).status == 200
    assert (second.status, second.reason) == (429, "OVERLOADED")
    assert second.headers["retry-after"] == "1"


async def test_bodies_that_wait_take_a_bounded_memory(open_door, handlers):
    """Four of the largest of a project, sixteen of all, whoever sends how many."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(20))
    gate = asyncio.Event()
    handlers.do = gate.wait
    async with open_door(max_message_bytes=1024) as door:
        keys = [bearer_of(door, f"p{n}") for n in range(5)]
        waiting, refused = [], []
        for place, key in enumerate(keys[:4]):
            waiting += [asyncio.create_task(door.post(LARGE, authorization=key)) for _ in range(4)]
            await until(lambda place=place: len(handlers.seen) == 4 * (place + 1))
            refused.append(await door.post(LARGE, authorization=key))
        refused.append(await door.post(LARGE, authorization=keys[4]))
        gate.set()
        assert {(await one).status for one in waiting} == {200}
        for key in keys:
            assert (await door.post(LARGE, authorization=key)).status == 200
    assert {(reply.status, reply.reason) for reply in refused} == {(429, "OVERLOADED")}
    assert "of project p3" in refused[3].error.message
    assert "of all projects" in refused[4].error.message


async def test_bodies_that_stop_short_leave_room_for_other_projects(open_door):
    """One project takes all that it may, by bodies whose last byte does not come."""
    async with open_door(HttpLimits(body_part_s=60), max_message_bytes=1024) as door:
        other = bearer_of(door, "other")
        data = header(door, 1024, f"Authorization: {door.key}") + b"\0" * 1023
        with contextlib.ExitStack() as stack:
            for _ in range(17):
                stack.enter_context(door.raw(data))
            for _ in range(100):
                mine = await door.post(LARGE)
                if mine.status == 429:
                    break
            assert (await door.post(LARGE, authorization=other)).status == 200
    assert (mine.status, mine.reason) == (429, "OVERLOADED")


async def test_body_that_stops_is_ended_and_gives_its_room_back(open_door, handlers):
    async with open_door(
        HttpLimits(body_part_s=0.3, body_part_bytes=1000), max_message_bytes=1024
    ) as door:
        data = header(door, 1024, f"Authorization: {door.key}") + b"\0" * 1023
        with contextlib.ExitStack() as stack:
            stopped = [stack.enter_context(door.raw(data)) for _ in range(4)]
            for connection in stopped:
                answer = await asyncio.to_thread(connection.recv, 65536)
                assert answer.startswith(b"HTTP/1.1 504")
                while b"in smaller parts" not in answer:
                    more = await asyncio.to_thread(connection.recv, 65536)
                    assert more, answer
                    answer += more
            assert handlers.seen == []
            assert (await door.post(LARGE)).status == 200


async def test_body_that_is_slow_but_steady_is_taken(open_door):
    """Longer than the time of a part, each of which brings as much as it must."""
    limits = HttpLimits(body_part_s=2, body_part_bytes=10)
    async with open_door(limits) as door:
        with door.raw(header(door, 102, f"Authorization: {door.key}")) as connection:
            body = b"\x82\x7d\x63" + b"x" * 99
            for place in range(0, 102, 17):
                connection.sendall(body[place : place + 17])
                await asyncio.sleep(0.5)
            assert b" 200 " in await asyncio.to_thread(connection.recv, 65536)


async def test_delay_of_an_error_is_told_in_whole_seconds(open_door, handlers):
    async def busy():
        raise overloaded("the disk is behind", 2.3)

    handlers.do = busy
    async with open_door() as door:
        reply = await door.post()
    assert (reply.status, reply.headers["retry-after"]) == (429, "3")


async def test_limit_that_a_request_exceeds_for_ever_asks_for_no_other_try(open_door, handlers):
    async def too_many():
        raise limit_exceeded("records", 3, 2)

    handlers.do = too_many
    async with open_door() as door:
        reply = await door.post()
    assert (reply.status, reply.reason) == (413, "LIMIT_EXCEEDED")
    assert "retry-after" not in reply.headers


async def test_failure_that_nobody_expected_tells_nothing_of_itself(open_door, handlers, log):
    async def broken():
        raise ValueError("the secret")

    handlers.do = broken
    async with open_door() as door:
        reply = await door.post()
    assert (reply.status, reply.reason) == (500, "INTERNAL")
    assert b"secret" not in reply.body
    assert "secret" not in log.text


async def test_slow_body_ends_with_the_deadline(open_door, handlers):
    async with open_door(default_call_s=0.3) as door:
        with door.raw(header(door, 100, f"Authorization: {door.key}") + b"12345") as connection:
            answer = await asyncio.to_thread(connection.recv, 100)
    assert answer.startswith(b"HTTP/1.1 504")
    assert handlers.seen == []


async def test_client_that_goes_away_is_no_failure(open_door, log):
    async with open_door() as door:
        with door.raw(header(door, 100, f"Authorization: {door.key}") + b"12345"):
            await asyncio.sleep(0.1)
        await until(lambda: log.of("touchstone.access"))
    assert [line["code"] for line in log.of("touchstone.access")] == ["CANCELLED"]
    assert log.of("touchstone.errors") == log.of("uvicorn.error") == []


@pytest.mark.parametrize(
    "start",
    [b"", b"POST /caller HT", b"POST /caller HTTP/1.1\r\nHost: x\r\n\r\n" * 2 + b"POST /"],
    ids=["nothing", "half a line", "after two requests"],
)
async def test_header_that_does_not_end_ends_the_connection(open_door, start):
    """Also when it comes letter by letter."""
    async with open_door(HttpLimits(header_s=0.4)) as door:
        with door.raw(start) as connection:
            began = time.monotonic()
            closed = asyncio.create_task(asyncio.to_thread(until_closed, connection))
            while not closed.done() and time.monotonic() - began < 10:
                try:
                    connection.send(b"x" if start else b"")
                except OSError:
                    break
                await asyncio.sleep(0.05)
            await asyncio.wait_for(closed, 5)
            assert time.monotonic() - began < 5


async def test_header_that_is_too_long_is_refused(open_door):
    async with open_door() as door:
        with door.raw(b"POST /caller HTTP/1.1\r\nX: " + b"x" * 20_000) as connection:
            assert b" 400 " in await asyncio.to_thread(until_closed, connection)


async def test_client_that_takes_no_answers_is_left(open_door):
    """Each answer names a very long path, so that a few hundred fill what is between the two."""
    long = HttpRoute("/" + "x" * 60_000, CALLER, ProtobufCodec())
    async with open_door(HttpLimits(header_s=0.4), [long]) as door:
        with door.raw() as connection:

            def flood():
                try:
                    while True:
                        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
                except TimeoutError:
                    return "it still listens"
                except OSError:
                    return "gone"

            assert await asyncio.to_thread(flood) == "gone"
        assert (await door.post()).status == 200


async def test_one_connection_too_many_is_closed(open_door):
    async with open_door(HttpLimits(connections=2)) as door:
        with door.raw(), door.raw():
            await asyncio.sleep(0.1)
            with door.raw() as third:
                assert await asyncio.to_thread(until_closed, third) == b""
        await asyncio.sleep(0.1)
        assert (await door.post()).status == 200


async def test_drain_answers_what_is_in_flight_and_takes_nothing_new(open_door, handlers):
    gate = asyncio.Event()
    handlers.do = gate.wait
    async with open_door() as door:
        idle = door.raw()
        first = asyncio.create_task(door.post())
        await until(lambda: handlers.seen)
        draining = asyncio.create_task(door.served.running.http.stop())
        await asyncio.sleep(0.4)
        with pytest.raises(ConnectionRefusedError):
            door.raw()
        assert await asyncio.to_thread(until_closed, idle) == b""
        idle.close()
        gate.set()
        assert (await first).status == 200
        await draining


async def test_port_that_is_taken_is_named_with_its_setting(handlers, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        found = application(tmp_path, handlers.servicers())
        door = HttpDoor(address, "events_http_address", [])
        with pytest.raises(DomainError, match=f"{address}.*TOUCHSTONE_EVENTS_HTTP_ADDRESS"):
            await start_server(replace(found, http=door))
        found.platform.database.close()


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path, "authority")


@pytest.fixture
def installed(tmp_path, authority):
    folder = tmp_path / "installed"
    folder.mkdir()
    files = authority.issue("first")
    own = replace(files, certificate=folder / "server.pem", key=folder / "server.key")
    install(files, own)
    return own


async def secure_post(door, authority, identity=None):
    context = ssl.create_default_context(cafile=str(authority.root))
    if identity:
        context.load_cert_chain(identity.certificate, identity.key)

    def post():
        connection = http.client.HTTPSConnection(door.host, door.port, timeout=5, context=context)
        try:
            headers = {"authorization": door.key, "content-type": PROTOBUF}
            connection.request("POST", "/caller", b"", headers)
            shown: Any = connection.sock.getpeercert()
            subject = dict(pair[0] for pair in shown["subject"])
            return connection.getresponse().status, subject["commonName"]
        finally:
            connection.close()

    return await asyncio.to_thread(post)


async def test_encrypted_call_passes_and_plain_ones_do_not(open_door, installed, authority):
    async with open_door(**tls(installed)) as door:
        assert await secure_post(door, authority) == (200, "first")
        with pytest.raises((OSError, http.client.HTTPException)):
            await door.post()


async def test_rotated_certificate_is_shown(open_door, installed, authority, log):
    async with open_door(**tls(installed)) as door:
        installed.key.unlink()
        assert await secure_post(door, authority) == (200, "first")
        assert "certificates not reloaded" in log.text
        install(authority.issue("second"), installed)
        assert await secure_post(door, authority) == (200, "second")


async def test_client_certificate_is_demanded_also_of_a_new_authority(
    open_door, installed, authority, tmp_path
):
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    trusted = tmp_path / "trusted.pem"
    shutil.copy(old.root, trusted)
    first, second = old.issue("shop"), new.issue("shop")
    async with open_door(**tls(installed, tls_client_ca=trusted)) as door:
        assert (await secure_post(door, authority, first))[0] == 200
        for bad in (second, None):
            with pytest.raises((OSError, http.client.HTTPException)):
                await secure_post(door, authority, bad)
        shutil.copy(new.root, trusted)
        assert (await secure_post(door, authority, second))[0] == 200
        with pytest.raises((OSError, http.client.HTTPException)):
            await secure_post(door, authority, first)


async def test_plain_text_stays_on_this_machine(handlers, tmp_path):
    found = application(tmp_path, handlers.servicers(), listen_host="0.0.0.0")
    door = HttpDoor(f"127.0.0.1:{free_port()}", "x", [])
    with pytest.raises(DomainError, match="a loopback interface without TLS"):
        await start_server(replace(found, http=door))
    found.platform.database.close()
