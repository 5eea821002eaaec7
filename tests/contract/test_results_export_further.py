"""What results say beside the comparison of record, in each form of a file."""

import csv
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import Parse
from touchstone.results.v1 import analysis_plan_pb2, metric_pb2, results_pb2
from touchstone.results.v1 import export_service_pb2 as pb
from touchstone.results.v1.results_service_pb2 import POSTERIOR_MODEL_HURDLE, ExposureWindow

from services.results.wire.export.page import encode_html
from services.results.wire.export.table import COLUMNS, encode_csv
from tests.contract import test_results_novelty as novelty
from tests.contract import test_results_switchback as switchback
from tests.contract.results_world import EXPERIMENT, World, open_world
from tests.contract.test_results_export import Outside, Tables, export


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as found:
        del found.played.experiment.variants[2:]
        yield found


def rows_of(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


async def everything(world: World) -> dict[str, Any]:
    """A metric of revenue whose effect is significant and fades, and how to ask for all of it."""
    novelty.Visits().write(world)
    await world.owner.define("visits", novelty.count())
    await world.owner.define(
        "spend", metric_pb2.Metric(kind=metric_pb2.METRIC_KIND_MEAN, event_name="purchase")
    )
    fixed = analysis_plan_pb2.ANALYSIS_METHOD_FIXED
    plan = analysis_plan_pb2.AnalysisPlan(name=f"{EXPERIMENT}/analysisPlan", method=fixed)
    paths = {"paths": ["method"]}
    await world.owner.call("UpdateAnalysisPlan", analysis_plan=plan, update_mask=paths)
    spans = [ExposureWindow(first_day=first, last_day=last) for first, last in novelty.SPANS]
    return {"exposure_windows": spans, "posteriors": [POSTERIOR_MODEL_HURDLE]}


async def test_days_courses_chosen_effects_and_revenue_are_in_every_form(world: World) -> None:
    asked = await everything(world)
    results = await world.viewer.results(**asked)
    by_name = {metric.metric.rpartition("/")[2]: metric for metric in results.metrics}
    visits = by_name["visits"]
    (chosen,), (slope,) = visits.comparisons, visits.course.slopes
    assert chosen.HasField("selected")
    made = await export(world, pb.EXPORT_FORMAT_JSON, **asked)
    assert Parse(made.content, results_pb2.Results()) == results
    rows = rows_of((await export(world, pb.EXPORT_FORMAT_CSV, **asked)).content)
    assert {row["method_reason"] for row in rows} == {"named"}
    record = {row["metric"]: row for row in rows if row["reading"] == "of_record"}
    row = record["visits"]
    assert float(row["selected_lift"]) == chosen.selected.lift.value
    assert float(row["selected_difference_low"]) == chosen.selected.difference_interval.low
    assert float(row["slope"]) == slope.slope.value
    assert float(row["slope_high"]) == slope.slope_interval.high
    assert row["trend"] == "fading"
    assert row["hurdle_error"] == "not_applicable"
    hurdle = by_name["spend"].comparisons[0].hurdle_posterior
    assert float(record["spend"]["hurdle_lift_low"]) == hurdle.lift_interval.low
    assert record["spend"]["clusters"] == record["spend"]["removed_exposures"] == ""
    days = [row for row in rows if (row["reading"], row["metric"]) == ("days", "visits")]
    spans = [(int(row["first_day"]), int(row["last_day"])) for row in days]
    assert spans == list(novelty.SPANS)
    reading = visits.windows[1].comparisons[0].reading
    assert float(days[1]["difference"]) == reading.difference.value
    page = (await export(world, pb.EXPORT_FORMAT_HTML, **asked)).content.decode()
    for words in ("corrected for having been chosen", "daily effect", "fading", "buyers"):
        assert words in page
    found = Tables()
    found.feed(page)
    assert found.open == []
    assert found.tables == found.captions
    made = await export(world, pb.EXPORT_FORMAT_NOTEBOOK, **asked)
    said = "".join(json.loads(made.content)["cells"][0]["source"])
    assert "chosen, the spans of days, the course over the days, the posterior of revenue" in said
    plain = await export(world, pb.EXPORT_FORMAT_NOTEBOOK, metrics=[by_name["spend"].metric])
    assert "the posterior of revenue" not in "".join(
        json.loads(plain.content)["cells"][0]["source"]
    )


async def test_clusters_and_windows_are_in_every_form(world: World) -> None:
    switchback.Rides(left_behind=1.0).write(world)
    metric = await switchback.spend(world)
    (one,) = metric.comparisons
    rows = rows_of((await export(world, pb.EXPORT_FORMAT_CSV)).content)
    row = next(row for row in rows if row["reading"] == "of_record")
    # The order of the arms is that of the experiment, where the control is the second.
    assert (int(row["clusters"]), int(row["control_clusters"])) == tuple(metric.clusters.arms)
    assert float(row["design_effect"]) == metric.clusters.design_effects[0].value
    left = one.switchback.carry_over
    assert float(row["permutation_p_value"]) == one.switchback.permutation_p_value.value
    assert float(row["carry_over"]) == left.difference.value
    assert float(row["carry_over_high"]) == left.difference_interval.high
    assert float(row["carry_over_p_value"]) == left.p_value.value
    page = (await export(world, pb.EXPORT_FORMAT_HTML)).content.decode()
    assert "windows of the switchback" in page
    assert f"{metric.clusters.all} clusters in all" in page


def failing() -> results_pb2.Results:
    results = results_pb2.Results(unclustered_units=4)
    results.removed_since.exposures = 12
    results.arms.add(variant="control", control=True)
    results.arms.add(variant="green")
    metric = results.metrics.add(metric="projects/p/metrics/spend")
    metric.arms.add(variant="control")
    metric.arms.add(variant="green")
    metric.comparisons.add(variant="green")
    metric.hurdle_error.reason, metric.hurdle_error.message = "LIMIT_EXCEEDED", "<b>too much"
    metric.course.error.message = "<script>no days</script>"
    span = metric.windows.add(first_day=1, last_day=7)
    span.error.reason, span.error.message = "LIMIT_EXCEEDED", "<img src=x>"
    return results


def test_what_failed_and_what_is_gone_is_said() -> None:
    results = failing()
    record, span = rows_of(encode_csv(results))
    assert (record["removed_exposures"], record["removed_conversions"]) == ("12", "0")
    assert record["hurdle_error"] == "LIMIT_EXCEEDED: <b>too much"
    assert (span["first_day"], span["error"]) == ("1", "LIMIT_EXCEEDED: <img src=x>")
    page = encode_html(results).decode()
    assert "12 exposures and 0 measured events of this cut were erased" in page
    assert "4 units belong to no cluster" in page
    outside = Outside()
    outside.feed(page)
    assert outside.found == []
    results.removed_since.Clear()
    results.removed_since.unknown = True
    record, _ = rows_of(encode_csv(results))
    assert (record["removed_exposures"], record["removed_conversions"]) == ("unknown", "unknown")
    assert "not known whether this cut has lost events" in encode_html(results).decode()


def test_every_column_is_in_the_reference() -> None:
    reference = Path(__file__).parents[2] / "docs" / "reference" / "results.md"
    section = reference.read_text().partition("| Column of `CSV` |")[2].partition("\n\n")[0]
    suffixes = ("_low", "_high", "_p_value")
    stems = [column for column in COLUMNS if not column.endswith(suffixes)]
    assert [stem for stem in stems if f"`{stem}`" not in section] == []
