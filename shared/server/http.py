"""What answers by plain HTTP: RPCs, and paths of contracts that are HTTP's own. Each call passes
the same guard as a gRPC call.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from google.protobuf.message import Message
from google.rpc import status_pb2

from shared.server.http_call import HttpCall
from shared.server.rules import Rule


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
class HttpRequest:
    """What an endpoint is asked, by a caller that is known by now."""

    body: bytes
    part: str
    """What stands in the path where the endpoint's has {}; else empty."""
    query: Mapping[str, str]
    """The last value of each parameter."""
    headers: Mapping[str, str]
    """By lower case name."""


@dataclass(frozen=True, slots=True)
class HttpReply:
    """What an endpoint answers."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HttpFailure:
    """A call that failed: what happened, and the status that HTTP has for it."""

    status: int
    error: status_pb2.Status


Failed = Callable[[HttpCall, HttpFailure], HttpReply]
"""The answer to a failure, in the words of the contract; it may have another HTTP status."""


@dataclass(frozen=True, slots=True)
class HttpEndpoint:
    """A path with answers of its own. The last part of the path may be {}: anything.

    `name` is what logs, metrics and the audit log call it, of the form /package.Service/Method.
    Requests of POST have a body of the media type, others have none.
    """

    verb: str
    path: str
    name: str
    rule: Rule
    handle: Callable[[HttpRequest], Awaitable[HttpReply]]
    failed: Failed
    media_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class HttpStream:
    """GET of a path is answered without an end, until the server drains or the key is revoked.

    The answer begins with the first part. A failure before it is a failure of the call, one after
    it ends the stream.
    """

    path: str
    name: str
    rule: Rule
    follow: Callable[[HttpRequest], AsyncIterator[bytes]]
    failed: Failed
    headers: Mapping[str, str]


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
    routes: Sequence[HttpRoute] = ()
    limits: HttpLimits = HttpLimits()
    endpoints: Sequence[HttpEndpoint] = ()
    streams: Sequence[HttpStream] = ()

    @property
    def rules(self) -> dict[str, Rule]:
        """Those of what is no RPC, by name."""
        return {endpoint.name: endpoint.rule for endpoint in self.endpoints} | {
            stream.name: stream.rule for stream in self.streams
        }
