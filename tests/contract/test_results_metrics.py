"""MetricService for every kind: what was defined is read back, at every version."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.field_mask_pb2 import FieldMask
from touchstone.results.v1 import metric_pb2 as pb

from shared.errors import Code
from shared.server.validation import RequestValidator
from tests.contract.results_world import PROJECT, World, open_world

COUNT = "AGGREGATION_COUNT"
GOLD = {
    "compare": {"field": "properties.plan", "operator": "FILTER_OPERATOR_EQUAL", "values": ["gold"]}
}
SMALL = {"compare": {"field": "value", "operator": "FILTER_OPERATOR_LESS", "values": [5]}}
KINDS: dict[str, dict[str, Any]] = {
    "PROPORTION": {
        "event_name": "visit",
        "filter": {"all": {"filters": [GOLD, {"negated": SMALL}]}},
        "delay": "3600s",
        "conversion_window": "86400s",
        "complete_only": True,
    },
    "MEAN": {
        "event_name": "buy",
        "aggregation": "AGGREGATION_MAX",
        "currency": "EUR",
        "cap": {"percentile": 0.999, "ignore_zeros": True},
        "variance_reduction": {
            "lookback_window": "604800s",
            "covariates": [{"event_name": "visit", "aggregation": COUNT, "filter": GOLD}],
        },
        "minimum_effect": 0.01,
    },
    "RATIO": {
        "event_name": "click",
        "aggregation": COUNT,
        "denominator": {"event_name": "view", "aggregation": COUNT},
        "variance_reduction": {"disabled": True},
        "role": "METRIC_ROLE_GUARDRAIL",
        "margin": 0.02,
    },
    "QUANTILE": {"event_name": "load", "quantile": 0.95, "of_events": True},
    "FUNNEL": {"steps": [{"event_name": "seen"}, {"event_name": "paid", "filter": GOLD}]},
    "RETENTION": {"event_name": "visit", "retention": {"first_day": 0, "last_day": 7}},
    "TIME_TO_EVENT": {
        "event_name": "paid",
        "conversion_window": "86400s",
        "variance_reduction": {
            "lookback_window": "3600s",
            "covariates": [{"event_name": "visit", "aggregation": COUNT}],
        },
    },
}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as found:
        yield found


def message(kind: str) -> pb.Metric:
    return json_format.ParseDict({"kind": f"METRIC_KIND_{kind}"} | KINDS[kind], pb.Metric())


def stated(metric: pb.Metric) -> dict[str, Any]:
    """What a metric says, without what the service sets."""
    found = json_format.MessageToDict(metric, preserving_proto_field_name=True)
    for field in ("name", "version", "etag", "create_time", "update_time"):
        found.pop(field, None)
    return found


async def test_every_kind_is_read_back_as_it_was_defined(world: World) -> None:
    for kind in KINDS:
        wanted = message(kind)
        made = await world.owner.define(kind.lower(), wanted)
        read = (await world.viewer.call("GetMetric", name=made.name)).metric
        assert read == made
        shown = stated(read)
        for field, value in stated(wanted).items():
            assert shown[field] == value
        again = await world.owner.define(f"{kind.lower()}-again", read)
        assert stated(again) == shown


async def test_defaults_are_shown_as_they_were_taken(world: World) -> None:
    plain = pb.Metric(kind=pb.METRIC_KIND_MEAN, event_name="buy")
    made = await world.owner.define("it", plain)
    assert made.aggregation == pb.AGGREGATION_SUM
    assert made.direction == pb.DIRECTION_INCREASE
    assert made.role == pb.METRIC_ROLE_SECONDARY
    assert made.variance_reduction.lookback_window.seconds == 14 * 86_400
    assert not made.HasField("conversion_window")


async def test_every_version_can_be_read(world: World) -> None:
    first = await world.owner.define("it", message("MEAN"))
    sent = pb.Metric(name=first.name, kind=first.kind, currency="USD")
    paths = FieldMask(paths=["currency", "cap", "variance_reduction"])
    second = (await world.owner.call("UpdateMetric", metric=sent, update_mask=paths)).metric
    assert (second.version, second.currency, second.HasField("cap")) == (2, "USD", False)
    assert second.aggregation == pb.AGGREGATION_MAX
    assert second.variance_reduction.lookback_window.seconds == 14 * 86_400

    old = (await world.viewer.call("GetMetric", name=first.name, version=1)).metric
    assert (old.version, old.etag, old.HasField("update_time")) == (1, "", False)
    assert stated(old) == stated(first)
    now = (await world.viewer.call("GetMetric", name=first.name, version=2)).metric
    assert stated(now) == stated(second)
    missing = await world.viewer.refused("GetMetric", name=first.name, version=3)
    assert missing.code is Code.NOT_FOUND
    assert "at version 3" in missing.message
    foreign = await world.other.refused("GetMetric", name=first.name, version=1)
    assert foreign.code is Code.NOT_FOUND


async def test_versions_are_listed_newest_first_in_pages(world: World) -> None:
    first = await world.owner.define("it", message("MEAN"))
    for currency in ("USD", "CHF"):
        sent = pb.Metric(name=first.name, kind=first.kind, currency=currency)
        paths = FieldMask(paths=["currency"])
        await world.owner.call("UpdateMetric", metric=sent, update_mask=paths)
    page = await world.viewer.call("ListMetricVersions", name=first.name, page_size=2)
    assert [(one.version, one.currency, one.etag) for one in page.metrics] == [
        (3, "CHF", ""),
        (2, "USD", ""),
    ]
    rest = await world.viewer.call(
        "ListMetricVersions", name=first.name, page_size=2, page_token=page.next_page_token
    )
    assert [stated(one) for one in rest.metrics] == [stated(first)]
    assert rest.next_page_token == ""
    foreign = await world.other.refused("ListMetricVersions", name=first.name)
    assert foreign.code is Code.NOT_FOUND
    bad = await world.viewer.refused("ListMetricVersions", name=first.name, page_token="x")
    assert bad.reason == "INVALID_PAGE_TOKEN"


async def test_every_fault_is_told_at_once_and_nothing_is_kept(world: World) -> None:
    wrong = message("TIME_TO_EVENT")
    wrong.cap.absolute = 1
    wrong.delay.seconds = 86_400
    wrong.margin = 0.1
    refused = await world.owner.refused(
        "CreateMetric", parent=PROJECT, metric_id="it", metric=wrong
    )
    assert refused.code is Code.INVALID_ARGUMENT
    assert {violation.field for violation in refused.violations} == {
        "metric.cap",
        "metric.delay",
        "metric.margin",
    }
    gone = await world.viewer.refused("GetMetric", name=f"{PROJECT}/metrics/it")
    assert gone.code is Code.NOT_FOUND


async def test_a_change_that_does_not_fit_what_stays_is_refused(world: World) -> None:
    made = await world.owner.define("it", message("PROPORTION"))
    sent = pb.Metric(name=made.name, kind=made.kind)
    refused = await world.owner.refused(
        "UpdateMetric", metric=sent, update_mask=FieldMask(paths=["conversion_window"])
    )
    assert [violation.field for violation in refused.violations] == ["metric.complete_only"]
    assert (await world.viewer.call("GetMetric", name=made.name)).metric == made


BOUNDS = [
    ({"quantile": 1}, "quantile"),
    ({"margin": 1}, "margin"),
    ({"margin": -0.1}, "margin"),
    ({"minimum_effect": 11}, "minimum_effect"),
    ({"cap": {"absolute": 0}}, "cap.absolute"),
    ({"cap": {"percentile": 1}}, "cap.percentile"),
    ({"cap": {}}, "cap.most"),
    ({"retention": {"first_day": 366}}, "retention.first_day"),
    ({"delay": "-1s"}, "delay"),
    ({"conversion_window": "31622401s"}, "conversion_window"),
    (
        {"variance_reduction": {"lookback_window": "0s"}},
        "variance_reduction.lookback_window",
    ),
    ({"steps": [{"event_name": "Größe"}]}, "steps[0].event_name"),
    ({"steps": [{"event_name": "e"}] * 21}, "steps"),
    ({"filter": {}}, "filter.kind"),
    ({"filter": {"any": {}}}, "filter.any.filters"),
    ({"filter": {"compare": {"field": "x", "operator": 1}}}, "filter.compare.field"),
    ({"filter": {"compare": {"field": "value"}}}, "filter.compare.operator"),
]


@pytest.mark.parametrize(("fields", "field"), BOUNDS)
def test_the_contract_bounds_each_field(fields: dict[str, Any], field: str) -> None:
    base = {"kind": "METRIC_KIND_MEAN", "event_name": "buy"}
    wrong = json_format.ParseDict(base | fields, pb.Metric())
    found = RequestValidator().violations(wrong)
    assert [violation.field for violation in found] == [field]
