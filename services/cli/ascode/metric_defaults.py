"""What a metric has where its file says nothing."""

from __future__ import annotations

from typing import Any

from touchstone.results.v1 import metric_pb2 as pb

_LOOKBACK_S = 14 * 86_400
_AGGREGATED = (pb.METRIC_KIND_MEAN, pb.METRIC_KIND_RATIO, pb.METRIC_KIND_QUANTILE)
_LOOKING_BACK = (
    pb.METRIC_KIND_PROPORTION,
    pb.METRIC_KIND_MEAN,
    pb.METRIC_KIND_RATIO,
)


def state_metric(made: Any) -> None:
    """Fill in the defaults that the service takes."""
    made.direction = made.direction or pb.DIRECTION_INCREASE
    made.role = made.role or pb.METRIC_ROLE_SECONDARY
    if made.kind in _AGGREGATED and not made.of_events:
        _aggregate(made)
    if made.HasField("denominator"):
        _aggregate(made.denominator)
    if made.HasField("delay") and not made.delay.ToMicroseconds():
        made.ClearField("delay")
    for step in made.steps:
        _sum_is_none(step)
    if made.kind not in _AGGREGATED or made.of_events:
        _sum_is_none(made)
    _variance_reduction(made)


def _variance_reduction(made: Any) -> None:
    reduction = made.variance_reduction
    looks_back = made.kind in _LOOKING_BACK
    if reduction.disabled and not looks_back and not reduction.HasField("lookback_window"):
        made.ClearField("variance_reduction")
    if not looks_back and not made.HasField("variance_reduction"):
        return
    if not reduction.disabled and not reduction.HasField("lookback_window"):
        reduction.lookback_window.seconds = _LOOKBACK_S
    for covariate in reduction.covariates:
        _aggregate(covariate)


def _aggregate(source: Any) -> None:
    source.aggregation = source.aggregation or pb.AGGREGATION_SUM


def _sum_is_none(source: Any) -> None:
    """Where nothing is added up, SUM says the same as nothing."""
    if source.aggregation == pb.AGGREGATION_SUM:
        source.ClearField("aggregation")
