"""Choose the parts of the identity service."""

from touchstone.events.v1 import identity_service_pb2_grpc

from services.events.api.identity import IdentityServicer, Links, Policies
from services.events.composition.core import Core
from shared.identity.reader import IdentityReader
from shared.identity.store import SqlPolicySource, migrate_identity
from shared.lake.analyses import Analyses
from shared.lake.snapshot import EngineLimits, LakeEventTables
from shared.mutations import Mutations
from shared.server.run import Servicer

SERVICE = "touchstone.events.v1.IdentityService"
# Beside the events that come in, which matter more.
_ENGINE = EngineLimits(threads=1, memory_limit_mb=1024)
_AT_ONCE, _IN_LINE = 1, 64


def identity_servicer(core: Core) -> Servicer:
    """IdentityService."""
    platform = core.platform
    migrate_identity(platform.database)
    links = Links(
        tables=LakeEventTables(core.settings.lake_path, _ENGINE),
        reader=IdentityReader(SqlPolicySource(platform.database)),
        analyses=Analyses(_AT_ONCE, _IN_LINE),
    )
    mutations = Mutations(platform.database, platform.audit_keys, platform.clock)
    servicer = IdentityServicer(links, Policies(platform.database, mutations, platform.clock))
    add = identity_service_pb2_grpc.add_IdentityServiceServicer_to_server
    return Servicer(SERVICE, servicer, add)
