"""Start, readiness and the end of a server."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from touchstone.common.v1 import access_service_pb2 as pb
from touchstone.common.v1 import access_service_pb2_grpc as rpc

from shared.errors import Code, DomainError
from shared.security.bootstrap import make_owner_key
from shared.server.platform import open_platform
from shared.server.public import MAX_PUBLIC_STREAMS
from shared.server.run import start_server
from shared.settings import ServiceSettings
from shared.testing.ports import free_port
from shared.testing.serving import application, serving

REPOSITORY = Path(__file__).parents[3]
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def get_caller(served):
    stub = rpc.AccessServiceStub(served.channel)
    return stub.GetCaller(pb.GetCallerRequest(), metadata=served.owner)


async def test_drain_finishes_what_is_in_flight_and_takes_nothing_new(serve, handlers):
    started, release = asyncio.Event(), asyncio.Event()

    async def do():
        started.set()
        await release.wait()

    handlers.do = do
    async with serve() as served:
        flying = asyncio.ensure_future(get_caller(served))
        await started.wait()
        draining = asyncio.ensure_future(served.running.drain())
        await asyncio.sleep(0.2)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await get_caller(served)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        release.set()
        assert (await flying).project == "answered"
        await draining


async def test_lame_duck_is_not_ready_but_still_answers(serve):
    async with serve(drain_lame_duck_s=0.5) as served:
        draining = asyncio.ensure_future(served.running.drain())
        await asyncio.sleep(0.1)
        health = health_pb2_grpc.HealthStub(served.channel)
        found = await health.Check(health_pb2.HealthCheckRequest())
        assert found.status == NOT_SERVING
        assert (await get_caller(served)).project == "answered"
        await draining


async def test_open_health_watch_does_not_hold_up_the_end(serve):
    async with serve(drain_grace_s=30) as served:
        watch = health_pb2_grpc.HealthStub(served.channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        start = time.monotonic()
        await served.running.drain()
        assert time.monotonic() - start < 5
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read_to_end(watch)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_watches_of_strangers_are_few_and_shut_nobody_out(serve):
    async with serve() as served:
        stub = health_pb2_grpc.HealthStub(served.channel)
        watches = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(MAX_PUBLIC_STREAMS)]
        for watch in watches:
            await watch.read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Watch(health_pb2.HealthCheckRequest()).read()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await get_caller(served)).project == "answered"
        watches[0].cancel()
        async with asyncio.timeout(10):
            while not await opens(stub):
                pass


async def opens(stub):
    """Whether one more watch may be opened."""
    try:
        await stub.Watch(health_pb2.HealthCheckRequest()).read()
    except grpc.aio.AioRpcError:
        return False
    return True


async def read_to_end(watch):
    while await watch.read() is not grpc.aio.EOF:
        pass


async def test_watch_tells_of_readiness_and_ends_with_its_client(tmp_path, handlers):
    ready = [True]
    found = application(tmp_path, handlers.servicers())
    async with serving(replace(found, ready=lambda: ready[0])) as served:
        watch = health_pb2_grpc.HealthStub(served.channel).Watch(health_pb2.HealthCheckRequest())
        async with asyncio.timeout(10):
            while (await watch.read()).status != SERVING:
                pass
            ready[0] = False
            while (await watch.read()).status != NOT_SERVING:
                pass
        watch.cancel()
        await asyncio.sleep(0.1)


async def test_service_that_cannot_tell_is_not_ready(tmp_path, handlers, log):
    def ready():
        raise OSError("hunter2")

    found = replace(application(tmp_path, handlers.servicers()), ready=ready)
    async with serving(found) as served:
        await asyncio.sleep(0.1)
        health = health_pb2_grpc.HealthStub(served.channel)
        assert (await health.Check(health_pb2.HealthCheckRequest())).status == NOT_SERVING
        assert not served.running.readiness.done()
    assert "readiness not known" in log.text
    assert "hunter2" not in log.text


async def test_start_and_stop_run_around_the_calls(tmp_path, handlers):
    events = []

    async def start():
        events.append("start")

    async def stop():
        events.append("stop")

    async def do():
        events.append("call")

    handlers.do = do
    found = replace(application(tmp_path, handlers.servicers()), start=start, stop=stop)
    async with serving(found) as served:
        await get_caller(served)
    assert events == ["start", "call", "stop"]


async def test_port_in_use_is_named_with_its_setting(serve, tmp_path, handlers):
    async with serve() as served:
        second = application(
            tmp_path / "second", handlers.servicers(), assignment_address=served.running.address
        )
        with pytest.raises(DomainError) as caught:
            await start_server(second)
        second.platform.database.close()
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert served.running.address in caught.value.message
    assert "TOUCHSTONE_ASSIGNMENT_ADDRESS" in caught.value.message


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
async def test_plaintext_does_not_leave_the_machine_by_accident(tmp_path, handlers, host):
    found = application(tmp_path, handlers.servicers(), listen_host=host)
    with pytest.raises(DomainError, match="TOUCHSTONE_ALLOW_PLAINTEXT"):
        await start_server(found)
    found.platform.database.close()


async def test_plaintext_elsewhere_is_served_when_it_is_allowed(tmp_path, handlers):
    found = application(tmp_path, handlers.servicers(), listen_host="0.0.0.0", allow_plaintext=True)
    async with serving(found) as served:
        assert (await get_caller(served)).project == "answered"


PROGRAM = """
from shared.server.public import MAX_PUBLIC_STREAMS
from shared.server.platform import open_platform
from shared.server.run import Application, run
from shared.settings import ServiceSettings

def compose():
    settings = ServiceSettings()
    return Application("assignment", settings, open_platform(settings), [])

run(compose)
"""


def process(folder, **environment):
    """A server as its `__main__` starts it."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'shared' / 'gen'}",
            "TOUCHSTONE_DATA": str(folder / "data"),
            "TOUCHSTONE_ASSIGNMENT_ADDRESS": f"127.0.0.1:{free_port()}",
            **environment,
        },
        stderr=subprocess.PIPE,
        text=True,
    )


def test_sigterm_ends_the_process_cleanly_and_soon(tmp_path):
    server = process(tmp_path)
    for line in server.stderr:
        if '"listening"' in line:
            break
    start = time.monotonic()
    server.send_signal(signal.SIGTERM)
    rest = server.communicate(timeout=20)[1]
    assert server.returncode == 0, rest
    assert '"stopped"' in rest
    assert time.monotonic() - start < 5
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "data" / "audit.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOUCHSTONE_DRAIN_GRACE_S", "soon"),
        ("TOUCHSTONE_ASSIGNMENT_ADDRESS", "localhost"),
        ("TOUCHSTONE_EVENTS_ADDRESS", "localhost:70000"),
        ("TOUCHSTONE_MAX_CONCURRENT_RPCS", "0"),
        ("TOUCHSTONE_LOG_LEVEL", "loud"),
        ("TOUCHSTONE_DATABASE_URL", "mysql://u:hunter2@h/d"),
        ("TOUCHSTONE_DATA", "/dev/null/data"),
        ("TOUCHSTONE_TLS_KEY", "/no/such/file"),
        ("TOUCHSTONE_TLS_CLIENT_CA", "/no/such/file"),
    ],
)
def test_setting_that_does_not_hold_is_one_line_that_names_it(tmp_path, name, value):
    server = process(tmp_path, **{name: value})
    said = server.communicate(timeout=30)[1]
    assert server.returncode == 1
    last = said.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert name in last
    assert "Traceback" not in said
    assert "hunter2" not in said


def test_data_folder_of_a_newer_program_is_refused(tmp_path):
    import sqlite3

    first = process(tmp_path)
    for line in first.stderr:
        if '"listening"' in line:
            break
    first.terminate()
    first.communicate(timeout=20)
    with sqlite3.connect(tmp_path / "data" / "state.db") as connection:
        connection.execute("UPDATE alembic_version_platform SET version_num = '9999'")
    connection.close()
    second = process(tmp_path)
    said = second.communicate(timeout=30)[1]
    assert second.returncode == 1
    assert "newer Touchstone" in said.splitlines()[-1]


@pytest.mark.parametrize(
    "content", [b"not a database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_state_database_that_is_damaged_is_refused(tmp_path, content):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "state.db").write_bytes(content)
    server = process(tmp_path)
    said = server.communicate(timeout=30)[1]
    assert server.returncode == 1
    assert said.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in said
    assert (tmp_path / "data" / "state.db").read_bytes() == content


@pytest.mark.parametrize("content", ["", "zz\n", "ab\n"])
def test_audit_key_that_is_no_key_is_refused(tmp_path, content):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "audit.key").write_text(content)
    server = process(tmp_path)
    said = server.communicate(timeout=30)[1]
    assert server.returncode == 1
    assert "audit.key" in said.splitlines()[-1]
    assert "Traceback" not in said
    assert (tmp_path / "data" / "audit.key").read_text() == content


def test_state_that_another_audit_key_wrote_is_refused(tmp_path):
    platform = open_platform(ServiceSettings(data=tmp_path / "first"))
    make_owner_key(platform.database, platform.audit_keys, platform.clock, platform.ids, "demo")
    platform.database.close()
    url = f"sqlite:///{tmp_path / 'first' / 'state.db'}"
    with pytest.raises(DomainError, match="TOUCHSTONE_AUDIT_KEY_FILE"):
        open_platform(ServiceSettings(data=tmp_path / "second", database_url=url))
    shared = ServiceSettings(
        data=tmp_path / "third", database_url=url, audit_key_file=tmp_path / "first" / "audit.key"
    )
    open_platform(shared).database.close()
    assert not (tmp_path / "third" / "audit.key").exists()
