"""The credit of every touch of every conversion under one model."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from services.attribution.application.questions import CutJourneys, Question, cut_journeys
from services.attribution.application.reporting import PLAIN, named_units, settle
from services.attribution.domain.arrays import Floats, Integers
from services.attribution.domain.credits import model_weights, touch_values
from services.attribution.domain.data_driven import data_weights
from services.attribution.domain.models import DataModel, Model, RuleModel
from services.attribution.limits import AttributionLimits
from services.attribution.ports import JourneyLog
from shared.lake.interruption import require_wanted


@dataclass(frozen=True, slots=True)
class StreamCredits:
    """A question to answer by its one model; a Markov model gives its path credits."""

    question: Question


@dataclass(frozen=True, slots=True)
class CreditPage:
    """Columns of one length, a row a touch and conversion; times in microseconds, UTC."""

    conversion_ids: list[str]
    touch_ids: list[str]
    unit_ids: list[str]
    channels: list[str]
    touch_times: list[int]
    conversion_times: list[int]
    weights: list[float]
    values: list[float]


@dataclass(frozen=True, slots=True)
class Credits:
    """All credits of a question, ordered by unit, conversion and touch, and what they sum to."""

    pages: Iterator[CreditPage]
    count: int
    conversions: int
    value: float
    watermark: str
    watermark_time: dt.datetime | None
    identity_version: str


@dataclass(frozen=True, slots=True)
class ComputedCredits:
    """Every credit of a question, to be spelled out from any place on, as often as needed."""

    cut: CutJourneys
    weights: Floats
    page_size: int

    def credits(self, skip: int = 0) -> Credits:
        """All credits; the first `skip` are left out of the pages."""
        journeys, events = self.cut.journeys, self.cut.events
        return Credits(
            pages=_pages(self.cut, self.weights, self.page_size, skip),
            count=len(self.weights),
            conversions=journeys.converting,
            value=float(journeys.values.sum()),
            watermark=events.watermark,
            watermark_time=events.watermark_time,
            identity_version=events.identity_version,
        )


def stream_credits(command: StreamCredits, log: JourneyLog, limits: AttributionLimits) -> Credits:
    """Compute every credit now, and spell them out a page at a time as they are taken.

    Where the model is a rule, only units that convert are read: nobody else has a part in it.
    """
    question = command.question
    rules = all(isinstance(model, RuleModel) for model in question.models)
    alone = StreamCredits(replace(question, converting=rules))
    return computed_credits(alone, log, limits).credits()


def computed_credits(
    command: StreamCredits, log: JourneyLog, limits: AttributionLimits
) -> ComputedCredits:
    """Compute every credit."""
    cut = cut_journeys(command.question, log, limits, identified=True)
    require_wanted()
    units = named_units(cut, PLAIN)
    (model,) = settle(command.question.models, cut.journeys, units, path="model").models
    weights = touch_weights(model, cut)
    require_wanted()
    return ComputedCredits(cut, weights, limits.credits_per_message)


def touch_weights(model: Model, cut: CutJourneys) -> Floats:
    """The weight of each touch of the converting journeys under any model that divides them."""
    if isinstance(model, DataModel):
        return data_weights(model, cut.journeys)
    return model_weights(model, cut.journeys, cut.milestones)


def _pages(cut: CutJourneys, weights: Floats, size: int, skip: int) -> Iterator[CreditPage]:
    lengths = np.diff(cut.journeys.converting_offsets)
    journey_of_touch = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
    values = touch_values(weights, cut.journeys)
    for begin in range(skip, len(weights), size):
        part = slice(begin, min(begin + size, len(weights)))
        yield _page(cut, part, journey_of_touch[part], (weights[part], values[part]))


def _page(
    cut: CutJourneys, part: slice, journeys: Integers, amounts: tuple[Floats, Floats]
) -> CreditPage:
    conversion_rows = cut.journeys.conversion_rows[journeys]
    return CreditPage(
        conversion_ids=cut.events.conversion_ids.at(conversion_rows),
        touch_ids=cut.events.touch_ids.at(cut.journeys.touch_rows[part]),
        unit_ids=cut.events.unit_ids.at(conversion_rows),
        channels=[cut.journeys.channels[code] for code in cut.journeys.codes[part].tolist()],
        touch_times=cut.journeys.times[part].tolist(),
        conversion_times=cut.journeys.conversion_times[journeys].tolist(),
        weights=amounts[0].tolist(),
        values=amounts[1].tolist(),
    )
