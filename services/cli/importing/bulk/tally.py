"""What became of the rows of an import."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from touchstone.events.v1.events_service_pb2 import (
    REJECTION_REASON_CONFLICTING_DUPLICATE,
    LogEventsResponse,
    RejectedItem,
    RejectionReason,
)

from services.cli.importing.bulk.mapping import EventMapping
from services.cli.importing.bulk.parts import Part

BAD_ROW = "BAD_ROW"
_PREFIX = "REJECTION_REASON_"


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that did not go in. `kind` is BAD_ROW, or why the service refused its event."""

    file: str
    row: int
    column: str
    value: object
    kind: str
    reason: str
    event_id: str


@dataclass(slots=True)
class Tally:
    """The rows so far. `token` lets a reader wait for what was acknowledged."""

    rows: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    token: str = ""

    def add(self, part: Part, answer: LogEventsResponse) -> None:
        """Counts what was said of a part, without the rows it rejects."""
        self.rows += part.rows
        self.accepted += answer.accepted
        self.duplicates += answer.duplicates
        self.token = answer.consistency_token or self.token


def rejected_rows(
    part: Part, answer: LogEventsResponse, mapping: EventMapping
) -> Iterator[RejectedRow]:
    """The rows of a part that did not go in, with the column at fault where it is known."""
    for bad in part.bad:
        yield RejectedRow(part.file, bad.row, bad.column, bad.value, BAD_ROW, bad.reason, "")
    for item in answer.rejected:
        place = int(part.places[item.item])
        column = mapping.column_of(item.field)
        there = column in part.chunk.batch.schema.names
        value = part.chunk.batch.column(column)[place].as_py() if there else ""
        kind = RejectionReason.Name(item.reason).removeprefix(_PREFIX)
        yield RejectedRow(
            part.file,
            int(part.chunk.rows[place]),
            column or item.field,
            value.decode() if isinstance(value, bytes) else value,
            kind,
            _reason(item),
            item.event_id,
        )


def _reason(item: RejectedItem) -> str:
    if item.reason == REJECTION_REASON_CONFLICTING_DUPLICATE:
        return (
            "an event of this id is stored with other content, and stands; a row that changed "
            "needs another event_id, or --id-prefix"
        )
    return item.message
