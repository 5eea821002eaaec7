"""Digests of what was asked and of what was seen: equal digests, equal numbers."""

import hashlib
from collections.abc import Iterable

from services.results.domain.measure import Measure
from services.results.domain.observation import Observation
from services.results.domain.reading.report import ExperimentReport, Settled, measure_of


def question_digest(report: ExperimentReport) -> str:
    """SHA-256 over the arms, the measures of the metrics, and how units and events are matched."""
    plan, analysis = report.plan, report.analysis.plan
    parts = (
        *(f"{arm.variant}={arm.weight}" for arm in plan.arms),
        *(plan.experiment_id, plan.unit_type, plan.control),
        *(repr(_measure(report, index)) for index in range(len(report.metrics))),
        *dict.fromkeys(one.dimension for one in report.observation.slices),
        *(analysis.multiple_exposures.value, repr(report.observation.links.stitching)),
        *(() if analysis.clustering is None else (repr(analysis.clustering),)),
    )
    return _digest(parts)


def inputs_digest(report: ExperimentReport) -> str:
    """SHA-256 over the counts and the exact sums that the numbers were computed from."""
    return _digest((repr(_counts(report.observation)), *_sums(report)))


def _measure(report: ExperimentReport, index: int) -> Measure:
    return measure_of(report.metrics[index][0], report.analysis.plan.variance_reduction)


def _counts(seen: Observation) -> tuple[object, ...]:
    return (
        seen.slices,
        seen.multiply_exposed,
        seen.unknown_variant_exposures,
        seen.forced_units,
        seen.links,
    )


def _sums(report: ExperimentReport) -> Iterable[str]:
    for asked, found in report.metrics:
        if isinstance(found, Settled):
            moments = found.report.measured.moments
            arrays = (moments.units, moments.mean, moments.co_moment)
            yield asked.metric.metric_id + "".join(array.tobytes().hex() for array in arrays)
    for clusters in report.observation.clusters:
        yield repr((clusters.counts, clusters.mixed, clusters.joint))


def _digest(parts: Iterable[str]) -> str:
    made = hashlib.sha256()
    for part in parts:
        data = part.encode()
        made.update(len(data).to_bytes(8, "big") + data)
    return made.hexdigest()
