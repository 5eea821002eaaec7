"""Which adapters the results service runs on."""

from collections.abc import Callable
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
from shared.lake.snapshot import EngineLimits, LakeEventTables
from shared.mutations import Mutations
from shared.server.channel import open_channel
from shared.server.platform import open_platform
from shared.server.run import Application, Servicer


def compose(settings: Settings) -> Application:
    """The results service over the state, the event tables and the assignment service."""
    platform = open_platform(settings)
    migrate_metrics(platform.database)
    migrate_plans(platform.database)
    migrate_identity(platform.database)
    engine = EngineLimits(
        threads=settings.results_threads, memory_limit_mb=settings.results_memory_mb
    )
    channel = open_channel(settings.address("assignment"), settings.client_tls)
    reader = SqlMetricReader(platform.database)
    mutations = Mutations(platform.database, platform.audit_keys, platform.clock)
    writer, experiments = SqlMetricWriter(mutations), GrpcExperimentSource(channel)
    plans = Plans(
        experiments=experiments,
        reader=SqlPlanReader(platform.database),
        writer=SqlPlanWriter(mutations),
        clock=platform.clock,
    )
    identities = IdentityReader(SqlPolicySource(platform.database))
    tables = LakeEventTables(settings.lake_path, engine)
    sources = Sources(
        experiments=experiments,
        plans=plans.reader,
        metrics=reader,
        moments=LakeMoments(tables, identities),
        clock=platform.clock,
        prior=LiftPrior(settings.results_prior_mean, settings.results_prior_std_dev),
    )

    beside = Beside(experiments, LakeCrossed(tables, identities))
    histories = Histories(experiments, reader, LakeHistory(tables, identities))
    analyses = Analyses(settings.results_at_once, settings.results_in_line)

    async def stop() -> None:
        analyses.close()
        channel.close()

    return Application(
        service="results",
        settings=settings,
        platform=platform,
        servicers=[
            _serving(
                metric_service_pb2,
                MetricServicer(reader, writer, platform.clock),
                metric_service_pb2_grpc.add_MetricServiceServicer_to_server,
            ),
            _serving(
                analysis_plan_service_pb2,
                AnalysisPlanServicer(plans),
                analysis_plan_service_pb2_grpc.add_AnalysisPlanServiceServicer_to_server,
            ),
            _serving(
                planning_service_pb2,
                PlanningServicer(histories, analyses),
                planning_service_pb2_grpc.add_PlanningServiceServicer_to_server,
            ),
            _serving(
                bandit_service_pb2,
                BanditServicer(
                    Computing(sources, GrpcBandits(channel), analyses, settings.results_max_wait_s)
                ),
                bandit_service_pb2_grpc.add_BanditServiceServicer_to_server,
            ),
            _serving(
                evaluation_service_pb2,
                EvaluationServicer(sources, beside, analyses, settings.results_max_wait_s),
                evaluation_service_pb2_grpc.add_EvaluationServiceServicer_to_server,
            ),
            _serving(
                export_service_pb2,
                ExportServicer(sources, analyses, settings.results_max_wait_s),
                export_service_pb2_grpc.add_ExportServiceServicer_to_server,
            ),
            _serving(
                results_service_pb2,
                ResultsServicer(sources, analyses, settings.results_max_wait_s),
                results_service_pb2_grpc.add_ResultsServiceServicer_to_server,
            ),
        ],
        stop=stop,
    )


def _serving(contract: ModuleType, servicer: Any, add: Callable[[Any, Any], None]) -> Servicer:
    """The one service of a contract."""
    (service,) = contract.DESCRIPTOR.services_by_name.values()
    return Servicer(service.full_name, servicer, add)
