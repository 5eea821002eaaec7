"""Results as files: what is in them, that they are safe, and that they can be computed again."""

import ast
import asyncio
import csv
import datetime as dt
import html.parser
import io
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import touchstone_statistics
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import Parse
from touchstone.common.v1 import filter_pb2
from touchstone.results.v1 import export_service_pb2 as pb
from touchstone.results.v1 import metric_pb2, results_pb2, results_service_pb2

from services.results.wire.export.cells import end, number, shape, text
from services.results.wire.export.chart import Scale, excludes_none, interval_chart, interval_words
from services.results.wire.export.files import PART_BYTES, in_parts
from services.results.wire.export.page import encode_html
from services.results.wire.export.words import equals, p_value_words
from shared.errors import Code
from tests.contract.results_world import EXPERIMENT, START, World, events, open_world

SHARE, MEAN = metric_pb2.METRIC_KIND_PROPORTION, metric_pb2.METRIC_KIND_MEAN
HOUR = dt.timedelta(hours=1)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as found:
        yield found


async def export(
    world: World, form: pb.ExportFormat.ValueType, **fields: Any
) -> pb.ExportResultsResponse:
    asked = results_service_pb2.GetResultsRequest(experiment=EXPERIMENT, **fields)
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


@pytest.mark.parametrize(
    ("value", "words", "behind"),
    [
        (0.031249, "0.0312", "= 0.0312"),
        (0.9, "0.9", "= 0.9"),
        (0.00012345, "0.000123", "= 0.000123"),
        (0.0001, "0.0001", "= 0.0001"),
        (9.9e-5, "&lt;0.0001", "&lt; 0.0001"),
        (1e-300, "&lt;0.0001", "&lt; 0.0001"),
    ],
)
def test_a_p_value_for_people_has_three_digits(value: float, words: str, behind: str) -> None:
    estimate = results_pb2.Estimate(value=value)
    assert (p_value_words(estimate), equals(estimate)) == (words, behind)


def test_why_there_is_no_p_value_is_said() -> None:
    none = results_pb2.Estimate(not_estimable=results_pb2.NOT_ESTIMABLE_ONE_UNIT)
    assert p_value_words(none) == "one unit"


async def test_json_is_the_reply_of_get_results(world: World) -> None:
    await shop(world)
    made = await export(world, pb.EXPORT_FORMAT_JSON)
    assert (made.media_type, made.file_name) == ("application/json", "checkout.json")
    parsed = Parse(made.content, results_pb2.Results())
    assert parsed == await world.viewer.results()
    assert made.provenance == parsed.provenance

    def refuse(constant: str) -> float:
        raise AssertionError(constant)

    # No NaN and no infinity, which are no JSON.
    json.loads(made.content, parse_constant=refuse)
    assert b'"NaN"' not in made.content
    assert b'Infinity"' not in made.content


async def test_csv_has_a_row_a_comparison_with_all_digits(world: World) -> None:
    await shop(world)
    made = await export(world, pb.EXPORT_FORMAT_CSV)
    rows = list(csv.DictReader(io.StringIO(made.content.decode())))
    results = await world.viewer.results()
    of_record = [row for row in rows if row["reading"] == "of_record"]
    assert len(of_record) == 4
    by_name = {(row["metric"], row["variant"]): row for row in of_record}
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


async def test_csv_has_a_row_for_each_slice_and_method(world: World) -> None:
    await shop(world)
    fields: dict[str, Any] = {"methods": [1, 3], "dimensions": ["source"]}
    made = await export(world, pb.EXPORT_FORMAT_CSV, **fields)
    rows = list(csv.DictReader(io.StringIO(made.content.decode())))
    results = await world.viewer.results(**fields)
    spend = next(one for one in results.metrics if one.metric.endswith("/spend"))
    green = next(one for one in spend.comparisons if one.variant == "green")
    shown = [row for row in rows if (row["metric"], row["variant"]) == ("spend", "green")]
    beside = {row["method"]: row for row in shown if row["reading"] == "beside"}
    assert len(beside) == len(green.readings)
    for reading in green.readings:
        name = results_pb2.ReadingMethod.Name(reading.method).removeprefix("READING_METHOD_")
        assert float(beside[name.lower()]["p_value"]) == reading.p_value.value
    (part,) = spend.slices
    (sliced,) = [row for row in shown if row["reading"] == "slice"]
    assert (sliced["dimension"], sliced["slice"]) == ("source", "(no value)")
    one = next(one for one in part.comparisons if one.variant == "green")
    assert float(sliced["difference"]) == one.reading.difference.value
    assert sliced["shrunken_difference"] == number(one.shrunken_difference)


def test_an_interval_is_shown_as_what_it_is() -> None:
    outside = results_pb2.Interval(low=-2, high=1, complement=True)
    none = results_pb2.Interval(not_estimable=results_pb2.NOT_ESTIMABLE_NO_UNITS)
    half = results_pb2.Interval(low=0.5, high_unbounded=True)
    assert [shape(one) for one in (outside, none, half)] == ["outside", "", "inside"]
    assert (end(half, low=True), end(half, low=False), end(none, low=True)) == ("0.5", "inf", "")
    assert interval_words(outside) == "outside -200.00% to +100.00%"
    assert interval_words(none) == "no units"
    assert [excludes_none(one) for one in (outside, none, half)] == [True, False, True]
    assert "nan" not in interval_chart(half, results_pb2.Estimate(value=0.7), Scale.of([half]))


async def test_a_variant_that_looks_like_a_formula_is_text(world: World) -> None:
    """Row 71. Keys cannot hold one, but tables are opened by programs that know nothing of keys."""
    assert [text(value) for value in ("=1+1", "@x", "-1", "+1", "green")] == [
        *("'=1+1", "'@x", "'-1", "'+1", "green")
    ]


def test_a_large_file_comes_in_parts_that_a_message_can_hold() -> None:
    content = bytes(range(256)) * (5 * PART_BYTES // 512)
    parts = list(in_parts(content, pb.ExportResultsResponse(file_name="large.json")))
    assert [len(part.content) for part in parts] == [PART_BYTES, PART_BYTES, PART_BYTES // 2]
    assert [part.file_name for part in parts] == ["large.json", "", ""]
    assert whole(parts).content == content


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
    order = [page.index(words) for words in ("What to do", "trusted", "<h2>Metrics", "function of")]
    assert order == sorted(order)
    evil = await world.viewer.results()
    evil.metrics[0].metric = "projects/demo/metrics/<script>alert(1)</script>"
    evil.metrics[0].error.message = "<img src=x onerror=alert(1)>"
    evil.decisions[0].reasons.add(message="<script>")
    outside.feed(encode_html(evil).decode())
    assert outside.found == []


class Tables(html.parser.HTMLParser):
    """What a reader that does not see the page is told of its tables and drawings."""

    def __init__(self) -> None:
        super().__init__()
        self.captions = self.tables = 0
        self.headings: list[str | None] = []
        self.drawings: list[dict[str, str | None]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        found = dict(attrs)
        self.tables += tag == "table"
        self.captions += tag == "caption"
        if tag == "th":
            self.headings.append(found.get("scope"))
        if tag == "svg":
            self.drawings.append(found)
        if tag not in ("meta", "html"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "html":
            assert self.open.pop() == tag


async def test_the_page_can_be_read_without_being_seen(world: World) -> None:
    await shop(world)
    page = (await export(world, pb.EXPORT_FORMAT_HTML, dimensions=["source"])).content.decode()
    found = Tables()
    found.feed(page)
    assert found.open == []
    assert found.tables == found.captions == 5
    assert set(found.headings) == {"col", "row"}
    assert found.drawings
    assert all(one["role"] == "img" and one["aria-label"] for one in found.drawings)
    assert '<html lang="en">' in page


async def test_the_notebook_computes_the_numbers_again(world: World) -> None:
    rng = np.random.default_rng(12)
    tables: dict[str, list[dict[str, Any]]] = {"exposures": [], "conversions": []}
    for variant in ("control", "green", "blue"):
        for place in range(150):
            unit = {"unit_id": f"{variant}-{place}"}
            row = unit | {"experiment": "checkout", "variant": variant}
            tables["exposures"].append(row | {"event_time": START + place * HOUR})
            habit = rng.poisson(2)
            for name, when in (("buy", -24), ("buy", 3), ("see", 1), ("buy", 90)):
                for _ in range(rng.poisson(habit)):
                    at = START + (place + when + float(rng.random())) * HOUR
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
        "capped": metric_pb2.Metric(
            kind=MEAN, event_name="buy", currency="EUR", cap=metric_pb2.Cap(absolute=2.5)
        ),
        "most": metric_pb2.Metric(
            kind=MEAN,
            event_name="buy",
            aggregation=metric_pb2.AGGREGATION_MAX,
            variance_reduction=metric_pb2.VarianceReduction(covariates=[see]),
        ),
        "last": metric_pb2.Metric(
            kind=MEAN, event_name="buy", aggregation=metric_pb2.AGGREGATION_LAST
        ),
        "days": metric_pb2.Metric(
            kind=MEAN, event_name="buy", aggregation=metric_pb2.AGGREGATION_DISTINCT_DAYS
        ),
        "whole": metric_pb2.Metric(
            kind=MEAN, event_name="buy", conversion_window=two_days, complete_only=True
        ),
        "again": metric_pb2.Metric(
            kind=metric_pb2.METRIC_KIND_RETENTION,
            event_name="buy",
            retention=metric_pb2.Retention(first_day=3, last_day=4),
        ),
        "soon": metric_pb2.Metric(
            kind=metric_pb2.METRIC_KIND_TIME_TO_EVENT,
            event_name="buy",
            conversion_window=two_days,
            variance_reduction=metric_pb2.VarianceReduction(),
        ),
        "way": metric_pb2.Metric(
            kind=metric_pb2.METRIC_KIND_FUNNEL,
            steps=[metric_pb2.Source(event_name=name) for name in ("see", "buy", "buy")],
            conversion_window=two_days,
        ),
        "high": metric_pb2.Metric(
            kind=metric_pb2.METRIC_KIND_QUANTILE, event_name="buy", quantile=0.75
        ),
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
    done = await asyncio.to_thread(ran, notebook, world.lake)
    assert done.returncode == 0, done.stderr
    checked = json.loads(done.stdout.rpartition("CHECKED ")[2])
    plain = {"buyers", "spend", "late", "each", "capped", "most", "last", "days", "high"}
    assert {metric for metric, _ in checked} == plain | {"whole", "again", "soon", "way"}
    assert f"cut {made.provenance.watermark}, read from the Delta versions" in done.stdout

    # The twin: a number that is off by a billionth of itself, and a little, does not pass.
    settings = notebook["cells"][1]["source"]
    place, line = next((n, one) for n, one in enumerate(settings) if "ASKED = " in one)
    asked = ast.literal_eval(line.partition("json.loads(")[2].strip().removesuffix(")"))
    changed = json.loads(asked)
    for metric in changed["metrics"]:
        assert None not in metric["expected"]["p_value"], metric
    changed["metrics"][0]["expected"]["lift"][0] *= 1 + 3e-9
    settings[place] = f"ASKED = json.loads({json.dumps(changed)!r})\n"
    done = await asyncio.to_thread(ran, notebook, world.lake)
    assert done.returncode != 0
    assert "not what the results say" in done.stderr


def ran(notebook: dict[str, Any], lake: Path) -> subprocess.CompletedProcess[str]:
    """Every code cell in one program of its own, which knows the statistics and not the service."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    program = "\n\n".join("".join(cell["source"]) for cell in cells)
    # Ends at once: threads of the engines may still read ahead when an interpreter winds down.
    says = "\nprint('CHECKED', json.dumps([*CHECKED]), flush=True)\nos._exit(0)"
    statistics = Path(touchstone_statistics.__file__).parents[1]
    return subprocess.run(
        [sys.executable, "-c", program + says],
        cwd=lake,
        env={"TOUCHSTONE_LAKE": str(lake), "PYTHONPATH": str(statistics)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_who_may_not_read_results_may_not_export_them(world: World) -> None:
    asked = results_service_pb2.GetResultsRequest(experiment=EXPERIMENT)
    fields: dict[str, Any] = {"results": asked, "format": pb.EXPORT_FORMAT_CSV}
    assert (await world.other.refused("ExportResults", **fields)).code is Code.NOT_FOUND
    assert (await world.assigner.refused("ExportResults", **fields)).code is Code.PERMISSION_DENIED
    unknown = await world.viewer.refused("ExportResults", results=asked)
    assert unknown.code is Code.INVALID_ARGUMENT
