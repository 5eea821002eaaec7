"""Definitions between messages, the domain and documents: nothing is lost on the way."""

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from touchstone.results.v1 import metric_pb2 as pb

from services.results.adapters.metric_documents import from_document, to_document
from services.results.domain.measure import Aggregation, Cap, Measure, MetricKind, Retention, Source
from services.results.domain.metric import (
    DEFAULT_LOOKBACK,
    Direction,
    MetricDefinition,
    MetricRole,
)
from services.results.wire.definition_decode import decode_definition
from services.results.wire.metric_decode import UPDATABLE, decode_patch
from services.results.wire.metric_encode import encode_definition
from shared.errors import DomainError
from shared.filters.filter import AllOf, AnyOf, Comparison, Filter, Negated, Operator

VISIT = Measure(MetricKind.PROPORTION, "visit")
_TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8)
_NUMBER = st.floats(allow_nan=False, allow_infinity=False)
_NAME = st.from_regex(r"[a-z][a-z0-9_.-]{0,9}", fullmatch=True)
_LITERAL = st.one_of(_TEXT, _NUMBER, st.booleans())
_COMPARISON = st.one_of(
    st.builds(
        lambda key, values: Comparison(f"properties.{key}", Operator.IN, tuple(values)),
        _TEXT,
        st.lists(_LITERAL, min_size=1, max_size=3),
    ),
    st.builds(lambda number: Comparison("value", Operator.LESS, (number,)), _NUMBER),
    st.just(Comparison("source", Operator.IS_SET)),
)


def _grown(parts: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
    several = st.lists(parts, min_size=1, max_size=3).map(tuple)
    return st.one_of(
        st.builds(AllOf, several), st.builds(AnyOf, several), st.builds(Negated, parts)
    )


_FILTER: st.SearchStrategy[Filter] = st.recursive(_COMPARISON, _grown, max_leaves=6)
_SOURCE = st.builds(Source, _NAME, st.none() | _FILTER, st.sampled_from(Aggregation))
_SPAN = st.timedeltas(dt.timedelta(microseconds=1), dt.timedelta(days=366))
_CAP = st.one_of(
    st.builds(lambda most: Cap(absolute=most), st.floats(1e-6, 1e9)),
    st.builds(
        lambda p, zeros: Cap(percentile=p, ignore_zeros=zeros),
        st.floats(0.01, 0.999),
        st.booleans(),
    ),
)


@st.composite
def measures(draw: st.DrawFn) -> Measure:
    """A measure of any kind that keeps to the rules."""
    kind = draw(st.sampled_from(MetricKind))
    source = draw(_SOURCE)
    made = Measure(kind, source.event_name, filter=source.filter)
    if kind is MetricKind.RETENTION:
        return replace(
            made, retention=Retention(*sorted(draw(st.tuples(*[st.integers(0, 365)] * 2))))
        )
    window = draw(_SPAN if kind is MetricKind.TIME_TO_EVENT else st.none() | _SPAN)
    made = replace(made, window=window, complete_only=window is not None and draw(st.booleans()))
    if kind is not MetricKind.QUANTILE:
        made = replace(made, lookback=draw(st.none() | _SPAN))
    else:
        return replace(made, quantile=draw(st.floats(0.001, 0.999)), of_events=draw(st.booleans()))
    if kind is MetricKind.FUNNEL:
        steps = st.builds(Source, _NAME, st.none() | _FILTER)
        found = tuple(draw(st.lists(steps, min_size=2, max_size=4)))
        return replace(made, event_name=found[0].event_name, filter=found[0].filter, steps=found)
    if kind in (MetricKind.MEAN, MetricKind.RATIO):
        made = replace(made, aggregation=source.aggregation, cap=draw(st.none() | _CAP))
    if kind is MetricKind.RATIO:
        made = replace(made, denominator=draw(_SOURCE))
    return made


@st.composite
def definitions(draw: st.DrawFn) -> MetricDefinition:
    role = draw(st.sampled_from(MetricRole))
    return MetricDefinition(
        measure=draw(measures()),
        direction=draw(st.sampled_from(Direction)),
        role=role,
        margin=draw(st.floats(0, 0.9)) if role is MetricRole.GUARDRAIL else 0.0,
        minimum_effect=draw(st.floats(0, 10)),
        display_name=draw(_TEXT),
    )


@settings(max_examples=150, deadline=None)
@given(definitions())
def test_a_definition_survives_messages_and_documents(definition: MetricDefinition) -> None:
    assert decode_definition(encode_definition(definition)) == definition
    text = to_document(definition)
    assert from_document(text) == definition
    assert to_document(from_document(text)) == text


def made(**fields: Any) -> MetricDefinition:
    return decode_definition(json_format.ParseDict(fields, pb.Metric()))


def test_what_is_not_said_has_the_default_of_its_kind() -> None:
    mean = made(kind="METRIC_KIND_MEAN", event_name="buy").measure
    assert (mean.aggregation, mean.lookback, mean.covariates) == (
        Aggregation.SUM,
        DEFAULT_LOOKBACK,
        (),
    )
    time = made(kind="METRIC_KIND_TIME_TO_EVENT", event_name="b", conversion_window="60s").measure
    assert time.lookback is None
    off = made(kind="METRIC_KIND_MEAN", event_name="b", variance_reduction={"disabled": True})
    assert off.measure.lookback is None
    wider = {"covariates": [{"event_name": "visit", "aggregation": "AGGREGATION_COUNT"}]}
    more = made(kind="METRIC_KIND_PROPORTION", event_name="b", variance_reduction=wider).measure
    assert more.lookback == DEFAULT_LOOKBACK
    assert more.covariates == (Source("visit", aggregation=Aggregation.COUNT),)


def test_the_first_step_is_a_funnels_own_source() -> None:
    step = {"event_name": "seen", "filter": {"compare": {"field": "source", "operator": 1}}}
    funnel = made(kind="METRIC_KIND_FUNNEL", steps=[step, {"event_name": "paid"}]).measure
    assert funnel.source == funnel.steps[0]
    assert funnel.steps[1] == Source("paid")
    shown = encode_definition(MetricDefinition(funnel))
    assert (shown.event_name, shown.HasField("filter")) == ("", False)


def test_a_patch_takes_what_the_mask_names_also_when_it_is_empty() -> None:
    old = MetricDefinition(
        replace(VISIT, window=dt.timedelta(days=1), lookback=DEFAULT_LOOKBACK),
        role=MetricRole.GUARDRAIL,
        margin=0.1,
        description="old",
    )
    sent = pb.Metric(kind=pb.METRIC_KIND_MEAN, name="x", etag="x", event_name="other", margin=0.2)
    patch = decode_patch(sent, ["conversion_window", "margin"])
    assert patch(old) == replace(old, measure=replace(old.measure, window=None), margin=0.2)
    swapped = decode_patch(pb.Metric(event_name="seen"), ["event_name", "description"])(old)
    assert (swapped.measure.event_name, swapped.description) == ("seen", "")
    assert swapped.measure.window == old.measure.window


def test_a_patch_is_judged_with_what_stays() -> None:
    old = MetricDefinition(VISIT, role=MetricRole.GUARDRAIL, margin=0.1)
    patch = decode_patch(pb.Metric(role=pb.METRIC_ROLE_PRIMARY), ["role"])
    with pytest.raises(DomainError, match=r"metric\.margin is 0\.1"):
        patch(old)
    both = decode_patch(pb.Metric(role=pb.METRIC_ROLE_PRIMARY), ["role", "margin"])
    assert both(old).margin == 0


def test_a_mask_names_what_an_owner_decides_and_nothing_else() -> None:
    assert "kind" not in UPDATABLE
    assert "cap" in UPDATABLE
    for path in ("kind", "etag", "version", "cap.absolute", ""):
        with pytest.raises(DomainError, match="update_mask"):
            decode_patch(pb.Metric(), [path])
