"""The experiment and the metrics that a file needs: made when they are not there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.assignment.v1 import experiment_pb2
from touchstone.assignment.v1 import experiment_service_pb2 as experiments_pb
from touchstone.results.v1 import metric_pb2
from touchstone.results.v1 import metric_service_pb2 as metrics_pb

from services.cli.figures import enum_text
from services.cli.importing.cells import microseconds
from services.cli.importing.experiment_rows import MetricColumn
from services.cli.session import Session
from shared.errors import DomainError, failed_precondition

_State = experiment_pb2.Experiment


@dataclass(frozen=True, slots=True)
class WantedExperiment:
    """An experiment that was assigned elsewhere. `weights` and `titles` are by key; weights that
    the user did not name are not held against the experiment that is there.
    """

    experiment_id: str
    unit_type: str
    weights: Mapping[str, int]
    weights_named: bool
    titles: Mapping[str, str]
    control: str


def find_experiment(session: Session, experiment_id: str) -> experiment_pb2.Experiment | None:
    """The experiment, or None when the project has none of that id."""
    request = experiments_pb.GetExperimentRequest(name=session.name("experiments", experiment_id))
    try:
        return session.experiments.GetExperiment(request).experiment
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            return None
        raise


def adopt_experiment(
    session: Session, wanted: WantedExperiment
) -> experiment_pb2.Experiment | None:
    """The experiment that is there, started; None when there is none.

    Raises FAILED_PRECONDITION when the one that is there is another.
    """
    found = find_experiment(session, wanted.experiment_id)
    if found is None:
        return None
    _require_same(wanted, found)
    if found.state != _State.STATE_DRAFT:
        return found
    start = experiments_pb.StartExperimentRequest(name=found.name)
    return session.experiments.StartExperiment(start).experiment


def make_experiment(session: Session, wanted: WantedExperiment, start: Timestamp) -> None:
    """Makes the experiment, which began at `start`, and starts it."""
    session.experiments.CreateExperiment(
        experiments_pb.CreateExperimentRequest(
            parent=session.parent,
            experiment_id=wanted.experiment_id,
            experiment=_message(wanted, start),
        )
    )
    name = session.name("experiments", wanted.experiment_id)
    session.experiments.StartExperiment(experiments_pb.StartExperimentRequest(name=name))


def stop_experiment(session: Session, experiment_id: str) -> None:
    """Ends the experiment if it still runs: the file is of a finished one."""
    found = find_experiment(session, experiment_id)
    if found is not None and found.state in (_State.STATE_RUNNING, _State.STATE_PAUSED):
        session.experiments.StopExperiment(experiments_pb.StopExperimentRequest(name=found.name))


def ensure_metric(session: Session, metric: MetricColumn, currency: str, primary: bool) -> bool:
    """Makes the metric; true when it was made here. Raises FAILED_PRECONDITION when one with its
    id measures something else.
    """
    kind = metric_pb2.METRIC_KIND_PROPORTION if metric.proportion else metric_pb2.METRIC_KIND_MEAN
    request = metrics_pb.GetMetricRequest(name=session.name("metrics", metric.event_name))
    try:
        found = session.metrics.GetMetric(request).metric
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
    else:
        if (found.kind, found.event_name) != (kind, metric.event_name):
            raise _other_metric(metric, found)
        return False
    session.metrics.CreateMetric(
        metrics_pb.CreateMetricRequest(
            parent=session.parent,
            metric_id=metric.event_name,
            metric=metric_pb2.Metric(
                display_name=metric.column[:200],
                kind=kind,
                event_name=metric.event_name,
                role=metric_pb2.METRIC_ROLE_PRIMARY
                if primary
                else metric_pb2.METRIC_ROLE_SECONDARY,
                currency="" if metric.proportion else currency,
            ),
        )
    )
    return True


def start_us(experiment: experiment_pb2.Experiment) -> int:
    """When a started experiment began, in microseconds since 1970."""
    return microseconds(experiment.start_time.ToDatetime())


def _message(wanted: WantedExperiment, start: Timestamp) -> experiment_pb2.Experiment:
    return experiment_pb2.Experiment(
        display_name=wanted.experiment_id,
        unit_type=wanted.unit_type,
        assignment_source=experiment_pb2.ASSIGNMENT_SOURCE_EXTERNAL,
        variants=[
            experiment_pb2.Variant(key=key, display_name=wanted.titles[key][:200], weight=weight)
            for key, weight in wanted.weights.items()
        ],
        control_variant=wanted.control,
        start_time=start,
    )


def _require_same(wanted: WantedExperiment, found: experiment_pb2.Experiment) -> None:
    differences = []
    if found.assignment_source != experiment_pb2.ASSIGNMENT_SOURCE_EXTERNAL:
        differences.append("Touchstone itself assigns it")
    if found.unit_type != wanted.unit_type:
        differences.append(f"its unit type is {found.unit_type}, not {wanted.unit_type}")
    there = {variant.key: variant.weight for variant in found.variants}
    same = (
        there == dict(wanted.weights)
        if wanted.weights_named
        else there.keys() == wanted.weights.keys()
    )
    if not same:
        differences.append(f"its variants are {_split(there)}, not {_split(wanted.weights)}")
    if found.control_variant != wanted.control:
        differences.append(f"its control is {found.control_variant}, not {wanted.control}")
    if differences:
        raise failed_precondition(
            "WRONG_STATE",
            f"experiment {wanted.experiment_id} is there already, and another one: "
            f"{'; '.join(differences)}; choose another id with --experiment",
        )


def _split(weights: Mapping[str, int]) -> str:
    return " ".join(f"{key}={weight}" for key, weight in weights.items())


def _other_metric(metric: MetricColumn, found: metric_pb2.Metric) -> DomainError:
    kind = enum_text(found, "kind", "METRIC_KIND_")
    return failed_precondition(
        "WRONG_STATE",
        f"metric {metric.event_name} is there already, as a {kind} of {found.event_name} events; "
        f"say --metric {metric.column}:{kind}, or rename the column {metric.column}",
    )
