"""Comparisons of experiments, read from the results service with the caller's own credential."""

import math
from dataclasses import dataclass

from touchstone.results.v1 import results_pb2
from touchstone.results.v1 import results_service_pb2 as pb

from services.attribution.adapters.calibration_results import (
    MISSING,
    GrpcLifts,
    difference_of,
    provenance_of,
)
from services.attribution.application.calibration_ports import NoLift
from services.attribution.application.scenario_measurements import AskedComparison, Compared
from services.attribution.domain.lift import Estimate, critical
from shared.errors import DomainError
from shared.lake.snapshot import EventTables
from shared.resource_names import resource_name

ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class GrpcComparisons:
    """See Comparisons. `tables` say which cut is the newest: results at a cut take no look."""

    lifts: GrpcLifts
    tables: EventTables

    def comparison(self, asked: AskedComparison) -> Compared | NoLift:
        """See Comparisons."""
        request = pb.GetResultsRequest(
            experiment=resource_name(asked.project, "experiments", asked.experiment_id),
            metrics=[resource_name(asked.project, "metrics", asked.metric_id)],
            as_of=asked.as_of or self.tables.snapshot(asked.project).watermark.token(),
        )
        try:
            found = self.lifts.results(request)
        except DomainError as error:
            if error.code in MISSING:
                return NoLift(error.message)
            raise
        metric = found.metrics[0]
        if metric.HasField("error"):
            return NoLift(metric.error.message)
        difference = difference_of(metric, asked.variant, asked.control)
        if isinstance(difference, NoLift):
            return difference
        units = {arm.variant: arm.units for arm in metric.arms}
        return Compared(
            difference=difference,
            interval=interval_of(metric, asked, difference),
            units=units[asked.variant],
            control_units=units[asked.control],
            provenance=provenance_of(found.provenance, metric),
            alert=found.sample_ratio.alert,
        )


def interval_of(
    metric: results_pb2.MetricResults, asked: AskedComparison, difference: Estimate
) -> tuple[float, float]:
    """That of record where one of the variants is the experiment's control, else a normal one."""
    compared = {each.variant: each.difference_interval for each in metric.comparisons}
    if asked.control not in compared and asked.variant in compared:
        return _ends(compared[asked.variant])
    if asked.variant not in compared and asked.control in compared:
        low, high = _ends(compared[asked.control])
        return -high, -low
    reach = critical(ALPHA) * difference.std_err
    return difference.value - reach, difference.value + reach


def _ends(interval: results_pb2.Interval) -> tuple[float, float]:
    low = -math.inf if interval.low_unbounded else interval.low
    return low, math.inf if interval.high_unbounded else interval.high
