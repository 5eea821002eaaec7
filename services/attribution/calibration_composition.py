"""Which adapters the calibration of reports runs on."""

from dataclasses import dataclass

import grpc
from touchstone.attribution.v1 import calibration_service_pb2, calibration_service_pb2_grpc

from services.attribution.adapters.calibration_lake import LakeExposures
from services.attribution.adapters.calibration_results import GrpcLifts
from services.attribution.adapters.calibration_sql import SqlLinks, migrate_calibration
from services.attribution.adapters.comparisons import GrpcComparisons
from services.attribution.api.calibration import CalibrationServicer
from services.attribution.api.kept_calibration import KeptCalibration
from services.attribution.application.calibration_tests import CalibrationSources
from services.attribution.limits import AttributionLimits, KeptLimits
from services.attribution.ports import JourneyLog, Reports
from services.attribution.settings import Settings
from services.attribution.spend_ports import Ledger
from shared.identity.reader import IdentityReader
from shared.identity.store import SqlPolicySource
from shared.lake.analyses import Analyses
from shared.lake.snapshot import EngineLimits, LakeEventTables
from shared.mutations import Mutations
from shared.server.channel import open_channel
from shared.server.run import Platform, Servicer


@dataclass(frozen=True, slots=True)
class Shared:
    """What calibration shares with the rest of the service."""

    log: JourneyLog
    limits: AttributionLimits
    reports: Reports
    ledger: Ledger
    mutations: Mutations
    analyses: Analyses


def kept_calibration(
    settings: Settings, platform: Platform, shared: Shared
) -> tuple[KeptCalibration, GrpcComparisons, grpc.Channel]:
    """What corrects reports, what reads comparisons, and the channel of both to the results
    service, to be closed at the end.
    """
    migrate_calibration(platform.database)
    address = settings.address("results")
    channel = open_channel(address, settings.client_tls)
    engine = EngineLimits(
        threads=settings.attribution_threads, memory_limit_mb=settings.attribution_memory_mb
    )
    tables = LakeEventTables(settings.lake_path, engine)
    identities = IdentityReader(SqlPolicySource(platform.database))
    lifts = GrpcLifts(channel, address)
    sources = CalibrationSources(
        log=shared.log,
        limits=shared.limits,
        exposures=LakeExposures(tables, identities),
        lifts=lifts,
    )
    links = SqlLinks(platform.database)
    kept = KeptCalibration(links, shared.reports, shared.ledger, sources)
    return kept, GrpcComparisons(lifts, tables), channel


def calibration(
    platform: Platform, shared: Shared, kept: KeptCalibration, most: KeptLimits
) -> Servicer:
    """The service."""
    servicer = CalibrationServicer(
        links=kept.links,
        mutations=shared.mutations,
        clock=platform.clock,
        kept=kept,
        analyses=shared.analyses,
        limits=most,
    )
    (service,) = calibration_service_pb2.DESCRIPTOR.services_by_name.values()
    add = calibration_service_pb2_grpc.add_CalibrationServiceServicer_to_server
    return Servicer(service.full_name, servicer, add)
