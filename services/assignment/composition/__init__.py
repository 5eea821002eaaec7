"""The only place that chooses the adapters of assignment."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from touchstone.assignment.v1 import (
    audience_service_pb2_grpc,
    domain_service_pb2_grpc,
    experiment_service_pb2_grpc,
    layer_service_pb2_grpc,
    schema_service_pb2_grpc,
    unit_service_pb2_grpc,
)

from services.assignment.adapters.kept_decisions import KeptDecisions
from services.assignment.adapters.schedule_keeper import ScheduleKeeper
from services.assignment.adapters.snapshot_flags import SnapshotFlags
from services.assignment.adapters.sql import (
    SqlConfigurationReader,
    SqlConfigurationWriter,
    migrate_assignment,
)
from services.assignment.api.audiences import AudienceServicer
from services.assignment.api.domains import DomainServicer
from services.assignment.api.experiments import ExperimentServicer
from services.assignment.api.layers import LayerServicer
from services.assignment.api.ofrep.door import ofrep_door
from services.assignment.api.schema import SchemaServicer
from services.assignment.api.units import UnitServicer
from services.assignment.application.assigned_sample import AssignedSample
from services.assignment.application.backend import Backend
from services.assignment.application.snapshots import IdSets
from services.assignment.composition.assignment import Assigning, open_assigning
from services.assignment.composition.checks import CheckedStore, Checks, open_checks
from services.assignment.composition.flagd import flagd_servicers
from services.assignment.settings import Settings
from shared.errors import DomainError
from shared.mutations import Mutations
from shared.operations.store import migrate_operations
from shared.server.access import access_servicers
from shared.server.platform import open_platform, open_platform_later, prepare_platform
from shared.server.run import Application, Platform, Servicer

_LOG = logging.getLogger("touchstone.assignment")


def compose(settings: Settings) -> Application:
    """The service on the state database that the settings name.

    While that is away it decides by what it kept on the disk, if it kept anything.
    """
    try:
        platform = open_platform(settings)
        migrate_assignment(platform.database)
        return assemble(settings, platform)
    except DomainError as error:
        if error.reason != "STORAGE_UNAVAILABLE":
            raise
        _LOG.warning("starting without the state database: %s", error.message)
        later = open_platform_later(settings)

    def prepare() -> None:
        prepare_platform(later, settings, (migrate_assignment, migrate_operations))

    return assemble(settings, later, prepare)


@dataclass(frozen=True, slots=True)
class _Work:
    """What goes on in the background: some of it only once the state is prepared."""

    assigning: Assigning
    keeper: ScheduleKeeper
    checks: Checks

    async def start(self) -> None:
        await self.assigning.start()
        self.assigning.poller.when_prepared(self.keeper.start)
        self.assigning.poller.when_prepared(self._start_operations)

    async def _start_operations(self) -> None:
        await asyncio.to_thread(self.checks.runner.start)

    async def stop(self) -> None:
        # The poller first: it starts the others.
        await self.assigning.stop()
        await self.keeper.stop()
        if self.assigning.poller.prepared:
            await asyncio.to_thread(self.checks.runner.close)


def assemble(
    settings: Settings, platform: Platform, prepare: Callable[[], None] | None = None
) -> Application:
    """The service on a platform that is open and migrated, or that `prepare` makes so later."""
    if prepare is None:
        migrate_operations(platform.database)
    reader = SqlConfigurationReader(platform.database)
    mutations = Mutations(platform.database, platform.audit_keys, platform.clock)
    sample = AssignedSample()
    assigning = open_assigning(settings, platform, reader, sample, prepare)
    snapshots = assigning.deciding.snapshots
    backend = Backend(
        reader=reader,
        writer=SqlConfigurationWriter(mutations),
        snapshots=snapshots,
        clock=platform.clock,
        ids=platform.ids,
        cool_down=settings.assignment_cool_down,
    )
    store = CheckedStore(reader, backend.writer, snapshots.refresh)
    checks = open_checks(platform, mutations, store, sample, settings.lake_path)
    decisions = KeptDecisions(assigning.deciding.keeper, sample)
    served = SnapshotFlags(snapshots, decisions, settings.assignment_poll_s)
    flagd, side_door = flagd_servicers(settings, served, platform.clock)
    ofrep = ofrep_door(
        settings.assignment_http_address, served, lambda: platform.clock.now().timestamp()
    )
    work = _Work(assigning, ScheduleKeeper(backend, settings.assignment_poll_s), checks)
    return Application(
        service="assignment",
        settings=settings,
        platform=platform,
        servicers=[
            assigning.servicer,
            *_servicers(backend, snapshots.id_sets),
            *checks.servicers,
            *flagd,
            *access_servicers(platform, mutations),
        ],
        start=work.start,
        stop=work.stop,
        ready=lambda: assigning.poller.ready,
        http=ofrep,
        kept_keys=settings.kept_keys_path,
        side_door=side_door,
    )


def _servicers(backend: Backend, id_sets: IdSets) -> list[Servicer]:
    return [
        Servicer(
            "touchstone.assignment.v1.ExperimentService",
            ExperimentServicer(backend),
            experiment_service_pb2_grpc.add_ExperimentServiceServicer_to_server,
        ),
        Servicer(
            "touchstone.assignment.v1.LayerService",
            LayerServicer(backend),
            layer_service_pb2_grpc.add_LayerServiceServicer_to_server,
        ),
        Servicer(
            "touchstone.assignment.v1.SchemaService",
            SchemaServicer(backend),
            schema_service_pb2_grpc.add_SchemaServiceServicer_to_server,
        ),
        Servicer(
            "touchstone.assignment.v1.UnitService",
            UnitServicer(backend),
            unit_service_pb2_grpc.add_UnitServiceServicer_to_server,
        ),
        Servicer(
            "touchstone.assignment.v1.DomainService",
            DomainServicer(backend),
            domain_service_pb2_grpc.add_DomainServiceServicer_to_server,
        ),
        Servicer(
            "touchstone.assignment.v1.AudienceService",
            AudienceServicer(backend, id_sets),
            audience_service_pb2_grpc.add_AudienceServiceServicer_to_server,
        ),
    ]
