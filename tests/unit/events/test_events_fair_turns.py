"""Whose turn it is."""

import asyncio

import pytest

from services.events.application.fair_turns import FairTurns


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Room:
    """Callers that hold their turn until they are let go; `order` says who came in."""

    def __init__(self, at_once: int) -> None:
        self.turns = FairTurns(at_once)
        self.order: list[str] = []
        self.inside: list[asyncio.Event] = []

    def come(self, project: str) -> asyncio.Task[None]:
        async def stay() -> None:
            async with self.turns.of(project):
                self.order.append(project)
                let_go = asyncio.Event()
                self.inside.append(let_go)
                await let_go.wait()

        return asyncio.create_task(stay())

    async def one_leaves(self) -> None:
        self.inside.pop(0).set()
        await settle()


async def test_a_project_with_many_waits_behind_one_with_few() -> None:
    room = Room(1)
    tasks = [room.come("flood") for _ in range(5)]
    await settle()
    tasks += [room.come("acme"), room.come("rival"), room.come("acme")]
    await settle()
    for _ in range(8):
        await room.one_leaves()
    await asyncio.gather(*tasks)
    assert room.order[:5] == ["flood", "flood", "acme", "rival", "flood"]
    assert room.order.count("flood") == 5


async def test_no_more_than_allowed_are_in_at_once() -> None:
    room = Room(2)
    tasks = [room.come(f"p{number % 3}") for number in range(9)]
    await settle()
    while room.inside:
        assert len(room.inside) <= 2
        await room.one_leaves()
    await asyncio.gather(*tasks)
    assert len(room.order) == 9


@pytest.mark.parametrize("after_the_turn_came", [False, True])
async def test_who_gives_up_takes_no_turn_with_it(after_the_turn_came: bool) -> None:
    room = Room(1)
    first, gone, last = room.come("a"), room.come("b"), room.come("c")
    await settle()
    if after_the_turn_came:
        room.inside.pop(0).set()
        await asyncio.sleep(0)  # the turn is given to the second, which has not run yet
    gone.cancel()
    await asyncio.wait([gone])
    if not after_the_turn_came:
        await room.one_leaves()
    await settle()
    assert room.order == ["a", "c"]
    await room.one_leaves()
    await asyncio.gather(first, last)


async def test_an_error_inside_ends_the_turn() -> None:
    turns = FairTurns(1)
    for _ in range(3):
        with pytest.raises(ValueError, match="mine"):
            async with turns.of("a"):
                raise ValueError("mine")
