"""OFREP over HTTP, beside an application that reads a body and answers as many bytes, on the same
server with the same limits.

The processor time of the two processes is what counts: the caller shares the machine with them, and
both take turns, so that what else the machine does meets both alike.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.testing.ports import free_port
from tests.bench.report import BenchRow, compared
from tests.openfeature.running import Running
from tests.openfeature.world import ALL_FLAGS, contexts, make_world

TURNS, CALLS_A_TURN = 10, 50
UNITS = 500
ECHO = """
import asyncio, sys
from shared.server.http import HttpDoor
from shared.server.http_listener import HttpListener
from shared.settings import ServiceSettings

reply = bytes(int(sys.argv[2]))
headers = [(b"content-type", b"application/json"), (b"content-length", sys.argv[2].encode())]

async def answer(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": reply})

async def main():
    listener = HttpListener(HttpDoor(sys.argv[1], "assignment_http_address"), ServiceSettings())
    await listener.start(answer)
    await asyncio.Event().wait()

asyncio.run(main())
"""
Call = Callable[[int], bytes]


def run() -> list[BenchRow]:
    """Microseconds of processor time for a request."""
    with tempfile.TemporaryDirectory() as folder:
        running = Running(Path(folder))
        running.process.start()
        try:
            with running.service() as service:
                make_world(service)
            return [
                _row(running, "one flag", f"/{ALL_FLAGS[0].key}"),
                _row(running, f"all {len(ALL_FLAGS)} flags", ""),
            ]
        finally:
            running.process.terminate()


def _row(running: Running, name: str, path: str) -> BenchRow:
    bodies = [json.dumps({"context": unit}).encode() for unit in contexts(UNITS)]
    ours = _caller(running.http, f"/ofrep/v1/evaluate/flags{path}", bodies, running.key)
    size = len(ours(1))
    with _echo(size) as (echo, address):
        theirs = _caller(address, "/", bodies, running.key)
        spent = _processor_us([(running.process.pid, ours), (echo, theirs)])
    return compared(
        "ofrep",
        f"{name}, {size} bytes",
        ours=spent[0],
        reference=spent[1],
        reference_name="an echo of as many bytes on the same server",
        unit="us of the processor for a request",
        goal="",
    )


def _processor_us(servers: list[tuple[int, Call]]) -> list[float]:
    spent = [0.0 for _ in servers]
    for turn in range(TURNS + 1):
        for place, (pid, call) in enumerate(servers):
            before_ns = _spent_ns(pid)
            for n in range(CALLS_A_TURN):
                call(turn * CALLS_A_TURN + n)
            if turn:  # the first only warms up
                spent[place] += _spent_ns(pid) - before_ns
    return [ns / 1e3 / TURNS / CALLS_A_TURN for ns in spent]


def _spent_ns(pid: int) -> int:
    """The processor time of a process, of all its threads."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks)


def _caller(address: str, path: str, bodies: list[bytes], key: str) -> Call:
    connection = http.client.HTTPConnection(address, timeout=20)
    headers = {"x-api-key": key, "content-type": "application/json"}

    def call(n: int) -> bytes:
        connection.request("POST", path, bodies[n % len(bodies)], headers)
        response = connection.getresponse()
        data = response.read()
        assert response.status == 200, data
        return data

    return call


@contextmanager
def _echo(size: int) -> Iterator[tuple[int, str]]:
    address = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen([sys.executable, "-c", ECHO, address, str(size)])
    try:
        for _ in range(500):
            try:
                _caller(address, "/", [b"{}"], "")(0)
                break
            except OSError:
                time.sleep(0.02)
        yield process.pid, address
    finally:
        process.terminate()
        process.wait()
