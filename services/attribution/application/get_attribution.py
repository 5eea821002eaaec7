"""Credit channels by one or several models over the same journeys."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from services.attribution.application.questions import CutJourneys, Question, cut_journeys
from services.attribution.application.reporting import (
    PLAIN,
    OrderTaken,
    Reporting,
    Units,
    fitted,
    named_units,
    settle,
    thin_figures,
)
from services.attribution.application.unseen_names import unseen_names
from services.attribution.domain.bootstrap.models import (
    DrawnUnits,
    Resampled,
    resample_models,
)
from services.attribution.domain.held_out.models import ModelFit, Observation
from services.attribution.domain.journey_statistics import JourneyStatistics, measure
from services.attribution.domain.journeys import Journeys
from services.attribution.domain.milestones import JourneyMilestones
from services.attribution.domain.models import EVERY_MODEL, AskedModel, Markov, Model
from services.attribution.domain.reported import (
    HiddenChannels,
    ReportedTable,
    hide_channels,
    reported_tables,
)
from services.attribution.domain.sufficiency import DataWarning, data_warnings, thin_warnings
from services.attribution.domain.thinness import ThinFigure, thin_states
from services.attribution.domain.totals import ModelTotals, model_totals
from services.attribution.limits import AttributionLimits
from services.attribution.ports import JourneyLog
from shared.lake.interruption import require_wanted


@dataclass(frozen=True, slots=True)
class GetAttribution:
    """A question to answer by its models; no model means every model by default."""

    question: Question
    reporting: Reporting = PLAIN


@dataclass(frozen=True, slots=True)
class Attribution:
    """What the models say of the same journeys, in the order asked for.

    `tables` are of all channels; `told` are the same with what may be told of them, and `hidden`
    says which channels may not be told of alone. `currencies` are those of values and costs.
    """

    statistics: JourneyStatistics
    tables: tuple[ModelTotals, ...]
    told: tuple[ReportedTable, ...]
    hidden: HiddenChannels
    fits: tuple[ModelFit, ...]
    orders: dict[Model, OrderTaken]
    warnings: tuple[DataWarning, ...]
    watermark: str
    watermark_time: dt.datetime | None
    identity_version: str
    reporting: Reporting = PLAIN
    currencies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """Told before each part of the work: how many models are done. It may end the work by raising.

    `reading` and `paths` are the parts before and after the models.
    """

    reading: Callable[[], None] = lambda: None
    model: Callable[[int], None] = lambda _: None
    intervals: Callable[[], None] = lambda: None
    held_out: Callable[[], None] = lambda: None
    paths: Callable[[], None] = lambda: None


WHILE_WANTED = Progress(
    model=lambda _: require_wanted(), intervals=require_wanted, held_out=require_wanted
)
"""Ends the work of a caller that is gone."""


def get_attribution(
    command: GetAttribution, log: JourneyLog, limits: AttributionLimits
) -> Attribution:
    """Answer by every model asked for. A model that is asked for twice is answered once."""
    cut = cut_journeys(command.question, log, limits, identified=False)
    return attribution_of(cut, command.question.models, command.reporting)


def attribution_of(
    cut: CutJourneys,
    asked: tuple[AskedModel, ...],
    reporting: Reporting = PLAIN,
    progress: Progress = WHILE_WANTED,
) -> Attribution:
    """What the models say of the journeys of the log."""
    progress.model(0)
    units = named_units(cut, reporting)
    settled = settle(asked or EVERY_MODEL, cut.journeys, units)
    statistics = measure(
        cut.paths.touches,
        cut.journeys,
        settled.models,
        cut.start_us,
        cut.milestones,
        cut.paths.whole,
    )
    found = Computed(
        cut.journeys,
        statistics,
        settled.models,
        units,
        Observation(_newest_us(cut.journeys), cut.lookback_us),
        cut.milestones,
        cut.events.currencies,
        settled.orders,
    )
    told = told_attribution(
        found,
        reporting,
        progress,
        (cut.events.watermark, cut.events.watermark_time, cut.events.identity_version),
    )
    return replace(told, warnings=(*unseen_names(cut, settled.models), *told.warnings))


@dataclass(frozen=True, slots=True)
class Computed:
    """Journeys and what was counted in them, ready for the models."""

    journeys: Journeys
    statistics: JourneyStatistics
    models: tuple[Model, ...]
    units: Units
    observed: Observation
    milestones: JourneyMilestones | None = None
    currencies: tuple[str, ...] = ()
    orders: dict[Model, OrderTaken] = field(default_factory=dict)


def told_attribution(
    found: Computed,
    reporting: Reporting,
    progress: Progress,
    cut: tuple[str, dt.datetime | None, str],
) -> Attribution:
    """Compute the models, their intervals and fits, and what may be told of them."""
    tables: list[tuple[ModelTotals, ...]] = []
    for done, model in enumerate(found.models):
        progress.model(done)
        tables.append(model_totals(model, found.statistics, found.journeys))
    by_channel = found.statistics.by_channel
    hidden = hide_channels(found.journeys, by_channel, reporting.min_units)
    drawn = _drawn(found, reporting, hidden, progress)
    progress.held_out()
    fits = fitted(found.models, found.units, found.observed, reporting)
    told = tuple(
        row
        for own, replicates in zip(tables, drawn, strict=True)
        for row in reported_tables(own, replicates, hidden, by_channel.costs)
    )
    thin = thin_warnings((*_states(found), *thin_figures(told, fits)))
    watermark, watermark_time, identity_version = cut
    return Attribution(
        statistics=found.statistics,
        tables=tuple(table for own in tables for table in own),
        told=told,
        hidden=hidden,
        fits=fits,
        orders=found.orders,
        warnings=(*data_warnings(found.statistics, found.currencies, hidden), *thin),
        watermark=watermark,
        watermark_time=watermark_time,
        identity_version=identity_version,
        reporting=reporting,
        currencies=found.currencies,
    )


def _drawn(
    found: Computed, reporting: Reporting, hidden: HiddenChannels, progress: Progress
) -> tuple[Resampled | None, ...]:
    """What replicates say of each model; None where none are asked for."""
    if reporting.resampling is None:
        return (None,) * len(found.models)
    progress.intervals()
    units = DrawnUnits(reporting.resampling, found.units.keys, reporting.most_s, progress.intervals)
    return resample_models(found.models, found.journeys, found.milestones, units, hidden.hidden)


def _states(found: Computed) -> tuple[ThinFigure, ...]:
    """Which chains of a higher order have too many states."""
    thin: list[ThinFigure] = []
    converting = found.statistics.counts.converting
    for model in found.models:
        if isinstance(model, Markov) and model.order > 1:
            one, other = found.statistics.chains[model.order]
            states = (one if model.ignore_non_converting else one + other).state_count
            thin.extend(thin_states(f"markov_{model.order}", states, converting))
    return tuple(thin)


def _newest_us(journeys: Journeys) -> int:
    """The time of the newest touch or conversion, in microseconds."""
    return int(np.concatenate([[0], journeys.times, journeys.conversion_times]).max())
