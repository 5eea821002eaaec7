"""A few analyses at once, a few in line, the rest sent away with a delay."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import duckdb
import pytest

from shared.errors import Code, DomainError
from shared.lake.analyses import Analyses
from shared.lake.interruption import require_wanted
from shared.lake.snapshot import LakeEventTables
from shared.security.caller import current_caller
from shared.testing.fakes import calling


class Gate:
    """Work that lasts until it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.count = 0
        self._open = threading.Event()

    def work(self) -> str:
        self.count += 1
        self.begun.release()
        assert self._open.wait(20)
        return "done"

    def let_go(self) -> None:
        self._open.set()


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    found = Gate()
    yield found
    found.let_go()


async def begun(gate: Gate, number: int) -> None:
    for _ in range(number):
        assert await asyncio.to_thread(gate.begun.acquire, timeout=10)


async def run_when_free(analyses: Analyses) -> str:
    for _ in range(1000):
        with contextlib.suppress(DomainError):
            return await analyses.run(lambda: "done")
        await asyncio.sleep(0.005)
    raise TimeoutError("no place became free")


async def test_beyond_the_line_calls_are_sent_away(gate: Gate) -> None:
    analyses = Analyses(at_once=2, in_line=3)
    running = [asyncio.create_task(analyses.run(gate.work)) for _ in range(5)]
    await begun(gate, 2)

    with pytest.raises(DomainError, match="2 analyses are being computed and 3") as refused:
        await analyses.run(gate.work)
    assert (refused.value.code, refused.value.reason) == (Code.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert refused.value.retry_after_s == 1.0
    assert gate.count == 2

    gate.let_go()
    assert await asyncio.gather(*running) == ["done"] * 5
    assert await analyses.run(gate.work) == "done"
    analyses.close()


async def test_who_gives_up_in_line_is_never_computed_and_makes_room(gate: Gate) -> None:
    analyses = Analyses(at_once=1, in_line=1)
    first = asyncio.create_task(analyses.run(gate.work))
    await begun(gate, 1)
    second = asyncio.create_task(analyses.run(gate.work))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([second])
    third = asyncio.create_task(analyses.run(gate.work))
    await asyncio.sleep(0)
    gate.let_go()

    assert {*await asyncio.gather(first, third)} == {"done"}
    assert gate.count == 2
    analyses.close()


async def test_what_was_begun_keeps_its_place_when_its_caller_leaves(gate: Gate) -> None:
    analyses = Analyses(at_once=1, in_line=0)
    first = asyncio.create_task(analyses.run(gate.work))
    await begun(gate, 1)
    first.cancel()
    await asyncio.wait([first])

    with pytest.raises(DomainError, match="being computed"):
        await analyses.run(gate.work)
    gate.let_go()
    assert await run_when_free(analyses) == "done"
    analyses.close()


async def test_the_queries_of_a_caller_that_left_are_interrupted(tmp_path: Path) -> None:
    """Eight thousand million rows: nobody waits for them to the end."""
    began, ends = threading.Event(), queue.SimpleQueue[BaseException | None]()

    def endless() -> None:
        try:
            with LakeEventTables(tmp_path).snapshot("acme").read() as tables:
                engine = tables["conversions"].get_backend()
                engine.raw_sql("CREATE TABLE n AS SELECT range AS i FROM range(2000)")
                began.set()
                # Whoever begins another query after the first was stopped is stopped again.
                for _ in range(2):
                    with pytest.raises(duckdb.InterruptException):
                        engine.raw_sql("SELECT sum(a.i ^ b.i ^ c.i) FROM n a, n b, n c").fetchall()
        except BaseException as error:
            ends.put(error)
            raise
        ends.put(None)

    analyses = Analyses(at_once=1, in_line=0)
    asked = asyncio.create_task(analyses.run(endless))
    assert await asyncio.to_thread(began.wait, 10)
    asked.cancel()
    await asyncio.wait([asked])
    assert await asyncio.to_thread(ends.get, timeout=20) is None
    assert await run_when_free(analyses) == "done"
    analyses.close()


async def test_the_work_of_a_caller_that_left_ends_at_its_next_step() -> None:
    began, left = threading.Event(), threading.Event()
    ends = queue.SimpleQueue[bool]()

    def in_steps() -> None:
        require_wanted()
        began.set()
        left.wait(10)
        try:
            require_wanted()
        except InterruptedError:
            ends.put(True)
            raise
        ends.put(False)

    analyses = Analyses(at_once=1, in_line=0)
    asked = asyncio.create_task(analyses.run(in_steps))
    assert await asyncio.to_thread(began.wait, 10)
    asked.cancel()
    await asyncio.wait([asked])
    left.set()
    assert await asyncio.to_thread(ends.get, timeout=10)
    assert await run_when_free(analyses) == "done"
    analyses.close()


async def test_work_knows_its_caller() -> None:
    analyses = Analyses(at_once=1, in_line=0)
    with calling("/method", project="acme"):
        assert (await analyses.run(current_caller)).project == "acme"
    analyses.close()


async def test_a_failure_is_raised_and_frees_the_place() -> None:
    analyses = Analyses(at_once=1, in_line=0)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            await analyses.run(lambda: 1 // 0)
    analyses.close()
