"""BackupService: decode, handle, encode."""

import asyncio
import datetime as dt
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from touchstone.events.v1 import backup_service_pb2 as pb
from touchstone.events.v1 import backup_service_pb2_grpc

from services.events.application.create_backup import (
    Backups,
    CreateBackup,
    Installation,
    create_backup,
)
from shared import errors
from shared.backup.manifest import SQLITE, Manifest, require_backup_id
from shared.clock import Clock
from shared.ids import IdGenerator
from shared.mutations import Mutation, Mutations
from shared.operations.operation import packed
from shared.operations.runner import Begin, OperationRunner
from shared.operations.task import Task
from shared.resource_names import require_id, require_parent, resource_name
from shared.security.caller import current_caller
from shared.state.paging import read_page

COLLECTION = "backups"
KIND = "create-backup"
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_TELL_EVERY_BYTES = 64 * 1024 * 1024
_PLACE = r"([0-9]{1,17}):([a-z0-9-]{1,63})"


@dataclass(frozen=True, slots=True)
class BackupServicer(backup_service_pb2_grpc.BackupServiceServicer):
    """See touchstone/events/v1/backup_service.proto."""

    backups: Backups
    mutations: Mutations
    runner: OperationRunner
    clock: Clock
    ids: IdGenerator

    async def CreateBackup(
        self, request: pb.CreateBackupRequest, _context: Any
    ) -> pb.CreateBackupResponse:
        """Begin a backup."""
        project = current_caller().project
        require_parent(request.parent, project)
        backup_id = request.backup_id or self._made_id()
        if await asyncio.to_thread(self.backups.find, backup_id) is not None:
            raise errors.already_exists("backup", backup_id)
        name = resource_name(project, COLLECTION, backup_id)
        progress = pb.BackupProgress(backup=name)
        begin = Begin(project, KIND, request, progress)

        def work(connection: sa.Connection) -> pb.CreateBackupResponse:
            operation = self.runner.begin(connection, begin)
            return pb.CreateBackupResponse(operation=operation)

        mutation = Mutation(request, name, request.request_id, request.validate_only)
        answer = await asyncio.to_thread(self.mutations.run, mutation, work)
        self.runner.wake()
        return pb.CreateBackupResponse() if request.validate_only else answer

    async def ListBackups(
        self, request: pb.ListBackupsRequest, _context: Any
    ) -> pb.ListBackupsResponse:
        """List them, newest first."""
        project = current_caller().project
        require_parent(request.parent, project)
        page = read_page(request, project)
        place = page.place(_PLACE)
        found = await asyncio.to_thread(self.backups.newest_first)
        if place is not None:
            found = [one for one in found if _place(one) < (int(place[0]), place[1])]
        shown = found[: page.size]
        token = ""
        if len(found) > page.size:
            token = page.token("{}:{}".format(*_place(shown[-1])))
        return pb.ListBackupsResponse(
            backups=[encode_backup(one, project) for one in shown], next_page_token=token
        )

    async def DeleteBackup(
        self, request: pb.DeleteBackupRequest, _context: Any
    ) -> pb.DeleteBackupResponse:
        """Delete one. It goes when the deletion is on record."""
        backup_id = require_backup_id(
            require_id(request.name, current_caller().project, COLLECTION)
        )
        mutation = Mutation(request, request.name, request.request_id, request.validate_only)
        answered = False

        def work(_connection: sa.Connection) -> pb.DeleteBackupResponse:
            nonlocal answered
            if self.backups.find(backup_id) is None:
                raise errors.not_found("backup", backup_id)
            answered = not request.validate_only
            return pb.DeleteBackupResponse()

        answer = await asyncio.to_thread(self.mutations.run, mutation, work)
        if answered:
            await asyncio.to_thread(self.backups.delete, backup_id)
        return answer

    def _made_id(self) -> str:
        return f"{self.clock.now():%Y%m%dt%H%M%Sz}-{self.ids.new(4)}"


def _place(manifest: Manifest) -> tuple[int, str]:
    """What backups are sorted by: microseconds since 1970, then the id."""
    return (manifest.create_time - _EPOCH) // dt.timedelta(microseconds=1), manifest.backup_id


def encode_backup(manifest: Manifest, project: str) -> pb.Backup:
    """A backup as a caller of the project sees it."""
    message = pb.Backup(
        name=resource_name(project, COLLECTION, manifest.backup_id),
        journal_id=manifest.journal_id,
        journal_position=manifest.journal_position,
        product_version=manifest.product_version,
        file_count=len(manifest.files),
        size_bytes=manifest.size_bytes,
        has_state=manifest.state == SQLITE,
    )
    message.begin_time.FromDatetime(manifest.begin_time)
    message.create_time.FromDatetime(manifest.create_time)
    return message


def settled(manifest: Manifest) -> bytes:
    """The response of the operation in the backup's own copy of the state."""
    _, project, _, _ = manifest.operation.split("/")
    return packed(encode_backup(manifest, project))


@dataclass(frozen=True, slots=True)
class BackupWork:
    """What the operations of the kind do."""

    installation: Installation

    def run(self, task: Task) -> pb.Backup:
        """Make the backup that the operation asks for."""
        request = task.request(pb.CreateBackupRequest)
        progress = task.stored(pb.BackupProgress)
        backup_id = progress.backup.rsplit("/", 1)[1]
        wanted = CreateBackup(backup_id, task.operation.name, request.keep)
        made = create_backup(wanted, self.installation, _Progress(task, progress.backup))
        return encode_backup(made, task.project)


class _Progress:
    """See Watcher: what the operation shows, now and then."""

    def __init__(self, task: Task, backup: str) -> None:
        self._task = task
        self._shown = pb.BackupProgress(backup=backup)
        self._untold = 0

    def waiting(self) -> None:
        """See Watcher."""
        self._step(pb.BACKUP_STEP_WAITING_FOR_TABLES)

    def began(self, total_bytes: int) -> None:
        """See Watcher."""
        self._shown.done_bytes, self._shown.total_bytes = 0, total_bytes
        self._step(pb.BACKUP_STEP_COPYING_TABLES)

    def stored(self, tables: bool, size_bytes: int) -> None:
        """See Watcher."""
        self._task.check()
        self._shown.done_bytes += size_bytes
        self._untold += size_bytes
        self._step(pb.BACKUP_STEP_COPYING_TABLES if tables else pb.BACKUP_STEP_COPYING_STATE)

    def sleep(self, seconds: float) -> None:
        """See Watcher."""
        self._task.wait(seconds)

    def _step(self, step: pb.BackupStep.ValueType) -> None:
        if step != self._shown.step or self._untold >= _TELL_EVERY_BYTES:
            self._shown.step, self._untold = step, 0
            self._task.progress(self._shown)
