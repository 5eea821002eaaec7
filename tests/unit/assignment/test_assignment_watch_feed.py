"""Watchers get the newest rules only, each once, and all of them the same bytes."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import cast

import pytest
from touchstone.assignment.v1 import assignment_service_pb2 as pb
from touchstone.assignment.v1.ruleset_pb2 import Ruleset

from services.assignment.application.snapshots import Snapshots
from services.assignment.application.watch import ConfigFeed, Pace
from services.assignment.ports import Configuration, ProjectConfig
from shared.testing.fakes import FixedClock


class Store:
    """A reader of one project that is empty, at a version of our choice."""

    def __init__(self) -> None:
        self.version = 1

    @contextmanager
    def read(self) -> Iterator[Configuration]:
        yield cast(Configuration, self)

    def versions(self) -> dict[str, int]:
        return {"acme": self.version}

    def load(self, _project: str, _as_of: int | None = None) -> ProjectConfig:
        return ProjectConfig(self.version, {}, {})


class World:
    """A feed, its store and its clock."""

    def __init__(self, confirm_s: float) -> None:
        self.store = Store()
        self.snapshots = Snapshots(self.store, FixedClock())
        self.snapshots.poll()
        self.feed = ConfigFeed(self.snapshots, Pace(coalesce_s=0.2, confirm_s=confirm_s))
        self.feed.start()

    def change(self) -> None:
        self.store.version += 1
        self.snapshots.poll()

    def digest(self) -> str:
        return self.snapshots.of("acme").digest


async def following(stream: AsyncIterator[bytes]) -> bytes:
    async with asyncio.timeout(5):
        return await anext(stream)


def said(message: bytes) -> tuple[int, bool]:
    """The version, and whether the rules came with it."""
    found = pb.WatchConfigResponse.FromString(message)
    if found.ruleset:
        assert Ruleset.FromString(found.ruleset).config_version == found.config_version
    return found.config_version, bool(found.ruleset)


async def test_all_watchers_get_the_same_bytes_at_once_and_after_a_change() -> None:
    world = World(confirm_s=60)
    streams = [world.feed.watch("acme", "") for _ in range(3)]
    for version in (1, 2):
        messages = [await following(stream) for stream in streams]
        assert said(messages[0]) == (version, True)
        assert all(message is messages[0] for message in messages)
        world.change()


async def test_of_many_changes_the_newest_is_sent() -> None:
    world = World(confirm_s=60)
    stream = world.feed.watch("acme", "")
    assert said(await following(stream)) == (1, True)
    for _ in range(5):
        world.change()
    assert said(await following(stream)) == (6, True)


async def test_a_change_in_any_thread_wakes_a_watcher_that_waits() -> None:
    world = World(confirm_s=60)
    stream = world.feed.watch("acme", "")
    await following(stream)
    waiting = asyncio.ensure_future(following(stream))
    await asyncio.sleep(0.3)
    await asyncio.to_thread(world.change)
    assert said(await waiting) == (2, True)


async def test_a_change_before_the_first_message_is_sent_is_not_lost() -> None:
    world = World(confirm_s=60)
    stream = world.feed.watch("acme", "")
    assert said(await following(stream)) == (1, True)
    # The stream has still to come back from sending when everybody is woken.
    await asyncio.to_thread(world.change)
    await asyncio.sleep(0.05)
    assert said(await following(stream)) == (2, True)


async def test_changes_that_come_together_are_told_twice_at_most() -> None:
    world = World(confirm_s=60)
    stream = world.feed.watch("acme", "")
    await following(stream)
    await asyncio.sleep(0.3)

    async def hear() -> list[int]:
        heard = [0]
        while heard[-1] != 6:
            heard.append(said(await following(stream))[0])
        return heard[1:]

    hearing = asyncio.create_task(hear())
    for _ in range(5):
        world.change()
        await asyncio.sleep(0.005)
    assert len(await hearing) <= 2


@pytest.mark.parametrize("known", [True, False])
async def test_who_has_the_rules_is_told_that_they_are_the_same(known: bool) -> None:
    world = World(confirm_s=0.05)
    stream = world.feed.watch("acme", world.digest() if known else "")
    if not known:
        assert said(await following(stream)) == (1, True)
    first, second = await following(stream), await following(stream)
    assert said(first) == (1, False)
    assert second is first
    world.change()
    while (message := said(await following(stream))) == (1, False):
        pass
    assert message == (2, True)
