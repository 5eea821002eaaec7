"""Who may come in: before anything of a batch is worked on."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from services.events.domain.rate import ProjectRates, Rate
from shared.errors import Code, DomainError, overloaded, unavailable

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
    """How long a call waits for the disk before it is sent away, below any usual deadline."""
    stalled_s: float = 2.0
    """A disk that has not answered for so long gets no more to do."""


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

    @property
    def in_flight_bytes(self) -> int:
        """The bytes of the requests in work."""
        return self._total

    @property
    def stalled(self) -> bool:
        """Whether the disk has not answered for too long."""
        return self._waiting_s() > self._limits.stalled_s

    @asynccontextmanager
    async def admit(self, project: str, events: int, size_bytes: int) -> AsyncIterator[None]:
        """Within the block the batch is in work.

        RESOURCE_EXHAUSTED before it, with the delay after which the batch fits: `RATE_LIMITED` when
        the project sends too much, `OVERLOADED` when too much is in work. UNAVAILABLE before it
        while the disk does not answer, and after it when the block took longer than `patience_s`:
        what it did is then not known.
        """
        if self.stalled:
            raise unavailable(
                "STORAGE_UNAVAILABLE",
                f"the disk has not answered for {self._waiting_s():.1f} s: nothing of this batch "
                "is stored; send it again later",
            )
        self._check_room(project, size_bytes)
        wait_s = self._rates.take(project, events, size_bytes, self._monotonic())
        if wait_s > 0:
            raise self._rate_limited(project, events, size_bytes, wait_s)
        with self.room(project, size_bytes):
            try:
                async with asyncio.timeout(self._limits.patience_s) as patience:
                    yield
            except TimeoutError as error:
                if not patience.expired():
                    raise
                raise unavailable(
                    "STORAGE_UNAVAILABLE",
                    f"the disk did not confirm this batch within {self._limits.patience_s:g} s, so "
                    "it may or may not be stored: send it again, what is stored is then a "
                    "duplicate",
                ) from error

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
            f"project {project} may send {rate.events_per_s:g} events and {rate.bytes_per_s:g} "
            f"bytes a second, and this batch of {events} events and {size_bytes} bytes is beyond "
            f"that: send it again in {wait_s:.3f} s, or ask the operator for a higher rate",
            metadata={
                "events_per_s": f"{rate.events_per_s:g}",
                "bytes_per_s": f"{rate.bytes_per_s:g}",
            },
            retry_after_s=wait_s,
        )


def open_admission() -> Admission:
    """Lets everything in that there is room for: for whoever works without a network before it."""
    unlimited = Rate(_NO_END, _NO_END)
    return Admission(ProjectRates(unlimited, {}, 1), AdmissionLimits(), lambda: 0.0, lambda: 0.0)
