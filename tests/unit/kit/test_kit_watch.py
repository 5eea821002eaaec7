"""Streams without an end go on until the server drains, the key is revoked or the client leaves."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from shared.errors import Code, DomainError
from shared.server.watch import Watches


class Source:
    """Gives what is put into it, and remembers whether it was closed."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[int | None] = asyncio.Queue()
        self.closed = False

    async def items(self) -> AsyncIterator[int]:
        try:
            while (item := await self.queue.get()) is not None:
                yield item
        finally:
            self.closed = True


class World:
    """Watches of a server, and one stream of them."""

    def __init__(
        self, recheck: Callable[[], Awaitable[None]] | None = None, every_s: float = 60.0
    ) -> None:
        self.draining = asyncio.Event()
        self.watches = Watches(self.draining)
        self.source = Source()
        self.stream = self.watches.watched(self.source.items(), recheck or allow, every_s)

    def put(self, item: int | None) -> None:
        self.source.queue.put_nowait(item)

    def follow(self) -> asyncio.Task[int]:
        """Wait for the next message, as a call does."""

        async def following() -> int:
            async with asyncio.timeout(5):
                return await anext(self.stream)

        return asyncio.create_task(following())


async def allow() -> None:
    """A key that is still good."""


def revoked() -> DomainError:
    return DomainError(Code.UNAUTHENTICATED, "KEY_REVOKED", "the key was revoked")


async def turns() -> None:
    """Let everybody do what they can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def ended(following: Awaitable[int]) -> Code:
    with pytest.raises(DomainError) as refused:
        await following
    return refused.value.code


def others() -> set["asyncio.Task[object]"]:
    return asyncio.all_tasks() - {asyncio.current_task()}


async def test_draining_ends_a_stream_that_waits() -> None:
    world = World()
    world.put(1)
    assert await world.follow() == 1
    waiting = world.follow()
    await turns()
    world.draining.set()
    assert await ended(waiting) is Code.UNAVAILABLE
    assert world.source.closed
    await turns()
    assert not others()


async def test_draining_does_not_cut_off_the_message_that_is_being_sent() -> None:
    world = World()

    sent = []

    async def call() -> int:
        async for item in world.stream:
            world.draining.set()
            await turns()
            sent.append(item)
        return 0

    world.put(1)
    world.put(2)
    assert await ended(asyncio.create_task(call())) is Code.UNAVAILABLE
    assert sent == [1]


async def test_a_stream_that_comes_while_the_server_drains_ends_at_once() -> None:
    world = World()
    world.draining.set()
    world.put(1)
    assert await ended(world.follow()) is Code.UNAVAILABLE


async def test_a_source_that_ends_ends_the_stream_with_unavailable() -> None:
    world = World()
    world.put(None)
    assert await ended(world.follow()) is Code.UNAVAILABLE


async def test_a_key_that_is_revoked_ends_a_stream_that_waits() -> None:
    checks = 0

    async def revoked_at_third() -> None:
        nonlocal checks
        checks += 1
        if checks == 3:
            raise revoked()

    world = World(revoked_at_third, every_s=0.01)
    world.put(1)
    assert await world.follow() == 1
    assert await ended(world.follow()) is Code.UNAUTHENTICATED
    await asyncio.sleep(0.05)
    assert checks == 3
    assert not others()


async def test_a_message_waits_for_the_check_that_is_due() -> None:
    answer = asyncio.Event()

    async def slow() -> None:
        await answer.wait()
        raise revoked()

    world = World(slow, every_s=0.01)
    waiting = world.follow()
    await asyncio.sleep(0.05)
    world.put(1)
    await turns()
    assert not waiting.done()
    answer.set()
    assert await ended(waiting) is Code.UNAUTHENTICATED


@pytest.mark.parametrize("draining", [False, True])
async def test_nothing_is_left_of_a_client_that_goes_away(draining: bool) -> None:
    world = World()
    waiting = world.follow()
    await turns()
    if draining:
        world.draining.set()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert world.source.closed
    await turns()
    assert not others()


async def test_one_stream_that_ends_does_not_end_the_others() -> None:
    world = World()
    other = Source()
    staying = world.watches.watched(other.items(), allow)
    waiting = asyncio.ensure_future(anext(staying))
    leaving = world.follow()
    await turns()
    leaving.cancel()
    await turns()
    other.queue.put_nowait(7)
    assert await waiting == 7
    world.draining.set()
    assert await ended(anext(staying)) is Code.UNAVAILABLE


async def test_messages_make_no_tasks() -> None:
    world = World()
    world.put(0)
    assert await anext(world.stream) == 0
    made: list[object] = []

    def count(loop: asyncio.AbstractEventLoop, work: Any, **context: Any) -> Any:
        made.append(work)
        return asyncio.Task(work, loop=loop, **context)

    asyncio.get_running_loop().set_task_factory(count)
    for number in range(5):
        world.put(number)
        assert await anext(world.stream) == number
    assert not made
