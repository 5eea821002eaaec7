"""Results as files: what is in them, that they are safe, and that they can be computed again."""

import csv
import datetime as dt
import html.parser
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import Parse
from touchstone.common.v1 import filter_pb2
from touchstone.results.v1 import export_service_pb2 as pb
from touchstone.results.v1 import metric_pb2, results_pb2, results_service_pb2

from services.results.wire.export.page import encode_html
from services.results.wire.export.table import text
from shared.errors import Code
from tests.contract.results_world import EXPERIMENT, START, World, events, open_world

SHARE, MEAN = metric_pb2.METRIC_KIND_PROPORTION, metric_pb2.METRIC_KIND_MEAN
HOUR = dt.timedelta(hours=1)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as found:
        yield found


async def export(world: World, form: pb.ExportFormat.ValueType) -> pb.ExportResultsResponse:
    asked = results_service_pb2.GetResultsRequest(experiment=EXPERIMENT)
    parts = await world.viewer.call("ExportResults", results=asked, format=form)
    return whole(parts)


def whole(parts: list[pb.ExportResultsResponse]) -> pb.ExportResultsResponse:
    """The first part with the content of all."""
    content = b"".join(part.content for part in parts)
    first = pb.ExportResultsResponse()
    first.CopyFrom(parts[0])
    first.content = content
    assert first.size_bytes == len(content)
    return first


async def shop(world: World) -> None:
    rng = np.random.default_rng(6)
    world.write(
        events({n: rng.lognormal(1, 1, 80) * (rng.random(80) < 0.4) for n in ("control", "green")})
    )
    await world.owner.define("visits", metric_pb2.Metric(kind=SHARE, event_name="visit"))
    await world.owner.define("spend", metric_pb2.Metric(kind=MEAN, event_name="purchase"))


async def test_json_is_the_reply_of_get_results(world: World) -> None:
    await shop(world)
    made = await export(world, pb.EXPORT_FORMAT_JSON)
    assert (made.media_type, made.file_name) == ("application/json", "checkout.json")
    parsed = Parse(made.content, results_pb2.Results())
    assert parsed == await world.viewer.results()


async def test_csv_has_a_row_a_comparison_with_all_digits(world: World) -> None:
    await shop(world)
    made = await export(world, pb.EXPORT_FORMAT_CSV)
    rows = list(csv.DictReader(io.StringIO(made.content.decode())))
    results = await world.viewer.results()
    assert len(rows) == 4
    by_name = {(row["metric"], row["variant"]): row for row in rows}
    for metric in results.metrics:
        for one in metric.comparisons:
            row = by_name[metric.metric.rsplit("/", 1)[1], one.variant]
            if one.variant == "blue":
                assert row["p_value"] == ""
                assert row["not_estimable"] == "no_units"
                continue
            assert float(row["difference"]) == one.difference.value
            assert float(row["difference_low"]) == one.difference_interval.low
            assert float(row["difference_high"]) == one.difference_interval.high
            assert float(row["p_value"]) == one.p_value.value
            assert row["watermark"] == results.provenance.watermark


async def test_a_variant_that_looks_like_a_formula_is_text(world: World) -> None:
    """Row 71. Keys cannot hold one, but tables are opened by programs that know nothing of keys."""
    assert [text(value) for value in ("=1+1", "@x", "-1", "+1", "green")] == [
        *("'=1+1", "'@x", "'-1", "'+1", "green")
    ]


class Outside(html.parser.HTMLParser):
    """Collects whatever a page would run or fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag in ("script", "link", "img", "iframe", "object", "a"):
            self.found.append(tag)
        self.found += [
            name for name, _ in attrs if name.startswith("on") or name in ("src", "href")
        ]


async def test_the_page_stands_alone_and_escapes_what_users_wrote(world: World) -> None:
    await shop(world)
    made = await export(world, pb.EXPORT_FORMAT_HTML)
    page = made.content.decode()
    assert page.startswith("<!doctype html>")
    assert "visits" in page
    assert "://" not in page
    outside = Outside()
    outside.feed(page)
    assert outside.found == []
    evil = await world.viewer.results()
    evil.metrics[0].metric = "projects/demo/metrics/<script>alert(1)</script>"
    evil.metrics[0].error.message = "<img src=x onerror=alert(1)>"
    evil.decisions[0].reasons.add(message="<script>")
    outside.feed(encode_html(evil).decode())
    assert outside.found == []


async def test_the_notebook_computes_the_numbers_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(12)
    tables: dict[str, list[dict[str, Any]]] = {"exposures": [], "conversions": []}
    for variant in ("control", "green", "blue"):
        for number in range(150):
            unit = {"unit_id": f"{variant}-{number}"}
            row = unit | {"experiment": "checkout", "variant": variant}
            tables["exposures"].append(row | {"event_time": START + number * HOUR})
            habit = rng.poisson(2)
            for name, when in (("buy", -24), ("buy", 3), ("see", 1), ("buy", 90)):
                for _ in range(rng.poisson(habit)):
                    at = START + (number + when + float(rng.random())) * HOUR
                    event = {"event_name": name, "event_time": at, "currency": "EUR"}
                    value = float(rng.lognormal())
                    tables["conversions"].append(unit | event | {"value": value})
    tables["exposures"].append(
        {"unit_id": "green-3", "experiment": "checkout", "variant": "blue"}
        | {"event_time": START + 50 * HOUR}
    )
    tables["exposures"].append(
        {"unit_id": "green-4", "experiment": "checkout", "variant": "green", "reason": "FORCED"}
        | {"event_time": START + 50 * HOUR}
    )
    first = world.write(tables)
    two_days = Duration(seconds=2 * 86_400)
    see = metric_pb2.Source(event_name="see", aggregation=metric_pb2.AGGREGATION_COUNT)
    ratio = metric_pb2.Metric(
        kind=metric_pb2.METRIC_KIND_RATIO,
        event_name="buy",
        aggregation=metric_pb2.AGGREGATION_COUNT,
        denominator=see,
    )
    for metric_id, metric in {
        "buyers": metric_pb2.Metric(kind=SHARE, event_name="buy", conversion_window=two_days),
        "spend": metric_pb2.Metric(kind=MEAN, event_name="buy", currency="EUR"),
        "late": metric_pb2.Metric(kind=MEAN, event_name="buy", delay=two_days),
        "each": ratio,
        "odd": metric_pb2.Metric(
            kind=SHARE,
            event_name="buy",
            filter=filter_pb2.Filter(
                compare=filter_pb2.FieldComparison(
                    field="value", operator=filter_pb2.FILTER_OPERATOR_IS_SET
                )
            ),
        ),
    }.items():
        await world.owner.define(metric_id, metric)
    await world.viewer.results(consistency_token=first)
    made = await export(world, pb.EXPORT_FORMAT_NOTEBOOK)
    # What comes later is in no number of the notebook.
    world.write({"conversions": [{"unit_id": "green-9", "event_name": "buy", "value": 1e6}]}, 2)

    notebook = json.loads(made.content)
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert "`odd`" in "".join(notebook["cells"][0]["source"])
    monkeypatch.setenv("TOUCHSTONE_LAKE", str(world.lake))
    names = run(notebook)
    assert {metric for metric, _ in names["CHECKED"]} == {"buyers", "spend", "late", "each"}
    assert all(names["CHECKED"].values())

    # The twin: another number does not pass.
    names["ASKED"]["metrics"][0]["expected"]["difference"][0] += 0.5
    with pytest.raises(AssertionError, match="not what the results say"):
        exec(compile("".join(notebook["cells"][4]["source"]), "check", "exec"), names)


def run(notebook: dict[str, Any]) -> dict[str, Any]:
    """Every code cell in one namespace, as a kernel would."""
    names: dict[str, Any] = {}
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
    return names


async def test_who_may_not_read_results_may_not_export_them(world: World) -> None:
    asked = results_service_pb2.GetResultsRequest(experiment=EXPERIMENT)
    fields: dict[str, Any] = {"results": asked, "format": pb.EXPORT_FORMAT_CSV}
    assert (await world.other.refused("ExportResults", **fields)).code is Code.NOT_FOUND
    assert (await world.assigner.refused("ExportResults", **fields)).code is Code.PERMISSION_DENIED
    unknown = await world.viewer.refused("ExportResults", results=asked)
    assert unknown.code is Code.INVALID_ARGUMENT
