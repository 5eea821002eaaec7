"""Which adapters the attribution service runs on."""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Semaphore
from types import ModuleType
from typing import Any

from opentelemetry import metrics
from touchstone.attribution.v1 import (
    attribution_service_pb2,
    attribution_service_pb2_grpc,
    economics_service_pb2,
    economics_service_pb2_grpc,
    path_service_pb2,
    path_service_pb2_grpc,
    referral_service_pb2,
    referral_service_pb2_grpc,
    report_service_pb2,
    report_service_pb2_grpc,
    scenario_service_pb2,
    scenario_service_pb2_grpc,
    spend_service_pb2,
    spend_service_pb2_grpc,
)

from services.attribution.adapters.instruments import (
    FAILING,
    KEPT,
    LAG,
    STREAMS,
    WAITING,
    ReportAttempts,
    failing_schedules,
    kept_bytes,
    schedule_lag,
    show,
    waiting_reports,
)
from services.attribution.adapters.kept import KeptJourneyLog
from services.attribution.adapters.kept.files import KeptFiles
from services.attribution.adapters.lake import LakeJourneyLog
from services.attribution.adapters.only_process import is_only_process
from services.attribution.adapters.referrals_lake import LakeReferralLog
from services.attribution.adapters.reports_sql import SqlReports, migrate_attribution
from services.attribution.adapters.spend_sql import SqlLedger, migrate_spend
from services.attribution.api.attribution import AttributionServicer
from services.attribution.api.budget import BudgetEvidence
from services.attribution.api.economics import EconomicsServicer
from services.attribution.api.kept_calibration import KeptCalibration
from services.attribution.api.paths import PathServicer
from services.attribution.api.referrals import ReferralServicer
from services.attribution.api.reports import KIND, ReportRun, ReportServicer
from services.attribution.api.scenario import ScenarioServicer
from services.attribution.api.spend import SpendServicer
from services.attribution.application.scenario_measurements import Comparisons
from services.attribution.calibration_composition import Shared, calibration, kept_calibration
from services.attribution.limits import AttributionLimits, KeptLimits
from services.attribution.ports import JourneyLog
from services.attribution.schedule_composition import Scheduling, kept_groupings, scheduling
from services.attribution.score_composition import Scoring, scoring
from services.attribution.settings import Settings
from shared.identity.reader import IdentityReader
from shared.identity.store import SqlPolicySource, migrate_identity
from shared.lake.analyses import Analyses
from shared.lake.removal_upkeep import RemovalUpkeep
from shared.lake.snapshot import EngineLimits, LakeEventTables
from shared.mutations import Mutations
from shared.operations.runner import OperationRunner
from shared.operations.servicer import operations_servicer
from shared.operations.store import migrate_operations
from shared.server.platform import open_platform
from shared.server.run import Application, Platform, Servicer
from shared.state.database import Database


def compose(settings: Settings) -> Application:
    """The attribution service over the event tables of the settings."""
    limits = _limits(settings)
    platform = open_platform(settings)
    for migrate in (migrate_identity, migrate_operations, migrate_attribution, migrate_spend):
        migrate(platform.database)
    log = _log(settings, platform.database)
    analyses = Analyses(settings.attribution_at_once, settings.attribution_in_line)
    mutations = Mutations(platform.database, platform.audit_keys, platform.clock)
    reports = SqlReports(platform.database)
    of_reports, upkeep = _kept(settings, log)
    meter = metrics.get_meter("touchstone.attribution")
    counted, places = ReportAttempts(meter).counted, Semaphore(settings.attribution_reports_at_once)
    run = ReportRun(of_reports, limits, reports, platform.clock, counted, places)
    runner = _runner(settings, platform, run)
    groupings = kept_groupings(platform.database)
    clock, most = platform.clock, settings.kept_limits
    kept = ReportServicer(reports, mutations, runner, clock, platform.ids, groupings, most)
    scheduled = scheduling(platform, mutations, groupings, reports, runner, most)
    ledger = SqlLedger(platform.database)
    shared = Shared(log, limits, reports, ledger, mutations, analyses)
    calibrating, comparisons, results = kept_calibration(settings, platform, shared)
    scores = scoring(settings, reports, limits)
    life = _Life(scheduled, (upkeep, scores.upkeep), (analyses.close, results.close))
    _measure(meter, settings, platform, scores)
    return Application(
        service="attribution",
        settings=settings,
        platform=platform,
        servicers=[
            *_servicers(log, limits, analyses, kept, scores),
            _referring(_referral_log(settings, platform.database), limits, analyses),
            *scheduled.servicers,
            *_money(shared, kept, calibrating, most),
            _valuing(comparisons, analyses),
            calibration(platform, shared, calibrating, most),
            operations_servicer(platform, mutations, runner),
        ],
        start=life.start,
        stop=life.stop,
    )


@dataclass(frozen=True, slots=True)
class _Life:
    """What begins and ends with the service; `closed` is closed last."""

    scheduled: Scheduling
    upkeeps: tuple[RemovalUpkeep, ...]
    closed: tuple[Callable[[], None], ...]

    async def start(self) -> None:
        for upkeep in self.upkeeps:
            await upkeep.start()
        await self.scheduled.start()

    async def stop(self) -> None:
        await self.scheduled.stop()
        for upkeep in self.upkeeps:
            await upkeep.stop()
        for close in self.closed:
            close()


def _runner(settings: Settings, platform: Platform, run: ReportRun) -> OperationRunner:
    """What works on reports. On one machine it is known whether another process does."""
    alone = platform.database.is_sqlite and is_only_process(settings.data)
    kinds = [run.kind()]
    return OperationRunner(platform.database, platform.clock, platform.ids, kinds, sole=alone)


def _measure(meter: metrics.Meter, settings: Settings, platform: Platform, scores: Scoring) -> None:
    """Show the operator what waits, what is late and what is kept."""
    database, clock = platform.database, platform.clock
    folders = {"events": settings.kept_path, "scores": settings.scores_path}
    show(
        meter,
        {
            WAITING: lambda: waiting_reports(database, KIND),
            LAG: lambda: schedule_lag(database, clock),
            FAILING: lambda: failing_schedules(database),
            KEPT: lambda: kept_bytes(folders),
            STREAMS: lambda: [metrics.Observation(scores.places.taken)],
        },
    )


def _limits(settings: Settings) -> AttributionLimits:
    return AttributionLimits(
        max_channels=settings.attribution_max_channels,
        max_touches_per_journey=settings.attribution_max_touches_per_journey,
        max_wait_s=settings.attribution_max_wait_s,
    )


def _log(settings: Settings, database: Database) -> LakeJourneyLog:
    return LakeJourneyLog(_tables(settings), IdentityReader(SqlPolicySource(database)))


def _kept(settings: Settings, log: LakeJourneyLog) -> tuple[JourneyLog, RemovalUpkeep]:
    """The log that reports are read from, and what lets none of it outlive an erasure."""
    most_bytes = settings.attribution_kept_mb * 1_000_000
    files = KeptFiles(settings.kept_path, settings.lake_path, most_bytes)
    return KeptJourneyLog(log, files) if most_bytes else log, RemovalUpkeep(files, "kept events")


def _referral_log(settings: Settings, database: Database) -> LakeReferralLog:
    return LakeReferralLog(_tables(settings), IdentityReader(SqlPolicySource(database)))


def _tables(settings: Settings) -> LakeEventTables:
    engine = EngineLimits(
        threads=settings.attribution_threads, memory_limit_mb=settings.attribution_memory_mb
    )
    return LakeEventTables(settings.lake_path, engine)


def _referring(log: LakeReferralLog, limits: AttributionLimits, analyses: Analyses) -> Servicer:
    return _serving(
        referral_service_pb2,
        ReferralServicer(log, limits, analyses),
        referral_service_pb2_grpc.add_ReferralServiceServicer_to_server,
    )


def _servicers(
    log: JourneyLog,
    limits: AttributionLimits,
    analyses: Analyses,
    kept: ReportServicer,
    scores: Scoring,
) -> list[Servicer]:
    """The services of the contract."""
    return [
        _serving(
            attribution_service_pb2,
            AttributionServicer(
                log, limits, analyses, kept.groupings, (scores.kept, scores.places)
            ),
            attribution_service_pb2_grpc.add_AttributionServiceServicer_to_server,
        ),
        _serving(
            path_service_pb2,
            PathServicer(log, limits, analyses, kept.groupings),
            path_service_pb2_grpc.add_PathServiceServicer_to_server,
        ),
        _serving(
            report_service_pb2,
            kept,
            report_service_pb2_grpc.add_ReportServiceServicer_to_server,
        ),
        scores.servicer(kept.reports, log, limits, analyses),
    ]


def _valuing(comparisons: Comparisons, analyses: Analyses) -> Servicer:
    return _serving(
        scenario_service_pb2,
        ScenarioServicer(comparisons, analyses),
        scenario_service_pb2_grpc.add_ScenarioServiceServicer_to_server,
    )


def _money(
    shared: Shared, kept: ReportServicer, calibrating: KeptCalibration, most: KeptLimits
) -> list[Servicer]:
    """The services that set money against credit."""
    log, limits, analyses, ledger = shared.log, shared.limits, shared.analyses, shared.ledger
    evidence = BudgetEvidence(log, limits, calibrating)
    return [
        _serving(
            spend_service_pb2,
            SpendServicer(ledger, shared.mutations, most),
            spend_service_pb2_grpc.add_SpendServiceServicer_to_server,
        ),
        _serving(
            economics_service_pb2,
            EconomicsServicer(
                log, limits, analyses, kept.groupings, kept.reports, ledger, evidence
            ),
            economics_service_pb2_grpc.add_EconomicsServiceServicer_to_server,
        ),
    ]


def _serving(contract: ModuleType, servicer: Any, add: Callable[[Any, Any], None]) -> Servicer:
    """The one service of a contract."""
    (service,) = contract.DESCRIPTOR.services_by_name.values()
    return Servicer(service.full_name, servicer, add)
