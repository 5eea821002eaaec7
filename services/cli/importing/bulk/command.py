"""The import of event files as a command: options in, progress and a summary out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import typer

from services.cli.failures import FAILED, REJECTED
from services.cli.importing.bulk.event_ids import require_prefix
from services.cli.importing.bulk.fields import kind_of
from services.cli.importing.bulk.importing import EventImport, EventReport, import_events, plan
from services.cli.importing.bulk.instants import InstantRules
from services.cli.importing.bulk.mapping import read_mapping
from services.cli.importing.bulk.opening import FileFormat, found_files
from services.cli.importing.bulk.parts import EventFile
from services.cli.importing.bulk.tally import RejectedRow, Tally
from services.cli.importing.rejects import free_path
from services.cli.importing.report import all_known
from services.cli.importing.runs import wait_until_visible
from services.cli.importing.sender import Sender
from services.cli.progress import share_bar
from services.cli.rendering import Cell, Column, Format, View, columns, write
from services.cli.session import Session, open_session
from services.cli.terminal import say, warn
from shared.errors import DomainError, shown

_CALL_S = 30.0


@dataclass(frozen=True, slots=True)
class EventOptions:
    """The options of the command, as they were given."""

    files: tuple[str, ...]
    kind: str
    file_format: str | None
    maps: tuple[str, ...]
    constants: tuple[str, ...]
    ignore_unknown: bool
    id_prefix: str
    time_zone: str
    epoch: str
    max_errors: int
    rejects: Path | None


def run_event_import(options: EventOptions, data: Path | None, output: Format) -> None:
    """Imports the files and tells how it went; exits with REJECTED when rows did not go in."""
    wanted = _wanted(options)
    files = plan(wanted)
    with open_session(data) as session:
        report = _sent(session, wanted, files)
        if report.tally.accepted:
            wait_until_visible(session)
    document = _document(wanted, report)
    rows = [(name, value) for name, value in document.items() if value != ""]
    write(View(document, (*columns("what"), Column("value", right=True)), rows), output)
    _tell(wanted, report)
    if report.problem is not None:
        raise report.problem
    if report.tally.rejected:
        raise typer.Exit(FAILED if report.stopped else REJECTED)


def _wanted(options: EventOptions) -> EventImport:
    if options.id_prefix:
        require_prefix(options.id_prefix)
    mapping = read_mapping(
        kind_of(options.kind),
        InstantRules(options.time_zone, options.epoch),
        options.maps,
        options.constants,
        ignore_unknown=options.ignore_unknown,
    )
    return EventImport(
        files=tuple(found_files(options.files)),
        file_format=FileFormat(options.file_format) if options.file_format else None,
        mapping=mapping,
        id_prefix=options.id_prefix,
        max_errors=options.max_errors,
        rejects=options.rejects or free_path(Path("events.rejected.csv")),
    )


def _sent(session: Session, wanted: EventImport, files: list[EventFile]) -> EventReport:
    call = session.log_events
    sender = Sender(lambda body: call(body, timeout=_CALL_S))
    with share_bar() as progress:
        task = progress.add_task(f"importing {wanted.mapping.kind.name}", total=1.0, told="")

        def show(tally: Tally) -> None:
            shares = [file.source.done() for file in files]
            known = [share for share in shares if share is not None]
            progress.update(
                task,
                total=float(len(files)) if len(known) == len(files) else None,
                completed=sum(known),
                told=f"{tally.rows:,} rows",
            )

        try:
            return import_events(wanted, files, sender, show)
        except (KeyboardInterrupt, DomainError):
            say("what was acknowledged is safe; the same command sends the rest, each row once")
            raise


def _document(wanted: EventImport, report: EventReport) -> Mapping[str, Cell]:
    tally = report.tally
    stored = tally.accepted + tally.duplicates
    return {
        "kind": wanted.mapping.kind.name,
        "files": len(wanted.files),
        "rows": tally.rows,
        "accepted": tally.accepted,
        "duplicates": tally.duplicates,
        "rejected": tally.rejected.total(),
        **{f"rejected_{kind.lower()}": count for kind, count in sorted(tally.rejected.items())},
        "seconds": round(report.seconds, 3),
        "events_per_s": round(stored / report.seconds) if report.seconds else 0,
        "rejects_file": str(wanted.rejects) if tally.rejected else "",
        "consistency_token": tally.token,
    }


def _tell(wanted: EventImport, report: EventReport) -> None:
    tally = report.tally
    for row in report.first_rejected:
        say(_line(row))
    if rejected := tally.rejected.total():
        warn(f"{rejected:,} rows did not go in; {wanted.rejects} names the reason of each")
    if report.stopped:
        warn(f"stopped: more than {wanted.max_errors:,} rows (--max-errors) did not go in")
    if tally.duplicates and not tally.accepted:
        say(all_known(tally.duplicates))
    if not tally.rows and report.problem is None:
        warn("the files have no rows")


def _line(row: RejectedRow) -> str:
    place = f"{row.file} row {row.row}"
    if row.column:
        place += f", column {row.column}"
    value = "" if row.value in (None, "") or row.reason.startswith("is ") else shown(row.value)
    return f"{place}: {value} {row.reason}".replace(":  ", ": ")
