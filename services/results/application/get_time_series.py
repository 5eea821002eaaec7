"""Compute how an experiment stood at the end of each day."""

from dataclasses import dataclass, replace

import numpy as np

from services.results.application.get_results import GetResults, Sources, asked_about
from services.results.application.reporting import rule_of
from services.results.domain.daily import TimeSeries
from services.results.domain.exact import Sums
from services.results.domain.observation import ExperimentPlan
from services.results.domain.reading.days import Course, course
from services.results.domain.reading.report import Asked, Failure
from services.results.domain.reading.single_look import without_looks

NO_DAYS = Failure(
    "FAILED_PRECONDITION",
    "TOO_LITTLE_DATA",
    "it does not add up from day to day, or nothing was seen yet",
)

NO_CLUSTERS = Failure(
    "FAILED_PRECONDITION",
    "NOT_FOR_CLUSTERS",
    "days are not read by clusters of units, which the analysis plan names",
)


@dataclass(frozen=True, slots=True, eq=False)
class Courses:
    """Every metric by day, or why it has no days."""

    plan: ExperimentPlan
    series: TimeSeries
    alpha: float
    metrics: tuple[tuple[Asked, Course | Failure], ...]


def get_time_series(command: GetResults, sources: Sources) -> Courses:
    """Every metric at the end of each day, from one cut of the event log. Takes no look."""
    question, stored, asked = asked_about(command, sources)
    clustered = question.clustering is not None
    series = sources.moments.observe_by_day(replace(question, clustering=None))
    alpha = stored.plan.alpha if command.alpha is None else command.alpha
    rule = without_looks(rule_of(question.plan, stored.plan))
    made: list[tuple[Asked, Course | Failure]] = []
    with np.errstate(all="ignore"):
        for index, (one, measure) in enumerate(zip(asked, question.measures, strict=True)):
            days = [sums for day in series.days if isinstance(sums := day.sums[index], Sums)]
            if clustered:
                made.append((one, NO_CLUSTERS))
            elif not days or len(days) < len(series.days):
                made.append((one, NO_DAYS))
            else:
                made.append((one, course(rule, alpha, measure, days, question.plan)))
    return Courses(question.plan, series, alpha, tuple(made))
