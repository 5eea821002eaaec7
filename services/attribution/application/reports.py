"""Reports: attribution that is computed once and kept."""

from dataclasses import dataclass

from services.attribution.application.get_attribution import (
    Attribution,
    Progress,
    attribution_of,
)
from services.attribution.application.questions import Question, cut_journeys
from services.attribution.application.reporting import Reporting
from services.attribution.domain.journeys_digest import journeys_digest
from services.attribution.domain.paths.table import PathOrder, TopPaths, top_paths
from services.attribution.limits import AttributionLimits, KeptLimits, require_room
from services.attribution.ports import HowRead, JourneyLog, ReportStore, StoredReport
from shared import errors
from shared.resource_names import resource_name

COLLECTION = "attributionReports"
MOST_PATHS = 1_000
MIN_UNITS = 50
RETRY_S = 30.0


@dataclass(frozen=True, slots=True)
class RunReport:
    """What to compute, and what to tell beside it of channels and paths."""

    question: Question
    reporting: Reporting


@dataclass(frozen=True, slots=True)
class Found:
    """What a report holds; `credits` counts those of one model, `how` says how events were read."""

    attribution: Attribution
    paths: TopPaths
    credits: int
    journeys_digest: str
    how: HowRead | None = None


def report_name(project: str, report_id: str) -> str:
    """The resource name of a report."""
    return resource_name(project, COLLECTION, report_id)


def find_report(project: str, report_id: str, store: ReportStore) -> StoredReport:
    """The report; NOT_FOUND when the project has none of this id."""
    found = store.get(project, report_id)
    if found is None:
        raise errors.not_found("report", report_name(project, report_id))
    return found


def require_room_for_report(
    project: str, unfinished: int, store: ReportStore, limits: KeptLimits
) -> None:
    """Refuse one more report: RESOURCE_EXHAUSTED, with a delay where some are not finished."""
    most = limits.max_unfinished_reports
    if unfinished >= most:
        raise errors.overloaded(
            f"{unfinished} reports of the project are computed or wait for it, and at most {most} "
            "may; begin this one when some have ended, or cancel some",
            RETRY_S,
        )
    require_room("reports", store.count(project) + unfinished, 1, limits.max_reports)


def delete_report(project: str, report_id: str, store: ReportStore) -> None:
    """Delete the report; NOT_FOUND when the project has none of this id."""
    if not store.delete(project, report_id):
        raise errors.not_found("report", report_name(project, report_id))


def run_report(
    command: RunReport, log: JourneyLog, limits: AttributionLimits, progress: Progress
) -> Found:
    """Compute what a report holds."""
    progress.reading()
    cut = cut_journeys(command.question, log, limits, identified=False)
    attribution = attribution_of(cut, command.question.models, command.reporting, progress)
    progress.paths()
    least = command.reporting.min_units
    hidden = attribution.hidden.hidden
    paths = top_paths(cut.journeys, MOST_PATHS, PathOrder.CONVERSIONS, least, hidden)
    credits_ = len(cut.journeys.converting_codes)
    return Found(attribution, paths, credits_, journeys_digest(cut.journeys), cut.events.how)
