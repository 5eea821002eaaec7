"""Split units of the past at random, and see how often a difference is found."""

from dataclasses import dataclass

from touchstone_statistics.aa import AASimulation

from services.results.application.find_metric import get_metric
from services.results.application.plan_experiment import Histories, complete
from services.results.domain.measure import MetricKind
from services.results.domain.metric import Metric
from services.results.domain.null_experiment import NullExperiment, UnitRows
from services.results.domain.observation import ExperimentPlan
from services.results.domain.planning import Population
from shared.errors import invalid


@dataclass(frozen=True, slots=True)
class SimulateNullExperiment:
    """Which metric, of which units (a population or the id of an experiment), and how."""

    project: str
    metric_id: str
    history: Population | str
    experiment: NullExperiment


@dataclass(frozen=True, slots=True, eq=False)
class Simulated:
    """What was split, and what was found."""

    metric: Metric
    units: UnitRows
    found: AASimulation
    calibrated: bool


def simulate_null_experiment(command: SimulateNullExperiment, sources: Histories) -> Simulated:
    """The simulation of the command.

    NOT_FOUND for a metric or an experiment that the project does not have, INVALID_ARGUMENT for a
    quantile. A metric with a window is read of the units whose window is over.
    """
    with sources.metrics.read() as store:
        metric = get_metric(command.project, command.metric_id, store)
    if metric.definition.kind is MetricKind.QUANTILE:
        raise invalid("metric", metric.metric_id, "a metric of any kind but QUANTILE")
    measure = complete(metric.definition.measure)
    history: Population | ExperimentPlan
    if isinstance(command.history, Population):
        history = command.history
    else:
        history = sources.experiments.experiment(command.project, command.history)
    experiment = command.experiment
    units = sources.history.rows(command.project, history, measure, experiment.most_units)
    found = experiment.simulated(measure, units)
    return Simulated(metric, units, found, experiment.calibrated(found))
