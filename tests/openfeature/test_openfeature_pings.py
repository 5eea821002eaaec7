"""Providers ping every half a minute, call or no call, and no port takes that for an attack.

Whether clocks agree to the millisecond must not matter: an interval that is a little short counts
as an offence, and the third one ends a connection.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.openfeature.running import Running

# https://www.rfc-editor.org/rfc/rfc9113#section-6
SETTINGS, PING, GOAWAY, ACK = 4, 6, 7, 1
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
ANSWER_S = 10.0
PINGS = 5
LONG = bool(os.environ.get("TOUCHSTONE_OPENFEATURE_UNITS"))


class Connection:
    """HTTP/2 without a call on it."""

    def __init__(self, found: socket.socket) -> None:
        self._socket = found
        self._file = found.makefile("rb")
        found.sendall(PREFACE + frame(SETTINGS))

    def ping(self, number: int) -> bool:
        """Whether a ping is answered; False when the server says good-bye instead."""
        sent = struct.pack(">Q", number)
        try:
            self._socket.sendall(frame(PING, payload=sent))
            while True:
                kind, flags, payload = self._read()
                if kind == GOAWAY:
                    return False
                if kind == PING and flags == ACK and payload == sent:
                    return True
                if kind in (SETTINGS, PING) and flags != ACK:
                    self._socket.sendall(frame(kind, ACK, payload if kind == PING else b""))
        except ConnectionError:
            return False

    def _read(self) -> tuple[int, int, bytes]:
        head = self._file.read(9)
        if len(head) < 9:
            raise ConnectionError("it was closed")
        return head[3], head[4], self._file.read(int.from_bytes(head[:3]))


def frame(kind: int, flags: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + bytes(4) + payload


@contextmanager
def connected(address: str) -> Iterator[Connection]:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), ANSWER_S) as found:
        yield Connection(found)


def answered(address: str, every_s: float) -> list[bool]:
    with connected(address) as connection:
        found = []
        for number in range(PINGS):
            if number:
                time.sleep(every_s)
            found.append(connection.ping(number))
        return found


def ports(running: Running) -> list[str]:
    return [running.process.address, f"127.0.0.1:{running.flagd_port}"]


def test_pings_in_a_row_end_the_connection(running: Running) -> None:
    for address in ports(running):
        assert not all(answered(address, 0.0))


@pytest.mark.skipif(not LONG, reason="takes two minutes: make openfeature")
def test_pings_every_half_a_minute_are_answered_at_both_ports(running: Running) -> None:
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda address: answered(address, 29.9), ports(running)))
    assert found == [[True] * PINGS] * 2
