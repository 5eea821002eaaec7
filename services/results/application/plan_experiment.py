"""Plan an experiment from the project's own history."""

from dataclasses import dataclass, replace

import numpy as np

from services.results.application.find_metric import get_metric
from services.results.domain.measure import Measure
from services.results.domain.metric import Metric
from services.results.domain.planning import Forecast, Past, Population, Split, Wanted, forecasts
from services.results.ports import ExperimentSource, HistorySource, MetricReader


@dataclass(frozen=True, slots=True)
class PlanExperiment:
    """Which metrics, from which history (a population or the id of an experiment), and how.

    What can be found is asked with `wanted.units` or with `days`; 0: not asked.
    """

    project: str
    metric_ids: tuple[str, ...]
    history: Population | str
    split: Split
    wanted: Wanted
    days: int = 0


@dataclass(frozen=True, slots=True)
class Histories:
    """Where experiments, definitions and history come from."""

    experiments: ExperimentSource
    metrics: MetricReader
    history: HistorySource


@dataclass(frozen=True, slots=True)
class Planned:
    """The history, how many units were planned with (0: not asked), and every metric."""

    past: Past
    units: int
    forecasts: tuple[Forecast, ...]


def plan_experiment(command: PlanExperiment, sources: Histories) -> Planned:
    """Every metric of the command, in its order.

    NOT_FOUND for a metric or an experiment that the project does not have. A metric with a window
    is read of the units whose window is over: of the others only a part is known.
    """
    with sources.metrics.read() as store:
        metrics = [get_metric(command.project, one, store) for one in command.metric_ids]
    past = _past(command, metrics, sources)
    units = command.wanted.units or (past.units_in(command.days) if command.days else 0)
    wanted = replace(command.wanted, units=units)
    # Numbers beyond a double become infinite and are reported as such, not warned about.
    with np.errstate(all="ignore"):
        return Planned(past, units, tuple(forecasts(metrics, past, command.split, wanted)))


def _past(command: PlanExperiment, metrics: list[Metric], sources: Histories) -> Past:
    measures = [complete(metric.definition.measure) for metric in metrics]
    history = command.history
    if isinstance(history, Population):
        return sources.history.of_population(command.project, history, measures)
    plan = sources.experiments.experiment(command.project, history)
    return sources.history.of_experiment(command.project, plan, measures)


def complete(measure: Measure) -> Measure:
    """The measure of those units only whose window is over."""
    return measure if measure.window is None else replace(measure, complete_only=True)
