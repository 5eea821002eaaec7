"""What commands of attribution say of options and files that are wrong, what a filter is, and how a
file of scores goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import jsonschema  # type: ignore[import-untyped]
import pytest
import typer
import yaml
from google.protobuf import json_format
from touchstone.attribution.v1 import attribution_pb2, report_pb2
from touchstone.attribution.v1 import score_service_pb2 as pb
from typer.testing import CliRunner

from services.cli.ascode.json_schema import json_schema
from services.cli.commands.attribution import tell_doubts
from services.cli.credit.definition import read_definition
from services.cli.credit.filters import read_filters
from services.cli.main import app
from services.cli.score_stream import (
    LineFormat,
    Place,
    ScoreFile,
    parts_of,
    write_credits,
    write_header,
)
from shared.errors import DomainError


def refused(*arguments: str) -> str:
    """What a command says that is called wrongly."""
    done = CliRunner().invoke(app, list(arguments), terminal_width=10_000)
    assert done.exit_code == 2, done.output
    return " ".join(done.output.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "markv"], ["--model is 'markv'", "did you mean 'markov'", "time_decay"]),
        (["--model", "markov:ordr=2"], ["'ordr'", "did you mean 'order'"]),
        (["--model", "markov:order=two"], ["--model", "a whole number"]),
        (["--model", "markov:order=11"], ["order is 11", "10"]),
        (["--model", "shapley:game=best"], ["game", "SUBSET_RATE"]),
        (["--model", "linear", "--order", "2"], ["--order is '2'", "--model markov"]),
        (["--model", "markov", "--order", "12"], ["--order is '12'", "1 to 10, or auto"]),
        (["--half-life-days", "3"], ["--half-life-days", "--model time_decay"]),
        (["--window", "lookback=3d"], ["--window", "name a channel, an interaction, or both"]),
        (["--window", "channel=Email,lookback=3"], ["--window", "14d"]),
        (["--conversions-where", "colour=red"], ["--conversions-where", "properties."]),
        (["--touches-where", "cost>"], ["--touches-where is 'cost>'", "!="]),
        (["--association", "=sku"], ["--association", "KEY_OF_TOUCH"]),
        (["--credited", "region"], ["--credited is 'region'", "property=KEY"]),
        (["--direct", "forget"], ["--direct", "skip_if_other"]),
        (["--repeats", "last"], ["--repeats", "split"]),
        (["--transform", "shortest"], ["--transform is 'shortest'", "remove_if_not_all"]),
        (["--transform", "exposure=Email"], ["--transform", "allowed: exposure"]),
        (["--channel-grouping", "tried@new"], ["--channel-grouping", "ID@VERSION"]),
        (["--lookback-days", "0"], ["--lookback-days is '0'", "more than 0"]),
        (["--lookback-days", "400"], ["--lookback-days is 400", "366"]),
        (["--hold-out", "1"], ["--hold-out", "0.9"]),
    ],
)
def test_what_is_typed_wrong_is_named(arguments: list[str], said: list[str]) -> None:
    told = refused("attribution", "show", "--event-name", "order", *arguments)

    assert all(part in told for part in said), told


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["attribution", "show"], "no conversions are named"),
        (["paths", "lengths"], "no conversions are named"),
        (["attribution", "credits", "--event-name", "x", "--model", "linea"], "'linear'"),
        (["attribution", "economics"], "--definition"),
        (["attribution", "economics", "weekly", "--event-name", "x"], "one of the two"),
        (["attribution", "schedule", "create", "d", "--event-name", "x"], "--every-hours"),
        (["attribution", "schedule", "update", "d"], "nothing to change is named"),
        (["attribution", "schedule", "update", "d", "--daily", "24:00"], "--daily is '24:00'"),
        (["attribution", "schedule", "update", "d", "--every-hours", "0"], "--every-hours is '0'"),
        (["attribution", "grouping", "test", "x"], "--touches with a file"),
        (["attribution", "grouping", "test", "--touch", "medium=cpc"], "allowed: GROUPING"),
        (["attribution", "grouping", "test", "x", "--touch", "colour=red"], "one of channel"),
        (["attribution", "report", "scores", "x", "--to", "f", "--resume-from", "t"], "one of the"),
    ],
)
def test_what_is_missing_is_named(arguments: list[str], said: str) -> None:
    assert said in refused(*arguments)


def test_a_definition_that_is_wrong_is_told_with_every_place(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(
        "apiVersion: touchstone/v1\nkind: AttributionReport\nmetadata: {name: weekly}\nspec:\n"
        "  journeys:\n    event_name: order\n    lookback: 20\n"
        "  models:\n    - full_path: {milestones: [{event_name: lead, wait: 1}]}\n"
        "  min_units: 1\n"
    )
    told = refused("attribution", "report", "run", "-f", str(wrong))
    assert "wrong.yaml:7:15" in told
    assert "allowed: a span such as 14d" in told
    assert "wrong.yaml:9:51" in told
    assert "did you mean 'weight'" in told
    wrong.write_text(
        "apiVersion: touchstone/v1\nkind: AttributionReport\nmetadata: {name: weekly}\nspec:\n"
        "  min_units: -1\n"
    )
    told = refused("attribution", "report", "run", "-f", str(wrong))
    assert "wrong.yaml:5:3" in told
    assert "journeys" in told
    wrong.write_text("apiVersion: touchstone/v1\nkind: ChannelGrouping\nmetadata: {name: x}\n")
    told = refused("attribution", "show", "-f", str(wrong))
    assert "holds 0 documents of kind AttributionReport; allowed: one" in told


def test_the_example_is_right_for_editors_and_for_every_reader_of_files(
    tmp_path: Path,
) -> None:
    example = Path(__file__).parents[3] / "docs" / "examples" / "report.yaml"
    validator = jsonschema.Draft202012Validator(json_schema())
    validator.validate(yaml.safe_load(example.read_text()))
    asked = read_definition(example)
    assert [model.WhichOneof("kind") for model in asked.models][3:] == [
        "markov",
        "shapley",
        "full_path",
    ]
    assert asked.journeys.windows[1].lookback.ToSeconds() == 14 * 86_400
    told = refused("attribution", "credits", "-f", str(example))
    assert "--definition names 6 models; allowed: one, or --model beside it" in told
    wrong = yaml.safe_load(example.read_text().replace("order: true", "order: 3"))
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(wrong)
    done = CliRunner().invoke(app, ["experiment", "validate", str(example)])
    assert done.exit_code == 0, done.output


def test_filters_are_typed_and_all_of_them_hold() -> None:
    found = read_filters(
        ["value>=10", 'properties.zip="10"', "properties.plan!=gold", "currency", "source=web=1"],
        "--conversions-where",
    )
    value, code, plan, currency, source = found.all.filters
    assert value.compare.values[0].number_value == 10
    assert code.compare.values[0].string_value == "10"
    assert plan.negated.compare.values[0].string_value == "gold"
    assert (currency.compare.field, list(currency.compare.values)) == ("currency", [])
    assert source.compare.values[0].string_value == "web=1"
    (alone,) = [read_filters(["properties.vip=true"], "--touches-where")]
    assert alone.compare.values[0].bool_value
    for wrong in ("value>1e999", "value=null", "=3", "value=", "value=[1]"):
        with pytest.raises(typer.BadParameter, match="--touches-where"):
            read_filters([wrong], "--touches-where")


def part(*numbers: int, complete: bool = False) -> pb.StreamScoresResponse:
    credits_ = [attribution_pb2.Credit(conversion_id=f"c{number}", weight=1) for number in numbers]
    return pb.StreamScoresResponse(
        credits=credits_, resume_token=f"behind {numbers[-1:]}", complete=complete
    )


def broken(*parts: pb.StreamScoresResponse) -> Iterator[pb.StreamScoresResponse]:
    yield from parts
    raise ConnectionResetError


PLACE = Place("projects/p/attributionReports/r", 0, "csv")


def test_a_file_of_scores_goes_on_behind_what_was_kept(tmp_path: Path) -> None:
    path, state = tmp_path / "scores.csv", tmp_path / "scores.csv.resume"
    with pytest.raises(ConnectionResetError):
        ScoreFile(path, PLACE).fill(broken())
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConnectionResetError):
        ScoreFile(path, PLACE).fill(broken(part(1, 2)))
    path.write_text(path.read_text() + "c3,half a l")

    again = ScoreFile(path, PLACE)
    assert (again.place.credits, again.place.token) == (2, "behind (2,)")
    again.fill(iter([part(3), part(complete=True)]))
    assert [line.split(",")[0] for line in path.read_text().splitlines()] == [
        "conversion_id",
        "c1",
        "c2",
        "c3",
    ]
    assert not state.exists()
    with pytest.raises(typer.BadParameter, match="is whole"):
        ScoreFile(path, PLACE)


class CallError(grpc.RpcError):
    """A call that failed."""

    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__()
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code


def test_a_stream_goes_on_behind_what_came_and_ends_where_it_cannot() -> None:
    late, away = grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE
    asked: list[str] = []

    def stream(token: str) -> Iterator[pb.StreamScoresResponse]:
        asked.append(token)
        parts, error = script.pop(0)
        yield from parts
        if error is not None:
            raise CallError(error)

    script: list[tuple[list[pb.StreamScoresResponse], grpc.StatusCode | None]] = [
        ([part(1)], late),
        ([], away),
        # Cut off without an error, as by something between.
        ([part(2)], None),
        ([part(3), part(3, complete=True)], None),
    ]
    came = [each.credits[0].conversion_id for each in parts_of(stream, "behind (0,)")]
    assert came == ["c1", "c2", "c3", "c3"]
    assert asked == ["behind (0,)", "behind (1,)", "behind (1,)", "behind (2,)"]
    for code in (late, grpc.StatusCode.INVALID_ARGUMENT):
        script.append(([], code))
        with pytest.raises(CallError):
            list(parts_of(stream, ""))


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ("no JSON", "cannot be read"),
        ('{"report": "x", "result": 0, "form": "csv", "more": 1}', "cannot be read"),
        (json.dumps({"report": PLACE.report, "result": 1, "form": "csv"}), "is of result 1"),
        (
            json.dumps({"report": PLACE.report, "result": 0, "form": "csv", "size": 99}),
            "counts 99 bytes",
        ),
    ],
)
def test_a_place_that_is_not_of_the_file_is_refused(tmp_path: Path, kept: str, said: str) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("conversion_id\n")
    path.with_name("scores.csv.resume").write_text(kept)
    with pytest.raises(DomainError) as raised:
        ScoreFile(path, PLACE)
    assert said in raised.value.message
    assert "begin anew" in raised.value.message


def test_lines_of_credits_are_as_the_contract_has_them(tmp_path: Path) -> None:
    found = attribution_pb2.Credit(conversion_id="=c", touch_id="t", weight=0.25, value=2.5)
    for form in LineFormat:
        with (tmp_path / form).open("w") as out:
            write_header(form, out)
            write_credits([found], form, out)
    parsed = json_format.Parse((tmp_path / "ndjson").read_text(), attribution_pb2.Credit())
    assert parsed == found
    # What a spreadsheet would take for a formula is text.
    assert (tmp_path / "csv").read_text().splitlines()[1] == "'=c,t,,,,,,0.25,2.5"


def test_a_warning_names_the_model_and_the_channel_that_it_is_about(
    capsys: pytest.CaptureFixture[str],
) -> None:
    reply = report_pb2.AttributionReport()
    reply.warnings.add(message="few conversions")
    reply.warnings.add(message="it is rare", channel="Search")
    reply.warnings.add(message="its loss is large", model_name="additive_hazard")
    reply.warnings.add(message="it moves", channel="Search", model_name="linear")
    tell_doubts(reply)
    lines = [line.split("warning: ")[-1] for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        "few conversions",
        "Search: it is rare",
        "additive_hazard: its loss is large",
        "linear, Search: it moves",
    ]
