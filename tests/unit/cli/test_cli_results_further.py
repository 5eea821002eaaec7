"""`touchstone results`: what stands beside the comparison of record, as cells and as lines."""

import csv
import io

import pytest
from google.protobuf import text_format
from touchstone.results.v1 import results_pb2 as pb
from touchstone.results.v1 import results_service_pb2 as service_pb
from typer.testing import CliRunner

from services.cli.commands import results, results_plan
from services.cli.commands.results_further import findings, removed_words
from services.cli.main import app
from services.cli.rendering import Format, View, write

WHOLE = """
arms { variant: "control" control: true } arms { variant: "green" }
unclustered_units: 3
removed_since { exposures: 2 conversions: 5 }
metrics {
  metric: "projects/p/metrics/spend"
  arms { variant: "control" units: 40 mean { value: 10 } }
  arms { variant: "green" units: 42 mean { value: 12 } }
  comparisons {
    variant: "green"
    difference { value: 2 }
    selected {
      difference { value: 1.5 } difference_interval { low: -0.5 high: 3 }
      lift { value: 0.15 } lift_interval { low: -0.05 high: 0.3 }
    }
    switchback {
      permutation_p_value { value: 0.0125 } permutations: 2000
      carry_over {
        difference { value: 0.5 } difference_interval { low: -1 high: 2 } p_value { value: 0.4 }
      }
    }
    hurdle_posterior {
      probability_better { value: 0.93 } expected_loss { value: 0.01 }
      lift_interval { low: -0.01 high: 0.25 }
    }
  }
  clusters { arms: 7 arms: 8 all: 14 mixed: 1
    design_effects { value: 2.5 } design_effects { not_estimable: NOT_ESTIMABLE_ZERO_VARIANCE } }
  course {
    units: 30 units: 31 per_day: true
    slopes {
      variant: "green" slope { value: -0.25 } slope_interval { low: -0.5 high: -0.125 }
      p_value { value: 0.002 } trend: EFFECT_TREND_FADING
    }
  }
}
"""
LIFT = "+15.00% [-5.00%, +30.00%]"


def whole() -> pb.Results:
    return text_format.Parse(WHOLE, pb.Results())


def test_each_finding_is_a_line() -> None:
    assert list(findings(whole())) == [
        "spend: 14 clusters, 1 with units of several variants; design effect 2.5, zero variance",
        (
            "spend, green: significant; corrected for having been chosen at this look alone, "
            f"the lift is {LIFT}"
        ),
        "spend, green: windows: permutation p 0.0125; carry-over 0.5 [-1, 2], p 0.4000",
        "spend, green: revenue posterior: better 93.0%, lift [-1.00%, +25.00%]",
        "spend, green: each day the daily effect changes by -0.25 [-0.5, -0.125], p 0.0020, fading",
    ]


def test_nothing_is_said_of_what_is_not_there() -> None:
    found = whole()
    metric = found.metrics[0]
    for field in ("selected", "switchback", "hurdle_posterior"):
        metric.comparisons[0].ClearField(field)
    metric.ClearField("clusters")
    metric.ClearField("course")
    assert list(findings(found)) == []
    _, green = results.rows(found)
    # Behind the fourteen columns of the comparison of record nothing is filled in.
    assert set(green[14:]) == {None}


def test_why_something_is_missing_is_a_line() -> None:
    found = whole()
    metric = found.metrics[0]
    metric.ClearField("clusters")
    del metric.comparisons[:]
    metric.ClearField("course")
    metric.course.error.message = "the spans are not over"
    metric.hurdle_error.message = "too much memory"
    assert list(findings(found)) == [
        "spend: no posterior of revenue: too much memory",
        "spend: no course over the days: the spans are not over",
    ]


def test_a_number_that_is_not_there_is_one_reason() -> None:
    found = whole()
    metric = found.metrics[0]
    metric.ClearField("clusters")
    (one,), (slope,) = metric.comparisons, metric.course.slopes
    for field in ("selected", "switchback"):
        one.ClearField(field)
    hurdle = one.hurdle_posterior
    hurdle.probability_better.not_estimable = pb.NOT_ESTIMABLE_NOT_APPLICABLE
    slope.slope.not_estimable = pb.NOT_ESTIMABLE_NO_UNITS
    slope.ClearField("trend")
    assert list(findings(found)) == [
        "spend, green: revenue posterior: not applicable",
        "spend, green: the course of the daily effect over the days: no units",
    ]


def test_a_sheet_has_them_in_full() -> None:
    out = io.StringIO()
    found = whole()
    write(View(found, results.COLUMNS, list(results.rows(found))), Format.CSV, out)
    control, green = csv.DictReader(io.StringIO(out.getvalue()))
    assert (control["clusters"], control["design_effect"]) == ("7", "2.5")
    assert (control["selected_lift"], control["hurdle_lift_low"]) == ("", "")
    assert (green["clusters"], green["design_effect"]) == ("8", "zero variance")
    expected = {
        "selected_difference": 1.5,
        "selected_difference_low": -0.5,
        "selected_lift_high": 0.3,
        "permutation_p_value": 0.0125,
        "carry_over": 0.5,
        "carry_over_low": -1,
        "carry_over_p_value": 0.4,
        "slope": -0.25,
        "slope_high": -0.125,
        "slope_p_value": 0.002,
        "hurdle_probability_better": 0.93,
        "hurdle_lift_high": 0.25,
    }
    assert {name: float(green[name]) for name in expected} == expected
    assert green["trend"] == "fading"


def test_a_table_stays_narrow_and_the_rest_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    found = whole()
    columns, _ = results.brief(list(results.rows(found)))
    assert len(columns) == 8
    results.tell(found)
    said = capsys.readouterr().err
    assert "corrected for having been chosen" in said
    assert "3 units belong to no cluster" in said
    assert "2 exposures and 5 measured events of this cut were erased" in said


def test_a_loss_that_nobody_can_know_is_said() -> None:
    assert "not known" in removed_words(pb.RemovedSince(unknown=True))


def test_days_are_a_span() -> None:
    assert results.parse_span("8-56") == service_pb.ExposureWindow(first_day=8, last_day=56)


def test_windows_stay_change_or_go() -> None:
    assert results_plan._windows(None, None) == {}
    assert results_plan._windows(0, None) == {"switchback": None}
    (made,) = results_plan._windows(7200, 600).values()
    assert (made.period_s, made.burn_in_s) == (7200, 600)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "e", "--days", "a week"], "a week"),
        (["show", "e", "--days", "8"], "--days is '8'"),
        (["change-plan", "e", "--burn-in-s", "60"], "--switchback-s"),
    ],
)
def test_wrong_usage_is_named(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["results", *arguments], env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert said in done.output
    assert "allowed: " in done.output
