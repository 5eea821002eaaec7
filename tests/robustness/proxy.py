"""A network between client and server that is slow, loses connections, or swallows replies."""

from __future__ import annotations

import contextlib
import queue
import socket
import struct
import threading
import time
from dataclasses import dataclass, field

import numpy as np

from shared.testing.ports import free_port

BYTES = 65_536
_RESET = struct.pack("ii", 1, 0)


@dataclass
class Network:
    """A TCP proxy on loopback. Change its fields at any time."""

    server: int
    seed: int
    delay_s: float = 0.0
    """How long every byte is under way, each direction."""
    lost: float = 0.0
    """Chance that a piece of data ends its connection with a reset."""
    swallow: bool = False
    """Whether what the server says is thrown away; `swallowed` counts the bytes."""
    swallowed: int = 0
    resets: int = 0
    port: int = field(default_factory=free_port)
    _sockets: list[socket.socket] = field(default_factory=list)
    _closed: bool = False

    def start(self) -> None:
        """Accept connections."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._dice = np.random.default_rng(self.seed)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more and end what there is."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()

    def reset(self) -> None:
        """End every connection without a word."""
        sockets, self._sockets = self._sockets, []
        for one in sockets:
            _reset(one)

    def _accept(self) -> None:
        while not self._ended():
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.server), 5)
            except OSError:
                if self._ended():
                    return
                continue
            server.settimeout(None)
            self._sockets += [client, server]
            for source, target, answers in ((client, server, False), (server, client, True)):
                pipe: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
                threading.Thread(
                    target=self._receive, args=(source, pipe, answers), daemon=True
                ).start()
                threading.Thread(
                    target=self._deliver, args=(pipe, source, target), daemon=True
                ).start()

    def _ended(self) -> bool:
        return self._closed

    def _receive(
        self, source: socket.socket, pipe: queue.SimpleQueue[tuple[float, bytes]], answers: bool
    ) -> None:
        data = b"-"
        while data:
            try:
                data = source.recv(BYTES)
            except OSError:
                data = b""
            if data and answers and self.swallow:
                self.swallowed += len(data)
                continue
            pipe.put((time.monotonic() + self.delay_s, data))

    def _deliver(
        self,
        pipe: queue.SimpleQueue[tuple[float, bytes]],
        source: socket.socket,
        target: socket.socket,
    ) -> None:
        while True:
            due_s, data = pipe.get()
            time.sleep(max(0.0, due_s - time.monotonic()))
            if data and self._dice.random() < self.lost:
                self.resets += 1
                data = b""
            try:
                if data:
                    target.sendall(data)
                    continue
            except OSError:
                pass
            _reset(source)
            _reset(target)
            return


def _reset(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        # A close alone does not wake a thread that reads from it.
        one.shutdown(socket.SHUT_RDWR)
    one.close()
