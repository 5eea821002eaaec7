"""Health as a message, with every check in words."""

from collections.abc import Iterator

from touchstone.results.v1 import health_pb2 as pb
from touchstone.results.v1 import results_pb2
from touchstone_statistics.gaps import Gap, NotEstimable

from services.results.application.get_health import Checked
from services.results.domain.reading.trust import DimensionRatio, Health, MetricHealth
from services.results.wire.numbers import encode_number, encode_scalar
from services.results.wire.results_encode import encode_results
from shared.resource_names import resource_name

STALE_S = 3600.0
"""Data that is older than this is worth a warning."""
OK, WARNING, ALERT = pb.HEALTH_STATUS_OK, pb.HEALTH_STATUS_WARNING, pb.HEALTH_STATUS_ALERT


def encode_health(checked: Checked, project: str, engine_version: str) -> pb.Health:
    """Everything that was checked."""
    health, report = checked.health, checked.report
    results = encode_results(report, project, engine_version)
    message = pb.Health(
        experiment=results.experiment,
        sample_ratio=results.sample_ratio,
        sequential_p_value=encode_scalar(health.sequential_p_value),
        dimensions=[_dimension(checked, one) for one in health.dimensions],
        exclusions=_exclusions(checked, project),
        provenance=results.provenance,
    )
    message.freshness.watermark = results.provenance.watermark
    if health.age is not None:
        message.freshness.watermark_time.CopyFrom(results.provenance.watermark_time)
        message.freshness.age_s = max(health.age.total_seconds(), 0.0)
    for metric in health.metrics:
        _add_metric(message, checked, metric, project)
    checks = sorted(_checks(checked, results), key=lambda one: -one.status)
    message.checks.extend(checks)
    return message


def _dimension(checked: Checked, one: DimensionRatio) -> pb.SampleRatioDimension:
    slices, found = checked.report.observation.slices, one.found
    message = pb.SampleRatioDimension(dimension=one.name)
    for index, place in enumerate(one.places):
        message.values.add(
            value=slices[place].value or "",
            units=slices[place].units,
            p_value=encode_number(found.p_value, found.gap, index),
            adjusted_p_value=encode_number(found.adjusted_p, found.gap, index),
            alert=bool(found.alert[index]),
        )
    cause = found.cause
    if cause is not None:
        value = slices[one.places[cause.value]].value or "(none)"
        arm = checked.report.plan.arms[cause.arm].variant
        message.likely_cause = (
            f"where {one.name} is {value!r}, variant {arm} lacks about "
            f"{cause.missing_units:.0f} units; {cause.share:.0%} of the deviation is there"
        )
    return message


def _exclusions(checked: Checked, project: str) -> pb.ExclusionCheck:
    found, plan = checked.health.exclusions, checked.report.plan
    gap = found.gap
    message = pb.ExclusionCheck(
        shares=found.share.tolist(),
        p_value=encode_scalar(found.p_value if gap is Gap.NONE else NotEstimable(gap)),
        alert=found.alert,
    )
    for metric in checked.health.metrics:
        if metric.bias is None:
            continue
        for index, arm in enumerate(plan.treatments):
            message.biases.add(
                metric=_name(metric, project),
                variant=plan.arms[arm].variant,
                largest_bias=encode_scalar(float(metric.bias[index])),
            )
    return message


def _add_metric(message: pb.Health, checked: Checked, metric: MetricHealth, project: str) -> None:
    name, plan = _name(metric, project), checked.report.plan
    before = metric.imbalance
    if before is not None:
        known = before.p_value if before.gap is Gap.NONE else NotEstimable(before.gap)
        message.imbalances.add(metric=name, p_value=encode_scalar(known), alert=before.alert)
    skew = metric.skewness
    for index, arm in enumerate(plan.arms):
        if skew is not None:
            message.skews.add(
                metric=name,
                variant=arm.variant,
                skewness=encode_number(skew.value, skew.gap, index),
                units_needed=int(min(skew.units_needed[index], 2**62)),
                short=bool(skew.short[index]),
            )
        if metric.complete is not None:
            share = encode_scalar(float(metric.complete[index]))
            message.completeness.add(metric=name, variant=arm.variant, share=share)
    for arm_index, outlook in zip(plan.treatments, metric.outlook, strict=True):
        made = message.power.add(
            metric=name,
            variant=plan.arms[arm_index].variant,
            detectable_lift=encode_scalar(outlook.detectable_lift),
        )
        if outlook.power is not None:
            made.power.CopyFrom(encode_scalar(outlook.power))
        if outlook.days_left is not None:
            made.days_left = outlook.days_left


def _name(metric: MetricHealth, project: str) -> str:
    return resource_name(project, "metrics", metric.asked.metric.metric_id)


def _checks(checked: Checked, results: results_pb2.Results) -> Iterator[pb.HealthCheck]:
    health = checked.health
    ratio = results.sample_ratio
    yield _check(
        "sample-ratio",
        ALERT if ratio.alert else OK,
        "the arms do not have the sizes that their weights promise: find the cause before you "
        "trust anything else"
        if ratio.alert
        else "the arms have the sizes that their weights promise",
    )
    if health.dimensions:
        yield _by_dimension(health)
    yield _exclusion_check(checked)
    strangers = results.unknown_variant_exposures
    if strangers:
        message = f"{strangers} exposures of variants that the experiment does not have"
        yield _check("unknown-variants", WARNING, message)
    yield from _of_metrics(health)
    yield _freshness(health)


def _check(name: str, status: pb.HealthStatus.ValueType, message: str) -> pb.HealthCheck:
    return pb.HealthCheck(name=name, status=status, message=message)


def _by_dimension(health: Health) -> pb.HealthCheck:
    bad = [one.name for one in health.dimensions if one.found.alert.any()]
    message = (
        f"the sizes of the arms do not fit within {', '.join(bad)}: see the likely cause"
        if bad
        else "the sizes of the arms fit within every dimension"
    )
    return _check("sample-ratio-by-dimension", ALERT if bad else OK, message)


def _exclusion_check(checked: Checked) -> pb.HealthCheck:
    found = checked.health.exclusions
    if found.alert:
        message = (
            "units that saw several variants are not spread evenly over them: who is left is no "
            "random sample"
        )
        return _check("exclusions", ALERT, message)
    lost = checked.report.observation.multiply_exposed_units
    message = f"{lost} units ({found.overall_share:.2%}) saw several variants"
    return _check("exclusions", WARNING if lost else OK, message)


def _of_metrics(health: Health) -> Iterator[pb.HealthCheck]:
    def named(found: list[str]) -> str:
        return ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")

    ids = {id(one): one.asked.metric.metric_id for one in health.metrics}
    apart = [ids[id(one)] for one in health.metrics if one.imbalance and one.imbalance.alert]
    if any(one.imbalance for one in health.metrics):
        message = (
            f"the arms differed before the exposure in the covariates of {named(apart)}"
            if apart
            else "the arms were alike before the exposure"
        )
        yield _check("imbalance", ALERT if apart else OK, message)
    skewed = [
        ids[id(one)]
        for one in health.metrics
        if one.skewness is not None and one.skewness.short.any()
    ]
    if skewed:
        message = f"too few units for metrics as skewed as {named(skewed)}: cap them, or wait"
        yield _check("skew", WARNING, message)
    waiting = [ids[id(one)] for one in health.metrics if one.complete is not None]
    if waiting:
        message = f"units of {named(waiting)} do not count yet, as their window is not over"
        yield _check("completeness", WARNING, message)
    if health.failed:
        message = f"no result for {named(sorted(health.failed))}"
        yield _check("metrics", WARNING, message)


def _freshness(health: Health) -> pb.HealthCheck:
    if health.age is None:
        return _check("freshness", WARNING, "nothing has been logged yet")
    age_s = health.age.total_seconds()
    message = f"the data is {age_s:.0f} s old"
    return _check("freshness", WARNING if age_s > STALE_S else OK, message)
