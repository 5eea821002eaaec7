"""Which definitions of metrics mean something: what each kind needs, and what it cannot have.

Faults name the fields as requests have them, because that is where they are corrected.
"""

import datetime as dt
from collections.abc import Iterator

from services.results.domain.measure import Aggregation, Measure, MetricKind, Source
from services.results.domain.metric import MetricDefinition, MetricRole
from shared.errors import FieldViolation
from shared.filters.rules import filter_faults

PATH = "metric"
FEWEST_STEPS, MOST_STEPS = 2, 20

_K = MetricKind
WITH_AGGREGATION = frozenset((_K.MEAN, _K.RATIO, _K.QUANTILE))
_HAS_WINDOW = frozenset(MetricKind) - {_K.RETENTION}
LOOKING_BACK = frozenset((_K.PROPORTION, _K.MEAN, _K.RATIO))
"""Kinds for which what units did before is taken into account unless it is switched off."""
_MAY_LOOK_BACK = frozenset(MetricKind) - {_K.QUANTILE}
_CAPPED = frozenset((_K.MEAN, _K.RATIO))
_WITHOUT_VALUES = frozenset((Aggregation.COUNT, Aggregation.DISTINCT_DAYS))


def definition_faults(definition: MetricDefinition) -> Iterator[FieldViolation]:
    """Everything that is wrong with a definition, by the fields of the request."""
    measure = definition.measure
    yield from _part_faults(measure)
    yield from _time_faults(measure)
    yield from _source_faults(measure)
    yield from _covariate_faults(measure)
    if definition.margin and definition.role is not MetricRole.GUARDRAIL:
        yield _fault("margin", definition.margin, "0, unless role is GUARDRAIL")


def _part_faults(measure: Measure) -> Iterator[FieldViolation]:
    """Parts that one kind alone has, and needs; caps."""
    yield from _only(measure, "denominator", measure.denominator is not None, _K.RATIO)
    yield from _only(measure, "retention", measure.retention is not None, _K.RETENTION)
    yield from _only(measure, "quantile", measure.quantile is not None, _K.QUANTILE)
    yield from _only(measure, "steps", bool(measure.steps), _K.FUNNEL)
    count = len(measure.steps)
    if count and not FEWEST_STEPS <= count <= MOST_STEPS:
        yield FieldViolation(
            f"{PATH}.steps", f"are {count}; allowed: {FEWEST_STEPS} to {MOST_STEPS}"
        )
    if measure.of_events and measure.kind is not _K.QUANTILE:
        yield _not_for("of_events", measure.kind, frozenset((_K.QUANTILE,)))
    if measure.cap is not None and measure.kind not in _CAPPED:
        yield _not_for("cap", measure.kind, _CAPPED)
    if measure.cap is not None and measure.cap.ignore_zeros and measure.cap.percentile is None:
        yield _fault("cap.ignore_zeros", True, "false, unless the cap is a percentile")
    retention = measure.retention
    if retention is not None and retention.last_day < retention.first_day:
        allowed = f"the first day, {retention.first_day}, or later"
        yield _fault("retention.last_day", retention.last_day, allowed)


def _only(measure: Measure, field: str, there: bool, kind: MetricKind) -> Iterator[FieldViolation]:
    if there and measure.kind is not kind:
        yield _not_for(field, measure.kind, frozenset((kind,)))
    elif not there and measure.kind is kind:
        yield FieldViolation(f"{PATH}.{field}", f"is missing; kind {kind.name} needs it")


def _time_faults(measure: Measure) -> Iterator[FieldViolation]:
    """Windows, delays, and what needs them."""
    window, delay = measure.window, measure.delay
    if measure.complete_only and window is None:
        yield _fault("complete_only", True, "false, unless there is a conversion window")
    if measure.kind not in _HAS_WINDOW:
        for field, there in (("conversion_window", window is not None), ("delay", bool(delay))):
            if there:
                yield _not_for(field, measure.kind, _HAS_WINDOW)
        return
    if measure.kind is _K.TIME_TO_EVENT and window is None:
        said = f"is missing; kind {measure.kind.name} needs it: the longest time that is waited"
        yield FieldViolation(f"{PATH}.conversion_window", said)
    if delay and window is not None and delay >= window:
        allowed = f"less than the conversion window, {_seconds(window)}"
        yield FieldViolation(f"{PATH}.delay", f"is {_seconds(delay)}; allowed: {allowed}")


def _source_faults(measure: Measure) -> Iterator[FieldViolation]:
    """Filters, aggregations and currencies of all events that are read."""
    if measure.kind is _K.FUNNEL:
        for index, step in enumerate(measure.steps):
            path = f"{PATH}.steps[{index}]"
            yield from filter_faults(step.filter, f"{path}.filter")
            yield from _valueless_faults(step, path, "steps of a funnel are counted")
        return
    yield from filter_faults(measure.filter, f"{PATH}.filter")
    if measure.kind in WITH_AGGREGATION and not measure.of_events:
        yield from _currency_faults(measure.source, PATH)
    elif not measure.of_events:
        yield from _valueless_faults(
            measure.source, PATH, f"kind {measure.kind.name} reads no value"
        )
    elif measure.aggregation is not Aggregation.SUM:
        yield _fault("aggregation", measure.aggregation.name, "none, because it is of_events")
    others = [("denominator", measure.denominator)] if measure.denominator else []
    others += [
        (f"variance_reduction.covariates[{index}]", covariate)
        for index, covariate in enumerate(measure.covariates)
    ]
    for field, source in others:
        yield from filter_faults(source.filter, f"{PATH}.{field}.filter")
        yield from _currency_faults(source, f"{PATH}.{field}")


def _valueless_faults(source: Source, path: str, why: str) -> Iterator[FieldViolation]:
    if source.aggregation is not Aggregation.SUM:
        said = f"is {source.aggregation.name}; allowed: none, because {why}"
        yield FieldViolation(f"{path}.aggregation", said)
    if source.currency:
        said = f"is {source.currency!r}; allowed: none, because {why}"
        yield FieldViolation(f"{path}.currency", said)


def _currency_faults(source: Source, path: str) -> Iterator[FieldViolation]:
    if source.currency and source.aggregation in _WITHOUT_VALUES:
        said = f"is {source.currency!r}; allowed: none, because {source.aggregation.name} reads no"
        yield FieldViolation(f"{path}.currency", f"{said} value")


def _covariate_faults(measure: Measure) -> Iterator[FieldViolation]:
    reduced = measure.lookback is not None or bool(measure.covariates)
    if reduced and measure.kind not in _MAY_LOOK_BACK:
        yield _not_for("variance_reduction", measure.kind, _MAY_LOOK_BACK)
    # A number that is there twice tells nothing new, and the fit could not tell the two apart.
    seen = {measure.source, measure.denominator} if measure.kind in _CAPPED else set()
    for index, covariate in enumerate(measure.covariates):
        if covariate in seen:
            path = f"{PATH}.variance_reduction.covariates[{index}]"
            yield FieldViolation(path, "is there already; allowed: each number of a unit once")
        seen.add(covariate)


def _fault(field: str, value: object, allowed: str) -> FieldViolation:
    return FieldViolation(f"{PATH}.{field}", f"is {value!r}; allowed: {allowed}")


def _not_for(field: str, kind: MetricKind, kinds: frozenset[MetricKind]) -> FieldViolation:
    names = ", ".join(one.name for one in MetricKind if one in kinds)
    return FieldViolation(
        f"{PATH}.{field}", f"is given for kind {kind.name}; allowed: only for {names}"
    )


def _seconds(span: dt.timedelta) -> str:
    return f"{span.total_seconds():g} s"
