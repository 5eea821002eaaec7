"""Who may come in, and what is told to who may not."""

import asyncio
import threading

import pytest

from services.events.adapters.journal_watch import JournalWatch
from services.events.application.admission import (
    Admission,
    AdmissionLimits,
    Begin,
    open_admission,
)
from services.events.batch import DAY_US, Batch
from services.events.domain.event import Event
from services.events.domain.rate import ProjectRates, Rate
from shared.errors import Code, DomainError
from tests.unit.events.events_fakes import MemoryJournal
from tests.unit.events.events_making import batch_of


def admission(events_per_s: float = 1e9, now_s: float = 0.0, **limits: float) -> Admission:
    rates = ProjectRates(Rate(events_per_s, 1e9), {}, 10)
    return Admission(rates, AdmissionLimits(**limits), lambda: now_s, lambda: 0.0)  # type: ignore[arg-type]


async def hold(door: Admission, project: str, size: int, end: asyncio.Event) -> None:
    with door.admit(project, 1, size):
        await end.wait()


async def refused(door: Admission, project: str, events: int, size: int) -> DomainError:
    with pytest.raises(DomainError) as raised, door.admit(project, events, size):
        pytest.fail("it was let in")
    return raised.value


async def test_what_is_over_the_rate_is_told_when_it_fits() -> None:
    door = admission(events_per_s=100)
    with door.admit("acme", 200, 10):
        pass
    error = await refused(door, "acme", 25, 10)
    assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert error.retry_after_s == pytest.approx(0.25)
    assert error.metadata["events_per_s"] == "100"
    assert "25 events" in error.message
    assert "e+" not in error.message
    with door.admit("rival", 200, 10):
        pass


async def test_a_project_has_a_bounded_share_of_what_is_in_work() -> None:
    door, end = admission(in_flight_bytes=100, project_in_flight_bytes=60), asyncio.Event()
    tasks = [asyncio.create_task(hold(door, "flood", 30, end)) for _ in range(2)]
    await asyncio.sleep(0)
    error = await refused(door, "flood", 1, 1)
    assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert error.retry_after_s
    tasks.append(asyncio.create_task(hold(door, "acme", 40, end)))
    await asyncio.sleep(0)
    assert door.in_flight_bytes == 100
    end.set()
    await asyncio.gather(*tasks)
    assert door.in_flight_bytes == 0
    with door.admit("flood", 1, 60):
        pass


async def test_what_is_read_before_it_is_known_takes_room_and_no_rate() -> None:
    door = admission(events_per_s=1, project_in_flight_bytes=60)
    with door.room("flood", 60):
        assert (await refused(door, "flood", 1, 1)).reason == "OVERLOADED"
        with pytest.raises(DomainError, match="60 bytes of batches of project flood"):
            door.room("flood", 1).__enter__()
    assert door.in_flight_bytes == 0
    with door.admit("flood", 2, 60):
        pass


async def test_all_projects_together_are_bounded() -> None:
    door, end = admission(in_flight_bytes=100, project_in_flight_bytes=60), asyncio.Event()
    tasks = [asyncio.create_task(hold(door, f"p{number}", 20, end)) for number in range(5)]
    await asyncio.sleep(0)
    assert "of all projects" in (await refused(door, "another", 1, 20)).message
    end.set()
    await asyncio.gather(*tasks)


async def test_who_is_refused_for_room_has_spent_nothing_of_the_rate() -> None:
    door, end = admission(events_per_s=1, project_in_flight_bytes=10), asyncio.Event()
    task = asyncio.create_task(hold(door, "acme", 10, end))
    await asyncio.sleep(0)
    for _ in range(5):
        assert (await refused(door, "acme", 1, 10)).reason == "OVERLOADED"
    end.set()
    await task
    with door.admit("acme", 1, 10):
        pass


async def test_one_batch_alone_is_never_too_large() -> None:
    with admission(in_flight_bytes=1, project_in_flight_bytes=1).admit("acme", 1, 10**9):
        pass


async def in_work(door: Admission, begin: Begin | None, end: asyncio.Event) -> str:
    with door.admit("acme", 1, 10):
        if begin:
            begin()
        await end.wait()
        return "stored"


async def test_work_that_takes_long_is_told_and_keeps_its_room_until_it_ends() -> None:
    door, end = admission(patience_s=0.05), asyncio.Event()
    with pytest.raises(DomainError, match=r"may or may not be stored") as raised:
        await door.patiently(lambda begin: in_work(door, begin, end))
    error = raised.value
    assert (error.code, error.retry_after_s) == (Code.UNAVAILABLE, 1.0)
    assert door.in_flight_bytes == 10, "the work goes on"
    end.set()
    await eventually_empty(door)


async def test_work_whose_caller_left_keeps_its_room_until_it_ends() -> None:
    door, end = admission(), asyncio.Event()
    caller = asyncio.create_task(door.patiently(lambda begin: in_work(door, begin, end)))
    await asyncio.sleep(0.01)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert door.in_flight_bytes == 10, "the work goes on"
    end.set()
    await eventually_empty(door)


async def test_work_that_never_had_its_turn_is_ended_and_nothing_of_it_is_stored() -> None:
    door = admission(patience_s=0.05)
    with pytest.raises(DomainError, match="nothing of it is stored") as raised:
        await door.patiently(lambda _: in_work(door, None, asyncio.Event()))
    assert raised.value.reason == "OVERLOADED"
    await eventually_empty(door)
    caller = asyncio.create_task(door.patiently(lambda _: in_work(door, None, asyncio.Event())))
    await asyncio.sleep(0.01)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await eventually_empty(door)


async def test_work_that_ends_in_time_gives_its_result_or_its_error() -> None:
    door, end = admission(events_per_s=1), asyncio.Event()
    end.set()
    for _ in range(2):
        assert await door.patiently(lambda begin: in_work(door, begin, end)) == "stored"
    with pytest.raises(DomainError, match="may send 1 events"):
        await door.patiently(lambda begin: in_work(door, begin, end))


async def eventually_empty(door: Admission) -> None:
    for _ in range(100):
        if not door.in_flight_bytes:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"{door.in_flight_bytes} bytes are still in work")


async def test_who_spreads_events_over_many_days_waits_and_nobody_else() -> None:
    now = [0.0]
    rates = ProjectRates(Rate(1e9, 1e9), {}, 10)
    door = Admission(rates, AdmissionLimits(), lambda: now[0], lambda: 0.0)
    door.charge(over_days(1000, "flood"))
    error = await refused(door, "flood", 1, 1)
    assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert error.retry_after_s == pytest.approx(15.0)
    with pytest.raises(DomainError, match="spread over so many days"):
        door.charge(over_days(2000, "flood", first=1999))  # let in before the first was charged
    door.charge(over_days(1000, "flood"))  # these files are written anyway
    with door.admit("acme", 1, 1):
        door.charge(over_days(1, "acme"))
    now[0] = 15.0
    with door.admit("flood", 1, 1):
        pass


def test_a_batch_on_too_many_days_is_refused_for_ever() -> None:
    door = admission()
    with pytest.raises(DomainError, match=r"a batch on 1001 days.*at most 1000") as raised:
        door.charge(over_days(1001, "acme"))
    assert raised.value.code is Code.INVALID_ARGUMENT
    open_admission().charge(over_days(1000, "acme"))


def over_days(end: int, project: str, first: int = 0) -> Batch:
    def conversion(day: int) -> Event:
        time_us = day * DAY_US + 5
        payload = ("buy", None, None)
        return Event(f"{day}", time_us, "user", "u", None, None, None, "conversions", payload)

    return batch_of(*map(conversion, range(first, end)), project=project)


async def test_errors_and_cancellation_pass_and_give_their_room_back() -> None:
    door = open_admission()
    with pytest.raises(TimeoutError, match="mine"), door.admit("acme", 1, 10):
        raise TimeoutError("mine")
    task = asyncio.create_task(hold(door, "acme", 10, asyncio.Event()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert door.in_flight_bytes == 0


async def test_a_disk_that_has_not_answered_gets_no_more_to_do() -> None:
    now, gate = [0.0], threading.Event()
    journal = MemoryJournal()
    journal.gate = gate
    watch = JournalWatch(journal, lambda: now[0])
    rates = ProjectRates(Rate(1, 1e9), {}, 10)
    door = Admission(rates, AdmissionLimits(), lambda: now[0], lambda: watch.waiting_s)
    append = asyncio.create_task(asyncio.to_thread(watch.append, b"batch"))
    await asyncio.sleep(0.05)
    for now[0] in (0.0, 1.9):
        assert not door.stalled
    now[0] = 2.1
    error = await refused(door, "acme", 1, 10)
    assert (error.code, error.retry_after_s) == (Code.UNAVAILABLE, 1.0)
    assert "has not answered for 2.1 s" in error.message
    gate.set()
    assert await append == watch.last == 1
    assert not door.stalled
    with door.admit("acme", 1, 10):
        pass
