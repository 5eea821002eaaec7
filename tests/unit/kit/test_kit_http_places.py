"""Paths of contracts that are HTTP's own: answers and streams behind the guard."""

import asyncio
import http.client
import json
import socket
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from shared import errors
from shared.security.caller import Role, current_caller
from shared.server.http import (
    HttpDoor,
    HttpEndpoint,
    HttpReply,
    HttpStream,
)
from shared.server.rules import Rule
from shared.testing.ports import free_port
from shared.testing.serving import add_key, application, serving

JSON = {"content-type": "application/json"}
RULE = Rule(
    roles=frozenset({Role.ASSIGN}),
    any_role=False,
    mutation=False,
    per_item="",
    max_duration_s=5,
    handler_validates=True,
    handler_parses=True,
)


def failed(call, failure):
    body = {"part": call.part, "why": failure.error.message}
    return HttpReply(json.dumps(body).encode(), failure.status, JSON)


class Shop:
    """Answers with what it was asked; its stream gives what is put into it."""

    def __init__(self):
        self.parts: asyncio.Queue[bytes] = asyncio.Queue()
        self.closed = asyncio.Event()
        self.error = None

    async def ask(self, request):
        if self.error:
            raise self.error
        found = {
            "part": request.part,
            "query": dict(request.query),
            "tag": request.headers.get("if-none-match"),
            "body": request.body.decode(),
            "project": current_caller().project,
        }
        if request.query.get("same"):
            return HttpReply(b"", 304, {"etag": '"1"'})
        return HttpReply(json.dumps(found).encode(), 200, JSON)

    async def follow(self, request):
        if self.error:
            raise self.error
        try:
            yield b": hello\n\n"
            while True:
                yield await self.parts.get()
        finally:
            self.closed.set()

    def door(self):
        return HttpDoor(
            f"127.0.0.1:{free_port()}",
            "assignment_http_address",
            endpoints=[
                HttpEndpoint("POST", "/shop/{}", "/shop.Shop/Ask", RULE, self.ask, failed),
                HttpEndpoint("GET", "/shop", "/shop.Shop/Look", RULE, self.ask, failed),
            ],
            streams=[
                HttpStream(
                    "/events",
                    "/shop.Shop/Follow",
                    replace(RULE, watch=True),
                    self.follow,
                    failed,
                    {"content-type": "text/event-stream"},
                )
            ],
        )


class Client:
    def __init__(self, served, address):
        self.served, self.address = served, address
        self.key = add_key(served.platform, "acme", Role.ASSIGN).text

    def connection(self):
        return http.client.HTTPConnection(self.address, timeout=20)

    def open(self, verb, path, body=None, **headers):
        connection = self.connection()
        given = {"authorization": f"Bearer {self.key}", **JSON}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        chosen = {name: value for name, value in given.items() if value is not None}
        connection.request(verb, path, body, chosen)
        return connection, connection.getresponse()

    async def ask(self, verb, path, body=None, **headers):
        def call():
            connection, response = self.open(verb, path, body, **headers)
            data = response.read()
            connection.close()
            return response, data

        return await asyncio.to_thread(call)


@pytest.fixture
async def shop(tmp_path, handlers):
    @asynccontextmanager
    async def opened(**settings):
        shop = Shop()
        found = application(tmp_path / "data", handlers.servicers(), **settings)
        door = shop.door()
        async with serving(replace(found, http=door)) as served:
            yield shop, Client(served, door.address)

    return opened


async def test_endpoint_is_told_path_query_headers_and_body(shop, log):
    async with shop() as (_, client):
        response, data = await client.ask(
            "POST", "/shop/a%20b?x=1&x=2&y=", b"{}", if_none_match='"7"'
        )
    assert response.status == 200
    assert json.loads(data) == {
        "part": "a b",
        "query": {"x": "2", "y": ""},
        "tag": '"7"',
        "body": "{}",
        "project": "acme",
    }
    line = log.of("touchstone.access")[-1]
    assert (line["method"], line["code"], line["project"]) == ("/shop.Shop/Ask", "OK", "acme")


async def test_read_has_no_body_and_needs_no_media_type(shop):
    async with shop() as (_, client):
        response, data = await client.ask("GET", "/shop", content_type=None)
        wrong, _ = await client.ask("POST", "/shop", b"{}")
        deeper, _ = await client.ask("POST", "/shop/a/b", b"{}")
        bare, _ = await client.ask("POST", "/shop/", b"{}")
        _, pattern = await client.ask("POST", "/shop/%7B%7D", b"{}")
    assert (response.status, json.loads(data)["body"]) == (200, "")
    assert (wrong.status, wrong.headers["allow"]) == (405, "GET")
    assert (deeper.status, bare.status) == (404, 404)
    assert json.loads(pattern)["part"] == "{}"  # as any other


async def test_key_comes_by_either_header(shop):
    async with shop() as (_, client):
        by_key, data = await client.ask(
            "POST", "/shop/a", b"{}", authorization=None, x_api_key=client.key
        )
        bearer_wins, _ = await client.ask("POST", "/shop/a", b"{}", x_api_key="nonsense")
        wrong, body = await client.ask(
            "POST", "/shop/a", b"{}", authorization=None, x_api_key="nonsense"
        )
    assert (by_key.status, json.loads(data)["project"]) == (200, "acme")
    assert bearer_wins.status == 200
    assert (wrong.status, wrong.headers["www-authenticate"]) == (401, "Bearer")
    assert "no valid credential" in json.loads(body)["why"]


async def test_failure_is_said_in_the_words_of_the_endpoint(shop):
    async with shop() as (found, client):
        found.error = errors.overloaded("busy", 2.5)
        busy, body = await client.ask("POST", "/shop/cart", b"{}")
        found.error = ValueError("a secret")
        broken, text = await client.ask("POST", "/shop/cart", b"{}")
        strange, _ = await client.ask("POST", "/shop/cart", b"x", content_type="text/plain")
    assert (busy.status, busy.headers["retry-after"]) == (429, "3")
    assert json.loads(body) == {"part": "cart", "why": "busy"}
    assert (broken.status, strange.status) == (500, 415)
    assert b"a secret" not in text
    assert busy.headers["x-request-id"]


async def test_role_of_the_endpoint_is_needed(shop):
    async with shop() as (_, client):
        viewer = add_key(client.served.platform, "acme", Role.VIEWER).text
        ask, _ = await client.ask("POST", "/shop/a", b"{}", x_api_key=viewer, authorization=None)
        follow, body = await client.ask("GET", "/events", x_api_key=viewer, authorization=None)
    assert (ask.status, follow.status) == (403, 403)
    assert "/shop.Shop/Follow needs one of the roles assign" in json.loads(body)["why"]


async def test_not_modified_has_no_body(shop):
    async with shop() as (_, client):
        response, data = await client.ask("GET", "/shop?same=1")
    assert (response.status, response.headers["etag"], data) == (304, '"1"', b"")
    assert "content-length" not in response.headers


async def test_stream_gives_each_part_as_it_comes(shop):
    async with shop() as (found, client):
        connection, response = await asyncio.to_thread(client.open, "GET", "/events")
        assert (response.status, response.headers["content-type"]) == (200, "text/event-stream")
        assert await asyncio.to_thread(response.readline) == b": hello\n"
        for text in (b"data: 1\n", b"data: 2\n"):
            found.parts.put_nowait(text)
            await asyncio.to_thread(response.readline)
        response.close()
        connection.close()


async def test_stream_ends_when_the_server_drains(shop):
    async with shop(drain_grace_s=20) as (found, client):
        connection, response = await asyncio.to_thread(client.open, "GET", "/events")
        rest = asyncio.create_task(asyncio.to_thread(response.read))
        await asyncio.sleep(0)
        client.served.running.draining.set()
        assert await rest == b": hello\n\n"
        connection.close()
        assert found.closed.is_set()


async def test_source_is_closed_when_the_client_is_gone(shop):
    async with shop() as (found, client):
        connection, response = await asyncio.to_thread(client.open, "GET", "/events")
        response.close()
        connection.close()
        await asyncio.wait_for(found.closed.wait(), 20)


async def test_stream_that_cannot_begin_is_a_failed_call(shop):
    async with shop() as (found, client):
        found.error = errors.overloaded("too many streams", 1.0)
        response, body = await client.ask("GET", "/events")
    assert (response.status, json.loads(body)["why"]) == (429, "too many streams")
    assert response.headers["retry-after"] == "1"


async def test_open_streams_leave_room_for_calls(shop):
    async with shop(max_concurrent_rpcs=1) as (_, client):
        opened = [await asyncio.to_thread(client.open, "GET", "/events") for _ in range(3)]
        response, _ = await client.ask("POST", "/shop/a", b"{}")
        assert response.status == 200
        for connection, stream in opened:
            stream.close()
            connection.close()


async def test_second_piece_of_an_answer_does_not_wait_for_the_first(shop):
    """Connections that are accepted have it from the port."""
    async with shop() as (_, client):
        port = client.served.running.http._socket
        assert port.proto == socket.IPPROTO_TCP
        assert port.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
