"""What definitions may say: each fault names its field, all come at once, and good ones pass."""

import math
from typing import Any

import pytest
from google.protobuf import json_format
from touchstone.results.v1 import metric_pb2 as pb

from services.results.wire.definition_decode import MOST_BYTES, decode_definition
from shared.errors import DomainError
from shared.filters.rules import LONGEST_TEXT, MOST_COMPARISONS, MOST_DEEP

STEP = {"event_name": "seen"}
COMPARE = {"field": "properties.plan", "operator": "FILTER_OPERATOR_EQUAL", "values": ["gold"]}
BASE: dict[str, dict[str, Any]] = {
    "PROPORTION": {"event_name": "visit"},
    "MEAN": {"event_name": "buy"},
    "RATIO": {"event_name": "buy", "denominator": {"event_name": "visit"}},
    "QUANTILE": {"event_name": "load", "quantile": 0.95},
    "FUNNEL": {"steps": [STEP, {"event_name": "paid"}]},
    "RETENTION": {"event_name": "visit", "retention": {"first_day": 1, "last_day": 1}},
    "TIME_TO_EVENT": {"event_name": "paid", "conversion_window": "86400s"},
}
EXTRA: dict[str, Any] = {
    "denominator": {"event_name": "visit"},
    "retention": {"first_day": 1, "last_day": 7},
    "quantile": 0.5,
    "steps": [STEP, STEP],
    "of_events": True,
    "cap": {"absolute": 10},
    "aggregation": "AGGREGATION_COUNT",
    "currency": "EUR",
    "conversion_window": "3600s",
    "delay": "60s",
    "variance_reduction": {"lookback_window": "3600s"},
}
ALLOWED = {
    "denominator": {"RATIO"},
    "retention": {"RETENTION"},
    "quantile": {"QUANTILE"},
    "steps": {"FUNNEL"},
    "of_events": {"QUANTILE"},
    "cap": {"MEAN", "RATIO"},
    "aggregation": {"MEAN", "RATIO", "QUANTILE"},
    "currency": {"MEAN", "RATIO", "QUANTILE"},
    "conversion_window": set(BASE) - {"RETENTION"},
    "delay": set(BASE) - {"RETENTION"},
    "variance_reduction": set(BASE) - {"QUANTILE"},
}


def message(kind: str, **fields: Any) -> pb.Metric:
    return json_format.ParseDict({"kind": f"METRIC_KIND_{kind}"} | BASE[kind] | fields, pb.Metric())


def faults(kind: str, **fields: Any) -> dict[str, str]:
    """What is wrong, by field without its prefix."""
    try:
        decode_definition(message(kind, **fields))
    except DomainError as error:
        return {v.field.removeprefix("metric."): v.description for v in error.violations}
    return {}


def compare(field: str, operator: str, *values: Any) -> dict[str, Any]:
    operator = f"FILTER_OPERATOR_{operator}"
    return {"compare": {"field": field, "operator": operator, "values": list(values)}}


@pytest.mark.parametrize("kind", BASE)
def test_each_kind_has_what_it_may_have_and_nothing_else(kind: str) -> None:
    assert faults(kind) == {}
    for field, value in EXTRA.items():
        found = faults(kind, **{field: value})
        if kind in ALLOWED[field]:
            assert found == {}, field
        else:
            assert list(found) == [field]
            assert "allowed: " in found[field]


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("PROPORTION", "event_name"),
        ("RATIO", "denominator"),
        ("QUANTILE", "quantile"),
        ("FUNNEL", "steps"),
        ("RETENTION", "retention"),
        ("TIME_TO_EVENT", "conversion_window"),
    ],
)
def test_what_a_kind_needs_is_missed(kind: str, field: str) -> None:
    wanted = message(kind)
    wanted.ClearField(field)  # type: ignore[arg-type]
    with pytest.raises(DomainError) as caught:
        decode_definition(wanted)
    (violation,) = caught.value.violations
    assert violation.field == f"metric.{field}"
    assert violation.description.startswith(f"is missing; kind {kind} needs it")


@pytest.mark.parametrize(
    ("kind", "fields", "field", "says"),
    [
        ("FUNNEL", {"steps": [STEP]}, "steps", "are 1; allowed: 2 to 20"),
        ("FUNNEL", {"steps": [STEP] * 21}, "steps", "are 21; allowed: 2 to 20"),
        ("FUNNEL", {"event_name": "x"}, "event_name", "its steps say their own"),
        ("FUNNEL", {"filter": {"compare": COMPARE}}, "filter", "its steps say their own"),
        (
            "FUNNEL",
            {"steps": [STEP, STEP | {"currency": "EUR"}]},
            "steps[1].currency",
            "steps of a funnel are counted",
        ),
        (
            "FUNNEL",
            {"steps": [STEP | {"aggregation": "AGGREGATION_COUNT"}, STEP]},
            "steps[0].aggregation",
            "is COUNT; allowed: none",
        ),
        (
            "RETENTION",
            {"retention": {"first_day": 3, "last_day": 2}},
            "retention.last_day",
            "is 2; allowed: the first day, 3, or later",
        ),
        (
            "MEAN",
            {"delay": "60s", "conversion_window": "60s"},
            "delay",
            "is 60 s; allowed: less than the conversion window, 60 s",
        ),
        ("MEAN", {"complete_only": True}, "complete_only", "unless there is a conversion window"),
        ("MEAN", {"conversion_window": "0.0000015s"}, "conversion_window", "whole microseconds"),
        (
            "MEAN",
            {"currency": "EUR", "aggregation": "AGGREGATION_COUNT"},
            "currency",
            "COUNT reads no value",
        ),
        (
            "RATIO",
            {
                "denominator": {
                    "event_name": "v",
                    "currency": "EUR",
                    "aggregation": "AGGREGATION_DISTINCT_DAYS",
                }
            },
            "denominator.currency",
            "DISTINCT_DAYS reads no value",
        ),
        (
            "QUANTILE",
            {"of_events": True, "aggregation": "AGGREGATION_MAX"},
            "aggregation",
            "because it is of_events",
        ),
        (
            "MEAN",
            {"cap": {"absolute": 1, "ignore_zeros": True}},
            "cap.ignore_zeros",
            "unless the cap is a percentile",
        ),
        ("MEAN", {"margin": 0.02}, "margin", "is 0.02; allowed: 0, unless role is GUARDRAIL"),
        (
            "MEAN",
            {"variance_reduction": {"disabled": True, "lookback_window": "60s"}},
            "variance_reduction.disabled",
            "keep one of them",
        ),
        (
            "MEAN",
            {"variance_reduction": {"covariates": [{"event_name": "buy"}]}},
            "variance_reduction.covariates[0]",
            "is there already",
        ),
        (
            "PROPORTION",
            {"variance_reduction": {"covariates": [STEP, STEP]}},
            "variance_reduction.covariates[1]",
            "is there already",
        ),
    ],
)
def test_what_does_not_fit_together_is_named(
    kind: str, fields: dict[str, Any], field: str, says: str
) -> None:
    found = faults(kind, **fields)
    assert list(found) == [field]
    assert says in found[field]


def test_everything_that_is_wrong_is_told_at_once() -> None:
    found = faults(
        "PROPORTION",
        cap={"absolute": 1},
        quantile=0.5,
        delay="60s",
        conversion_window="60s",
        margin=0.5,
        filter=compare("value", "CONTAINS", "x"),
    )
    assert set(found) == {"cap", "quantile", "delay", "margin", "filter.compare.operator"}


@pytest.mark.parametrize(
    ("comparison", "field", "says"),
    [
        (compare("properties.x", "IS_SET", "y"), "values", "are 1 for IS_SET; allowed: none"),
        (compare("properties.x", "EQUAL"), "values", "are 0 for EQUAL; allowed: 1"),
        (compare("properties.x", "IN"), "values", "are 0 for IN; allowed: 1 to 1000"),
        (compare("properties.x", "LESS", 1, 2), "values", "are 2 for LESS; allowed: 1"),
        (compare("properties.x", "LESS", "1"), "values[0]", "is '1'; allowed: a number"),
        (compare("properties.x", "GREATER", True), "values[0]", "is True; allowed: a number"),
        (compare("properties.x", "CONTAINS", "a", 1), "values[1]", "allowed: text"),
        (compare("properties.x", "STARTS_WITH", ""), "values[0]", "text that is not empty"),
        (compare("properties.x", "MATCHES", "("), "values[0]", "an RE2 regular expression"),
        (compare("properties.x", "MATCHES", "(?=a)"), "values[0]", "an RE2 regular expression"),
        (compare("properties.x", "MATCHES", "(a{999}){999}"), "values[0]", "RE2"),
        (compare("value", "EQUAL", "1"), "values[0]", "allowed: a number"),
        (compare("value", "MATCHES", "1"), "operator", "value is a number: it would never be true"),
        (compare("source", "EQUAL", 1), "values[0]", "allowed: text"),
        (compare("currency", "LESS", 1), "operator", "currency is text: it would never be true"),
        (compare("properties.x", "EQUAL", "x" * 1025), "values[0]", f"at most {LONGEST_TEXT}"),
    ],
)
def test_a_comparison_that_cannot_be_is_named(
    comparison: dict[str, Any], field: str, says: str
) -> None:
    for path, fields in (
        ("filter", {"filter": comparison}),
        (
            "filter.all.filters[0].negated",
            {"filter": {"all": {"filters": [{"negated": comparison}]}}},
        ),
    ):
        found = faults("MEAN", **fields)
        assert list(found) == [f"{path}.compare.{field}"]
        assert says in found[f"{path}.compare.{field}"]


@pytest.mark.parametrize("value", [None, [1], {"a": 1}, math.nan])
def test_a_constant_that_is_none_is_named(value: Any) -> None:
    wanted = message("MEAN", filter={"compare": COMPARE})
    given = wanted.filter.compare.values[0]
    if isinstance(value, float):
        given.number_value = value
    else:
        json_format.ParseDict(value, given)
    with pytest.raises(DomainError) as caught:
        decode_definition(wanted)
    fields = [violation.field for violation in caught.value.violations]
    assert "metric.filter.compare.values[0]" in fields


def test_filters_are_bounded() -> None:
    one = {"compare": COMPARE}
    deep: dict[str, Any] = one
    for _ in range(MOST_DEEP - 1):
        deep = {"negated": deep}
    assert faults("MEAN", filter=deep) == {}
    deeper = faults("MEAN", filter={"negated": deep})
    assert deeper == {"filter": f"is {MOST_DEEP + 1} levels deep; allowed: at most {MOST_DEEP}"}
    wide = [one] * MOST_COMPARISONS
    assert faults("MEAN", filter={"any": {"filters": wide}}) == {}
    assert list(faults("MEAN", filter={"any": {"filters": [*wide, one]}})) == ["filter"]


def test_a_definition_is_bounded_as_a_whole() -> None:
    values = ["x" * 1000] * 100
    big = faults("MEAN", filter=compare("properties.x", "IN", *values))
    assert f"at most {MOST_BYTES}" in big["metric"]


def test_filters_of_every_part_are_judged() -> None:
    wrong = {"event_name": "e", "filter": compare("value", "EQUAL", "x")}
    other = wrong | {"event_name": "f"}
    found = faults("RATIO", denominator=wrong, variance_reduction={"covariates": [other]})
    assert list(found) == [
        "denominator.filter.compare.values[0]",
        "variance_reduction.covariates[0].filter.compare.values[0]",
    ]
    assert list(faults("FUNNEL", steps=[STEP, wrong])) == ["steps[1].filter.compare.values[0]"]
