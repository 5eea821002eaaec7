"""A layer: W slots of the units of one type, and the ledger of who owns which.

Experiments in one layer exclude each other; experiments in different layers overlap
independently, because every layer has a salt of its own. A ledger row never changes its range or
owner: growing appends rows, releasing writes its times once.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from touchstone_assignment.bucketing import HashVersion

from services.assignment.domain.revision import Revision
from shared.errors import Code, DomainError

TOTAL_SLOTS = 10_000


@dataclass(frozen=True, slots=True)
class SlotRange:
    """The slots [first, end) of one experiment, from one configuration version to another.

    A released range may be given again from `reusable_time` on. The three release fields are
    written together, once.
    """

    first: int
    end: int
    experiment_id: str
    since_version: int
    release_version: int | None = None
    release_time: datetime | None = None
    reusable_time: datetime | None = None

    @property
    def slots(self) -> int:
        """How many slots the range holds."""
        return self.end - self.first

    def rests_or_is_held(self, now: datetime) -> bool:
        """Whether nobody else may get it now."""
        return self.reusable_time is None or self.reusable_time > now


@dataclass(frozen=True, slots=True)
class Layer:
    """Slots and their ledger; `config_version` is the one that its last change made."""

    project: str
    layer_id: str
    display_name: str
    unit_type: str
    salt: str
    hash_version: HashVersion
    config_version: int
    create_time: datetime
    ledger: tuple[SlotRange, ...] = ()

    @property
    def etag(self) -> str:
        """Changes with every change of the layer."""
        return f"v{self.config_version}"

    def owned_by(self, experiment_id: str) -> tuple[SlotRange, ...]:
        """The ranges that the experiment owns now, in the order in which it got them."""
        return tuple(
            row
            for row in self.ledger
            if row.experiment_id == experiment_id and row.release_time is None
        )

    def free(self, now: datetime) -> Iterator[tuple[int, int]]:
        """The gaps [first, end) that may be given now, in ascending order."""
        taken = sorted((row.first, row.end) for row in self.ledger if row.rests_or_is_held(now))
        start = 0
        for first, end in taken:
            if start < first:
                yield start, first
            start = max(start, end)
        if start < TOTAL_SLOTS:
            yield start, TOTAL_SLOTS

    def free_slots(self, now: datetime) -> int:
        """How many slots may be given now."""
        return sum(end - first for first, end in self.free(now))

    def allocate(self, experiment_id: str, slots: int, at: Revision) -> "Layer":
        """The layer with ranges appended until the experiment owns `slots`; never fewer than now.

        FAILED_PRECONDITION with LAYER_FULL when too few slots are free.
        """
        wanted = slots - sum(row.slots for row in self.owned_by(experiment_id))
        if wanted <= 0:
            return self
        if wanted > self.free_slots(at.time):
            raise self._too_full(experiment_id, wanted, at.time)
        rows: list[SlotRange] = []
        for first, end in self.free(at.time):
            size = min(end - first, wanted)
            if size:
                rows.append(SlotRange(first, first + size, experiment_id, at.config_version))
            wanted -= size
        return replace(self, ledger=self.ledger + tuple(rows), config_version=at.config_version)

    def release(self, experiment_id: str, cool_down: timedelta, at: Revision) -> "Layer":
        """The layer with the experiment's ranges released; they rest for the cool-down."""
        owned = frozenset(self.owned_by(experiment_id))
        if not owned:
            return self
        return replace(
            self,
            ledger=tuple(
                replace(
                    row,
                    release_version=at.config_version,
                    release_time=at.time,
                    reusable_time=at.time + cool_down,
                )
                if row in owned
                else row
                for row in self.ledger
            ),
            config_version=at.config_version,
        )

    def _too_full(self, experiment_id: str, wanted: int, now: datetime) -> DomainError:
        free = self.free_slots(now)
        resting = [
            row.reusable_time
            for row in self.ledger
            if row.reusable_time is not None and row.reusable_time > now
        ]
        wait = f", or wait: slots rest until {min(resting).isoformat()}" if resting else ""
        owners = sorted({row.experiment_id for row in self.ledger if row.release_time is None})
        return DomainError(
            Code.FAILED_PRECONDITION,
            "LAYER_FULL",
            f"experiment {experiment_id!r} needs {wanted} more slots of layer {self.layer_id!r}, "
            f"of which {free} of {TOTAL_SLOTS} are free; held by {owners[:10]}; lower "
            f"traffic_slots, stop an experiment that holds slots, create another layer{wait}",
            metadata={"layer": self.layer_id, "wanted": str(wanted), "free": str(free)},
        )
