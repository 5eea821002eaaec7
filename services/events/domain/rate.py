"""How much a project may send: buckets of tokens that refill with time (Turner, 1986)."""

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeAlias

BURST_S = 2.0
"""A bucket holds what its rate gives in this time."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What a project may send a second; twice that at once after a pause."""

    events_per_s: float
    bytes_per_s: float


Partition: TypeAlias = tuple[str, int]
"""A table and a day since 1970: each that is touched is a file of its own in a commit."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Over how many partitions a project may spread its events: what the tables take from one
    project without making the others wait.
    """

    per_s: float = 50.0
    burst: float = 250.0
    """So many at once after a pause."""
    free_s: float = 5.0
    """For at most so long a partition that was paid for is free: its events share a commit."""


class _Bucket:
    """Tokens that refill at a rate up to a burst. What is larger than a burst may empty a full
    bucket and leave a debt, so that nothing legal is refused for ever.
    """

    __slots__ = ("_burst", "_level", "_rate")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst

    def refill(self, seconds: float) -> None:
        self._level = min(self._burst, self._level + self._rate * seconds)

    def wait_s(self, tokens: float) -> float:
        """Seconds until so many can be taken; 0 when they can be now."""
        return max(0.0, (min(tokens, self._burst) - self._level) / self._rate)

    def take(self, tokens: float) -> None:
        self._level -= tokens


class _Allowance:
    """The buckets of a project, and when they were last refilled."""

    __slots__ = ("bytes_", "events", "partitions", "updated_s")

    def __init__(self, rate: Rate, spread: Spread, now_s: float) -> None:
        self.events = _Bucket(rate.events_per_s, rate.events_per_s * BURST_S)
        self.bytes_ = _Bucket(rate.bytes_per_s, rate.bytes_per_s * BURST_S)
        self.partitions = _Bucket(spread.per_s, spread.burst)
        self.updated_s = now_s

    def refill(self, now_s: float) -> None:
        passed = max(0.0, now_s - self.updated_s)
        self.events.refill(passed)
        self.bytes_.refill(passed)
        self.partitions.refill(passed)
        self.updated_s = now_s


class ProjectRates:
    """The buckets of the projects that sent lately. Not safe to use from several threads.

    At most `tracked` projects are remembered; the one that was silent for longest is forgotten, and
    begins anew with full buckets.
    """

    def __init__(
        self,
        default: Rate,
        special: dict[str, Rate],
        tracked: int,
        spread: Spread = Spread(),
    ) -> None:
        self._default = default
        self._special = dict(special)
        self._tracked = tracked
        self._spread = spread
        self._paid: set[tuple[str, Partition]] = set()
        self._paid_since_s = 0.0
        self._projects: OrderedDict[str, _Allowance] = OrderedDict()

    def __len__(self) -> int:
        return len(self._projects)

    def take(self, project: str, events: int, size_bytes: int, now_s: float) -> float:
        """Take a batch from the project's buckets: 0.0, or the seconds until it fits.

        A batch that does not fit takes nothing. `now_s` is of a clock that never steps back.
        """
        allowance = self._of(project, now_s)
        allowance.refill(now_s)
        wait_s = max(allowance.events.wait_s(events), allowance.bytes_.wait_s(size_bytes))
        if wait_s > 0:
            return wait_s
        allowance.events.take(events)
        allowance.bytes_.take(size_bytes)
        return 0.0

    def owe(self, project: str, events: int, now_s: float) -> None:
        """Take what was done already, whatever is left: a debt lets nothing more fit until then."""
        allowance = self._of(project, now_s)
        allowance.refill(now_s)
        allowance.events.take(events)

    def debt_s(self, project: str, now_s: float) -> float:
        """Seconds until the partitions that the project touched are paid for; 0.0: they are."""
        allowance = self._of(project, now_s)
        allowance.refill(now_s)
        return allowance.partitions.wait_s(0)

    def charge(self, project: str, touched: Collection[Partition], now_s: float) -> float:
        """Let a project pay for the partitions that a batch touches: 0.0, also when that leaves a
        debt; or the seconds until an earlier debt is paid. Nothing is charged then.
        """
        if now_s - self._paid_since_s >= self._spread.free_s:
            self._paid, self._paid_since_s = set(), now_s
        keys = {(project, partition) for partition in touched} - self._paid
        if not keys:
            return 0.0
        debt_s = self.debt_s(project, now_s)
        if debt_s == 0.0:
            self._of(project, now_s).partitions.take(len(keys))
            self._paid |= keys
        return debt_s

    def rate_of(self, project: str) -> Rate:
        """What the project may send."""
        return self._special.get(project, self._default)

    def _of(self, project: str, now_s: float) -> _Allowance:
        found = self._projects.get(project)
        if found is None:
            found = self._projects[project] = _Allowance(self.rate_of(project), self._spread, now_s)
            if len(self._projects) > self._tracked:
                self._projects.popitem(last=False)
        self._projects.move_to_end(project)
        return found
