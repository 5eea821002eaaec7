"""The calls to the service."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, Protocol

import grpc
from touchstone_events.settings import Service
from touchstone_events.transport import open_channel, wait_for_grpc_to_end

from touchstone_assignment.local.contract import ASSIGN, ID_LIST, PARAMETERS, WATCH, contract
from touchstone_assignment.local.settings import Settings


class WireError(Exception):
    """A call that failed. `code` is the name of a gRPC code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code


class Wire(Protocol):
    """A way to the service. Messages are those of `contract()`."""

    def prepare(self) -> None:
        """What must be there before anything is told of forks. Reaches nobody."""
        ...

    def watch(self, known_digest: str) -> Iterator[Any]:
        """What WatchConfig sends, until the stream ends; WireError however it ends."""
        ...

    def id_list(self, digest: str) -> bytes:
        """The fingerprints of a list; WireError."""
        ...

    def ask(self, request: Any) -> Any:
        """The answer to an AssignRequest or a GetParametersRequest; WireError."""
        ...

    def disconnect(self) -> None:
        """End every call and the connection; the next call makes another one."""
        ...

    def quiesce(self) -> None:
        """Disconnect, wait a little until nothing is left that a fork would break, and open no
        connection until `resume`.
        """
        ...

    def resume(self) -> None:
        """Connections may be opened again."""
        ...


class GrpcWire:
    """gRPC. The connection is made by the first call."""

    def __init__(self, service: Service, settings: Settings) -> None:
        self._service = service
        self._settings = settings
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._used = False
        self._forking = False

    def prepare(self) -> None:
        """See Wire.

        gRPC's own hook for forks comes with its first channel, and hooks run in reverse: ours must
        be the later one, for a channel cannot be closed any more once gRPC prepares for a fork.
        """
        self._open()

    def watch(self, known_digest: str) -> Iterator[Any]:
        """See Wire."""
        made = contract()
        method = self._open().unary_stream(
            WATCH,
            request_serializer=made.watch_request.SerializeToString,
            response_deserializer=made.watch_response.FromString,
        )
        request = made.watch_request(known_digest=known_digest)
        # The stream has no time limit: keepalive finds out that nobody is there any more.
        yield from _received(method, request, None, self._key())

    def id_list(self, digest: str) -> bytes:
        """See Wire."""
        made = contract()
        method = self._open().unary_stream(
            ID_LIST,
            request_serializer=made.id_list_request.SerializeToString,
            response_deserializer=made.id_list_response.FromString,
        )
        request = made.id_list_request(digest=digest)
        parts = _received(method, request, self._settings.id_list_deadline_s, self._key())
        return b"".join(part.fingerprints for part in parts)

    def ask(self, request: Any) -> Any:
        """See Wire."""
        made = contract()
        to_assign = isinstance(request, made.assign_request)
        response = made.assign_response if to_assign else made.parameters_response
        try:
            method: Any = self._open().unary_unary(
                ASSIGN if to_assign else PARAMETERS,
                request_serializer=type(request).SerializeToString,
                response_deserializer=response.FromString,
            )
            return method(request, timeout=self._settings.ask_deadline_s, metadata=self._key())
        except grpc.RpcError as error:
            raise _wire_error(error) from error
        except ValueError as error:  # the channel was closed meanwhile
            raise WireError("CANCELLED", str(error)) from error

    def disconnect(self) -> None:
        """See Wire."""
        with self._lock:
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def quiesce(self) -> None:
        """See Wire."""
        with self._lock:
            self._forking = True
        self.disconnect()
        if self._used:
            wait_for_grpc_to_end()

    def resume(self) -> None:
        """See Wire."""
        with self._lock:
            self._forking = False

    def _open(self) -> grpc.Channel:
        with self._lock:
            if self._forking:
                raise WireError("CANCELLED", "the process is making a child")
            if self._channel is None:
                self._used = True
                self._channel = open_channel(
                    self._service,
                    int(self._settings.keepalive_s * 1000),
                    self._settings.ruleset_bytes,
                )
            return self._channel

    def _key(self) -> tuple[tuple[str, str]]:
        key = self._service.key
        if not isinstance(key, str):
            try:
                key = key()
            except Exception as error:  # a product's function may raise anything
                raise WireError("UNAUTHENTICATED", f"the function for the key: {error}") from error
        return (("authorization", f"Bearer {key}"),)


def _received(method: Any, request: Any, timeout: float | None, metadata: Any) -> Iterator[Any]:
    try:
        call = method(request, timeout=timeout, metadata=metadata)
        yield from call
    except grpc.RpcError as error:
        raise _wire_error(error) from error
    except ValueError as error:  # the channel was closed meanwhile
        raise WireError("CANCELLED", str(error)) from error


def _wire_error(error: Any) -> WireError:
    return WireError(error.code().name, error.details() or "")
