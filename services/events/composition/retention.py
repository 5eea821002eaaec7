"""Choose the parts of RetentionService."""

from touchstone.events.v1 import retention_service_pb2_grpc

from services.events.adapters.retention_sql import SqlRetention
from services.events.api.retention import RetentionServicer
from services.events.composition.core import Core
from shared.mutations import Mutations
from shared.server.run import Servicer

SERVICE = "touchstone.events.v1.RetentionService"


def retention_servicer(core: Core) -> Servicer:
    """RetentionService. What it changes holds for the next event, and is soon applied to others."""
    platform = core.platform

    def changed() -> None:
        core.privacy.retention.reload()
        core.retention.soon()

    servicer = RetentionServicer(
        platform.database,
        SqlRetention,
        Mutations(platform.database, platform.audit_keys, platform.clock),
        platform.clock,
        changed,
    )
    add = retention_service_pb2_grpc.add_RetentionServiceServicer_to_server
    return Servicer(SERVICE, servicer, add)
