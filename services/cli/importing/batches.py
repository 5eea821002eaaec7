"""Events in batches of whole rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from touchstone.events.v1.event_pb2 import Event
from touchstone.events.v1.events_service_pb2 import LogEventsRequest

from services.cli.importing.cells import RowError
from services.cli.importing.sources import SourceRow

MAX_EVENTS = 2000
# A quarter of the largest message that a server takes by default.
MAX_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row that did not go in; `partly`: some of its events did."""

    row: SourceRow
    column: str
    value: object
    reason: str
    partly: bool = False


@dataclass(slots=True)
class Batch:
    """Events of whole rows, the row of each, and the rows among them that gave no events."""

    events: list[Event] = field(default_factory=list)
    rows: list[SourceRow] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    last_row: int = 0
    size_bytes: int = 0

    def request(self) -> LogEventsRequest | None:
        """The request that logs its events; None when it has none."""
        return LogEventsRequest(events=self.events) if self.events else None


def in_batches(
    rows: Iterable[SourceRow], events_of: Callable[[SourceRow], list[Event]], after_row: int = 0
) -> Iterator[Batch]:
    """Batches of the rows behind `after_row`. A row that cannot be read is among the batch's
    rejections and has no event.
    """
    batch = Batch(last_row=after_row)
    for row in rows:
        if row.number <= after_row:
            continue
        found = _events(row, events_of, batch.rejections)
        size = sum(event.ByteSize() for event in found)
        full = len(batch.events) + len(found) > MAX_EVENTS or batch.size_bytes + size > MAX_BYTES
        if batch.events and full:
            yield batch
            batch = Batch()
        batch.events.extend(found)
        batch.rows.extend([row] * len(found))
        batch.size_bytes += size
        batch.last_row = row.number
    if batch.last_row > after_row:
        yield batch


def _events(
    row: SourceRow,
    events_of: Callable[[SourceRow], list[Event]],
    rejections: list[Rejection],
) -> list[Event]:
    if row.problem:
        rejections.append(Rejection(row, "", "", row.problem))
        return []
    try:
        return events_of(row)
    except RowError as error:
        rejections.append(Rejection(row, error.column, error.value, error.reason))
        return []
