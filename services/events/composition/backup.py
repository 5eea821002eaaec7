"""Choose the parts of the service of backups."""

from touchstone.events.v1 import backup_service_pb2_grpc

from services.events.adapters.backup_folder import BackupFolder, Sources
from services.events.api.backup import KIND, BackupServicer, BackupWork, settled
from services.events.application.create_backup import Installation
from services.events.composition.core import Core
from shared.mutations import Mutations
from shared.operations.runner import Kind, OperationRunner
from shared.server.run import Servicer

SERVICE = "touchstone.events.v1.BackupService"


def open_backups(core: Core) -> BackupFolder:
    """The folder of backups of this installation."""
    settings = core.settings
    sources = Sources(
        lake=settings.lake_path,
        watermark=lambda: core.sink.watermark,
        database=core.platform.database,
        rejected=core.rejected,
        rejected_path=settings.rejected_path,
        audit_key=settings.audit_key_path,
        erasures=settings.erasures_path,
        settled=settled,
    )
    return BackupFolder(settings.backups_path, sources)


def backup_kind(core: Core, backups: BackupFolder) -> Kind:
    """The work of CreateBackup."""
    installation = Installation(
        acknowledged=lambda: core.log.commits.last,
        visible=lambda: core.sink.position,
        backups=backups,
        now=core.platform.clock.now,
    )
    return Kind(KIND, BackupWork(installation).run)


def backup_servicer(core: Core, backups: BackupFolder, runner: OperationRunner) -> Servicer:
    """BackupService."""
    platform = core.platform
    servicer = BackupServicer(
        backups,
        Mutations(platform.database, platform.audit_keys, platform.clock),
        runner,
        platform.clock,
        platform.ids,
    )
    add = backup_service_pb2_grpc.add_BackupServiceServicer_to_server
    return Servicer(SERVICE, servicer, add)
