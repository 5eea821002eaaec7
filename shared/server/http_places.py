"""The places of a door: what answers at a path, with the guarded handler behind it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from shared.server.http import (
    HttpDoor,
    HttpEndpoint,
    HttpFailure,
    HttpReply,
    HttpRequest,
    HttpRoute,
    HttpStream,
)
from shared.server.http_call import HttpCall
from shared.server.status import REQUEST_ID

HTTP_STATUS: Mapping[str, int] = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
_RETRIED = {429, 503}
Headers = list[tuple[bytes, bytes]]
Unary = Callable[[bytes, HttpCall], Awaitable[Message]]


class Guards(Protocol):
    """Makes guarded handlers of plain ones, by the name of what is called."""

    def unary(self, method: str, inner: object) -> Callable[[bytes, HttpCall], Awaitable[object]]:
        """Of one answer."""
        ...

    def stream(
        self, method: str, inner: object
    ) -> Callable[[bytes, HttpCall], AsyncIterator[bytes]]:
        """Of many."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response, but for its length."""

    status: int
    headers: Headers = field(default_factory=list)
    body: bytes = b""


class Place(Protocol):
    """What is found at a path."""

    @property
    def path(self) -> str:
        """Where."""
        ...

    @property
    def verb(self) -> str:
        """By which method."""
        ...

    @property
    def media_type(self) -> str:
        """Of the bodies of requests; empty: they have none."""
        ...

    def failure(self, call: HttpCall, ended: grpc.Status) -> Answer:
        """The answer to a call that failed."""
        ...


@dataclass(frozen=True, slots=True)
class RpcPlace:
    """An RPC."""

    route: HttpRoute
    handler: Callable[[bytes, HttpCall], Awaitable[object]]
    verb: str = "POST"

    @property
    def path(self) -> str:
        """Where."""
        return self.route.path

    @property
    def media_type(self) -> str:
        """Of requests."""
        return self.route.codec.media_type

    async def answer(self, call: HttpCall) -> Answer:
        """Raises EndedError."""
        message = await self.handler(b"", call)
        assert isinstance(message, Message)
        return Answer(200, self._headers(call.metadata), self.route.codec.response(message))

    def failure(self, call: HttpCall, ended: grpc.Status) -> Answer:
        """The status, in the words of the codec."""
        failure, headers = _failure(call, ended)
        body = self.route.codec.error(failure.error)
        return Answer(failure.status, [*self._headers(ended.trailing_metadata), *headers], body)

    def _headers(self, metadata: Sequence[tuple[str, str | bytes]]) -> Headers:
        return [(b"content-type", self.media_type.encode()), *_request_id(metadata)]


@dataclass(frozen=True, slots=True)
class EndpointPlace:
    """An endpoint."""

    endpoint: HttpEndpoint
    handler: Callable[[bytes, HttpCall], Awaitable[object]]

    @property
    def path(self) -> str:
        """Where."""
        return self.endpoint.path

    @property
    def verb(self) -> str:
        """By which method."""
        return self.endpoint.verb

    @property
    def media_type(self) -> str:
        """Of requests."""
        return self.endpoint.media_type if self.verb == "POST" else ""

    async def answer(self, call: HttpCall) -> Answer:
        """Raises EndedError."""
        reply = await self.handler(b"", call)
        assert isinstance(reply, HttpReply)
        return _answer(reply, _request_id(call.metadata))

    def failure(self, call: HttpCall, ended: grpc.Status) -> Answer:
        """As the endpoint says it."""
        failure, headers = _failure(call, ended)
        reply = self.endpoint.failed(call, failure)
        return _answer(reply, [*_request_id(ended.trailing_metadata), *headers])


@dataclass(frozen=True, slots=True)
class StreamPlace:
    """A stream."""

    stream: HttpStream
    handler: Callable[[bytes, HttpCall], AsyncIterator[bytes]]
    verb: str = "GET"
    media_type: str = ""

    @property
    def path(self) -> str:
        """Where."""
        return self.stream.path

    def start(self, call: HttpCall) -> Headers:
        """The headers of the response."""
        return [*_encoded(self.stream.headers), *_request_id(call.metadata)]

    def failure(self, call: HttpCall, ended: grpc.Status) -> Answer:
        """As the stream's contract says it."""
        failure, headers = _failure(call, ended)
        reply = self.stream.failed(call, failure)
        return _answer(reply, [*_request_id(ended.trailing_metadata), *headers])


def places(door: HttpDoor, rpcs: Mapping[str, object], guard: Guards) -> list[Place]:
    """Everything behind a door. `rpcs` are the handlers of its routes, by RPC."""
    return [
        *(RpcPlace(route, guard.unary(route.rpc, rpcs[route.rpc])) for route in door.routes),
        *(EndpointPlace(e, guard.unary(e.name, _handled(e))) for e in door.endpoints),
        *(StreamPlace(s, guard.stream(s.name, _followed(s))) for s in door.streams),
    ]


def _handled(endpoint: HttpEndpoint) -> Callable[[bytes, HttpCall], Awaitable[HttpReply]]:
    return lambda body, call: endpoint.handle(_request(body, call))


def _followed(stream: HttpStream) -> Callable[[bytes, HttpCall], AsyncIterator[bytes]]:
    return lambda body, call: stream.follow(_request(body, call))


def _request(body: bytes, call: HttpCall) -> HttpRequest:
    return HttpRequest(body, call.part, call.query, call.headers)


def _failure(call: HttpCall, ended: grpc.Status) -> tuple[HttpFailure, Headers]:
    status = status_pb2.Status()
    for key, value in ended.trailing_metadata:
        if key == "grpc-status-details-bin":
            status.ParseFromString(value)
    retry = _retry(status)
    number = call.http_status or HTTP_STATUS[ended.code.name]
    if number == 429 and retry is None:
        number = 413  # a limit that it exceeds however often it is sent
    headers: Headers = []
    if number in _RETRIED:
        headers.append((b"retry-after", str(_whole_seconds(retry)).encode()))
    if number == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return HttpFailure(number, status), headers


def _retry(status: status_pb2.Status) -> error_details_pb2.RetryInfo | None:
    retry = error_details_pb2.RetryInfo()
    return retry if any(detail.Unpack(retry) for detail in status.details) else None


def _whole_seconds(retry: error_details_pb2.RetryInfo | None) -> int:
    """All that the header can say."""
    seconds: float = retry.retry_delay.ToNanoseconds() / 1e9 if retry else 0.0
    return max(1, math.ceil(seconds))


def _request_id(metadata: Sequence[tuple[str, str | bytes]]) -> Headers:
    return [
        (key.encode(), value.encode())
        for key, value in metadata
        if key == REQUEST_ID and isinstance(value, str) and value
    ]


def _encoded(headers: Mapping[str, str]) -> Headers:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def _answer(reply: HttpReply, headers: Headers) -> Answer:
    return Answer(reply.status, [*_encoded(reply.headers), *headers], reply.body)
