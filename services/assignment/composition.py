"""The only place that chooses the adapters of assignment."""

from touchstone.assignment.v1 import (
    assignment_service_pb2_grpc,
    experiment_service_pb2_grpc,
    layer_service_pb2_grpc,
)

from services.assignment import encode_decisions
from services.assignment.adapters.poller import SnapshotPoller
from services.assignment.adapters.sql import (
    SqlConfigurationReader,
    SqlConfigurationWriter,
    migrate_assignment,
)
from services.assignment.api import AssignmentServicer, LayerServicer
from services.assignment.api_experiments import ExperimentServicer
from services.assignment.application.snapshots import Snapshots
from services.assignment.backend import Backend
from services.assignment.settings import Settings
from shared.mutations import Mutations
from shared.server.access import access_servicers
from shared.server.platform import open_platform
from shared.server.run import Application, Platform, Servicer


def compose(settings: Settings) -> Application:
    """The service on the state database that the settings name."""
    platform = open_platform(settings)
    migrate_assignment(platform.database)
    return assemble(settings, platform)


def assemble(settings: Settings, platform: Platform) -> Application:
    """The service on a platform that is open and migrated."""
    reader = SqlConfigurationReader(platform.database)
    mutations = Mutations(platform.database, platform.audit_keys, platform.clock)
    snapshots = Snapshots(reader, platform.clock, encode_decisions.description)
    backend = Backend(
        reader=reader,
        writer=SqlConfigurationWriter(mutations),
        snapshots=snapshots,
        clock=platform.clock,
        ids=platform.ids,
        cool_down=settings.assignment_cool_down,
    )
    poller = SnapshotPoller(snapshots, settings.assignment_poll_s, settings.assignment_stale_s)
    return Application(
        service="assignment",
        settings=settings,
        platform=platform,
        servicers=[*_servicers(backend), *access_servicers(platform, mutations)],
        start=poller.start,
        stop=poller.stop,
        ready=lambda: poller.ready,
    )


def _servicers(backend: Backend) -> list[Servicer]:
    return [
        Servicer(
            "touchstone.assignment.v1.AssignmentService",
            AssignmentServicer(backend.snapshots),
            assignment_service_pb2_grpc.add_AssignmentServiceServicer_to_server,
        ),
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
    ]
