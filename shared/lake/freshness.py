"""Wait until the tables hold what a caller was told is stored."""

import asyncio
import time
from pathlib import Path

from shared.errors import Code, DomainError, overloaded, shown, unavailable
from shared.lake.watermark import NOTHING_WRITTEN, ConsistencyToken, Watermark, read_watermark

POLL_INTERVAL_S = 0.02
MOST_WAITING = 200


class Freshness:
    """Waits for one lake on the event loop: who waits holds no thread and may be cancelled.

    At most `most_waiting` calls wait at once, because a token may name a position that never
    comes. They share one look at the watermark in each interval.
    """

    def __init__(self, lake: Path, most_waiting: int = MOST_WAITING) -> None:
        self._lake = lake
        self._most_waiting = most_waiting
        self._waiting = 0
        self._seen = NOTHING_WRITTEN
        self._seen_at = 0.0

    async def wait_until(self, at_least: str, timeout_s: float) -> None:
        """See EventTables."""
        if not at_least:
            return
        token = ConsistencyToken.decode(at_least)
        if _covers(self._look(), token):
            return
        if self._waiting >= self._most_waiting:
            raise overloaded(
                f"{self._waiting} calls already wait for events to become readable, as many as "
                "may; repeat the call after the delay, or leave the consistency token empty",
                retry_after_s=1.0,
            )
        self._waiting += 1
        try:
            await self._wait(token, timeout_s)
        finally:
            self._waiting -= 1

    async def _wait(self, token: ConsistencyToken, timeout_s: float) -> None:
        end = time.monotonic() + timeout_s
        while not _covers(self._recent(), token):
            left_s = end - time.monotonic()
            if left_s <= 0:
                raise _not_yet(token, self._seen, timeout_s)
            await asyncio.sleep(min(POLL_INTERVAL_S, left_s))

    def _recent(self) -> Watermark:
        fresh = time.monotonic() - self._seen_at < POLL_INTERVAL_S
        return self._seen if fresh else self._look()

    def _look(self) -> Watermark:
        # The file is tiny and local: handing the read to a thread costs more than the read.
        self._seen = read_watermark(self._lake) or NOTHING_WRITTEN
        self._seen_at = time.monotonic()
        return self._seen


def _covers(watermark: Watermark, token: ConsistencyToken) -> bool:
    if watermark.journal_id not in ("", token.journal_id):
        raise _other_log(token, watermark)
    return watermark.covers(token)


def _not_yet(token: ConsistencyToken, watermark: Watermark, timeout_s: float) -> DomainError:
    return unavailable(
        "NOT_YET_FRESH",
        f"events up to position {token.position} are not readable after {timeout_s:.3g} s; the "
        f"tables stand at position {watermark.position}: check that the events service runs, then "
        "retry",
    )


def _other_log(token: ConsistencyToken, watermark: Watermark) -> DomainError:
    return DomainError(
        Code.INVALID_ARGUMENT,
        "INVALID_CONSISTENCY_TOKEN",
        f"consistency token is of event log {shown(token.journal_id)}, which is no longer in use; "
        f"the current one is {shown(watermark.journal_id)}: log the events again or leave the "
        "token empty",
    )
