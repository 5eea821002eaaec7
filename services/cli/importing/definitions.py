"""The experiment and the metrics that a file needs: made when they are not there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import grpc
from google.protobuf import duration_pb2
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.assignment.v1 import experiment_pb2
from touchstone.assignment.v1 import experiment_service_pb2 as experiments_pb
from touchstone.results.v1 import metric_pb2
from touchstone.results.v1 import metric_service_pb2 as metrics_pb

from services.cli.figures import enum_text
from services.cli.importing.cells import microseconds
from services.cli.importing.experiment_rows import ExperimentMapping, MetricColumn
from services.cli.session import Session
from shared.errors import DomainError, failed_precondition

_State = experiment_pb2.Experiment
# As far back as a metric may look.
_LONGEST_LOOKBACK_S = 366 * 86400


@dataclass(frozen=True, slots=True)
class WantedExperiment:
    """An experiment that was assigned elsewhere. `weights` and `titles` are by key; weights that
    the user did not name are not held against the experiment that is there. It is judged by the
    metrics of the ids `metrics`. `stop` is None when the service shall say when it ended.
    """

    experiment_id: str
    unit_type: str
    weights: Mapping[str, int]
    weights_named: bool
    titles: Mapping[str, str]
    control: str
    metrics: tuple[str, ...]
    start: Timestamp
    stop: Timestamp | None


def find_experiment(session: Session, experiment_id: str) -> experiment_pb2.Experiment | None:
    """The experiment, or None when the project has none of that id."""
    request = experiments_pb.GetExperimentRequest(name=session.name("experiments", experiment_id))
    try:
        return session.experiments.GetExperiment(request).experiment
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            return None
        raise


def complete_adopted(
    session: Session, wanted: WantedExperiment, found: experiment_pb2.Experiment
) -> None:
    """Adds the metrics that the experiment is not judged by yet, and starts it when it is a draft
    still.
    """
    names = [session.name("metrics", metric) for metric in wanted.metrics]
    missing = [name for name in names if name not in found.metrics]
    # Without any, it is judged by every metric of the project.
    if missing and found.metrics:
        session.experiments.UpdateExperiment(
            experiments_pb.UpdateExperimentRequest(
                experiment=experiment_pb2.Experiment(
                    name=found.name, metrics=[*found.metrics, *missing]
                ),
                update_mask=FieldMask(paths=["metrics"]),
            )
        )
    if found.state == _State.STATE_DRAFT:
        session.experiments.StartExperiment(experiments_pb.StartExperimentRequest(name=found.name))


def make_experiment(session: Session, wanted: WantedExperiment) -> None:
    """Makes the experiment and starts it."""
    session.experiments.CreateExperiment(
        experiments_pb.CreateExperimentRequest(
            parent=session.parent,
            experiment_id=wanted.experiment_id,
            experiment=_message(session, wanted),
        )
    )
    name = session.name("experiments", wanted.experiment_id)
    session.experiments.StartExperiment(experiments_pb.StartExperimentRequest(name=name))


def stop_experiment(session: Session, experiment_id: str) -> None:
    """Ends the experiment if it still runs: the file is of a finished one."""
    found = find_experiment(session, experiment_id)
    if found is not None and found.state in (_State.STATE_RUNNING, _State.STATE_PAUSED):
        session.experiments.StopExperiment(experiments_pb.StopExperimentRequest(name=found.name))


def is_metric_there(session: Session, metric: MetricColumn) -> bool:
    """Whether the metric is there. Raises FAILED_PRECONDITION when one with its id measures
    something else.
    """
    request = metrics_pb.GetMetricRequest(name=session.name("metrics", metric.metric_id))
    try:
        found = session.metrics.GetMetric(request).metric
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
        return False
    if (found.kind, found.event_name) != (_kind(metric), metric.event_name):
        raise _other_metric(metric, found)
    if found.currency not in ("", metric.currency):
        raise failed_precondition(
            "WRONG_STATE",
            f"metric {metric.metric_id} is there already, in {found.currency}, and would count no "
            f"value of this file; say --currency {found.currency}, or choose another id with "
            "--experiment",
        )
    return True


def make_metric(
    session: Session,
    metric: MetricColumn,
    reduction: metric_pb2.VarianceReduction | None,
    primary: bool,
) -> None:
    """Makes the metric, its noise reduced by what is known of units from before."""
    role = metric_pb2.METRIC_ROLE_PRIMARY if primary else metric_pb2.METRIC_ROLE_SECONDARY
    session.metrics.CreateMetric(
        metrics_pb.CreateMetricRequest(
            parent=session.parent,
            metric_id=metric.metric_id,
            metric=metric_pb2.Metric(
                display_name=metric.column[:200],
                kind=_kind(metric),
                event_name=metric.event_name,
                role=role,
                currency=metric.currency,
                variance_reduction=reduction,
            ),
        )
    )


def reduction_by(mapping: ExperimentMapping) -> metric_pb2.VarianceReduction | None:
    """What the file knows of units from before the start, looked at from every exposure; None
    when it knows nothing.
    """
    if not mapping.covariates:
        return None
    # The covariates are of one day before the start, and exposures of any time after it.
    lookback = None if mapping.time is None else duration_pb2.Duration(seconds=_LONGEST_LOOKBACK_S)
    return metric_pb2.VarianceReduction(
        lookback_window=lookback,
        covariates=[metric_pb2.Source(event_name=name) for _, name in mapping.covariates],
    )


def start_us(experiment: experiment_pb2.Experiment) -> int | None:
    """When the experiment began, in microseconds since 1970; None when nobody said so yet."""
    if not experiment.HasField("start_time"):
        return None
    return microseconds(experiment.start_time.ToDatetime())


def _kind(metric: MetricColumn) -> metric_pb2.MetricKind.ValueType:
    if metric.proportion:
        return metric_pb2.METRIC_KIND_PROPORTION
    return metric_pb2.METRIC_KIND_MEAN


def _message(session: Session, wanted: WantedExperiment) -> experiment_pb2.Experiment:
    return experiment_pb2.Experiment(
        display_name=wanted.experiment_id,
        unit_type=wanted.unit_type,
        assignment_source=experiment_pb2.ASSIGNMENT_SOURCE_EXTERNAL,
        variants=[
            experiment_pb2.Variant(key=key, display_name=wanted.titles[key][:200], weight=weight)
            for key, weight in wanted.weights.items()
        ],
        control_variant=wanted.control,
        start_time=wanted.start,
        stop_time=wanted.stop,
        metrics=[session.name("metrics", metric) for metric in wanted.metrics],
    )


def require_same(wanted: WantedExperiment, found: experiment_pb2.Experiment) -> None:
    """Raises FAILED_PRECONDITION when the experiment that is there is another one."""
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
        f"metric {metric.metric_id} is there already, as a {kind} of {found.event_name} events; "
        f"say --metric {metric.column}:{kind}, or choose another id with --experiment",
    )
