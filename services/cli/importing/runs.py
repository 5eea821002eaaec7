"""One run of an import: progress on standard error, the checkpoint, the wait for readers."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from touchstone.events.v1.events_service_pb2 import GetWatermarkRequest

from services.cli.importing.checkpoint import Checkpoint, Counts
from services.cli.importing.experiment_rows import ExperimentMapping
from services.cli.importing.finished import Finished, digest_of
from services.cli.importing.journey_rows import JourneyMapping
from services.cli.importing.rejects import free_path
from services.cli.importing.replay import Replay, Rows, run_replay
from services.cli.importing.report import Report
from services.cli.importing.sender import Sender
from services.cli.importing.sources import Source
from services.cli.progress import progress_bar
from services.cli.session import Session
from services.cli.terminal import say
from shared.errors import DomainError, failed_precondition

Mapping: TypeAlias = ExperimentMapping | JourneyMapping

_CALL_S = 15.0
_VISIBLE_S = 30.0
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Run:
    """A file to import. Rejects go to `rejects_path` or, unless the user `rejects_named` it, to a
    free name beside it.
    """

    file: Path
    source: Source
    dataset: str
    rejects_path: Path
    restart: bool
    again: bool = False
    rejects_named: bool = False


def require_new(session: Session, run: Run, mapping: Mapping) -> None:
    """Raises FAILED_PRECONDITION when the same content was imported under another dataset name,
    unless it shall count again.
    """
    if run.again:
        return
    if other := _finished(session, run, mapping).other_than(run.dataset):
        raise failed_precondition(
            "WRONG_STATE",
            f"{run.file} holds what was imported as dataset {other}: as dataset {run.dataset} "
            f"every event would count twice; say --dataset {other} to import it once, or --again "
            "to count it again",
        )


def require_service(session: Session) -> None:
    """Raises the error of the events service when it takes no calls: before anything is made."""
    session.events.GetWatermark(GetWatermarkRequest())


def run(session: Session, run: Run, rows: Rows, mapping: Mapping) -> Report:
    """Imports the file. `mapping` is what makes the import this one: with another mapping an
    interrupted import does not go on but begins.
    """
    checkpoint = _checkpoint(session, run, mapping)
    rejects_path = rejects_path_of(run, Counts() if run.restart else checkpoint.load())
    replay = Replay(run.source, rows, rejects_path, checkpoint, run.restart)
    stub = session.events
    sender = Sender(lambda request: stub.LogEvents(request, timeout=_CALL_S))
    with progress_bar() as progress:
        task = progress.add_task(f"importing {run.file.name}", total=run.source.estimated_rows())
        try:
            outcome = run_replay(replay, sender, lambda rows: progress.update(task, completed=rows))
        except KeyboardInterrupt:
            say("interrupted; the same command goes on")
            raise
        except DomainError:
            say("what was acknowledged is safe; the same command goes on where this one stopped")
            raise
        progress.update(task, total=outcome.counts.rows_read)
    _finished(session, run, mapping).add(run.dataset)
    wait_until_visible(session)
    return Report(run.dataset, run.file, rejects_path, outcome)


def rejects_path_of(run: Run, known: Counts) -> Path:
    """Where rejects go: no file of an earlier import is replaced that the user did not name. An
    import that goes on keeps to its own.
    """
    if run.rejects_named:
        return run.rejects_path
    if known.rejects_bytes:
        return Path(known.rejects_file) if known.rejects_file else run.rejects_path
    return free_path(run.rejects_path)


def _checkpoint(session: Session, run: Run, mapping: Mapping) -> Checkpoint:
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
    return Checkpoint(session.settings.imports_path, name, identity)


def _finished(session: Session, run: Run, mapping: Mapping) -> Finished:
    identity = {
        "content": digest_of(run.file),
        "mapping": repr(replace(mapping, dataset="", source="")),
        "project": session.project,
        "events": session.settings.events_address,
    }
    return Finished(session.settings.imports_path, identity)


def wait_until_visible(session: Session) -> None:
    """Returns when readers see everything that was acknowledged; says so when that takes long."""
    deadline = time.monotonic() + _VISIBLE_S
    while session.events.GetWatermark(GetWatermarkRequest()).pending_batches:
        if time.monotonic() >= deadline:
            say("the events are safe, but readers do not see all of them yet")
            return
        time.sleep(_POLL_S)
