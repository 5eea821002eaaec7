"""The definition of a metric as a JSON document, as every version is stored.

What a metric does not use is left out.
"""

import datetime as dt
import json
from typing import Any

from services.results.domain.measure import Aggregation, Cap, Measure, MetricKind, Retention, Source
from services.results.domain.metric import Direction, MetricDefinition, MetricRole
from shared.errors import failed_precondition
from shared.filters.filter import AllOf, AnyOf, Comparison, Filter, Negated, Operator

FORMAT = 1
_MICROSECOND = dt.timedelta(microseconds=1)


def to_document(definition: MetricDefinition) -> str:
    """The definition as canonical JSON: one text for one definition."""
    found = {
        "format": FORMAT,
        "measure": measure_document(definition.measure),
        "direction": definition.direction.value,
        "role": definition.role.value,
        "margin": definition.margin,
        "minimum_effect": definition.minimum_effect,
        "display_name": definition.display_name,
        "description": definition.description,
    }
    return json.dumps(_used(found), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def from_document(text: str) -> MetricDefinition:
    """The definition; FAILED_PRECONDITION when a newer program wrote the document."""
    found = json.loads(text)
    if found["format"] > FORMAT:
        raise failed_precondition(
            "NEWER_VERSION",
            f"the metric is stored in format {found['format']}; this program reads up to "
            f"{FORMAT}; run the newer version",
        )
    return MetricDefinition(
        measure=_measure(found["measure"]),
        direction=Direction(found["direction"]),
        role=MetricRole(found["role"]),
        margin=found.get("margin", 0.0),
        minimum_effect=found.get("minimum_effect", 0.0),
        display_name=found.get("display_name", ""),
        description=found.get("description", ""),
    )


def measure_document(measure: Measure) -> dict[str, Any]:
    """What is computed of each unit, spans in microseconds."""
    retention, cap = measure.retention, measure.cap
    return _used(
        {
            "kind": measure.kind.value,
            **_source_document(measure.source),
            "window_us": _us(measure.window),
            "delay_us": _us(measure.delay),
            "denominator": measure.denominator and _source_document(measure.denominator),
            "steps": [_source_document(step) for step in measure.steps],
            "retention": retention and [retention.first_day, retention.last_day],
            "quantile": measure.quantile,
            "of_events": measure.of_events,
            "cap": cap
            and _used(
                {
                    "absolute": cap.absolute,
                    "percentile": cap.percentile,
                    "ignore_zeros": cap.ignore_zeros,
                }
            ),
            "lookback_us": _us(measure.lookback),
            "covariates": [_source_document(covariate) for covariate in measure.covariates],
            "complete_only": measure.complete_only,
        }
    )


def _source_document(source: Source) -> dict[str, Any]:
    return _used(
        {
            "event_name": source.event_name,
            "filter": source.filter and _filter_document(source.filter),
            "aggregation": ""
            if source.aggregation is Aggregation.SUM
            else source.aggregation.value,
            "currency": source.currency,
        }
    )


def _filter_document(filter_: Filter) -> dict[str, Any]:
    match filter_:
        case AllOf(parts):
            return {"all": [_filter_document(part) for part in parts]}
        case AnyOf(parts):
            return {"any": [_filter_document(part) for part in parts]}
        case Negated(part):
            return {"not": _filter_document(part)}
        case Comparison(field, operator, values):
            return {"field": field, "operator": operator.value, "values": list(values)}


def _measure(found: dict[str, Any]) -> Measure:
    own = _source(found)
    retention, cap = found.get("retention"), found.get("cap")
    return Measure(
        kind=MetricKind(found["kind"]),
        event_name=own.event_name,
        window=_span(found.get("window_us")),
        filter=own.filter,
        aggregation=own.aggregation,
        currency=own.currency,
        delay=_span(found.get("delay_us")) or dt.timedelta(0),
        denominator=_source(found["denominator"]) if "denominator" in found else None,
        steps=tuple(_source(step) for step in found.get("steps", ())),
        retention=Retention(*retention) if retention else None,
        quantile=found.get("quantile"),
        of_events=found.get("of_events", False),
        cap=Cap(**cap) if cap else None,
        lookback=_span(found.get("lookback_us")),
        covariates=tuple(_source(covariate) for covariate in found.get("covariates", ())),
        complete_only=found.get("complete_only", False),
    )


def _source(found: dict[str, Any]) -> Source:
    return Source(
        event_name=found["event_name"],
        filter=_filter(found["filter"]) if "filter" in found else None,
        aggregation=Aggregation(found.get("aggregation", Aggregation.SUM)),
        currency=found.get("currency", ""),
    )


def _filter(found: dict[str, Any]) -> Filter:
    if "all" in found:
        return AllOf(tuple(_filter(part) for part in found["all"]))
    if "any" in found:
        return AnyOf(tuple(_filter(part) for part in found["any"]))
    if "not" in found:
        return Negated(_filter(found["not"]))
    return Comparison(found["field"], Operator(found["operator"]), tuple(found["values"]))


def _used(found: dict[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in found.items() if value}


def _us(span: dt.timedelta | None) -> int | None:
    return None if span is None else span // _MICROSECOND


def _span(microseconds: int | None) -> dt.timedelta | None:
    return None if microseconds is None else microseconds * _MICROSECOND
