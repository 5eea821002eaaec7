"""Which adapters the results service runs on."""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from touchstone.results.v1 import (
    analysis_plan_service_pb2,
    analysis_plan_service_pb2_grpc,
    bandit_service_pb2,
    bandit_service_pb2_grpc,
    evaluation_service_pb2,
    evaluation_service_pb2_grpc,
    export_service_pb2,
    export_service_pb2_grpc,
    metric_service_pb2,
    metric_service_pb2_grpc,
    planning_service_pb2,
    planning_service_pb2_grpc,
    results_service_pb2,
    results_service_pb2_grpc,
)
from touchstone_statistics.bayes import LiftPrior

from services.results.adapters.assignment import GrpcExperimentSource
from services.results.adapters.bandits import GrpcBandits
from services.results.adapters.history import LakeHistory
from services.results.adapters.lake import LakeMoments
from services.results.adapters.lake.crossed import LakeCrossed
from services.results.adapters.live import LiveMoments
from services.results.adapters.live.shelf import Shelf, ShelfLimits
from services.results.adapters.plans_sql import SqlPlanReader, SqlPlanWriter, migrate_plans
from services.results.adapters.sql import SqlMetricReader, SqlMetricWriter, migrate_metrics
from services.results.api.analysis_plans import AnalysisPlanServicer, Plans
from services.results.api.bandits import BanditServicer, Computing
from services.results.api.evaluations import EvaluationServicer
from services.results.api.exports import ExportServicer
from services.results.api.metrics import MetricServicer
from services.results.api.planning import PlanningServicer
from services.results.api.results import ResultsServicer
from services.results.application.get_interactions import Beside
from services.results.application.get_results import Sources
from services.results.application.plan_experiment import Histories
from services.results.settings import Settings
from shared.identity.reader import IdentityReader
from shared.identity.store import SqlPolicySource, migrate_identity
from shared.lake.analyses import Analyses
from shared.lake.removal_upkeep import RemovalUpkeep
from shared.lake.snapshot import EngineLimits, LakeEventTables
from shared.mutations import Mutations
from shared.server.channel import open_channel
from shared.server.platform import open_platform
from shared.server.run import Application, Platform, Servicer


def compose(settings: Settings) -> Application:
    """The results service over the state, the event tables and the assignment service."""
    platform = open_platform(settings)
    for migrate in (migrate_metrics, migrate_plans, migrate_identity):
        migrate(platform.database)
    engine = EngineLimits(
        threads=settings.results_threads, memory_limit_mb=settings.results_memory_mb
    )
    channel = open_channel(settings.address("assignment"), settings.client_tls)
    reader = SqlMetricReader(platform.database)
    mutations = Mutations(platform.database, platform.audit_keys, platform.clock)
    plans = _plans(platform, mutations, GrpcExperimentSource(channel))
    identities = IdentityReader(SqlPolicySource(platform.database))
    tables = LakeEventTables(settings.lake_path, engine)
    kept = ShelfLimits(settings.results_states_mb * 1_000_000, engine=engine)
    shelf = Shelf(settings.states_path, settings.lake_path, kept)
    from_tables = LakeMoments(tables, identities)
    sources = Sources(
        experiments=plans.experiments,
        plans=plans.reader,
        metrics=reader,
        moments=LiveMoments(from_tables, shelf) if settings.results_states_mb else from_tables,
        clock=platform.clock,
        prior=LiftPrior(settings.results_prior_mean, settings.results_prior_std_dev),
    )
    histories = Histories(plans.experiments, reader, LakeHistory(tables, identities))
    analyses = Analyses(settings.results_at_once, settings.results_in_line)
    upkeep = RemovalUpkeep(shelf, "states of results")

    async def stop() -> None:
        await upkeep.stop()
        analyses.close()
        channel.close()
        shelf.close()

    bandits, wait_s = GrpcBandits(channel), settings.results_max_wait_s
    metrics = SqlMetricWriter(mutations)
    beside = Beside(GrpcExperimentSource(channel), LakeCrossed(tables, identities))
    served = Served(sources, plans, metrics, histories, beside, bandits, analyses, wait_s)
    return Application(
        service="results",
        settings=settings,
        platform=platform,
        servicers=_servicers(served),
        start=upkeep.start,
        stop=stop,
    )


def _plans(platform: Platform, mutations: Mutations, experiments: GrpcExperimentSource) -> Plans:
    return Plans(
        experiments=experiments,
        reader=SqlPlanReader(platform.database),
        writer=SqlPlanWriter(mutations),
        clock=platform.clock,
    )


@dataclass(frozen=True, slots=True)
class Served:
    """What the servicers of the service share."""

    sources: Sources
    plans: Plans
    metrics: SqlMetricWriter
    histories: Histories
    beside: Beside
    bandits: GrpcBandits
    analyses: Analyses
    longest_wait_s: float


def _servicers(served: Served) -> list[Servicer]:
    sources, analyses, wait_s = served.sources, served.analyses, served.longest_wait_s
    return [
        _serving(
            metric_service_pb2,
            MetricServicer(sources.metrics, served.metrics, sources.clock),
            metric_service_pb2_grpc.add_MetricServiceServicer_to_server,
        ),
        _serving(
            analysis_plan_service_pb2,
            AnalysisPlanServicer(served.plans),
            analysis_plan_service_pb2_grpc.add_AnalysisPlanServiceServicer_to_server,
        ),
        _serving(
            planning_service_pb2,
            PlanningServicer(served.histories, analyses),
            planning_service_pb2_grpc.add_PlanningServiceServicer_to_server,
        ),
        _serving(
            bandit_service_pb2,
            BanditServicer(Computing(sources, served.bandits, analyses, wait_s)),
            bandit_service_pb2_grpc.add_BanditServiceServicer_to_server,
        ),
        _serving(
            evaluation_service_pb2,
            EvaluationServicer(sources, served.beside, analyses, wait_s),
            evaluation_service_pb2_grpc.add_EvaluationServiceServicer_to_server,
        ),
        _serving(
            export_service_pb2,
            ExportServicer(sources, analyses, wait_s),
            export_service_pb2_grpc.add_ExportServiceServicer_to_server,
        ),
        _serving(
            results_service_pb2,
            ResultsServicer(sources, analyses, wait_s),
            results_service_pb2_grpc.add_ResultsServiceServicer_to_server,
        ),
    ]


def _serving(contract: ModuleType, servicer: Any, add: Callable[[Any, Any], None]) -> Servicer:
    """The one service of a contract."""
    (service,) = contract.DESCRIPTOR.services_by_name.values()
    return Servicer(service.full_name, servicer, add)
