"""Lifts from the results service, read with the caller's own credential."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar, cast

import grpc
import numpy as np
from touchstone.results.v1 import evaluation_service_pb2 as evaluation_pb
from touchstone.results.v1 import evaluation_service_pb2_grpc as evaluation_rpc
from touchstone.results.v1 import metric_pb2, results_pb2
from touchstone.results.v1 import metric_service_pb2 as metric_pb
from touchstone.results.v1 import metric_service_pb2_grpc as metric_rpc
from touchstone.results.v1 import results_service_pb2 as pb
from touchstone.results.v1 import results_service_pb2_grpc as rpc

from services.attribution.application.calibration_links import CalibrationLink, SwitchedGroup
from services.attribution.application.calibration_ports import (
    Lift,
    LiftProvenance,
    MeasuredEvents,
    NoLift,
)
from services.attribution.domain.conflicts import Conflict
from services.attribution.domain.lift import Estimate, critical
from services.attribution.wire.times import microseconds
from shared.errors import Code, DomainError, unavailable
from shared.filters.wire import decode_filter
from shared.identity.belonging import Stitching
from shared.identity.wire import STITCHING_OF
from shared.resource_names import project_name, resource_name
from shared.security.caller import current_call
from shared.server.status import REQUEST_ID, from_rpc_error

A = TypeVar("A")
MISSING = frozenset((Code.NOT_FOUND, Code.FAILED_PRECONDITION, Code.INVALID_ARGUMENT))
WIDER = 1.1
"""From so many times the width on an interval is told from that of one look."""
_WORDS = {
    results_pb2.NOT_ESTIMABLE_NO_UNITS: "no unit of a variant was exposed",
    results_pb2.NOT_ESTIMABLE_ZERO_VARIANCE: (
        "all units have the same number by the metric, as where none has an event that it counts"
    ),
}
_AWAY = frozenset((Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED))


@dataclass(frozen=True, slots=True)
class GrpcLifts:
    """See LiftSource. `address` is that of the channel, for messages."""

    channel: grpc.Channel
    address: str
    timeout_s: float = 30.0

    def lift(self, link: CalibrationLink, as_of: str, stitching: Stitching) -> Lift | NoLift:
        """See LiftSource."""
        try:
            metric = self._metric(link)
            events = measured_events(metric)
            if not events.additive:
                kind = metric_pb2.MetricKind.Name(metric.kind).removeprefix("METRIC_KIND_")
                why = f"a metric of kind {kind} adds up to no conversions and no value"
                return NoLift(why, Conflict.OTHER_KIND)
            if link.by_control_group:
                return self._control_group(link, events, as_of, stitching)
            return self._experiment(link, events, as_of, stitching)
        except DomainError as error:
            if error.code in MISSING:
                return NoLift(error.message)
            raise

    def results(self, request: pb.GetResultsRequest) -> results_pb2.Results:
        """The results of an experiment, as the caller may read them; errors are those of lifts."""
        return self._ask(rpc.ResultsServiceStub(self.channel).GetResults, request).results

    def _metric(self, link: CalibrationLink) -> metric_pb2.Metric:
        request = metric_pb.GetMetricRequest(name=_metric_name(link))
        return self._ask(metric_rpc.MetricServiceStub(self.channel).GetMetric, request).metric

    def _experiment(
        self, link: CalibrationLink, events: MeasuredEvents, as_of: str, stitching: Stitching
    ) -> Lift | NoLift:
        treatment = link.treatment[0]
        request = pb.GetResultsRequest(
            experiment=resource_name(link.project, "experiments", treatment.experiment_id),
            metrics=[_metric_name(link)],
            as_of=as_of,
            stitching=STITCHING_OF[stitching],
        )
        found = self.results(request)
        metric = found.metrics[0]
        if metric.HasField("error"):
            return NoLift(metric.error.message)
        difference = difference_of(metric, treatment.variant, link.control.variant)
        if isinstance(difference, NoLift):
            return difference
        units = {arm.variant: arm.units for arm in metric.arms}
        sides = (units[treatment.variant], units[link.control.variant])
        source = found.provenance
        return _directed(
            link,
            Lift(
                events=events,
                difference=difference,
                units_on=sides[0],
                units_off=sides[1],
                provenance=provenance_of(source, metric),
                alert=found.sample_ratio.alert,
                caution=caution_of(metric),
            ),
        )

    def _control_group(
        self, link: CalibrationLink, events: MeasuredEvents, as_of: str, stitching: Stitching
    ) -> Lift | NoLift:
        request = evaluation_pb.EvaluateControlGroupRequest(
            parent=project_name(link.project),
            control=_group(link, link.control),
            waves=[_group(link, wave) for wave in link.treatment],
            metrics=[_metric_name(link)],
            correction=evaluation_pb.WAVE_CORRECTION_NONE,
            as_of=as_of,
            stitching=STITCHING_OF[stitching],
        )
        stub = evaluation_rpc.EvaluationServiceStub(self.channel)
        found = self._ask(stub.EvaluateControlGroup, request)
        metric = found.metrics[0]
        if metric.HasField("error"):
            return NoLift(metric.error.message)
        waves, control = metric.pooled.estimate, metric.control
        difference = _between((waves.mean, waves.std_err), (control.mean, control.std_err))
        if isinstance(difference, NoLift):
            return difference
        versions = {each.group.experiment: each.config_version for each in found.groups}
        provenance = LiftProvenance(
            watermark=found.watermark,
            config_versions=tuple(versions.values()),
            plan_version=0,
            metric_version=metric.metric_version,
            engine_version=found.engine_version,
            identity_version=found.identity_version,
        )
        return _directed(link, Lift(events, difference, waves.units, control.units, provenance))

    def _ask(self, call: Callable[..., A], request: object) -> A:
        caller = current_call()
        metadata = (("authorization", caller.authorization), (REQUEST_ID, caller.request_id))
        try:
            return call(request, timeout=self.timeout_s, metadata=metadata)
        except grpc.RpcError as error:
            # What a blocking client raises is the failed call itself.
            failed = from_rpc_error(cast("grpc.Call", error))
            if failed.code not in _AWAY:
                raise failed from error
            why = f"the results service at {self.address} cannot be asked: {failed.message}"
            raise unavailable(failed.reason, why, failed.retry_after_s or 1.0) from error


def provenance_of(
    source: results_pb2.Provenance, metric: results_pb2.MetricResults
) -> LiftProvenance:
    """What a comparison of an experiment is a function of."""
    return LiftProvenance(
        watermark=source.watermark,
        config_versions=(source.config_version,),
        plan_version=source.plan_version,
        metric_version=metric.metric_version,
        engine_version=source.engine_version,
        identity_version=source.identity_version,
        question_digest=source.question_digest,
        inputs_digest=source.inputs_digest,
    )


def measured_events(metric: metric_pb2.Metric) -> MeasuredEvents:
    """Which conversions a metric counts, and how."""
    kind, aggregation = metric.kind, metric.aggregation
    means = kind == metric_pb2.METRIC_KIND_MEAN
    summed = (metric_pb2.AGGREGATION_UNSPECIFIED, metric_pb2.AGGREGATION_SUM)
    by_value = means and aggregation in summed
    once = kind == metric_pb2.METRIC_KIND_PROPORTION
    counted = means and aggregation == metric_pb2.AGGREGATION_COUNT
    window = metric.HasField("conversion_window")
    return MeasuredEvents(
        event_name=metric.event_name,
        condition=decode_filter(metric.filter, "filter", []) if metric.HasField("filter") else None,
        delay_us=microseconds("delay", metric.delay),
        window_us=microseconds("conversion_window", metric.conversion_window) if window else None,
        complete_only=metric.complete_only,
        by_value=by_value,
        once=once,
        additive=by_value or once or counted,
        capped=metric.HasField("cap"),
        currency=metric.currency if by_value else "",
    )


def caution_of(metric: results_pb2.MetricResults) -> float:
    """How many times as wide as the interval of one look those of record are, the widest counts.

    1 where they are no wider by a tenth or there are no looks, infinite where one has no ends, as
    before the first look.
    """
    widest = 1.0
    for each in metric.comparisons:
        interval, std_err = each.difference_interval, each.std_err.value
        if not each.HasField("look") or not std_err > 0:
            continue
        if interval.low_unbounded or interval.high_unbounded or not 0 < interval.level < 1:
            return math.inf
        reach = critical(1.0 - interval.level) * std_err
        widest = max(widest, (interval.high - interval.low) / (2.0 * reach))
    return widest if widest > WIDER else 1.0


def difference_of(
    metric: results_pb2.MetricResults, treatment: str, control: str
) -> Estimate | NoLift:
    """Treatment minus control for one unit, between any two arms of an experiment."""
    arms = {arm.variant: arm for arm in metric.arms}
    for variant in (treatment, control):
        if variant not in arms:
            return NoLift(f"the experiment has no variant {variant!r}, only {', '.join(arms)}")
    compared = {each.variant: each for each in metric.comparisons}
    if treatment in compared and control in compared:
        one, other = arms[treatment], arms[control]
        return _between((one.mean, one.std_err), (other.mean, other.std_err))
    with_control = compared[treatment if treatment in compared else control]
    found = _between((with_control.difference, with_control.std_err), None)
    turned = treatment not in compared
    return found.times(-1.0) if turned and isinstance(found, Estimate) else found


_Pair = tuple[results_pb2.Estimate, results_pb2.Estimate]


def _between(one: _Pair, other: _Pair | None) -> Estimate | NoLift:
    """The first number less the second, both with their standard errors, as independent."""
    for number in (*one, *(other or ())):
        if number.WhichOneof("result") != "value":
            name = results_pb2.NotEstimable.Name(number.not_estimable)
            why = name.removeprefix("NOT_ESTIMABLE_").lower().replace("_", " ")
            why = _WORDS.get(number.not_estimable, why)
            return NoLift(f"the experiment shows no difference at this cut: {why}")
    value, std_err = one[0].value, one[1].value
    if other is not None:
        value, std_err = value - other[0].value, float(np.hypot(std_err, other[1].value))
    return Estimate(value, std_err)


def _directed(link: CalibrationLink, lift: Lift) -> Lift:
    """The lift of the channel, out of that of the treatment."""
    if link.treatment_on:
        return lift
    return replace(
        lift,
        difference=lift.difference.times(-1.0),
        units_on=lift.units_off,
        units_off=lift.units_on,
    )


def _metric_name(link: CalibrationLink) -> str:
    return resource_name(link.project, "metrics", link.metric_id)


def _group(link: CalibrationLink, each: SwitchedGroup) -> evaluation_pb.ExperimentGroup:
    name = resource_name(link.project, "experiments", each.experiment_id)
    return evaluation_pb.ExperimentGroup(experiment=name, variant=each.variant)
