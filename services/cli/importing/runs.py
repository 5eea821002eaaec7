"""One run of an import: progress on standard error, the checkpoint, the wait for readers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from touchstone.events.v1.event_pb2 import Event
from touchstone.events.v1.events_service_pb2 import GetWatermarkRequest

from services.cli.importing.checkpoint import Checkpoint
from services.cli.importing.replay import Replay, run_replay
from services.cli.importing.report import Report
from services.cli.importing.sender import Sender
from services.cli.importing.sources import Source, SourceRow
from services.cli.progress import progress_bar
from services.cli.session import Session
from services.cli.terminal import say
from shared.errors import DomainError

_CALL_S = 15.0
_VISIBLE_S = 30.0
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Run:
    """A file to import."""

    file: Path
    source: Source
    dataset: str
    rejects_path: Path
    restart: bool


def run(
    session: Session, run: Run, events_of: Callable[[SourceRow], list[Event]], mapping: object
) -> Report:
    """Imports the file. `mapping` is what makes the import this one: with another mapping an
    interrupted import does not go on but begins.
    """
    stat = run.file.stat()
    identity = {
        "file": str(run.file.absolute()),
        "bytes": stat.st_size,
        "changed_ns": stat.st_mtime_ns,
        "mapping": repr(mapping),
        "project": session.project,
        "events": session.settings.events_address,
    }
    name = f"{session.project}.{run.dataset}"
    replay = Replay(
        run.source,
        events_of,
        run.rejects_path,
        Checkpoint(session.settings.imports_path, name, identity),
        run.restart,
    )
    stub = session.events
    sender = Sender(lambda request: stub.LogEvents(request, timeout=_CALL_S))
    with progress_bar() as progress:
        task = progress.add_task(f"importing {run.file.name}", total=run.source.estimated_rows())
        try:
            outcome = run_replay(replay, sender, lambda rows: progress.update(task, completed=rows))
        except (DomainError, KeyboardInterrupt):
            say("what was acknowledged is safe; the same command goes on where this one stopped")
            raise
        progress.update(task, total=outcome.counts.rows_read)
    wait_until_visible(session)
    return Report(run.dataset, run.file, run.rejects_path, outcome)


def wait_until_visible(session: Session) -> None:
    """Returns when readers see everything that was acknowledged; says so when that takes long."""
    deadline = time.monotonic() + _VISIBLE_S
    while session.events.GetWatermark(GetWatermarkRequest()).pending_batches:
        if time.monotonic() >= deadline:
            say("the events are safe, but readers do not see all of them yet")
            return
        time.sleep(_POLL_S)
