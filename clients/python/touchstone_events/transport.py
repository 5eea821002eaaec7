"""One call of LogEvents, and what came of it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import grpc

from touchstone_events.contract import LOG_EVENTS, contract
from touchstone_events.settings import Service, Tls

_KEEPALIVE_MS = 60_000
_RECONNECT_MS = 1000
_DISCONNECT_S = 0.5
_TASKS = Path("/proc/self/task")
_GRPC_THREADS = ("event_engine", "grpc_", "lifeguard")
_THREADS_END_S, _LOOK_EVERY_S, _BLIND_WAIT_S = 0.25, 0.005, 0.05
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


class Transport(Protocol):
    """A way to the service. For one thread, with one call at a time."""

    def start(self, body: bytes, timeout_s: float, done: Callable[[], None]) -> Call:
        """Start a call; `done` is called once, from any thread, when it has an outcome."""
        ...

    def disconnect(self) -> None:
        """Give up a call that is under way, and the connection; the next call makes another one.

        Whether the service had the call is then unknown.
        """
        ...

    def quiesce(self) -> None:
        """Disconnect, and wait a little until nothing is left that a fork would break."""
        ...

    def close(self) -> None:
        """Disconnect for good."""
        ...


class GrpcTransport:
    """gRPC. The connection is made by the first call.

    Calls run in a thread that waits for them, not as gRPC's futures: those have threads of gRPC,
    which can be neither joined before a fork nor started while the interpreter ends.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._channel: grpc.Channel | None = None
        self._requests: queue.SimpleQueue[_Pending | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._idle = threading.Event()
        self._idle.set()

    def start(self, body: bytes, timeout_s: float, done: Callable[[], None]) -> Call:
        """See Transport."""
        key = self._service.key
        text = key if isinstance(key, str) else key()
        if self._channel is None:
            self._channel = open_channel(self._service, _KEEPALIVE_MS)
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="touchstone-calls", daemon=True)
            thread.start()
            self._thread = thread
        # Bodies are made and read here: the channel sees bytes only.
        method: Any = self._channel.unary_unary(LOG_EVENTS)
        metadata = (("authorization", f"Bearer {text}"),)
        pending = _Pending(
            lambda: method(body, timeout=timeout_s, metadata=metadata),
            done,
        )
        self._idle.clear()
        self._requests.put(pending)
        return pending

    def disconnect(self) -> None:
        """See Transport."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()
        self._idle.wait(_DISCONNECT_S)

    def quiesce(self) -> None:
        """See Transport."""
        if self._channel is not None:
            self.disconnect()
            wait_for_grpc_to_end()

    def close(self) -> None:
        """See Transport."""
        self.disconnect()
        self._requests.put(None)

    def _work(self) -> None:
        while (pending := self._requests.get()) is not None:
            pending.perform()
            # Nothing of gRPC may be left in this thread: the process may fork at any time.
            done = pending.done
            del pending
            self._idle.set()
            done()


class _Pending:
    """A call, and what came of it."""

    def __init__(self, call: Callable[[], bytes], done: Callable[[], None]) -> None:
        self._call: Callable[[], bytes] | None = call
        self._outcome: Outcome | None = None
        self.done = done

    def outcome(self) -> Outcome | None:
        return self._outcome

    def perform(self) -> None:
        call, self._call = self._call, None
        assert call is not None
        self._outcome = _outcome(call)


def _outcome(call: Callable[[], bytes]) -> Outcome:
    try:
        return success(call())
    except grpc.RpcError as error:
        return failure(error)
    except Exception as error:  # noqa: BLE001  a closed channel raises ValueError, a bad reply others
        return Outcome("CANCELLED", f"{type(error).__name__}: {error}")


def wait_for_grpc_to_end() -> None:
    """A child that is made while gRPC has threads cannot use it.

    They end a few milliseconds after the last connection, and nothing tells when. Where the
    product has other connections they do not end at all, so that the wait is bounded.
    """
    end = time.monotonic() + _THREADS_END_S
    while time.monotonic() < end and any(_is_of_grpc(task) for task in _TASKS.glob("*/comm")):
        time.sleep(_LOOK_EVERY_S)
    # The last thread is still unwinding when its name is gone, and not every system has names.
    time.sleep(_LOOK_EVERY_S if _TASKS.is_dir() else _BLIND_WAIT_S)


def _is_of_grpc(task: Path) -> bool:
    try:
        return task.read_text().startswith(_GRPC_THREADS)
    except OSError:
        return False


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


def open_channel(service: Service, keepalive_ms: int, reply_bytes: int = 0) -> grpc.Channel:
    """A connection for callers that repeat calls themselves; made by the first call.

    Replies are taken up to `reply_bytes`; 0 means gRPC's own limit.
    """
    options = [
        *([("grpc.max_receive_message_length", reply_bytes)] if reply_bytes else []),
        ("grpc.keepalive_time_ms", keepalive_ms),
        # A connection must not be more patient than its caller.
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
