"""Connections that break: something between a command and a service."""

from __future__ import annotations

import contextlib
import socket
import threading


class Breaking:
    """Passes bytes on to a service, and breaks off each of the first connections after so many."""

    def __init__(self, target: str, breaks: list[int]) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._breaks = list(breaks)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        self.broken = 0
        self.sent = 0
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def close(self) -> None:
        """Ends when every connection has."""
        self._server.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(60)
        self._server.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                left = self._breaks.pop(0) if self._breaks else None
                self._threads.append(threading.Thread(target=self._between, args=(client, left)))
                self._threads[-1].start()

    def _between(self, client: socket.socket, left: int | None) -> None:
        with client, socket.create_connection(self._target) as service:
            asks = threading.Thread(target=_pass_on, args=(client, service))
            asks.start()
            passed = 0
            with contextlib.suppress(OSError):
                while data := service.recv(1024):
                    passed += len(data)
                    if left is not None and passed > left:
                        self.broken += 1
                        break
                    client.sendall(data)
                    self.sent += len(data)
            _end(client, service)
            asks.join()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(4096):
            sink.sendall(data)
    _end(source, sink)


def _end(*both: socket.socket) -> None:
    for one in both:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
