"""Who may come in: before anything of a batch is worked on."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from services.events.batch import Batch
from services.events.domain.rate import ProjectRates, Rate, Spread
from shared.errors import Code, DomainError, invalid, overloaded, unavailable

T = TypeVar("T")
Begin = Callable[[], None]
_RETRY_S = 0.5
_NO_END = 1e300


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """How much may be in work at once, in bytes of requests."""

    in_flight_bytes: int = 96 * 1024 * 1024
    """All projects together."""
    project_in_flight_bytes: int = 32 * 1024 * 1024
    """One project: what it sends must leave room for others."""
    patience_s: float = 8.0
    """How long a call waits before it is sent away, below any usual deadline."""
    stalled_s: float = 2.0
    """A disk that has not answered for so long gets no more to do."""
    partitions: int = 1000
    """How many days of its tables a batch may touch: each is a file of its own in a commit."""


class Admission:
    """Lets batches in: within the rate of their project, and while there is room.

    `waiting_s` says for how long the disk has not answered. Use it from one event loop. A call that
    is alone may always be as large as a message.
    """

    def __init__(
        self,
        rates: ProjectRates,
        limits: AdmissionLimits,
        monotonic: Callable[[], float],
        waiting_s: Callable[[], float],
    ) -> None:
        self._rates = rates
        self._limits = limits
        self._monotonic = monotonic
        self._waiting_s = waiting_s
        self._in_flight: defaultdict[str, int] = defaultdict(int)
        self._total = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def in_flight_bytes(self) -> int:
        """The bytes of the requests in work."""
        return self._total

    @property
    def stalled(self) -> bool:
        """Whether the disk has not answered for too long."""
        return self._waiting_s() > self._limits.stalled_s

    @contextmanager
    def admit(self, project: str, events: int, size_bytes: int) -> Iterator[None]:
        """Within the block the batch is in work.

        RESOURCE_EXHAUSTED before it, with the delay after which the batch fits: `RATE_LIMITED` when
        the project sends too much, `OVERLOADED` when too much is in work. UNAVAILABLE before it
        while the disk does not answer.
        """
        if self.stalled:
            raise unavailable(
                "STORAGE_UNAVAILABLE",
                f"the disk has not answered for {self._waiting_s():.1f} s: nothing of this batch "
                "is stored; send it again later",
            )
        self._check_room(project, size_bytes)
        now_s = self._monotonic()
        if debt_s := self._rates.debt_s(project, now_s):
            raise _in_debt(project, debt_s)
        wait_s = self._rates.take(project, events, size_bytes, now_s)
        if wait_s > 0:
            raise self._rate_limited(project, events, size_bytes, wait_s)
        with self.room(project, size_bytes):
            yield

    def owe(self, project: str, events: int) -> None:
        """Let a project pay for events that were found in what was let in already.

        Many of them leave a debt, and until it is paid nothing more of that project is let in.
        """
        self._rates.owe(project, events, self._monotonic())

    async def patiently(self, work: Callable[[Begin], Coroutine[Any, Any, T]]) -> T:
        """The result of work that calls what it is given when it has its turn.

        Work whose turn does not come within `patience_s` is ended: `OVERLOADED`. Work that began
        goes on to its end, whatever becomes of its caller, and keeps its room and its turn until
        then: UNAVAILABLE tells a caller that it takes longer than `patience_s`.
        """
        begun = asyncio.Event()
        task = asyncio.create_task(work(begun.set))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        try:
            await asyncio.wait((task,), timeout=self._limits.patience_s)
        finally:
            if not begun.is_set():
                task.cancel()
        if task.done():
            return task.result()
        waited = f"within {self._limits.patience_s:g} s"
        if not begun.is_set():
            raise overloaded(
                f"this batch did not have its turn {waited}, so nothing of it is stored: send it "
                "again later, or fewer at once",
                _RETRY_S,
            )
        raise unavailable(
            "STORAGE_UNAVAILABLE",
            f"this batch is in work and was not on the disk {waited}, so it may or may not be "
            "stored: send it again, what is stored is then a duplicate",
        )

    def charge(self, batch: Batch) -> None:
        """Let a project pay for the days of tables that its batch touches, before it is stored.

        Many of them leave a debt, and until it is paid nothing more of that project is let in.
        INVALID_ARGUMENT when they are too many for one batch; `RATE_LIMITED` when other batches
        that were let in with this one left a debt. The batch must not be stored then.
        """
        touched = batch.partitions
        if len(touched) > self._limits.partitions:
            raise invalid(
                "events",
                f"a batch on {len(touched)} days",
                f"at most {self._limits.partitions}, counted for each kind of event: send fewer "
                "events at once, and history in the order of time",
            )
        if debt_s := self._rates.charge(batch.project, touched, self._monotonic()):
            raise _in_debt(batch.project, debt_s)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        # Its caller may have gone: an error that nobody asks for is no fault of the program.
        if not task.cancelled():
            task.exception()

    @contextmanager
    def room(self, project: str, size_bytes: int) -> Iterator[None]:
        """Within the block so many bytes are in work, before it is known what events they are.

        RESOURCE_EXHAUSTED before it, with `OVERLOADED`, when too much is in work.
        """
        self._check_room(project, size_bytes)
        self._in_flight[project] += size_bytes
        self._total += size_bytes
        try:
            yield
        finally:
            self._total -= size_bytes
            self._in_flight[project] -= size_bytes
            if not self._in_flight[project]:
                del self._in_flight[project]

    def _check_room(self, project: str, size_bytes: int) -> None:
        mine = self._in_flight.get(project, 0)
        for who, used, most in (
            (f"of project {project}", mine, self._limits.project_in_flight_bytes),
            ("of all projects", self._total, self._limits.in_flight_bytes),
        ):
            if used and used + size_bytes > most:
                raise overloaded(
                    f"{used} bytes of batches {who} are in work; at most {most}: send this batch "
                    "again later, or fewer at once",
                    _RETRY_S,
                )

    def _rate_limited(
        self, project: str, events: int, size_bytes: int, wait_s: float
    ) -> DomainError:
        rate = self._rates.rate_of(project)
        return DomainError(
            Code.RESOURCE_EXHAUSTED,
            "RATE_LIMITED",
            f"project {project} may send {rate.events_per_s:.15g} events and "
            f"{rate.bytes_per_s:.15g} bytes a second, and this batch of {events} events and "
            f"{size_bytes} bytes is beyond that: send it again in {wait_s:.3f} s, or ask the "
            "operator for a higher rate",
            metadata={
                "events_per_s": f"{rate.events_per_s:.15g}",
                "bytes_per_s": f"{rate.bytes_per_s:.15g}",
            },
            retry_after_s=wait_s,
        )


def _in_debt(project: str, debt_s: float) -> DomainError:
    return DomainError(
        Code.RESOURCE_EXHAUSTED,
        "RATE_LIMITED",
        f"the events of project {project} were spread over so many days that its next batch waits "
        f"until they are in the tables: send this one again in {debt_s:.3f} s, and history in the "
        "order of time",
        retry_after_s=debt_s,
    )


def open_admission() -> Admission:
    """Lets everything in that there is room for: for whoever works without a network before it."""
    rates = ProjectRates(Rate(_NO_END, _NO_END), {}, 1, Spread(_NO_END, _NO_END, 1.0))
    return Admission(rates, AdmissionLimits(), lambda: 0.0, lambda: 0.0)
