"""Heavy batches and rejected events have threads of their own, and give them back."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from touchstone.common.v1 import unit_pb2
from touchstone.events.v1 import event_pb2, events_service_pb2, events_service_pb2_grpc

from services.events.composition import compose
from services.events.domain.limits import Limits
from services.events.settings import Settings
from shared.security.caller import Role
from shared.server.run import start_server
from shared.testing.ports import free_port
from shared.testing.serving import Metadata, add_key, bearer


def batch(count: int, payload: str) -> events_service_pb2.LogEventsRequest:
    """As many events; every other one is bad, because its name is."""
    request = events_service_pb2.LogEventsRequest()
    for number in range(count):
        event = event_pb2.Event(
            event_id=f"{count}-{number}", unit=unit_pb2.UnitId(type="user", id="u1")
        )
        event.event_time.GetCurrentTime()
        event.conversion.event_name = ("buy", "NO")[number % 2]
        event.properties.update({"x": payload})
        request.events.append(event)
    return request


async def send(
    address: str, owner: Metadata, *requests: events_service_pb2.LogEventsRequest
) -> list[int]:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = events_service_pb2_grpc.EventsServiceStub(channel)
        replies = [
            await stub.LogEvents(request, metadata=owner, timeout=60) for request in requests
        ]
    return [len(reply.rejected) for reply in replies]


async def test_what_keeps_the_threads_of_all_busy_keeps_no_batch_waiting(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, events_address=f"127.0.0.1:{free_port()}")
    before = set(threading.enumerate())
    application = compose(settings)
    owner = bearer(add_key(application.platform, "acme", *Role).text)
    running = await start_server(application)
    heavy, light = batch(40, "y" * 15_000), batch(20, "")
    assert light.ByteSize() < Limits().inline_bytes < heavy.ByteSize()
    # What authenticates needs a thread at the first call; from then on it is remembered.
    assert await send(settings.events_address, owner, batch(2, "")) == [1]
    listing = threading.Event()
    shared = ThreadPoolExecutor(1)
    asyncio.get_running_loop().set_default_executor(shared)
    taken = asyncio.create_task(asyncio.to_thread(listing.wait, 120))
    try:
        done = await send(settings.events_address, owner, heavy, light)
        assert (done, taken.done()) == ([20, 10], False)
    finally:
        listing.set()
        await taken
    await running.drain()
    names = [thread.name for thread in set(threading.enumerate()) - before]
    assert not [name for name in names if name.startswith(("heavy", "rejected"))]
