"""Waiting for a token holds no thread, can be given up, and is bounded in number and time."""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.errors import Code, DomainError
from shared.lake.freshness import POLL_INTERVAL_S, Freshness
from shared.lake.watermark import ConsistencyToken, Watermark, write_watermark

NEVER = ConsistencyToken("journal", 10**15).encode()
NEXT = ConsistencyToken("journal", 2).encode()


def publish(lake: Path, position: int) -> None:
    write_watermark(lake, Watermark("journal", position, {}, datetime(2026, 1, 1, tzinfo=UTC)))


async def test_crowds_that_wait_leave_the_loop_and_its_threads_free(tmp_path: Path) -> None:
    publish(tmp_path, 1)
    freshness = Freshness(tmp_path)
    crowd = [asyncio.create_task(freshness.wait_until(NEVER, 60)) for _ in range(200)]
    await asyncio.sleep(3 * POLL_INTERVAL_S)

    # A waiting call that held a thread would hold it for a minute.
    assert await asyncio.wait_for(asyncio.to_thread(lambda: 42), 20) == 42

    for waiting in crowd:
        waiting.cancel()
    ends = await asyncio.gather(*crowd, return_exceptions=True)
    assert {type(end) for end in ends} == {asyncio.CancelledError}


async def test_only_so_many_wait_and_those_who_leave_make_room(tmp_path: Path) -> None:
    publish(tmp_path, 1)
    freshness = Freshness(tmp_path, most_waiting=2)
    first, second = (asyncio.create_task(freshness.wait_until(NEVER, 60)) for _ in range(2))
    await asyncio.sleep(0)

    with pytest.raises(DomainError, match="2 calls already wait") as refused:
        await freshness.wait_until(NEXT, 60)
    assert (refused.value.code, refused.value.reason) == (Code.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert refused.value.retry_after_s == 1.0
    # Who need not wait is served all the same.
    await freshness.wait_until(ConsistencyToken("journal", 1).encode(), 0)
    await freshness.wait_until("", 0)

    first.cancel()
    await asyncio.wait([first])
    third = asyncio.create_task(freshness.wait_until(NEXT, 60))
    await asyncio.sleep(POLL_INTERVAL_S)
    publish(tmp_path, 2)
    await asyncio.wait_for(third, 5)
    assert not second.done()
    second.cancel()


async def test_the_wait_ends_with_its_time(tmp_path: Path) -> None:
    publish(tmp_path, 1)
    began = time.perf_counter()
    with pytest.raises(DomainError, match=r"position 2 are not readable after 0\.1 s") as refused:
        await Freshness(tmp_path).wait_until(NEXT, 0.1)
    assert refused.value.reason == "NOT_YET_FRESH"
    assert time.perf_counter() - began >= 0.1


async def test_a_log_that_is_replaced_while_waiting_ends_the_wait(tmp_path: Path) -> None:
    freshness = Freshness(tmp_path)
    waiting = asyncio.create_task(freshness.wait_until(NEXT, 60))
    await asyncio.sleep(POLL_INTERVAL_S)
    write_watermark(tmp_path, Watermark("renewed", 9, {}, datetime(2026, 1, 1, tzinfo=UTC)))
    with pytest.raises(DomainError, match="no longer in use"):
        await asyncio.wait_for(waiting, 5)
