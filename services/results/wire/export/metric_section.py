"""One metric as a part of the page: its arms, slices and steps."""

from collections.abc import Iterator
from html import escape

from touchstone.results.v1 import results_pb2 as pb

from services.results.wire.export.chart import Scale, interval_chart, interval_words
from services.results.wire.export.further_section import further_sections
from services.results.wire.export.html_table import Cells, percent, plain, table
from services.results.wire.export.table import slice_name
from services.results.wire.export.words import enum_word, equals, last_part, p_value_words


def metric_section(metric: pb.MetricResults) -> Iterator[str]:
    """The tables of a metric, or why it has no result."""
    name, role = escape(last_part(metric.metric)), enum_word(metric, "role")
    kind = enum_word(metric, "kind").replace("_", " ")
    yield f"<section><h3>{name}</h3>"
    yield f'<p class="note">{role} metric, {kind}, definition {metric.metric_version}</p>'
    if metric.HasField("error"):
        yield f'<p class="alert">No result: {escape(metric.error.message)}</p></section>'
        return
    scale = Scale.of(one.lift_interval for one in metric.comparisons)
    heading = (
        "Arm",
        "Units",
        "Mean",
        "Lift",
        "Chart",
        "Interval",
        "p-value",
        "Corrected p",
        "Better",
    )
    yield from table(f"{name}: every arm", heading, _arms(metric, scale))
    yield from further_sections(metric)
    yield from _slices(metric)
    yield from _steps(metric)
    yield "</section>"


def _arms(metric: pb.MetricResults, scale: Scale) -> Iterator[Cells]:
    compared = {one.variant: one for one in metric.comparisons}
    for arm in metric.arms:
        shown = (escape(arm.variant), f"{arm.units:,}", plain(arm.mean))
        one = compared.get(arm.variant)
        if one is None:
            yield (*shown, "control", *[""] * 5)
            continue
        exact = one.HasField("beta_binomial_posterior")
        posterior = one.beta_binomial_posterior if exact else one.normal_posterior
        rejected = " <strong>(significant)</strong>" if one.adjusted.rejected else ""
        yield (
            *shown,
            percent(one.lift),
            interval_chart(one.lift_interval, one.lift, scale),
            interval_words(one.lift_interval),
            p_value_words(one.p_value),
            p_value_words(one.adjusted.p_value) + rejected,
            plain(posterior.probability_better),
        )


def _slices(metric: pb.MetricResults) -> Iterator[str]:
    readings = [(part, one) for part in metric.slices for one in part.comparisons]
    scale = Scale.of(one.reading.lift_interval for _, one in readings)

    def rows() -> Iterator[Cells]:
        for part, one in readings:
            units = next(arm.units for arm in part.arms if arm.variant == one.variant)
            read = one.reading
            yield (
                escape(f"{part.dimension}: {slice_name(part)}"),
                escape(one.variant),
                f"{units:,}",
                percent(read.lift),
                interval_chart(read.lift_interval, read.lift, scale),
                interval_words(read.lift_interval),
                p_value_words(read.p_value),
            )

    if readings:
        heading = ("Slice", "Arm", "Units", "Lift", "Chart", "Interval", "p-value")
        yield from table(f"{escape(last_part(metric.metric))}: slices", heading, rows())
    for test in metric.heterogeneity:
        yield (
            f"<p>Whether the effect of {escape(test.variant)} is the same in all of "
            f"{escape(test.dimension)}: corrected p {equals(test.adjusted_p_value)}.</p>"
        )


def _steps(metric: pb.MetricResults) -> Iterator[str]:
    def rows() -> Iterator[Cells]:
        for number, step in enumerate(metric.steps, 1):
            for arm in step.arms:
                yield (
                    f"{number}. {escape(step.event_name)}",
                    escape(arm.variant),
                    f"{arm.units:,}",
                    percent(arm.reached, sign=False),
                    percent(arm.passed, sign=False),
                    f"{arm.left:,}",
                )

    if metric.steps:
        heading = ("Step", "Arm", "Units", "Of all", "Of the step before", "Left")
        yield from table(f"{escape(last_part(metric.metric))}: steps", heading, rows())
