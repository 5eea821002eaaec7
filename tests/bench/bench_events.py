"""LogEvents through gRPC, beside the journal alone and the disk alone with the same bytes."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from services.events.adapters.arrow_codec import ArrowCodec
from services.events.adapters.sqlite_journal import SqliteJournal
from services.events.application.group_commit import GroupCommit
from services.events.batch import Batch
from services.events.domain.limits import Limits
from shared.ids import RandomIds
from tests.bench.ingest_load import EVENTS, Load, event_batch, offered, serving
from tests.bench.report import BenchRow, compared

CALLERS, SINGLE_CALLERS = 8, 64
ALONE_COMMITS, ALONE_SINGLES, ROUNDS = 300, 400, 40
CORE_GOAL, P99_GOAL_MS = 100_000, 25.0


def run() -> list[BenchRow]:
    """Events a second, and how long an acknowledgement takes."""
    batch = event_batch()
    with tempfile.TemporaryDirectory(dir=_disk_folder()) as folder:
        alone, raw = _alone(Path(folder), batch)
        group, single = _group_commit(Path(folder))
        with serving(Path(folder) / "service") as served:
            full = offered(served, Load(CALLERS, EVENTS))
            half = offered(served, Load(CALLERS, EVENTS, calls_per_s=full.rate / EVENTS / 2))
            singles = offered(served, Load(SINGLE_CALLERS, 1))
    return [
        _row(
            f"LogEvents, {EVENTS} a call, {CALLERS} callers",
            (full.rate, alone, "events/s"),
            "SQLite journal alone, same bytes",
            ">= 0.5",
        ),
        _row(
            "LogEvents, events a second of the service's processor time",
            (full.per_cpu_s, CORE_GOAL, "events/s/core"),
            "the goal",
            ">= 1",
        ),
        _row(
            "LogEvents p99 at half of that load",
            (half.quantile_ms(0.99), P99_GOAL_MS, "ms"),
            "the goal",
            "<= 1",
        ),
        _row(
            f"group commit, one event a call, {SINGLE_CALLERS} callers",
            (group, single, "events/s"),
            "a sync for each event",
            ">= 10",
        ),
        _row(
            f"LogEvents, one event a call, {SINGLE_CALLERS} callers",
            (singles.rate, single, "events/s"),
            "a sync for each event, without gRPC",
            "",
        ),
        _row(
            f"journal alone, {EVENTS} a commit",
            (alone, raw, "events/s"),
            "append + fdatasync, same bytes",
            "",
        ),
    ]


def _row(name: str, figures: tuple[float, float, str], reference: str, goal: str) -> BenchRow:
    ours, other, unit = figures
    return compared(
        "events",
        name,
        ours=ours,
        reference=other,
        reference_name=reference,
        unit=unit,
        goal=goal,
    )


def _alone(folder: Path, batch: Batch) -> tuple[float, float]:
    """Events a second of the journal, and of the disk, with the bytes of one batch a commit."""
    entry = ArrowCodec().encode([batch])
    raw = _rate(_raw_append(folder / "raw", entry), ALONE_COMMITS) * EVENTS
    journal = SqliteJournal(folder / "journal.db", RandomIds())
    alone = _rate(lambda: journal.append(entry), ALONE_COMMITS) * EVENTS
    journal.close()
    return alone, raw


def _group_commit(folder: Path) -> tuple[float, float]:
    """Events a second of callers with one event each: together, and with a sync for each."""
    one = event_batch(1)
    codec = ArrowCodec()
    journal = SqliteJournal(folder / "singles.db", RandomIds())
    single = _rate(lambda: journal.append(codec.encode([one])), ALONE_SINGLES)
    commits = GroupCommit(journal, codec, Limits())

    async def callers() -> float:
        async def caller() -> None:
            for _ in range(ROUNDS):
                durable: asyncio.Future[int] = asyncio.get_running_loop().create_future()
                commits.submit(one, durable)
                await durable

        start = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(SINGLE_CALLERS)))
        return SINGLE_CALLERS * ROUNDS / (time.perf_counter() - start)

    together = asyncio.run(callers())
    commits.close()
    journal.close()
    return together, single


def _rate(commit: Callable[[], object], commits: int) -> float:
    start = time.perf_counter()
    for _ in range(commits):
        commit()
    return commits / (time.perf_counter() - start)


def _raw_append(path: Path, batch: bytes) -> Callable[[], object]:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def append() -> None:
        os.write(file, batch)
        os.fdatasync(file)

    return append


def _disk_folder() -> Path:
    """A folder on a real disk: the system's temporary folder may be memory."""
    folder = Path("build")
    folder.mkdir(exist_ok=True)
    return folder
