"""Replays a file through LogEvents: in batches, restartable, each row once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from touchstone.events.v1.event_pb2 import Event
from touchstone.events.v1.events_service_pb2 import (
    REJECTION_REASON_CONFLICTING_DUPLICATE,
    LogEventsResponse,
    RejectedItem,
)

from services.cli.importing.batches import Batch, Rejection, in_batches
from services.cli.importing.checkpoint import Checkpoint, Counts
from services.cli.importing.rejects import RejectsFile
from services.cli.importing.sender import Sender
from services.cli.importing.sources import Source, SourceRow


class Rows(Protocol):
    """What a row means."""

    def events(self, row: SourceRow) -> list[Event]:
        """The events of a row: all of them, or RowError."""
        ...

    def column_of(self, event: Event, field: str) -> str:
        """The column that a field of an event comes from; empty when it comes from none."""
        ...


@dataclass(frozen=True, slots=True)
class Replay:
    """What to replay, and where what did not go in is kept."""

    source: Source
    rows: Rows
    rejects_path: Path
    checkpoint: Checkpoint
    restart: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a file. `token` lets a reader wait for what was acknowledged."""

    counts: Counts
    resumed_after_row: int
    token: str


def run_replay(replay: Replay, sender: Sender, on_rows: Callable[[int], None]) -> Outcome:
    """Sends every row that is not known to be in already. `on_rows` hears how many rows are done.

    When it raises, everything acknowledged so far is remembered, and the next run goes on there.
    """
    counts = Counts() if replay.restart else replay.checkpoint.load()
    counts = replace(counts, rejects_file=str(replay.rejects_path.absolute()))
    resumed, token = counts.rows_read, ""
    batches = in_batches(replay.source.rows(), replay.rows.events, resumed)
    keep = counts.rejects_bytes if resumed else 0
    with RejectsFile(replay.rejects_path, replay.source.columns, keep) as rejects:
        for batch, answer in sender.send_all(batches):
            rejections = [*batch.rejections, *_refused(replay, batch, answer)]
            rejects.add(rejections)
            counts = _counted(counts, batch, answer, rejections, rejects.size_bytes)
            token = answer.consistency_token or token
            replay.checkpoint.save(counts)
            on_rows(counts.rows_read)
    replay.checkpoint.clear()
    return Outcome(counts, resumed, token)


def _refused(replay: Replay, batch: Batch, answer: LogEventsResponse) -> Iterator[Rejection]:
    """What the service refused: one rejection a row, which names the columns at fault."""
    refused: dict[int, list[RejectedItem]] = {}
    for item in answer.rejected:
        refused.setdefault(batch.rows[item.item].number, []).append(item)
    events = Counter(row.number for row in batch.rows)
    for number, items in refused.items():
        row = batch.rows[items[0].item]
        columns = [replay.rows.column_of(batch.events[item.item], item.field) for item in items]
        reasons = [_reason(item, column) for item, column in zip(items, columns, strict=True)]
        named = next((column for column in columns if column), "")
        value = _cell(replay.source, row, named) if named else items[0].event_id
        yield Rejection(
            row,
            named or items[0].field,
            value,
            "; ".join(dict.fromkeys(reasons)),
            partly=len(items) < events[number],
        )


def _reason(item: RejectedItem, column: str) -> str:
    if item.reason == REJECTION_REASON_CONFLICTING_DUPLICATE:
        of = f"of column {column} " if column else ""
        return (
            f"another value {of}was imported before from this row of this dataset, and stands; "
            "--dataset NAME makes the file new data"
        )
    return f"{column or item.field} {item.message}".strip()


def _cell(source: Source, row: SourceRow, column: str) -> object:
    place = source.columns.index(column)
    return row.cells[place] if place < len(row.cells) else None


def _counted(
    counts: Counts,
    batch: Batch,
    answer: LogEventsResponse,
    rejections: list[Rejection],
    rejects_bytes: int,
) -> Counts:
    return replace(
        counts,
        rows_read=batch.last_row,
        events_accepted=counts.events_accepted + answer.accepted,
        events_duplicate=counts.events_duplicate + answer.duplicates,
        rows_rejected=counts.rows_rejected + sum(not r.partly for r in rejections),
        rows_partly=counts.rows_partly + sum(r.partly for r in rejections),
        rejects_bytes=rejects_bytes,
    )
