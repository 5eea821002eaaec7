"""`touchstone attribute` and `touchstone paths`: what is read from a file, and what is shown."""

from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from touchstone.attribution.v1 import attribution_pb2, held_out_pb2, path_pb2, report_pb2
from touchstone.attribution.v1 import attribution_service_pb2 as pb
from touchstone.attribution.v1 import referral_service_pb2 as referral_pb
from typer.testing import CliRunner

from services.cli.commands import attribute, attribution, attribution_report, paths, referrals
from services.cli.credit import models
from services.cli.importing.path_rows import PathColumns, read_paths
from services.cli.importing.sources import open_source
from services.cli.main import app
from shared.errors import DomainError


def read(folder: Path, text: str, **columns: str) -> list[pb.PathCounts]:
    (folder / "paths.csv").write_text(text)
    return read_paths(open_source(folder / "paths.csv"), PathColumns(**columns))


def test_paths_of_several_rows_are_added(tmp_path: Path) -> None:
    text = "path,conversions,value,nulls\na > b,2,0.1,3\nc,,,\n a > b ,1.0,0.2,\na > b,0,0.3,1\n"

    assert read(tmp_path, text) == [
        pb.PathCounts(path="a > b", conversions=3, value=0.6, nulls=4),
        pb.PathCounts(path="c"),
    ]


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("path,total_conversions,total_conversion_value,total_null", {}),
        (
            "way,n,worth,lost",
            {"path": "way", "conversions": "n", "value": "worth", "nulls": "lost"},
        ),
    ],
)
def test_columns_of_other_names(tmp_path: Path, header: str, columns: dict[str, str]) -> None:
    found = read(tmp_path, f"{header}\na,1,2.5,3\n", **columns)

    assert found == [pb.PathCounts(path="a", conversions=1, value=2.5, nulls=3)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,conversions\na,1\nb,1.5\n", ["line 3, conversions", "1.5", "whole number"]),
        ("path,conversions\na,-1\n", ["line 2, conversions", "-1"]),
        ("path,conversions,value\na,1,much\n", ["line 2, value", "much", "a number"]),
        ("path,conversions,value\na,1,inf\n", ["line 2, value", "inf"]),
        ("path,conversions,value\na,1,1e308\na,1,1e308\n", ["value", "path a"]),
        ("path,conversions\n ,1\n", ["line 2, path"]),
        ("path,conversions\na,1,2\n", ["line 2"]),
        ("path,converted\na,1\n", ["--conversions", "path, converted"]),
        ("path,conversions\n", ["no row"]),
    ],
)
def test_a_file_that_cannot_be_read_names_the_line(
    tmp_path: Path, text: str, said: list[str]
) -> None:
    with pytest.raises(DomainError) as raised:
        read(tmp_path, text)
    assert all(part in raised.value.message for part in said), raised.value.message


def test_every_model_offered_is_one_of_the_contract() -> None:
    kinds = attribution_pb2.Model.DESCRIPTOR.fields_by_name
    assert set(attribute.MODELS) < set(kinds)
    assert set(kinds) == set(models.NAMES)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["lengths", "--transform", "longest"], "remove_if_not_all"),
        (["lags", "--edge-days", "400"], "--edge-days"),
        (["funnel", "--step", "lead"], "--step"),
        (["funnel", "--step", "page=home"], "channel=NAME"),
    ],
)
def test_wrong_usage(command: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["paths", *command, "--event-name", "buy"])

    assert done.exit_code == 2
    assert said in done.output.replace("\n", "")


def test_a_funnel_row_that_is_held_back_is_a_dash() -> None:
    rows = [
        path_pb2.FunnelRow(step=0, figures=path_pb2.FunnelFigures(units=60, journeys=61)),
        path_pb2.FunnelRow(step=1),
    ]
    assert [*paths.funnel_rows("ads", rows, ["any", "event=lead"])] == [
        ("ads", "any", 60, 61, 0, None),
        ("ads", "event=lead", None, None, None, None),
    ]


def test_bins_are_shown_in_days() -> None:
    day = 86_400
    found = path_pb2.LagDistribution(
        bins=[
            path_pb2.LagBin(
                at_least=Duration(), less_than=Duration(seconds=day // 2), units=1, lags=2
            ),
            path_pb2.LagBin(at_least=Duration(seconds=day // 2), units=3, lags=4),
        ],
        suppressed=path_pb2.LagBin(units=5, lags=6),
    )
    assert [*paths.bin_rows([("last_touch", found)])] == [
        ("last_touch", 0.0, 0.5, 1, 2),
        ("last_touch", 0.5, None, 3, 4),
        ("last_touch", "(together)", None, 5, 6),
    ]


def test_referrals_say_what_is_not_told() -> None:
    reply = referral_pb.GetReferralsResponse(
        figures=referral_pb.ReferralFigures(invitees=1_200, growth_factor=1.25),
        retention=[referral_pb.ReferralRetention(day=7)],
        by_depth=referral_pb.ReferralTable(
            rows=[referral_pb.ReferralRow(name="1", units=60)],
            suppressed=referral_pb.ReferralRow(units=51),
        ),
    )
    assert [(row[0], row[1], row[2]) for row in referrals.rows(reply)] == [
        ("by_depth", "1", 60),
        ("by_depth", "(suppressed)", 51),
    ]
    told = [*referrals.told(reply)]
    assert "invitees: 1,200" in told
    assert "growth_factor: 1.25" in told
    assert "registrations: -" in told
    assert "retention on day 7: -" in told


def test_what_no_channel_is_told_to_have_is_shown_so_that_sums_are_whole() -> None:
    result = attribution_pb2.ModelResult(
        model_name="same_touch",
        channels=[attribution_pb2.ChannelCredit(channel="zebra", conversions=6, share=0.6)],
        suppressed=attribution_pb2.ChannelCredit(conversions=3, share=0.3),
        uncredited=1,
    )
    report = report_pb2.AttributionReport(results=[result])

    assert [row[1:3] for row in attribution.credit_view(report, "").rows] == [
        ("zebra", 6),
        ("(together)", 3),
        ("(uncredited)", 1),
    ]
    _, lines = attribution_report.by_channel(report, attribution_report.Figure.CONVERSIONS)
    assert lines == [["zebra", 6], ["(together)", 3], ["(uncredited)", 1]]
    _, lines = attribution_report.by_channel(report, attribution_report.Figure.SHARE)
    assert lines == [["zebra", 0.6], ["(together)", 0.3]]


def test_the_fit_of_a_model_is_told_or_why_there_is_none() -> None:
    fit = held_out_pb2.ModelFit(
        model_name="markov_1", journeys=1_900, auc=0.61, log_loss=0.47, base_log_loss=0.49
    )
    assert attribution.fit_text(fit) == (
        "markov_1 on 1,900 held-out journeys: AUC 0.610, log-loss 0.4700 (0.4900 without a model), "
        "calibration slope -"
    )
    none = held_out_pb2.ModelFit(model_name="linear", why_none="it predicts nothing")
    assert attribution.fit_text(none) == "linear on held-out journeys: it predicts nothing"
