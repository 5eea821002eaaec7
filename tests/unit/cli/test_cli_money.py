"""What channels cost and bring, on the command line: how it is shown, and what is wrong usage."""

from pathlib import Path

import pytest
import typer
from touchstone.attribution.v1 import (
    budget_pb2,
    economics_pb2,
    lifetime_pb2,
    money_pb2,
    scenario_service_pb2,
    spend_service_pb2,
)
from touchstone.attribution.v1 import economics_service_pb2 as pb
from typer.testing import CliRunner

from services.cli.commands import budget, economics, scenario
from services.cli.main import app
from services.cli.request_files import read_request


def known(value: float, std_err: float | None = None) -> money_pb2.MoneyFigure:
    return money_pb2.MoneyFigure(value=value, std_err=std_err)


NONE = money_pb2.MoneyFigure(undefined=money_pb2.MONEY_UNDEFINED_ZERO_COST)


def test_a_figure_or_why_there_is_none() -> None:
    reply = pb.GetChannelEconomicsResponse(
        costs=[economics_pb2.ChannelCost(channel="ads", cost=known(0.0))],
        models=[
            economics_pb2.ModelEconomics(
                model_name="linear",
                channels=[
                    economics_pb2.ChannelEconomics(
                        channel="ads",
                        conversions=2,
                        value=known(8.0),
                        cost_per_conversion=NONE,
                        return_on_spend=NONE,
                        margin=known(8.0),
                        payback=economics_pb2.ChannelPayback(days=NONE),
                    ),
                    economics_pb2.ChannelEconomics(channel="mail", value=known(0.0)),
                ],
            )
        ],
    )
    ads, mail = economics.rows(reply)
    assert ads == ("linear", "ads", 2, 8.0, 0.0, "zero cost", "zero cost", 8.0, "zero cost")
    assert (mail[4], mail[8]) == ("cost unknown", None)
    row = lifetime_pb2.ChannelLifetime(channel="ads", units=3, predicted=known(2.0, 0.5))
    assert economics.lifetime_row(row)[:6] == ("ads", 3, 0, "unspecified", 2.0, 0.5)


def test_what_was_left_out_and_how_a_prediction_did_are_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    spend = spend_service_pb2.Spend(
        source="agency",
        channel="ads",
        campaign="spring",
        day="2026-01-31",
        amount=5,
        currency="CNY",
    )
    economics.tell_conflicts(
        [
            economics_pb2.CostConflict(channel="ads", counted="books", left_out=spend),
            economics_pb2.CostConflict(channel="ads", counted="books", touch_costs=3.0),
        ]
    )
    row = lifetime_pb2.HoldOutRow(
        purchases_predicted=known(10.0),
        purchases_seen=9,
        value_predicted=known(20.0),
        value_seen=21,
    )
    economics.tell_check(lifetime_pb2.HoldOutCheck(days=30, rows=[row]))
    said = capsys.readouterr().err
    assert "ads spring 2026-01-31: 5.00 CNY of agency is left out; books is counted" in said
    assert "ads: 3.00 that touches cost is left out; books is counted" in said
    assert "held out the last 30 days: 10.0 purchases predicted, 9 seen" in said


def test_a_constraint_that_binds_says_what_it_costs() -> None:
    total = budget_pb2.BindingConstraint(total=True, gain=known(0.25))
    assert budget.binding_text(total) == (
        "binds: the total; one more unit of money for it brings +0.250000"
    )
    group = budget_pb2.BindingConstraint(
        group="paid", bound=budget_pb2.BUDGET_BOUND_AT_MOST, gain=NONE
    )
    assert budget.binding_text(group) == (
        "binds: group paid at most; one more unit of money for it brings zero cost"
    )


def test_a_curve_that_should_not_be_trusted_is_warned_of(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fit = budget_pb2.FittedCurve(concerns=[*budget.CONCERNS])
    rows = [budget_pb2.AllocatedChannel(channel="ads", fitted=fit)]
    budget.tell_evidence(
        pb.AllocateBudgetResponse(allocation=budget_pb2.BudgetAllocation(channels=rows))
    )
    said = capsys.readouterr().err
    assert said.count("warning: ads: ") == len(budget_pb2.CurveConcern.values()) - 1
    assert "no saturation" in said


def test_a_request_is_read_from_a_file(tmp_path: Path) -> None:
    path = Path(__file__).parents[3] / "docs" / "examples" / "budget.yaml"
    found = read_request(path, pb.AllocateBudgetRequest())
    assert (found.total, len(found.lines), found.lines[0].kappa.value) == (50_000, 5, 0.4)
    scene = read_request(path.with_name("scene.yaml"), scenario_service_pb2.ValueScenarioRequest())
    assert scene.products[1].share.value == 0.3
    wrong = tmp_path / "wrong.yaml"
    for text, said in (
        ("totals: 5", "no AllocateBudgetRequest"),
        ("- 1", "no mapping"),
        ("a: [", "neither YAML nor JSON"),
        ("total: much", "no AllocateBudgetRequest"),
    ):
        wrong.write_text(text)
        with pytest.raises(typer.BadParameter, match=said):
            read_request(wrong, pb.AllocateBudgetRequest())
    with pytest.raises(typer.BadParameter, match="cannot be read"):
        read_request(tmp_path / "nothing.yaml", pb.AllocateBudgetRequest())


def test_results_of_a_scene_are_lines() -> None:
    reply = scenario_service_pb2.ValueScenarioResponse(
        total=known(1.0), uplift=known(0.5898), payback_years=known(1.25), contract_return=NONE
    )
    lines = list(scenario.results(reply))
    assert "uplift over direct income: 58.98%" in lines
    assert "payback with the total: 1.25 years" in lines
    assert "income for one invested: zero cost" in lines


EXAMPLE = str(Path(__file__).parents[3] / "docs" / "examples" / "spend.csv")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["attribution", "economics"], "allowed: one of the two"),
        (["attribution", "economics", "r", "--event-name", "buy"], "allowed: one of the two"),
        (["attribution", "economics", "r", "--rate", "USD"], "USD=7.1"),
        (["attribution", "economics", "r", "--rate", "USD=much"], "USD=7.1"),
        (["attribution", "lifetime", "--event-name", "B"], "event"),
        (["spend", "import", "spend.csv"], "--currency or --currency-column"),
        (
            ["spend", "import", EXAMPLE, "--currency", "USD", "--refuse", "--replace-days"],
            "--refuse or --replace-days",
        ),
    ],
)
def test_wrong_usage_is_said(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code != 0
    assert said in (done.output + str(done.exception or ""))
