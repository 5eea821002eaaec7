"""Tell of results as they come: each metric as it is ready, then all whenever the data moves."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace

from services.results.application.get_results import GetResults, Sources, get_results, metric_ids
from services.results.domain.reading.report import ExperimentReport
from shared.errors import Code, DomainError
from shared.lake.watermark import ConsistencyToken

LONGEST_WAIT_S = 600.0
Run = Callable[[Callable[[], ExperimentReport]], Awaitable[ExperimentReport]]
"""Does work in one of the threads for analyses."""


@dataclass(frozen=True, slots=True)
class Told:
    """A report; one that is not complete holds a single metric, as it was read by itself."""

    report: ExperimentReport
    complete: bool


async def watch_results(
    command: GetResults, sources: Sources, run: Run, interval_s: float
) -> AsyncIterator[Told]:
    """Results for as long as somebody asks, at most one every `interval_s` seconds.

    Every complete report takes the looks that are due; those of single metrics take none. While
    the service is overloaded the stream waits.
    """
    async for told in _one_by_one(command, sources, run):
        yield told
    while True:
        try:
            report = await run(lambda: get_results(command, sources))
        except DomainError as error:
            if error.code is not Code.RESOURCE_EXHAUSTED or error.reason != "OVERLOADED":
                raise
            await asyncio.sleep(interval_s)
            continue
        yield Told(report, complete=True)
        await asyncio.sleep(interval_s)
        await _moved(report.observation.cut.token, sources, interval_s)


async def _one_by_one(command: GetResults, sources: Sources, run: Run) -> AsyncIterator[Told]:
    """Each of several metrics by itself, all of one cut, without taking looks."""
    ids = await asyncio.to_thread(metric_ids, command, sources)
    if len(ids) < 2:
        return
    cut = ""
    for one in ids:
        single = replace(command, metric_ids=(one,), as_of=cut, keep_looks=False)
        report = await run(lambda asked=single: get_results(asked, sources))  # type: ignore[misc]
        cut = report.observation.cut.token
        yield Told(replace(report, decisions=()), complete=False)


async def _moved(token: str, sources: Sources, interval_s: float) -> None:
    """Return when the log is readable beyond the cut of a token."""
    if not token:
        await asyncio.sleep(interval_s)
        return
    seen = ConsistencyToken.decode(token)
    beyond = ConsistencyToken(seen.journal_id, seen.position + 1).encode()
    while True:
        try:
            await sources.moments.wait_until(beyond, LONGEST_WAIT_S)
        except DomainError as error:
            if error.reason == "NOT_YET_FRESH":
                continue
            if error.reason != "OVERLOADED":
                raise
            await asyncio.sleep(interval_s)
            continue
        return
