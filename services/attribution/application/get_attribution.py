"""Credit channels by one or several models over the same journeys."""

import datetime as dt
from dataclasses import dataclass

from services.attribution.application.questions import Question, cut_journeys
from services.attribution.domain.journey_statistics import JourneyStatistics, measure
from services.attribution.domain.models import EVERY_MODEL
from services.attribution.domain.sufficiency import DataWarning, data_warnings
from services.attribution.domain.totals import ModelTotals, model_totals
from services.attribution.limits import AttributionLimits
from services.attribution.ports import JourneyLog


@dataclass(frozen=True, slots=True)
class GetAttribution:
    """A question to answer by its models; no model means every model by default."""

    question: Question


@dataclass(frozen=True, slots=True)
class Attribution:
    """What the models say of the same journeys, in the order asked for."""

    statistics: JourneyStatistics
    tables: tuple[ModelTotals, ...]
    warnings: tuple[DataWarning, ...]
    watermark: str
    watermark_time: dt.datetime | None
    identity_version: str


def get_attribution(
    command: GetAttribution, log: JourneyLog, limits: AttributionLimits
) -> Attribution:
    """Answer by every model asked for. A model that is asked for twice is answered once."""
    cut = cut_journeys(command.question, log, limits, identified=False)
    models = tuple(dict.fromkeys(command.question.models or EVERY_MODEL))
    statistics = measure(cut.events.touches, cut.journeys, models, cut.start_us, cut.milestones)
    return Attribution(
        statistics=statistics,
        tables=tuple(
            table for model in models for table in model_totals(model, statistics, cut.journeys)
        ),
        warnings=data_warnings(statistics, cut.events.currencies),
        watermark=cut.events.watermark,
        watermark_time=cut.events.watermark_time,
        identity_version=cut.events.identity_version,
    )
