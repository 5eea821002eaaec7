"""Ports for servers that tests start."""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from pathlib import Path

# Below the ports that systems give to outgoing connections, so that none of these takes one.
_FIRST, _END = 18_000, 32_000


def free_port() -> int:
    """A port on loopback that nobody listens on. All processes of a user take turns: none is given
    a port that another was given a moment ago and is about to listen on.
    """
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Such ports, all different."""
    turns = Path(tempfile.gettempdir(), f"touchstone-test-ports-{os.getuid()}")
    with turns.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        last = int(file.read() or _FIRST)
        found: list[int] = []
        while len(found) < count:
            last = last + 1 if _FIRST <= last < _END - 1 else _FIRST
            if _is_free(last):
                found.append(last)
        file.truncate(0)
        file.write(str(last).encode())
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
