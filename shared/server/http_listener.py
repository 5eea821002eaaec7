"""The HTTP server within a service's own event loop: bounded in connections and in patience."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from shared.server.http import HttpDoor, HttpLimits
from shared.server.http_application import HttpApplication
from shared.server.tls import port_taken, split_address, ssl_context
from shared.settings import ServiceSettings

_BACKLOG = 1024


class BoundedProtocol(H11Protocol):  # type: ignore[misc]  # untyped package
    """HTTP/1.1 of one connection, which ends when there are too many or when it is too slow.

    How long a body may take is for the call's own deadline to say.
    """

    def __init__(self, limits: HttpLimits, **given: Any) -> None:
        super().__init__(**given)
        self._limits = limits
        self._header_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Ends the connection at once when it is one too many."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            transport.abort()
        else:
            self._watch_header()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        _cancel(self._header_timer)
        _cancel(self._stall_timer)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Starts to wait for the end of a header with its first byte, not anew with each."""
        super().data_received(data)
        self._watch_header()

    def on_response_complete(self) -> None:
        """From here on the connection may be idle."""
        _cancel(self._header_timer)
        self._header_timer = None
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The client does not take its answers."""
        super().pause_writing()
        self._stall_timer = self.loop.call_later(self._limits.header_s, self.transport.abort)

    def resume_writing(self) -> None:
        """It does again."""
        _cancel(self._stall_timer)
        super().resume_writing()

    def _watch_header(self) -> None:
        serving = self.cycle is not None and not self.cycle.response_complete
        if serving:
            _cancel(self._header_timer)
            self._header_timer = None
        elif self._header_timer is None and not self.transport.is_closing():
            self._header_timer = self.loop.call_later(self._limits.header_s, self.transport.abort)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


class HttpListener:
    """A port that is taken; `start` answers on it, `stop` drains it."""

    def __init__(self, door: HttpDoor, settings: ServiceSettings) -> None:
        """Takes the port.

        Raises FAILED_PRECONDITION when somebody has it, and what `ssl_context` raises.
        """
        host, port = split_address(settings, door.address)
        self.address = f"{host}:{port}"
        self._tls = ssl_context(settings, host)
        self._grace_s = settings.drain_grace_s
        self._limits = door.limits
        try:
            self._socket = _bound(host.strip("[]"), int(port))
        except OSError as error:
            raise port_taken(self.address, door.setting) from error

    def release(self) -> None:
        """Gives the port back, when it was never started."""
        self._socket.close()

    async def start(self, application: HttpApplication) -> None:
        """Begins to answer."""
        config = uvicorn.Config(
            application,
            http=functools.partial(BoundedProtocol, self._limits),
            ws="none",
            interface="asgi3",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=self._limits.idle_s,
            timeout_graceful_shutdown=self._grace_s,
            ssl_context_factory=functools.partial(_given, self._tls) if self._tls else None,
            h11_max_incomplete_event_size=self._limits.header_bytes,
        )
        self._server = uvicorn.Server(config)
        # The service itself decides when to stop.
        self._server.capture_signals = contextlib.nullcontext
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started:
            if self._task.done():
                self._task.result()
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Takes no new connection; answers what is in flight within the grace period."""
        self._server.should_exit = True
        await self._task


def _given(context: Any, *_ignored: object) -> Any:
    return context


def _bound(host: str, port: int) -> socket.socket:
    """Without SO_REUSEPORT: two programs on one port would each get half of the calls."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # An answer is sent in two pieces: the second must not wait until the first is acknowledged.
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        # A port is only somebody's when he listens: from here on nobody else can.
        found.listen(_BACKLOG)
    except OSError:
        found.close()
        raise
    return found
