"""`touchstone experiment plan`: how the answer is shown, and what is wrong usage."""

import pytest
from touchstone.results.v1 import metric_pb2, results_pb2
from touchstone.results.v1 import planning_service_pb2 as pb
from typer.testing import CliRunner

from services.cli.commands.planning import COLUMNS, row
from services.cli.main import app


def shown(forecast: pb.MetricForecast) -> dict[str, object]:
    return {column.name: cell for column, cell in zip(COLUMNS, row(forecast), strict=True) if cell}


def test_what_is_needed_and_what_is_found_stand_in_one_row() -> None:
    forecast = pb.MetricForecast(
        metric="projects/p/metrics/revenue",
        role=metric_pb2.METRIC_ROLE_PRIMARY,
        history_units=1000,
        mean=results_pb2.Estimate(value=2.5),
        explained=0.3,
        needed=pb.NeededUnits(lift=0.02, units=[600, 600], days=12),
        detectable=pb.DetectableEffect(units=500, lift=results_pb2.Estimate(value=0.031)),
    )
    assert shown(forecast) == {
        "metric": "revenue",
        "role": "primary",
        "history_units": 1000,
        "mean": 2.5,
        "explained": 0.3,
        "to_find": 0.02,
        "units": 1200,
        "days": 12,
        "found_with": 500,
        "finds": 0.031,
    }


def test_why_there_is_no_number_is_said() -> None:
    unknown = results_pb2.Estimate(not_estimable=results_pb2.NOT_ESTIMABLE_NOT_APPLICABLE)
    forecast = pb.MetricForecast(
        metric="projects/p/metrics/slow",
        mean=unknown,
        needed=pb.NeededUnits(obstacle=pb.PLANNING_OBSTACLE_NO_HISTORY),
    )
    found = shown(forecast)
    assert found["mean"] == "not applicable"
    assert found["obstacle"] == "no history"
    assert "days" not in found
    late = pb.NeededUnits(lift=0.1, units=[5, 5], obstacle=pb.PLANNING_OBSTACLE_NO_TRAFFIC)
    never = shown(pb.MetricForecast(needed=late))
    assert (never["units"], never["obstacle"], "days" in never) == (10, "no traffic", False)


@pytest.mark.parametrize("more", [[], ["--event-name", "visit", "--like", "other"]])
def test_a_history_is_one_of_two(more: list[str]) -> None:
    done = CliRunner().invoke(app, ["experiment", "plan", "--metric", "revenue", *more])
    assert done.exit_code == 2
    assert "allowed: one of the two" in done.output
