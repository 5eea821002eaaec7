"""Replays a file through LogEvents: in batches, restartable, each row once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from touchstone.events.v1.event_pb2 import Event
from touchstone.events.v1.events_service_pb2 import LogEventsResponse

from services.cli.importing.batches import Batch, Rejection, in_batches
from services.cli.importing.checkpoint import Checkpoint, Counts
from services.cli.importing.rejects import RejectsFile
from services.cli.importing.sender import Sender
from services.cli.importing.sources import Source, SourceRow


@dataclass(frozen=True, slots=True)
class Replay:
    """What to replay, and where what did not go in is kept."""

    source: Source
    events_of: Callable[[SourceRow], list[Event]]
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
    resumed, token = counts.rows_read, ""
    batches = in_batches(replay.source.rows(), replay.events_of, resumed)
    keep = counts.rejects_bytes if resumed else 0
    with RejectsFile(replay.rejects_path, replay.source.columns, keep) as rejects:
        for batch, answer in sender.send_all(batches):
            rejections = [*batch.rejections, *_refused(batch, answer)]
            rejects.add(rejections)
            counts = _counted(counts, batch, answer, rejections, rejects.size_bytes)
            token = answer.consistency_token or token
            replay.checkpoint.save(counts)
            on_rows(counts.rows_read)
    replay.checkpoint.clear()
    return Outcome(counts, resumed, token)


def _refused(batch: Batch, answer: LogEventsResponse) -> Iterator[Rejection]:
    for item in answer.rejected:
        yield Rejection(batch.rows[item.item], item.field, item.event_id, item.message)


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
        rows_rejected=counts.rows_rejected + len({r.row.number for r in rejections}),
        rejects_bytes=rejects_bytes,
    )
