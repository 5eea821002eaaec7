"""Which adapters the attribution service runs on."""

from touchstone.attribution.v1 import attribution_service_pb2 as pb
from touchstone.attribution.v1 import attribution_service_pb2_grpc as rpc

from services.attribution.adapters.lake import LakeJourneyLog
from services.attribution.api import AttributionServicer
from services.attribution.limits import AttributionLimits
from services.attribution.settings import Settings
from shared.identity.reader import IdentityReader
from shared.identity.store import SqlPolicySource, migrate_identity
from shared.lake.analyses import Analyses
from shared.lake.snapshot import EngineLimits, LakeEventTables
from shared.server.platform import open_platform
from shared.server.run import Application, Servicer


def compose(settings: Settings) -> Application:
    """The attribution service over the event tables of the settings."""
    engine = EngineLimits(
        threads=settings.attribution_threads, memory_limit_mb=settings.attribution_memory_mb
    )
    limits = AttributionLimits(
        max_channels=settings.attribution_max_channels,
        max_touches_per_journey=settings.attribution_max_touches_per_journey,
        max_wait_s=settings.attribution_max_wait_s,
    )
    platform = open_platform(settings)
    migrate_identity(platform.database)
    identities = IdentityReader(SqlPolicySource(platform.database))
    log = LakeJourneyLog(LakeEventTables(settings.lake_path, engine), identities)
    analyses = Analyses(settings.attribution_at_once, settings.attribution_in_line)

    async def stop() -> None:
        analyses.close()

    name = pb.DESCRIPTOR.services_by_name["AttributionService"].full_name
    return Application(
        service="attribution",
        settings=settings,
        platform=platform,
        servicers=[
            Servicer(
                name,
                AttributionServicer(log, limits, analyses),
                rpc.add_AttributionServiceServicer_to_server,
            )
        ],
        stop=stop,
    )
