"""One call of LogEvents, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import grpc

from touchstone_events.contract import LOG_EVENTS, contract
from touchstone_events.settings import Service, Tls

_KEEPALIVE_MS = 60_000
_RECONNECT_MS = 1000
_DETAILS = "grpc-status-details-bin"


class Rejection(NamedTuple):
    """An item that the service did not store as an event."""

    event_id: str
    reason: str
    field: str
    message: str


class Outcome(NamedTuple):
    """What came of a call. `code` is OK or the name of a gRPC code."""

    code: str
    message: str = ""
    retry_after_s: float = 0.0
    """The service asks for this much patience."""
    accepted: int = 0
    duplicates: int = 0
    rejected: tuple[Rejection, ...] = ()


class Call(Protocol):
    """A call that is under way."""

    def outcome(self) -> Outcome | None:
        """What came of it; None while it is under way."""
        ...

    def cancel(self) -> None:
        """Give it up; whether the service had it is then unknown."""
        ...


class Transport(Protocol):
    """A way to the service. For one thread."""

    def start(self, body: bytes, timeout_s: float, done: Callable[[], None]) -> Call:
        """Start a call; `done` is called once, from any thread, when it has an outcome."""
        ...

    def call(self, body: bytes, timeout_s: float) -> Call:
        """A call that is over on return. It starts no thread: for the end of the interpreter."""
        ...

    def close(self) -> None:
        """Drop the connection. The next call makes another one."""
        ...


class GrpcTransport:
    """gRPC. The connection is made by the first call."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._channel: grpc.Channel | None = None

    def start(self, body: bytes, timeout_s: float, done: Callable[[], None]) -> Call:
        """See Transport."""
        future = self._method().future(body, timeout=timeout_s, metadata=self._metadata())
        future.add_done_callback(lambda _: done())
        return _Running(future)

    def call(self, body: bytes, timeout_s: float) -> Call:
        """See Transport."""
        try:
            reply = self._method()(body, timeout=timeout_s, metadata=self._metadata())
        except grpc.RpcError as error:
            return _Over(failure(error))
        return _Over(success(reply))

    def close(self) -> None:
        """See Transport."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def _method(self) -> Any:
        if self._channel is None:
            self._channel = _open(self._service)
        # Bodies are made and read here: the channel sees bytes only.
        return self._channel.unary_unary(LOG_EVENTS)

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        key = self._service.key
        text = key if isinstance(key, str) else key()
        return (("authorization", f"Bearer {text}"),)


class _Running:
    def __init__(self, future: Any) -> None:
        self._future = future

    def outcome(self) -> Outcome | None:
        if not self._future.done():
            return None
        if self._future.cancelled():
            return Outcome("CANCELLED")
        error = self._future.exception()
        return success(self._future.result()) if error is None else failure(error)

    def cancel(self) -> None:
        self._future.cancel()


class _Over:
    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome

    def outcome(self) -> Outcome | None:
        return self._outcome

    def cancel(self) -> None:
        """It is over."""


def success(reply: bytes) -> Outcome:
    """What a LogEventsResponse says."""
    made = contract()
    answer = made.reply.FromString(reply)
    rejected = tuple(
        Rejection(
            item.event_id,
            made.reasons.get(item.reason, str(item.reason)),
            item.field,
            item.message,
        )
        for item in answer.rejected
    )
    return Outcome("OK", "", 0.0, answer.accepted, answer.duplicates, rejected)


def failure(error: Any) -> Outcome:
    """What a failed call says."""
    after_s = 0.0
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS:
            after_s = _retry_after(value)
    return Outcome(error.code().name, error.details() or "", after_s)


def _retry_after(status: bytes) -> float:
    from google.protobuf.message import DecodeError

    made = contract()
    try:
        for detail in made.status.FromString(status).details:
            if detail.type_url.endswith("/google.rpc.RetryInfo"):
                delay = made.retry_info.FromString(detail.value).retry_delay
                return float(max(0.0, delay.seconds + delay.nanos / 1e9))
    except DecodeError:
        pass
    return 0.0


def _open(service: Service) -> grpc.Channel:
    options = [
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        # The sender repeats calls itself. A connection must not be more patient than it is.
        ("grpc.enable_retries", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", _RECONNECT_MS),
    ]
    if service.tls is None:
        return grpc.insecure_channel(service.address, options=options)
    return grpc.secure_channel(service.address, _credentials(service.tls), options=options)


def _credentials(tls: Tls) -> grpc.ChannelCredentials:
    pair = [path.read_bytes() if path else None for path in (tls.key, tls.certificate)]
    return grpc.ssl_channel_credentials(tls.ca.read_bytes(), *pair)
