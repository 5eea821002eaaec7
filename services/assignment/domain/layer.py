"""A layer: W slots of the units of one type, and the ledger of who owns which.

Experiments in one layer exclude each other; experiments in different layers overlap
independently, because every layer has a salt of its own. A ledger row never changes its range or
owner: growing appends rows, releasing writes its times once. A row belongs to one experiment or to
one domain, whose units layers of its own cut again.
"""

import enum
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from touchstone_assignment.bucketing import HashVersion

from services.assignment.domain.parameter import Parameter
from services.assignment.domain.revision import Revision
from shared.errors import Code, DomainError

TOTAL_SLOTS = 10_000


class LayerKind(enum.StrEnum):
    """What a layer is for."""

    EXPERIMENT = "EXPERIMENT"
    """Comparisons of variants."""
    LAUNCH = "LAUNCH"
    """Roll-outs of what is decided: its values stand behind those of EXPERIMENT layers."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds slots: an experiment or a domain, the other one being empty."""

    experiment_id: str = ""
    domain_id: str = ""

    def __str__(self) -> str:
        """As messages name it."""
        if self.domain_id:
            return f"domain {self.domain_id!r}"
        return f"experiment {self.experiment_id!r}"


@dataclass(frozen=True, slots=True)
class SlotRange:
    """The slots [first, end) of one experiment or domain, between two configuration versions.

    Exactly one of `experiment_id` and `domain_id` is not empty. A released range may be given again
    from `reusable_time` on. The three release fields are written together, once.
    """

    first: int
    end: int
    experiment_id: str
    since_version: int
    release_version: int | None = None
    release_time: datetime | None = None
    reusable_time: datetime | None = None
    domain_id: str = ""

    @property
    def holder(self) -> Holder:
        """Whose the range is, or was."""
        return Holder(self.experiment_id, self.domain_id)

    @property
    def slots(self) -> int:
        """How many slots the range holds."""
        return self.end - self.first

    def rests_or_is_held(self, now: datetime) -> bool:
        """Whether nobody else may get it now."""
        return self.reusable_time is None or self.reusable_time > now


@dataclass(frozen=True, slots=True)
class Layer:
    """Slots and their ledger; `config_version` is the one that its last change made.

    `domain` is the id of the domain whose units it cuts, empty for all units.
    """

    project: str
    layer_id: str
    display_name: str
    unit_type: str
    salt: str
    hash_version: HashVersion
    config_version: int
    create_time: datetime
    ledger: tuple[SlotRange, ...] = ()
    kind: LayerKind = LayerKind.EXPERIMENT
    domain: str = ""
    parameters: tuple[Parameter, ...] = ()

    @property
    def etag(self) -> str:
        """Changes with every change of the layer."""
        return f"v{self.config_version}"

    def owned_by(self, experiment_id: str) -> tuple[SlotRange, ...]:
        """The ranges that the experiment owns now, in the order in which it got them."""
        return self.held_by(Holder(experiment_id=experiment_id))

    def held_by(self, holder: Holder) -> tuple[SlotRange, ...]:
        """The ranges that an experiment or a domain holds now, in the order of giving."""
        return tuple(
            row for row in self.ledger if row.holder == holder and row.release_time is None
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
        """See `give`, to an experiment."""
        return self.give(Holder(experiment_id=experiment_id), slots, at)

    def give(self, holder: Holder, slots: int, at: Revision) -> "Layer":
        """The layer with ranges appended until the holder has `slots`; never fewer than now.

        FAILED_PRECONDITION with LAYER_FULL when too few slots are free.
        """
        wanted = slots - sum(row.slots for row in self.held_by(holder))
        if wanted <= 0:
            return self
        if wanted > self.free_slots(at.time):
            raise self._too_full(holder, wanted, at.time)
        rows: list[SlotRange] = []
        for first, end in self.free(at.time):
            size = min(end - first, wanted)
            if size:
                rows.append(
                    SlotRange(
                        first,
                        first + size,
                        holder.experiment_id,
                        at.config_version,
                        domain_id=holder.domain_id,
                    )
                )
            wanted -= size
        return replace(self, ledger=self.ledger + tuple(rows), config_version=at.config_version)

    def release(self, experiment_id: str, cool_down: timedelta, at: Revision) -> "Layer":
        """See `take_back`, from an experiment."""
        return self.take_back(Holder(experiment_id=experiment_id), cool_down, at)

    def take_back(self, holder: Holder, cool_down: timedelta, at: Revision) -> "Layer":
        """The layer with the holder's ranges released; they rest for the cool-down."""
        owned = frozenset(self.held_by(holder))
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

    def _too_full(self, holder: Holder, wanted: int, now: datetime) -> DomainError:
        free = self.free_slots(now)
        resting = [
            row.reusable_time
            for row in self.ledger
            if row.reusable_time is not None and row.reusable_time > now
        ]
        wait = f", or wait: slots rest until {min(resting).isoformat()}" if resting else ""
        holders = sorted({str(row.holder) for row in self.ledger if row.release_time is None})
        held = ", ".join(holders[:10]) or "nobody"
        return DomainError(
            Code.FAILED_PRECONDITION,
            "LAYER_FULL",
            f"{holder} needs {wanted} more slots of layer {self.layer_id!r}, "
            f"of which {free} of {TOTAL_SLOTS} are free; held by {held}; lower "
            f"traffic_slots, stop an experiment that holds slots, create another layer{wait}",
            metadata={"layer": self.layer_id, "wanted": str(wanted), "free": str(free)},
        )
