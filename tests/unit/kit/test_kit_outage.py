"""A state database that stands still or is gone: deadlines hold, and the service comes back."""

import asyncio
import os
import signal
import subprocess
import time

import grpc
import pytest
from touchstone.common.v1 import access_service_pb2 as pb
from touchstone.common.v1 import access_service_pb2_grpc as rpc

from shared.errors import Code
from shared.mutations import Mutations
from shared.server.access import access_servicers
from shared.server.platform import open_platform
from shared.server.status import from_rpc_error
from shared.settings import ServiceSettings
from shared.testing.postgres import postgres_server
from shared.testing.serving import application, serving

LIMIT_S = 1.0


@pytest.fixture
def postgres():
    with postgres_server() as server:
        yield server


def signal_all(server, number):
    """To the server and to the processes that serve its connections."""
    children = subprocess.run(
        ["pgrep", "-P", str(server.process_id)], capture_output=True, text=True, check=True
    ).stdout.split()
    for process in (server.process_id, *map(int, children)):
        os.kill(process, number)


def served_on(postgres, folder, credential_cache_s=60):
    settings = ServiceSettings(data=folder, database_url=postgres.url())
    platform = open_platform(settings)
    mutations = Mutations(platform.database, platform.audit_keys, platform.clock)
    found = application(
        folder,
        access_servicers(platform, mutations),
        platform,
        database_url=postgres.url(),
        default_call_s=2 * LIMIT_S,
        credential_cache_s=credential_cache_s,
    )
    return serving(found)


async def list_keys(served):
    """The code that the call ends with, and how long it took."""
    start = time.monotonic()
    code = None
    try:
        await rpc.AccessServiceStub(served.channel).ListKeys(
            pb.ListKeysRequest(parent="projects/demo"), metadata=served.owner
        )
    except grpc.aio.AioRpcError as error:
        code = from_rpc_error(error).code
    return code, time.monotonic() - start


async def get_caller(served):
    stub = rpc.AccessServiceStub(served.channel)
    return (await stub.GetCaller(pb.GetCallerRequest(), metadata=served.owner)).project


async def test_deadlines_hold_while_the_database_stands_still(postgres, tmp_path):
    async with served_on(postgres, tmp_path) as served:
        assert (await list_keys(served))[0] is None
        signal_all(postgres, signal.SIGSTOP)
        try:
            ended = await asyncio.gather(*(list_keys(served) for _ in range(40)))
            assert await get_caller(served) == "demo"
        finally:
            signal_all(postgres, signal.SIGCONT)
        assert {code for code, _ in ended} == {Code.DEADLINE_EXCEEDED}
        assert max(took for _, took in ended) < 2 * LIMIT_S + 2
        async with asyncio.timeout(20):
            while (await list_keys(served))[0] is not None:
                pass
        # The threads of the calls that were given up hold connections until they find out.
        await asyncio.get_running_loop().shutdown_default_executor()


async def test_known_keys_go_on_at_full_speed_while_the_database_stands_still(postgres, tmp_path):
    async with served_on(postgres, tmp_path, credential_cache_s=0) as served:
        assert await get_caller(served) == "demo"
        signal_all(postgres, signal.SIGSTOP)
        try:
            # The first to come waits for the database, in vain; the others do not.
            await get_caller(served)
            start = time.monotonic()
            answers = [await get_caller(served) for _ in range(40)]
            took = time.monotonic() - start
        finally:
            signal_all(postgres, signal.SIGCONT)
        assert answers == ["demo"] * 40
        # Each would wait a second for the database, if it waited at all.
        assert took < 20
        await asyncio.get_running_loop().shutdown_default_executor()


async def test_database_that_is_gone_is_unavailable_and_known_keys_go_on(postgres, tmp_path):
    async with served_on(postgres, tmp_path) as served:
        assert (await list_keys(served))[0] is None
        os.kill(postgres.process_id, signal.SIGINT)
        await asyncio.sleep(1)
        assert (await list_keys(served))[0] is Code.UNAVAILABLE
        assert await get_caller(served) == "demo"
