"""What keeps and serves the credits behind reports, over the parts that the service shares."""

from dataclasses import dataclass

from touchstone.attribution.v1 import score_service_pb2, score_service_pb2_grpc

from services.attribution.adapters.kept_scores import KeptScoreFiles, ScoresRoom
from services.attribution.adapters.score_files import csv_parts, with_digest
from services.attribution.api.scores import ScoreFiles, ScoreServicer, score_places
from services.attribution.limits import AttributionLimits
from services.attribution.ports import JourneyLog, Reports
from services.attribution.settings import Settings
from services.attribution.wire.reports import encode_report
from shared.lake.analyses import Analyses
from shared.lake.removal_upkeep import RemovalUpkeep
from shared.server.places import StreamPlaces
from shared.server.run import Servicer


@dataclass(frozen=True, slots=True)
class Scoring:
    """Where credits are kept, and the places of those who read them."""

    kept: KeptScoreFiles
    places: StreamPlaces
    upkeep: RemovalUpkeep

    def servicer(
        self, reports: Reports, log: JourneyLog, limits: AttributionLimits, analyses: Analyses
    ) -> Servicer:
        """ScoreService."""
        files = ScoreFiles(csv_parts, with_digest)
        servicer = ScoreServicer(reports, log, limits, analyses, self.kept, files, self.places)
        (service,) = score_service_pb2.DESCRIPTOR.services_by_name.values()
        add = score_service_pb2_grpc.add_ScoreServiceServicer_to_server
        return Servicer(service.full_name, servicer, add)


def scoring(settings: Settings, reports: Reports, limits: AttributionLimits) -> Scoring:
    """The credits that are kept below the data folder."""

    def is_report(project: str, report_id: str, digest: str) -> bool:
        with reports.read() as store:
            stored = store.get(project, report_id)
        return stored is not None and encode_report(stored).digest == digest

    room = ScoresRoom(
        settings.scores_path,
        settings.lake_path,
        settings.attribution_scores_mb * 1_000_000,
        limits.credits_per_message,
    )
    kept = KeptScoreFiles(room, is_report)
    places = score_places(settings.attribution_score_streams)
    return Scoring(kept, places, RemovalUpkeep(kept, "kept credits"))
