"""A replay holds up nobody: neither who changes the state meanwhile, nor the replay after it."""

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
import sqlalchemy as sa
from touchstone.events.v1 import event_pb2, events_service_pb2
from touchstone.events.v1 import rejected_events_service_pb2 as pb

from services.events.api.intake import Intake
from services.events.api.rejected import RejectedEventsServicer
from services.events.application.log_events import Logged
from services.events.domain.rejection import Reason, RejectedEvent, Rejection
from shared.errors import DomainError, unavailable
from shared.mutations import Mutations
from shared.security.audit import AuditKeys, SqlAuditLog
from shared.state.database import Database
from shared.state.platform import migrate_platform
from shared.testing.fakes import FixedClock, calling
from tests.unit.events.events_fakes import MemoryRejected

REPLAY = "/touchstone.events.v1.RejectedEventsService/ReplayRejectedEvents"
KEYS = AuditKeys((b"k" * 32,))


@dataclass
class SlowIntake:
    """A way into the log that lets batches through one by one: each waits for a `pass`."""

    database: Database
    begun: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    passes: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    inside: int = 0
    most_inside: int = 0
    logged: int = 0
    failures: list[DomainError] = field(default_factory=list)

    async def log_events(
        self, project: str, request: events_service_pb2.LogEventsRequest
    ) -> Logged:
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        self.begun.put_nowait(project)
        try:
            await self.passes.acquire()
            await asyncio.to_thread(self._change_state)
            if self.failures:
                raise self.failures.pop()
        finally:
            self.inside -= 1
        self.logged += 1
        return Logged(len(request.events), (), (), self.logged)

    def _change_state(self) -> None:
        """As another call does in the meantime: with the one write lock there is."""
        with self.database.begin() as connection:
            connection.execute(sa.text("SELECT 1"))


@dataclass
class Bench:
    database: Database
    intake: SlowIntake
    store: MemoryRejected
    servicer: RejectedEventsServicer

    def replay(
        self, number: int, request_id: str = "", project: str = "acme"
    ) -> "asyncio.Task[pb.ReplayRejectedEventsResponse]":
        name = f"projects/{project}/rejectedEvents/{number}"
        request = pb.ReplayRejectedEventsRequest(
            parent=f"projects/{project}",
            named=pb.RejectedEventReplays(items=[pb.RejectedEventReplay(name=name)]),
            request_id=request_id,
        )
        with calling(REPLAY, project):
            return asyncio.create_task(self.servicer.ReplayRejectedEvents(request, None))

    def audited(self, project: str = "acme") -> int:
        with self.database.read() as connection:
            return len(SqlAuditLog(connection, KEYS).entries(project))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    database = Database.open(f"sqlite:///{tmp_path / 'state.db'}")
    migrate_platform(database)
    intake, store = SlowIntake(database), MemoryRejected()
    why = Rejection("e", Reason.INVALID_FIELD, "value", "is NaN")
    for project in ("acme", "rival"):
        payloads = (event_pb2.Event(event_id=str(n)).SerializeToString() for n in range(3))
        store.keep([RejectedEvent(project, why, 1, "shop", payload) for payload in payloads])
    servicer = RejectedEventsServicer(
        store,
        Mutations(database, KEYS, FixedClock()),
        "journal",
        cast(Intake, intake),
        cast("type[AbstractContextManager[Intake]]", None),
    )
    yield Bench(database, intake, store, servicer)
    database.close()


async def test_the_state_can_be_changed_while_a_replay_logs(bench: Bench) -> None:
    bench.intake.passes.release()
    reply = await bench.replay(1, "once")
    assert [result.outcome for result in reply.results] == [pb.REPLAY_OUTCOME_ACCEPTED]
    assert bench.audited() == 1
    assert (await bench.replay(1, "once")).results == reply.results
    assert (bench.intake.logged, bench.audited()) == (1, 1)


async def test_a_replay_that_is_given_up_overlaps_with_no_other(bench: Bench) -> None:
    given_up = bench.replay(1, "first")
    await bench.intake.begun.get()
    given_up.cancel()
    next_one = bench.replay(2, "second")
    again = bench.replay(1, "first")
    await asyncio.sleep(0.2)
    assert (bench.intake.begun.qsize(), given_up.done()) == (0, False)
    for _ in range(3):
        bench.intake.passes.release()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    await next_one
    # It came to its end, and is on record: the caller that asks again is told.
    assert [one.outcome for one in (await again).results] == [pb.REPLAY_OUTCOME_ACCEPTED]
    assert (bench.intake.logged, bench.intake.most_inside, bench.audited()) == (2, 1, 2)


async def test_a_replay_that_is_given_up_before_its_turn_is_not_done(bench: Bench) -> None:
    first = bench.replay(1)
    await bench.intake.begun.get()
    waiting = bench.replay(2)
    await asyncio.sleep(0)
    waiting.cancel()
    for _ in range(2):
        bench.intake.passes.release()
    await first
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (bench.intake.logged, bench.audited()) == (1, 1)


async def test_the_projects_take_turns(bench: Bench) -> None:
    calls = [bench.replay(1), bench.replay(2), bench.replay(3)]
    await bench.intake.begun.get()
    calls.append(bench.replay(4, project="rival"))
    await asyncio.sleep(0)
    for _ in calls:
        bench.intake.passes.release()
    await asyncio.gather(*calls)
    order = [bench.intake.begun.get_nowait() for _ in range(3)]
    assert order == ["acme", "rival", "acme"]


async def test_a_replay_that_fails_is_on_no_record_and_can_be_repeated(bench: Bench) -> None:
    bench.intake.failures = [unavailable("STORAGE_UNAVAILABLE", "the disk is full")]
    bench.intake.passes.release()
    bench.intake.passes.release()
    with pytest.raises(DomainError, match="full"):
        await bench.replay(1, "once")
    assert bench.audited() == 0
    reply = await bench.replay(1, "once")
    assert [result.outcome for result in reply.results] == [pb.REPLAY_OUTCOME_ACCEPTED]
