"""touchstone backup: copies of the whole installation, and a way back from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import grpc
import typer
from google.longrunning import operations_pb2
from touchstone.events.v1 import backup_service_pb2 as pb

from services.cli.failures import from_operation
from services.cli.figures import last_part, time_text
from services.cli.options import Data, Limit, Output
from services.cli.paging import collect
from services.cli.rendering import Cell, Column, Format, View, columns, write
from services.cli.session import Session, open_operator_session
from services.cli.settings import read_settings
from services.cli.terminal import say, warn
from shared.backup.files import verify as verify_files
from shared.backup.manifest import SQLITE, Manifest, read_manifest
from shared.ids import RandomIds

app = typer.Typer(
    no_args_is_help=True,
    help="Back up all projects of an installation, and restore them. Needs the operator's key.",
)

_COLUMNS = (
    *columns("backup", "begin_time", "create_time"),
    Column("position", right=True),
    Column("files", right=True),
    Column("bytes", right=True),
    *columns("state", "version"),
)
_STEPS = {
    pb.BACKUP_STEP_WAITING_FOR_TABLES: "waiting until all acknowledged events are in the tables",
    pb.BACKUP_STEP_COPYING_TABLES: "copying the tables",
    pb.BACKUP_STEP_COPYING_STATE: "copying the databases and keys",
}

Backup = Annotated[Path, typer.Argument(help="The folder of the backup.")]


@app.command()
def create(
    backup_id: Annotated[str, typer.Argument(help="Its id. [default: one with the time]")] = "",
    keep: Annotated[
        int, typer.Option(min=0, help="Then delete the oldest until so many are left; 0: none.")
    ] = 0,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Make a backup while the services work, and wait until it is complete.

    Example: touchstone backup create nightly-2026-01-31 --keep 14
    """
    with open_operator_session(data) as session:
        request = pb.CreateBackupRequest(parent=session.parent, backup_id=backup_id, keep=keep)
        operation = session.backups.CreateBackup(request).operation
        try:
            made = _completed(session, operation)
        except (KeyboardInterrupt, grpc.RpcError):
            say(
                "the backup was begun, and it may go on, also after a restart of the services; "
                "look with `touchstone backup list`, or with the operator's key as "
                f"TOUCHSTONE_API_KEY: `touchstone operations wait {last_part(operation.name)}`"
            )
            raise
    write(View(made, _COLUMNS, [_row(made)]), output)


@app.command(name="list")
def list_backups(limit: Limit = 100, data: Data = None, output: Output = Format.TABLE) -> None:
    """List the complete backups, newest first."""
    with open_operator_session(data) as session:
        request = pb.ListBackupsRequest(parent=session.parent)
        reply = collect(session.backups.ListBackups, request, "backups", limit)
    write(View(reply, _COLUMNS, [_row(one) for one in reply.backups]), output)


@app.command()
def delete(
    backup_id: Annotated[str, typer.Argument(help="Its id, as the list shows it.")],
    data: Data = None,
) -> None:
    """Delete a backup for good."""
    with open_operator_session(data) as session:
        name = session.name("backups", backup_id)
        session.backups.DeleteBackup(pb.DeleteBackupRequest(name=name))
    say(f"deleted {last_part(name)}")


@app.command()
def verify(folder: Backup, output: Output = Format.TABLE) -> None:
    """Read every file of a backup and compare it with what was written. Needs no service.

    Example: touchstone backup verify .touchstone/backups/nightly-2026-01-31
    """
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    _show(manifest, output)
    say("every file is as it was written")


@app.command()
def restore(
    folder: Backup,
    erasures: Annotated[
        Path | None,
        typer.Option(help="The newest ledger of erasures that is left, a folder."),
    ] = None,
    data: Data = None,
    output: Output = Format.TABLE,
) -> None:
    """Make a data folder from a backup, with no service running on it.

    The data folder must be empty or not exist. What was erased after the backup was made stays
    erased when the newest ledger is named, or lies in the folder of TOUCHSTONE_ERASURES.

    Example: touchstone backup restore /mnt/backups/nightly-2026-01-31 --data /srv/touchstone
    """
    # Slow to load, and no other command needs them.
    from shared.backup.restore import restore as restore_backup
    from shared.security.erasure_ledger import FILE, KEY_FILE

    settings = read_settings(data)
    done = restore_backup(folder, settings.data, RandomIds(), erasures)
    manifest = done.manifest
    _show(manifest, output)
    say(
        f"restored into {settings.data}: everything that was acknowledged before "
        f"{manifest.begin_time:%Y-%m-%d %H:%M:%S} UTC, when the backup was begun, and all up to "
        f"position {manifest.journal_position}; the log goes on as {done.journal_id}"
    )
    if erasures is None and not (settings.erasures and (settings.erasures / FILE).is_file()):
        warn(
            "erasures that were made after the backup are not known here: the units are there "
            "again. Where a newer ledger is left (erasures in the old data folder, with "
            f"{FILE} and {KEY_FILE}), do not start the services: remove {settings.data} and "
            "restore again with --erasures FOLDER; else erase those units anew"
        )
    elif erasures is not None:
        say(f"{done.later_erasures} later entries of the ledger of erasures were taken over")
    if manifest.state != SQLITE:
        say("the state is in PostgreSQL: restore it with pg_restore before you start the services")


def _completed(session: Session, operation: operations_pb2.Operation) -> pb.Backup:
    """Wait for an operation and say which step it is at."""
    told = pb.BACKUP_STEP_UNSPECIFIED
    while not operation.done:
        progress = pb.BackupProgress()
        operation.metadata.Unpack(progress)
        if progress.step not in (told, pb.BACKUP_STEP_UNSPECIFIED):
            told = progress.step
            say(_STEPS.get(told, "working"))
        operation = session.event_operations.WaitOperation(
            operations_pb2.WaitOperationRequest(name=operation.name)
        )
    if operation.HasField("error"):
        raise from_operation(operation.error)
    made = pb.Backup()
    operation.response.Unpack(made)
    return made


def _show(manifest: Manifest, output: Format) -> None:
    shown = pb.Backup(
        name=manifest.backup_id,
        journal_id=manifest.journal_id,
        journal_position=manifest.journal_position,
        product_version=manifest.product_version,
        file_count=len(manifest.files),
        size_bytes=manifest.size_bytes,
        has_state=manifest.state == SQLITE,
    )
    shown.begin_time.FromDatetime(manifest.begin_time)
    shown.create_time.FromDatetime(manifest.create_time)
    write(View(shown, _COLUMNS, [_row(shown)]), output)


def _row(one: pb.Backup) -> tuple[Cell, ...]:
    return (
        last_part(one.name),
        time_text(one, "begin_time"),
        time_text(one, "create_time"),
        one.journal_position,
        one.file_count,
        one.size_bytes,
        "in the backup" if one.has_state else "in PostgreSQL",
        one.product_version,
    )
