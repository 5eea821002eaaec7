"""`touchstone results` and `bandit`: each answer as rows, and what is wrong usage."""

import io
import json

import pytest
from touchstone.results.v1 import analysis_plan_pb2 as plan_pb
from touchstone.results.v1 import bandit_service_pb2 as bandit_pb
from touchstone.results.v1 import evaluation_service_pb2 as evaluation_pb
from touchstone.results.v1 import metric_pb2, time_series_pb2
from touchstone.results.v1 import results_pb2 as pb
from touchstone.results.v1 import results_service_pb2 as service_pb
from typer.testing import CliRunner

from services.cli.commands import (
    bandit,
    results_parts,
    results_plan,
    results_time_series,
    results_together,
    results_watch,
)
from services.cli.main import app
from services.cli.rendering import Format

E = pb.Estimate


def named(columns: object, row: object) -> dict[str, object]:
    pairs = zip(columns, row, strict=True)  # type: ignore[call-overload]
    return {column.name: cell for column, cell in pairs if cell is not None}


def told(position: int, *, complete: bool) -> service_pb.WatchResultsResponse:
    results = pb.Results(experiment="projects/p/experiments/e")
    results.provenance.watermark = f"cut-{position}"
    results.arms.add(variant="control", units=3, control=True)
    metric = results.metrics.add(metric="projects/p/metrics/visit")
    metric.arms.add(variant="control", mean=E(value=0.5))
    return service_pb.WatchResultsResponse(results=results, complete=complete)


STREAM = [told(1, complete=False), told(1, complete=True), told(2, complete=True)]


def test_a_watch_ends_after_so_many_complete_results() -> None:
    assert list(results_watch.up_to(STREAM, 1)) == STREAM[:2]
    assert list(results_watch.up_to(STREAM, 0)) == STREAM


def test_a_watch_is_one_object_a_line() -> None:
    out = io.StringIO()
    results_watch.show_each(STREAM, None, Format.JSON, out)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["complete"] for line in lines] == [False, True, True]


def test_a_watch_is_one_sheet_with_one_header() -> None:
    out = io.StringIO()
    results_watch.show_each(STREAM, None, Format.CSV, out)
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("watermark,metric,variant,")
    assert [line.split(",")[:3] for line in lines[1:]] == [
        ["cut-1", "visit", "control"],
        ["cut-2", "visit", "control"],
    ]


def test_a_watch_as_tables_says_what_is_ready(capsys: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()
    results_watch.show_each(STREAM[:2], None, Format.TABLE, out)
    assert "visit is ready" in capsys.readouterr().err
    assert out.getvalue().count("visit") == 1


def test_a_day_has_a_row_for_each_arm() -> None:
    series = time_series_pb2.TimeSeries(variants=["control", "green"])
    day = series.metrics.add(metric="projects/p/metrics/visit").days.add(day="2026-01-31")
    day.arms.add(units=5, new_units=2, mean=E(value=0.4), added=E(value=1))
    day.arms.add(units=6, new_units=3, mean=E(value=0.5), added=E(value=2))
    reading = day.comparisons.add(variant="green").reading
    reading.difference.value, reading.p_value.value = 0.1, 0.3
    reading.difference_interval.low, reading.difference_interval.high = -0.1, 0.3
    control, green = (
        named(results_time_series.COLUMNS, row) for row in results_time_series.rows(series)
    )
    assert (control["units"], "p_value" in control) == (5, False)
    assert (green["day"], green["new_units"], green["p_value"]) == ("2026-01-31", 3, 0.3)
    assert (green["difference_low"], green["difference_high"]) == (-0.1, 0.3)


def test_an_evaluation_has_rows_for_control_waves_and_all_of_them() -> None:
    reply = evaluation_pb.EvaluateControlGroupResponse()
    for variant in ("out", "coupon", "call"):
        group = reply.groups.add(units=9).group
        group.experiment, group.variant = "projects/p/experiments/journey", variant
    metric = reply.metrics.add(metric="projects/p/metrics/paid")
    metric.control.units, metric.control.mean.value = 9, 0.1
    for ratio in (1.96, 1.5):
        metric.waves.add(ratio=E(value=ratio), gained=E(value=7))
    metric.pooled.ratio.value = 1.7
    failed = reply.metrics.add(metric="projects/p/metrics/gone")
    failed.error.message = "it is away"
    rows = [named(results_together.EVALUATED, row) for row in results_together.evaluated(reply)]
    assert [(row["group"], row.get("ratio")) for row in rows] == [
        ("journey=out", None),
        ("journey=coupon", 1.96),
        ("journey=call", 1.5),
        ("all waves", 1.7),
    ]


def test_an_interaction_is_a_row_for_each_pair() -> None:
    reply = evaluation_pb.GetInteractionsResponse()
    other = reply.experiments.add(experiment="projects/p/experiments/b", dependence_alert=True)
    other.dependence_p_value.value = 0.001
    metric = other.metrics.add(metric="projects/p/metrics/paid", p_value=E(value=0.2))
    metric.pairs.add(variant="green", other_variant="new", p_value=E(value=0.1))
    (row,) = results_together.crossed(reply)
    found = named(results_together.CROSSED, row)
    assert (found["other"], found["pair_p_value"], found["p_value"]) == ("b", 0.1, 0.2)
    assert (found["dependence_p_value"], found["dependence_alert"]) == (0.001, True)


def test_the_sums_of_a_program_are_said() -> None:
    reply = evaluation_pb.GetProgramEffectResponse(shipped=1, left_out=2)
    reply.experiments.add()
    reply.naive.value, reply.flattery.value, reply.corrected.value = 0.05, 0.02, 0.03
    reply.corrected_interval.low, reply.corrected_interval.high = 0.01, 0.05
    reply.borrowed.not_estimable = pb.NOT_ESTIMABLE_NOT_APPLICABLE
    reply.borrowed_interval.not_estimable = pb.NOT_ESTIMABLE_NOT_APPLICABLE
    lines = list(results_together.sums(reply))
    assert "1 of 1 experiments passed the test" in lines
    assert "without it: +3.00%, [+1.00%, +5.00%]" in lines
    assert "if true effects are normal: not applicable, not applicable" in lines
    assert lines[-1] == "2 older experiments are left out"


def test_weights_that_are_held_say_why(capsys: pytest.CaptureFixture[str]) -> None:
    reply = bandit_pb.ComputeBanditWeightsResponse()
    reply.weights.hold = bandit_pb.BANDIT_HOLD_TOO_FEW_UNITS
    reply.weights.arms.add(variant="a", units=5, weight=5000, current_weight=6000)
    bandit.show(reply, Format.CSV)
    said = capsys.readouterr()
    assert "the weights are held: too few units" in said.err
    assert said.out.splitlines()[1].startswith("a,5,")


def test_a_plan_is_a_row_a_field() -> None:
    plan = plan_pb.AnalysisPlan(
        method=plan_pb.ANALYSIS_METHOD_GROUP_SEQUENTIAL,
        planned_units=4000,
        prior=plan_pb.LiftPrior(mean=0.01, std_dev=0.1),
        dimensions=["source", "evaluator"],
        metrics=[
            plan_pb.MetricPlan(
                metric="projects/p/metrics/refunds",
                role=metric_pb2.METRIC_ROLE_GUARDRAIL,
                margin=0.02,
            )
        ],
    )
    plan.planned_end_time.FromJsonString("2026-03-01T00:00:00Z")
    found = {row[0]: row[1] for row in results_plan.rows(plan)}
    assert found["method"] == "group-sequential"
    assert found["spending"] == "by default"
    assert (found["planned_units"], found["planned_end_time"]) == (4000, "2026-03-01T00:00:00Z")
    assert found["prior"] == "mean 0.01, std_dev 0.1"
    assert found["dimensions"] == "source, evaluator"
    assert found["metric refunds"] == "guardrail, margin 0.02"
    assert found["create_time"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["results", "evaluate", "--control", "journey", "--wave", "a=b", "--metric", "m"],
            "journey",
        ),
        (["results", "change-plan", "e", "--role", "orders=boss"], "boss"),
        (["results", "change-plan", "e", "--margin", "orders=much"], "much"),
        (["metric", "create", "m", "--kind", "ratio", "--denominator", "a=most"], "most"),
        (["metric", "create", "m", "--kind", "retention", "--days", "one"], "one"),
        (
            ["metric", "create", "m", "--kind", "mean", "--cap", "1", "--cap-percentile", "0.9"],
            "one of",
        ),
    ],
)
def test_wrong_usage_is_named(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert said in done.output
    assert "allowed: " in done.output


def test_slices_and_steps_have_a_row_for_each_arm() -> None:
    results = pb.Results()
    metric = results.metrics.add(metric="projects/p/metrics/visit")
    part = metric.slices.add(dimension="source", other_values=3)
    part.arms.add(variant="control", units=5, mean=E(value=0.4))
    part.arms.add(variant="green", units=6, mean=E(value=0.5))
    one = part.comparisons.add(variant="green", shrunken_difference=E(value=0.05))
    one.reading.p_value.value = 0.3
    one.shrunken_interval.low, one.shrunken_interval.high = -0.1, 0.2
    control, green = (named(results_parts.SLICES, row) for row in results_parts.slice_rows(results))
    assert (control["slice"], control["units"], "p_value" in control) == (
        "(3 other values)",
        5,
        False,
    )
    assert (green["p_value"], green["shrunken_low"], green["shrunken_high"]) == (0.3, -0.1, 0.2)

    test = metric.heterogeneity.add(dimension="source", variant="green")
    test.adjusted_p_value.value, test.i_squared.value = 0.25, 0.5
    (line,) = results_parts.differences(results)
    assert line.startswith("visit, green: the same effect in all slices of source: p 0.2500")
    assert line.endswith("50% of what differs is not chance")

    arm = metric.steps.add(event_name="form").arms.add(variant="control", units=4, left=1)
    arm.reached.value, arm.passed.value = 0.8, 0.8
    (row,) = (named(results_parts.STEPS, row) for row in results_parts.step_rows(results))
    assert (row["step"], row["units"], row["left"], row["passed"]) == ("form", 4, 1, 0.8)
