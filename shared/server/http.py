"""RPCs behind plain HTTP: a route stands for an RPC, and passes the same guard as a gRPC call."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from shared.errors import overloaded
from shared.server.http_call import BodyRoom, EndedError, GoneError, HttpCall, Receive, Scope
from shared.server.status import REQUEST_ID, to_status

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
_WAIT_S = 1.0
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Handler = Callable[[bytes, HttpCall], Awaitable[Message]]
Headers = list[tuple[bytes, bytes]]


class HttpCodec(Protocol):
    """The answers of a route; what it is sent is the encoded message of the RPC."""

    @property
    def media_type(self) -> str:
        """Of requests and answers, in lower case."""
        ...

    def response(self, message: Message) -> bytes:
        """The body of an answer."""
        ...

    def error(self, status: status_pb2.Status) -> bytes:
        """The body of the answer to a call that failed."""
        ...


class ProtobufCodec:
    """The messages themselves, and google.rpc.Status for a failure."""

    media_type = "application/x-protobuf"

    def response(self, message: Message) -> bytes:
        """The message."""
        return message.SerializeToString()

    def error(self, status: status_pb2.Status) -> bytes:
        """The status."""
        return bytes(status.SerializeToString())


@dataclass(frozen=True, slots=True)
class HttpRoute:
    """POST to a path stands for an RPC, which is named as in gRPC: /package.Service/Method."""

    path: str
    rpc: str
    codec: HttpCodec


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What a client may take without sending a request that is served."""

    connections: int = 1000
    """More are closed at once."""
    header_s: float = 10.0
    """To say what it wants, from the connection or the first byte; and to take back an answer."""
    idle_s: int = 60
    """Between two requests."""
    body_part_s: float = 3.0
    """In each such time `body_part_bytes` of a body must come, or its rest."""
    body_part_bytes: int = 48 * 1024
    header_bytes: int = 16 * 1024


@dataclass(frozen=True, slots=True)
class HttpDoor:
    """Routes and where they are found. `setting` is the address's name, for messages."""

    address: str
    setting: str
    routes: Sequence[HttpRoute]
    limits: HttpLimits = HttpLimits()


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Headers
    body: bytes


class HttpApplication:
    """Answers the requests of a door, each as a call of its RPC, by the guarded handlers."""

    def __init__(
        self,
        routes: Sequence[HttpRoute],
        handlers: Mapping[str, Handler],
        room: BodyRoom,
        max_calls: int,
    ) -> None:
        self._routes = {route.path: (route.codec, handlers[route.rpc]) for route in routes}
        self._room = room
        self._calls_left = max_calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface, of HTTP only."""
        if scope["path"] not in self._routes:
            paths = ", ".join(sorted(self._routes))
            await _send(send, _text(404, f"no such path; there is: {paths}"))
        elif scope["method"] != "POST":
            await _send(send, _text(405, "only POST is allowed here", (b"allow", b"POST")))
        else:
            codec, handler = self._routes[scope["path"]]
            call = HttpCall(scope, receive, codec.media_type, self._room)
            try:
                answer = await self._answer(call, codec, handler)
            except GoneError:
                return
            finally:
                call.close()
            await _send(send, answer)

    async def _answer(self, call: HttpCall, codec: HttpCodec, handler: Handler) -> _Answer:
        if not self._calls_left:
            error = overloaded("too many calls at once; send this one again", _WAIT_S)
            return _failure(codec, to_status(error, ""), 0)
        self._calls_left -= 1
        try:
            message = await handler(b"", call)
        except EndedError as ended:
            return _failure(codec, ended.status, call.http_status)
        finally:
            self._calls_left += 1
        return _Answer(200, _headers(codec, call.metadata), codec.response(message))


def _failure(codec: HttpCodec, ended: grpc.Status, http_status: int) -> _Answer:
    status = status_pb2.Status()
    for key, value in ended.trailing_metadata:
        if key == "grpc-status-details-bin":
            status.ParseFromString(value)
    retry = _retry(status)
    number = http_status or HTTP_STATUS[ended.code.name]
    if number == 429 and retry is None:
        number = 413  # a limit that it exceeds however often it is sent
    headers = _headers(codec, ended.trailing_metadata)
    if number in _RETRIED:
        headers.append((b"retry-after", str(_whole_seconds(retry)).encode()))
    if number == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return _Answer(number, headers, codec.error(status))


def _retry(status: status_pb2.Status) -> error_details_pb2.RetryInfo | None:
    retry = error_details_pb2.RetryInfo()
    return retry if any(detail.Unpack(retry) for detail in status.details) else None


def _whole_seconds(retry: error_details_pb2.RetryInfo | None) -> int:
    """All that the header can say."""
    seconds: float = retry.retry_delay.ToNanoseconds() / 1e9 if retry else 0.0
    return max(1, math.ceil(seconds))


def _headers(codec: HttpCodec, metadata: Sequence[tuple[str, str | bytes]]) -> Headers:
    headers = [(b"content-type", codec.media_type.encode())]
    headers += [
        (key.encode(), value.encode())
        for key, value in metadata
        if key == REQUEST_ID and isinstance(value, str) and value
    ]
    return headers


def _text(status: int, text: str, *headers: tuple[bytes, bytes]) -> _Answer:
    return _Answer(status, [(b"content-type", b"text/plain"), *headers], f"{text}\n".encode())


async def _send(send: Send, answer: _Answer) -> None:
    headers = [*answer.headers, (b"content-length", str(len(answer.body)).encode())]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
