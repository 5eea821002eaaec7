"""One import of files of events: plan, send, count, tell."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.cli.importing.bulk.chunks import ChunkSource
from services.cli.importing.bulk.conversion import Conversion
from services.cli.importing.bulk.encoding import EventEncoder
from services.cli.importing.bulk.event_ids import EventIds, digest_name
from services.cli.importing.bulk.mapping import EventMapping
from services.cli.importing.bulk.opening import STDIN_NAME, FileFormat, open_chunks
from services.cli.importing.bulk.parts import EventFile, Parts, file_stamp
from services.cli.importing.bulk.rejected_rows import RejectedRowsFile
from services.cli.importing.bulk.tally import RejectedRow, Tally, rejected_rows
from services.cli.importing.sender import Sender
from shared.errors import DomainError, invalid

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class EventImport:
    """What to import, and what to do with rows that do not go in. `id_prefix` is empty when ids
    follow from what the files hold.
    """

    files: tuple[str, ...]
    file_format: FileFormat | None
    mapping: EventMapping
    id_prefix: str
    max_errors: int
    rejects: Path


@dataclass(frozen=True, slots=True)
class EventReport:
    """How it went: `problem` is why it ended early, unless it was `stopped` because too
    many rows did not go in.
    """

    tally: Tally
    seconds: float
    first_rejected: Sequence[RejectedRow]
    problem: DomainError | None
    stopped: bool


def plan(wanted: EventImport) -> list[EventFile]:
    """The files, each looked at and found fit. Raises INVALID_ARGUMENT for the first that is not:
    before anything is sent.
    """
    if wanted.id_prefix and len(wanted.files) > 1:
        raise invalid(
            "--id-prefix", wanted.id_prefix, "one file: rows of several would get the same ids"
        )
    return [_prepared(wanted, file) for file in wanted.files]


def import_events(
    wanted: EventImport,
    files: Sequence[EventFile],
    sender: Sender,
    on_rows: Callable[[Tally], None],
    monotonic: Callable[[], float] = time.monotonic,
) -> EventReport:
    """Sends every row. `on_rows` hears how far it is. When a call fails for good it raises that
    error; everything acknowledged before is safe, and a duplicate in the next import.
    """
    parts = Parts(files, EventEncoder(wanted.mapping.kind))
    tally, first, began = Tally(), list[RejectedRow](), monotonic()
    stopped = False
    with RejectedRowsFile(wanted.rejects) as rejects:
        for part, answer in sender.send_all(parts):
            tally.add(part, answer)
            rows = list(rejected_rows(part, answer, wanted.mapping))
            rejects.add(rows)
            tally.rejected.update(row.kind for row in rows)
            first += rows[: _SHOWN - len(first)]
            if tally.rejected.total() > wanted.max_errors:
                parts.stop()
                stopped = True
            on_rows(tally)
    return EventReport(tally, monotonic() - began, first, parts.problem, stopped)


def _prepared(wanted: EventImport, file: str) -> EventFile:
    source = open_chunks(file, wanted.file_format)
    wanted.mapping.fit(source)
    stamp = file_stamp(source.name)
    # Lines that name their own fields are taken as they are: whether another one names a source
    # must not change what they say.
    defaults = {} if source.schema is None else wanted.mapping.defaults
    conversion = Conversion(source.name, wanted.mapping, _ids(wanted, source), defaults)
    return EventFile(source, conversion, stamp)


def _ids(wanted: EventImport, source: ChunkSource) -> EventIds | None:
    """Ids for rows that have none; None when a row must have one."""
    kind = wanted.mapping.kind.name
    if wanted.id_prefix:
        return EventIds(wanted.id_prefix, kind)
    if source.name == STDIN_NAME or wanted.mapping.has_ids(source):
        return None
    return EventIds(digest_name(Path(source.name)), kind)
