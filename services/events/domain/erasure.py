"""What an erasure is about, and what was done for it so far."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple


class Unit(NamedTuple):
    """A unit by its plain id: never stored for longer than its erasure takes."""

    type: str
    id: str


@dataclass(frozen=True, slots=True)
class TableCount:
    """What was deleted from a table: rows, and the versions before the first and after the last."""

    rows: int
    version_before: int
    version_after: int


@dataclass(frozen=True, slots=True)
class Target:
    """One erasure that is being worked on. `unit` is None while only its digest is known."""

    erasure_id: str
    digest: bytes
    moment_us: int
    unit: Unit | None = None
    tables: Mapping[str, TableCount] = field(default_factory=dict)
    rejected_events: int = 0
    files_removed: int = 0

    @property
    def found_anything(self) -> bool:
        """Whether there was something to erase."""
        return bool(self.tables or self.rejected_events or self.files_removed)

    def deleted(self, table: str, rows: int, before: int, after: int) -> "Target":
        """With so many rows more."""
        first = self.tables.get(table, TableCount(0, before, after))
        count = TableCount(first.rows + rows, first.version_before, after)
        return replace(self, tables={**self.tables, table: count})


@dataclass(frozen=True, slots=True)
class Searched:
    """What a search of everything found: files looked at, rows of the units in them, and places
    other than rows that hold the bytes of an id. -1: the id is too short to look for its bytes, or
    not known.
    """

    files: int
    rows: int
    bytes_found: int


class Step(enum.Enum):
    """What is being done. The values are those of touchstone.events.v1.ErasureStep."""

    DELETING = 1
    WAITING_FOR_READERS = 2
    PROVING = 3


@dataclass(frozen=True, slots=True)
class Erasing:
    """Erasures of one project that are worked on together, and how far they are."""

    targets: tuple[Target, ...]
    step: Step = Step.DELETING
    resume_us: int = 0
    """When the work on the step goes on, in microseconds since 1970."""
