"""What results say beside the comparison of record, as parts of the section of a metric."""

from collections.abc import Callable, Iterator
from html import escape

from touchstone.results.v1 import results_pb2 as pb

from services.results.wire.export.chart import interval_words
from services.results.wire.export.html_table import Cells, percent, plain, table
from services.results.wire.export.words import enum_word, equals, last_part, p_value_words

Words = Callable[[pb.Interval], str]


def further_sections(metric: pb.MetricResults) -> Iterator[str]:
    """A table for each thing that there is."""
    name = escape(last_part(metric.metric))
    yield from _selected(name, metric)
    yield from _clusters(name, metric)
    yield from _windows(name, metric)
    yield from _days(name, metric)
    yield from _course(name, metric)
    yield from _revenue(name, metric)


def plain_span(interval: pb.Interval) -> str:
    """The ends of an interval that is no share."""
    return interval_words(interval, "{:.4g}")


def _selected(name: str, metric: pb.MetricResults) -> Iterator[str]:
    def rows() -> Iterator[Cells]:
        for one in chosen:
            found = one.selected
            yield (
                escape(one.variant),
                percent(found.lift),
                interval_words(found.lift_interval),
                plain(found.difference),
                plain_span(found.difference_interval),
            )

    chosen = [one for one in metric.comparisons if one.HasField("selected")]
    if chosen:
        heading = ("Arm", "Lift", "Interval", "Difference", "Interval")
        caption = f"{name}: significant effects, corrected for having been chosen for that"
        yield from table(caption, heading, rows())


def _clusters(name: str, metric: pb.MetricResults) -> Iterator[str]:
    if not metric.HasField("clusters"):
        return
    found = metric.clusters
    arms = zip(metric.arms, found.arms, found.design_effects, strict=True)
    rows: Iterator[Cells] = (
        (escape(arm.variant), f"{clusters:,}", plain(effect)) for arm, clusters, effect in arms
    )
    yield from table(f"{name}: clusters", ("Arm", "Clusters", "Design effect"), rows)
    yield (
        f'<p class="note">{found.all:,} clusters in all, {found.mixed:,} with units of several '
        "arms. The design effect is how many times larger clusters make the variance.</p>"
    )


def _windows(name: str, metric: pb.MetricResults) -> Iterator[str]:
    def rows() -> Iterator[Cells]:
        for one in switched:
            checks, left = one.switchback, one.switchback.carry_over
            yield (
                escape(one.variant),
                p_value_words(checks.permutation_p_value),
                f"{checks.permutations:,}",
                plain(left.difference),
                plain_span(left.difference_interval),
                p_value_words(left.p_value),
            )

    switched = [one for one in metric.comparisons if one.HasField("switchback")]
    if switched:
        heading = ("Arm", "Permutation p", "Drawn", "Carry-over", "Interval", "p-value")
        yield from table(f"{name}: windows of the switchback", heading, rows())


def _days(name: str, metric: pb.MetricResults) -> Iterator[str]:
    def rows() -> Iterator[Cells]:
        for span in metric.windows:
            for one in span.comparisons:
                units = next(arm.units for arm in span.arms if arm.variant == one.variant)
                read = one.reading
                yield (
                    f"{span.first_day} to {span.last_day}",
                    escape(one.variant),
                    f"{units:,}",
                    percent(read.lift),
                    interval_words(read.lift_interval),
                    p_value_words(read.p_value),
                )

    if any(span.comparisons for span in metric.windows):
        heading = ("Days", "Arm", "Units", "Lift", "Interval", "p-value")
        yield from table(f"{name}: by days since the first exposure", heading, rows())
    for span in (span for span in metric.windows if span.HasField("error")):
        days = f"Days {span.first_day} to {span.last_day}"
        yield f'<p class="note">{days}: {escape(span.error.message)}</p>'


def _course(name: str, metric: pb.MetricResults) -> Iterator[str]:
    course = metric.course
    if course.HasField("error"):
        yield f'<p class="note">No course over the days: {escape(course.error.message)}</p>'
    rows: Iterator[Cells] = (
        (
            escape(one.variant),
            plain(one.slope),
            plain_span(one.slope_interval),
            p_value_words(one.p_value),
            enum_word(one, "trend").replace("_", " "),
        )
        for one in course.slopes
    )
    if course.slopes:
        what = "daily effect" if course.per_day else "effect"
        heading = ("Arm", "A day", "Interval", "p-value", "Trend")
        yield from table(f"{name}: by how much the {what} changes each day", heading, rows)
        for one in course.slopes:
            same = equals(one.equal_p_value)
            yield f"<p>Whether it is the same on all days, {escape(one.variant)}: p {same}.</p>"


def _revenue(name: str, metric: pb.MetricResults) -> Iterator[str]:
    if metric.HasField("hurdle_error"):
        reason = escape(metric.hurdle_error.message)
        yield f'<p class="note">No posterior of revenue: {reason}</p>'
    believed = [one for one in metric.comparisons if one.HasField("hurdle_posterior")]
    rows: Iterator[Cells] = (
        (
            escape(one.variant),
            plain(one.hurdle_posterior.probability_better),
            plain(one.hurdle_posterior.expected_loss),
            interval_words(one.hurdle_posterior.lift_interval),
        )
        for one in believed
    )
    if believed:
        heading = ("Arm", "Better", "Expected loss", "Lift")
        caption = f"{name}: what a share of buyers and lognormal amounts say"
        yield from table(caption, heading, rows)
