"""Credit channels by one or several models over the same journeys."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

from services.attribution.application.questions import CutJourneys, Question, cut_journeys
from services.attribution.domain.journey_statistics import JourneyStatistics, measure
from services.attribution.domain.models import EVERY_MODEL, Model
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
    return attribution_of(cut, command.question.models)


def attribution_of(
    cut: CutJourneys, asked: tuple[Model, ...], tell: Callable[[int], None] = lambda _: None
) -> Attribution:
    """What the models say of the journeys; `tell` hears before each how many are done."""
    models = tuple(dict.fromkeys(asked or EVERY_MODEL))
    tell(0)
    statistics = measure(
        cut.paths.touches, cut.journeys, models, cut.start_us, cut.milestones, cut.paths.whole
    )
    tables: list[ModelTotals] = []
    for done, model in enumerate(models):
        tell(done)
        tables.extend(model_totals(model, statistics, cut.journeys))
    return Attribution(
        statistics=statistics,
        tables=tuple(tables),
        warnings=data_warnings(statistics, cut.events.currencies),
        watermark=cut.events.watermark,
        watermark_time=cut.events.watermark_time,
        identity_version=cut.events.identity_version,
    )
