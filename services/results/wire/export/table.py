"""Results as a table: a row for each comparison."""

import csv
import io
from collections.abc import Iterator

from touchstone.results.v1 import metric_pb2
from touchstone.results.v1 import results_pb2 as pb

COLUMNS = (
    *("metric", "role", "variant", "units", "control_units", "mean", "control_mean"),
    *("difference", "difference_low", "difference_high", "lift", "lift_low", "lift_high"),
    *("p_value", "running_p_value", "adjusted_p_value", "rejected", "probability_better"),
    *("expected_loss", "probability_best", "verdict", "not_estimable", "error"),
    *("watermark", "metric_version", "plan_version", "config_version"),
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def comparisons(results: pb.Results) -> Iterator[dict[str, str]]:
    """A row for each metric and treatment; a metric that failed has one with its error."""
    control = next((arm.variant for arm in results.arms if arm.control), "")
    verdicts = {one.variant: _verdict(one) for one in results.decisions}
    for metric in results.metrics:
        common = _common(results, metric)
        if metric.HasField("error"):
            yield common | {"error": text(f"{metric.error.reason}: {metric.error.message}")}
            continue
        arms = {arm.variant: arm for arm in metric.arms}
        for one in metric.comparisons:
            row = common | _arms(arms[one.variant], arms[control]) | _comparison(one)
            yield row | {"verdict": verdicts.get(one.variant, "")}


def encode_csv(results: pb.Results) -> bytes:
    """The table as RFC 4180 has it, in UTF-8."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(comparisons(results))
    return out.getvalue().encode()


def text(value: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{value}" if value.startswith(_FORMULA) else value


def number(estimate: pb.Estimate) -> str:
    """The number with all its digits, or nothing where there is none."""
    return repr(estimate.value) if estimate.WhichOneof("result") == "value" else ""


def _common(results: pb.Results, metric: pb.MetricResults) -> dict[str, str]:
    provenance = results.provenance
    return {
        "metric": text(metric.metric.rsplit("/", 1)[-1]),
        "role": _role(metric),
        "watermark": text(provenance.watermark),
        "metric_version": str(metric.metric_version),
        "plan_version": str(provenance.plan_version),
        "config_version": str(provenance.config_version),
    }


def _role(metric: pb.MetricResults) -> str:
    return metric_pb2.MetricRole.Name(metric.role).removeprefix("METRIC_ROLE_").lower()


def _verdict(decision: pb.Decision) -> str:
    return pb.Verdict.Name(decision.verdict).removeprefix("VERDICT_").lower()


def _arms(treatment: pb.ArmEstimate, control: pb.ArmEstimate) -> dict[str, str]:
    return {
        "units": str(treatment.units),
        "control_units": str(control.units),
        "mean": number(treatment.mean),
        "control_mean": number(control.mean),
        "probability_best": number(treatment.probability_best),
    }


def _comparison(one: pb.Comparison) -> dict[str, str]:
    exact = one.HasField("beta_binomial_posterior")
    posterior = one.beta_binomial_posterior if exact else one.normal_posterior
    reason = pb.NotEstimable.Name(one.p_value.not_estimable).removeprefix("NOT_ESTIMABLE_")
    return {
        "variant": text(one.variant),
        "difference": number(one.difference),
        "difference_low": end(one.difference_interval, low=True),
        "difference_high": end(one.difference_interval, low=False),
        "lift": number(one.lift),
        "lift_low": end(one.lift_interval, low=True),
        "lift_high": end(one.lift_interval, low=False),
        "p_value": number(one.p_value),
        "running_p_value": number(one.running_p_value),
        "adjusted_p_value": number(one.adjusted.p_value),
        "rejected": str(one.adjusted.rejected).lower(),
        "probability_better": number(posterior.probability_better),
        "expected_loss": number(posterior.expected_loss),
        "not_estimable": "" if number(one.p_value) else reason.lower(),
    }


def end(interval: pb.Interval, *, low: bool) -> str:
    """One end of an interval; infinite where it is open, nothing where there is no interval."""
    if interval.low_unbounded if low else interval.high_unbounded:
        return "-inf" if low else "inf"
    if interval.complement or (interval.not_estimable and interval.low == interval.high == 0):
        return ""
    return repr(interval.low if low else interval.high)
