"""Keeping rejected events: many callers in one write, nobody in the way of another project."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from services.events.application.keep_rejected import BESIDES_BYTES, GroupKeep
from services.events.domain.limits import Limits
from services.events.domain.rejection import Reason, RejectedEvent, Rejection
from shared.errors import Code, DomainError
from tests.unit.events.events_fakes import MemoryRejected, full_disk

SIZE = BESIDES_BYTES + 1
CALLERS = 200


class SlowRejected(MemoryRejected):
    """A store whose disk can be stopped (`gate`), that remembers what came in each write."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.begun = threading.Semaphore(0)
        self.writes: list[list[str]] = []

    def keep(self, rejected: Sequence[RejectedEvent]) -> None:
        self.begun.release()
        assert self.gate.wait(30)
        self.writes.append([event.rejection.event_id for event in rejected])
        if "poison" in self.writes[-1]:
            raise ValueError("cannot be written")
        super().keep(rejected)


@dataclass
class Bench:
    store: SlowRejected = field(default_factory=SlowRejected)
    limits: Limits = field(
        default_factory=lambda: Limits(
            group_bytes=10 * SIZE,
            project_rejection_bytes=CALLERS * SIZE,
            queued_rejection_bytes=(CALLERS + 2) * SIZE,
        )
    )
    keeping: GroupKeep = field(init=False)

    def __post_init__(self) -> None:
        self.keeping = GroupKeep(self.store, self.limits, lambda: "Door/Log")

    async def busy(self) -> "asyncio.Task[None]":
        """A first call that is on the disk, so that everything else waits."""
        first = self.send("first", "nobody")
        await asyncio.to_thread(self.store.begun.acquire)
        return first

    def send(self, event_id: str, project: str = "acme") -> "asyncio.Task[None]":
        return asyncio.get_running_loop().create_task(
            self.keeping.keep(project, [rejected(event_id, project)])
        )


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.store.gate.set()
    made.keeping.close()


def rejected(event_id: str, project: str = "acme") -> RejectedEvent:
    why = Rejection(event_id, Reason.INVALID_FIELD, "value", "is NaN")
    return RejectedEvent(project, why, 1, "shop", b"p")


async def failure(call: "asyncio.Task[None]") -> DomainError:
    with pytest.raises(DomainError) as raised:
        await call
    return raised.value


async def test_callers_that_come_while_the_disk_is_busy_share_a_write(bench: Bench) -> None:
    first = await bench.busy()
    calls = [bench.send(str(n)) for n in range(CALLERS)]
    await asyncio.sleep(0)
    assert not any(call.done() for call in [first, *calls]), "answered before it was kept"
    bench.store.gate.set()
    await asyncio.gather(first, *calls)
    assert len(bench.store.writes) == 1 + CALLERS / 10
    assert len(bench.store.kept) == 1 + CALLERS
    assert {event.door for event in bench.store.kept} == {"Door/Log"}


async def test_who_sends_much_waits_behind_who_sends_little(bench: Bench) -> None:
    first = await bench.busy()
    flood = [bench.send(f"flood {n}") for n in range(CALLERS)]
    await asyncio.sleep(0)
    mine = bench.send("mine", "rival")
    await asyncio.sleep(0)
    bench.store.gate.set()
    await asyncio.gather(first, mine, *flood)
    assert "mine" in bench.store.writes[1]


async def test_a_project_has_its_share_of_the_room_and_no_more(bench: Bench) -> None:
    first = await bench.busy()
    calls = [bench.send(str(n)) for n in range(CALLERS)]
    await asyncio.sleep(0)
    refused = await failure(bench.send("beyond"))
    assert (refused.code, refused.reason) == (Code.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert (refused.retry_after_s or 0) > 0
    assert "acme" in refused.message
    others = [bench.send("a", "rival"), bench.send("b", "third")]
    await asyncio.sleep(0)
    assert "all projects" in (await failure(bench.send("c", "fourth"))).message
    bench.store.gate.set()
    await asyncio.gather(first, *calls, *others)
    await bench.send("later", "fourth")
    assert len(bench.store.kept) == CALLERS + 4


async def test_a_call_alone_may_be_larger_than_the_room(bench: Bench) -> None:
    bench.store.gate.set()
    many = [rejected(str(n)) for n in range(2 * CALLERS)]
    await bench.keeping.keep("acme", many)
    assert len(bench.store.kept) == 2 * CALLERS


async def test_a_disk_that_fails_is_told_to_everyone_who_waits(bench: Bench) -> None:
    first = await bench.busy()
    calls = [bench.send(str(n)) for n in range(3)]
    await asyncio.sleep(0)
    bench.store.failures = [full_disk(), full_disk()]
    bench.store.gate.set()
    for call in [first, *calls]:
        assert (await failure(call)).reason == "STORAGE_UNAVAILABLE"
    await bench.send("after")
    assert [event.rejection.event_id for event in bench.store.kept] == ["after"]


async def test_what_cannot_be_written_is_the_fault_of_its_caller_alone(bench: Bench) -> None:
    first = await bench.busy()
    good, bad, other = bench.send("good"), bench.send("poison", "rival"), bench.send("other")
    await asyncio.sleep(0)
    bench.store.gate.set()
    await asyncio.gather(first, good, other)
    with pytest.raises(ValueError, match="cannot be written"):
        await bad
    assert len(bench.store.kept) == 3


async def test_what_a_caller_gave_up_waiting_for_is_kept(bench: Bench) -> None:
    first = await bench.busy()
    given_up = bench.send("given up")
    await asyncio.sleep(0)
    given_up.cancel()
    bench.store.gate.set()
    await asyncio.gather(first, bench.send("next"))
    assert len(bench.store.kept) == 3


async def test_closing_keeps_what_waits_and_takes_nothing_more(bench: Bench) -> None:
    first = await bench.busy()
    calls = [bench.send(str(n)) for n in range(CALLERS)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(asyncio.to_thread(bench.keeping.close))
    bench.store.gate.set()
    await asyncio.gather(first, closing, *calls)
    assert len(bench.store.kept) == 1 + CALLERS
    assert (await failure(bench.send("late"))).reason == "DRAINING"
