"""All of attribution from the command line, over the running suite: every way to cut journeys, any
parameter of models, reports that are said in a file, scores that go on where they broke, groupings
that are tried, and schedules that are changed. Figures are counted by hand.
"""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct
from touchstone.attribution.v1 import attribution_pb2, attribution_service_pb2_grpc
from touchstone.attribution.v1 import attribution_service_pb2 as pb
from touchstone.common.v1 import unit_pb2
from touchstone.events.v1 import event_pb2

from tests.e2e.breaking import Breaking
from tests.e2e.suite import Suite
from tests.e2e.test_loop import log, stamp

DAY_S = 86_400
BOUGHT_DAY = 40
"""Days behind START: 10 April."""
READERS = 1_200
"""Units whose credits fill more than one message of a stream."""
TABLE = """apiVersion: touchstone/v1
kind: AttributionReport
metadata: {name: signed}
spec:
  journeys:
    event_name: signed
    lookback: 20d
    windows:
      - {interaction: impression, lookback: 2d}
    associations:
      - {touch_property: sku, conversion_property: product}
    conversion_filter:
      all:
        - compare: {field: value, operator: GREATER_OR_EQUAL, values: [10]}
        - any:
            - compare: {field: properties.plan, operator: IN, values: [gold, silver]}
            - negated: {compare: {field: properties.plan, operator: IS_SET}}
  models:
    - full_path:
        first: 0.2
        milestones: [{event_name: lead, weight: 0.5}]
        last: 0.3
  min_units: 1
  bootstrap: {off: true}
  held_out: {off: true}
"""
GROUPING = """apiVersion: touchstone/v1
kind: ChannelGrouping
metadata: {name: tried}
spec:
  rules:
    - channel: Brand
      filter: {compare: {field: campaign, operator: EQUAL, values: [brand]}}
    - channel: Paid
      filter: {compare: {field: medium, operator: IN, values: [cpc, cpm]}}
    - channel: Field force
      filter: {compare: {field: properties.region, operator: IS_SET}}
"""


def touch(unit: str, days: float, channel: str, **more: Any) -> event_pb2.Event:
    """A touch so many days before BOUGHT_DAY; what is no field of a touch is a property."""
    fields = {key: more.pop(key) for key in ("interaction", "campaign", "medium") if key in more}
    payload = event_pb2.Touchpoint(channel=channel, **fields)
    return event(unit, days, more, touchpoint=payload)


def bought(
    unit: str, name: str, days: float = 0, value: float = 60, **more: Any
) -> event_pb2.Event:
    payload = event_pb2.Conversion(event_name=name, value=value)
    return event(unit, days, more, conversion=payload)


def event(unit: str, days: float, properties: dict[str, Any], **payload: Any) -> event_pb2.Event:
    kept = Struct()
    kept.update(properties)
    (what,) = payload.values()
    known = "-".join((unit, str(days), getattr(what, "channel", ""), what.DESCRIPTOR.name))
    name = getattr(what, "event_name", "")
    return event_pb2.Event(
        event_id=f"{known}-{name}",
        event_time=stamp((BOUGHT_DAY - days) * DAY_S),
        unit=unit_pb2.UnitId(type="user", id=unit),
        properties=kept,
        **payload,
    )


EVENTS = [
    # Three touches, one day apart, and a purchase.
    touch("ann", 3, "Display", interaction="impression", campaign="brand", medium="cpm"),
    touch("ann", 2, "Email", interaction="click", campaign="news", medium="email"),
    touch("ann", 1, "Search", interaction="click", medium="cpc"),
    bought("ann", "order"),
    # A direct visit behind a call of a branch.
    touch("bob", 2, "Call", region="north"),
    touch("bob", 1, "Direct"),
    bought("bob", "visit", value=10),
    # Twice the same channel, and two purchases.
    touch("cat", 5, "Display"),
    touch("cat", 4, "Display"),
    bought("cat", "renewal", 3, 5),
    touch("cat", 2, "Email"),
    bought("cat", "renewal", 1, 40, plan="gold"),
    # Only what is of the product counts, and a lead lies between.
    touch("dan", 9, "Display", interaction="click", sku="a"),
    touch("dan", 8, "Social", interaction="click", sku="b"),
    touch("dan", 7, "Email", interaction="click", sku="a"),
    bought("dan", "lead", 6, 0),
    touch("dan", 5, "Video", interaction="impression", sku="a"),
    touch("dan", 1, "Search", interaction="impression", sku="a"),
    bought("dan", "signed", 0, 100, product="a", plan="gold"),
    bought("eve", "signed", 0, 100, product="a", plan="lead"),
    bought("fay", "signed", 0, 9, product="a", plan="gold"),
    # Many, of whom each has two touches.
    *(
        made
        for number in range(READERS)
        for made in (
            touch(f"reader-{number:04}", 2, "Email"),
            touch(f"reader-{number:04}", 1, "Search"),
            bought(f"reader-{number:04}", "read", value=2),
        )
    ),
]


@pytest.fixture(scope="module")
def suite(module_suite: Suite) -> Suite:
    """Of its own, with the events in it: whatever is asked afterwards has seen them all."""
    token = log(module_suite, EVENTS)
    attribution_service_pb2_grpc.AttributionServiceStub(
        module_suite.channel("attribution")
    ).GetAttribution(
        pb.GetAttributionRequest(
            journeys=attribution_pb2.JourneyDefinition(event_name="order"),
            consistency_token=token,
        ),
        metadata=module_suite.metadata,
    )
    return module_suite


def credit(suite: Suite, *arguments: str) -> dict[str, float]:
    """What each channel gets by the one model of a command."""
    done = suite.run("attribution", "show", *arguments, "--output", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len({row["model"] for row in rows}) == 1
    return credited(rows)


def credited(channels: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """The conversions of channels that get any."""
    found = {each["channel"]: float(each["conversions"]) for each in channels}
    return {channel: conversions for channel, conversions in found.items() if conversions}


def refused(suite: Suite, *arguments: str) -> str:
    """What a command says that is called wrongly."""
    return " ".join(suite.run(*arguments, status=2).stderr.split())


SEVENTHS = {"Display": 1 / 7, "Email": 2 / 7, "Search": 4 / 7}


MODELS: list[tuple[str, dict[str, float]]] = [
    ("time_decay:half_life=1d", SEVENTHS),
    ("time_decay:half_life=24h,age=exact", SEVENTHS),
    ("by_position:weights=[3,2,1]", {"Display": 1 / 2, "Email": 1 / 3, "Search": 1 / 6}),
    (
        "by_position:weights=[3,2],count_from=last,beyond=1",
        {"Display": 1 / 6, "Email": 1 / 3, "Search": 1 / 2},
    ),
    ("custom:first=1,middle=2,last=1", {"Display": 0.25, "Email": 0.5, "Search": 0.25}),
    ("position_based:first=0.2,last=0.6", {"Display": 0.2, "Email": 0.2, "Search": 0.6}),
    ("last_non_direct:channels=[Search]", {"Email": 1}),
    ("same_touch:within=24h", {"Search": 1}),
    ("shapley:game=ordered,positions=2", dict.fromkeys(SEVENTHS, 1 / 3)),
]


def test_parameters_of_models_are_part_of_their_names(suite: Suite) -> None:
    asked = [part for model, _ in MODELS for part in ("--model", model)]
    done = suite.run("attribution", "show", "--event-name", "order", *asked, "--output", "json")
    results = json.loads(done.stdout)["results"]
    # Both spellings of the same model are one.
    for (name, expected), result in zip(MODELS[1:], results, strict=True):
        assert credited(result["channels"]) == pytest.approx(expected), name


def test_orders_and_half_lives_have_options_of_their_own(suite: Suite) -> None:
    asked = ("--event-name", "read", "--model", "time_decay", "--half-life-days", "0.5")
    assert credit(suite, *asked) == pytest.approx({"Email": READERS / 5, "Search": READERS * 4 / 5})
    asked = ("--event-name", "read", "--model", "markov", "--order", "auto")
    done = suite.run("attribution", "show", *asked)
    assert "by the penalised area on held-out journeys (1: " in done.stderr
    done = suite.run("attribution", "show", *asked[:-1], "2", "--output", "json")
    assert json.loads(done.stdout)["results"][0]["model"]["markov"]["order"] == 2


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--lookback-days", "2.5"], {"Email": 0.5, "Search": 0.5}),
        (["--window", "channel=Display,lookback=2d"], {"Email": 0.5, "Search": 0.5}),
        (["--window", "interaction=click,lookback=36h"], {"Display": 0.5, "Search": 0.5}),
        (["--touches-where", "interaction=click"], {"Email": 0.5, "Search": 0.5}),
        (["--touches-where", "medium!=email"], {"Display": 0.5, "Search": 0.5}),
        (["--credited", "campaign"], {"brand": 1 / 3, "news": 1 / 3, "(not set)": 1 / 3}),
        (["--credited", "interaction"], {"impression": 1 / 3, "click": 2 / 3}),
    ],
)
def test_windows_and_keys_of_credit_are_options(
    suite: Suite, arguments: list[str], expected: dict[str, float]
) -> None:
    said = credit(suite, "--event-name", "order", "--model", "linear", *arguments)

    assert said == pytest.approx(expected)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["visit"], {"Call": 0.5, "Direct": 0.5}),
        (["visit", "--direct", "skip_if_other"], {"Call": 1}),
        (["visit", "--direct", "drop"], {"Call": 1}),
        (["visit", "--credited", "property=region"], {"north": 0.5, "(not set)": 0.5}),
        (["renewal"], {"Display": 1 + 2 / 3, "Email": 1 / 3}),
        (["renewal", "--repeats", "first"], {"Display": 1}),
        (["renewal", "--repeats", "split"], {"Display": 1, "Email": 1}),
        (["renewal", "--transform", "exposure"], {"Display": 1.5, "Email": 0.5}),
        (
            ["renewal", "--transform", "remove_if_not_all=Display", "--transform", "frequency"],
            {"Display(2)": 1, "Email(1)": 1},
        ),
        (["renewal", "--conversions-where", "value>=10"], {"Display": 2 / 3, "Email": 1 / 3}),
        (["renewal", "--conversions-where", "properties.plan!=gold"], {"Display": 1}),
        (["renewal", "--until", "2026-04-08"], {"Display": 1}),
        (["renewal", "--since", "2026-04-08"], {"Display": 2 / 3, "Email": 1 / 3}),
        (
            ["signed", "--association", "sku=product"],
            dict.fromkeys(("Display", "Email", "Video", "Search"), 0.25),
        ),
    ],
)
def test_what_journeys_are_is_options(
    suite: Suite, arguments: list[str], expected: dict[str, float]
) -> None:
    said = credit(suite, "--model", "linear", "--event-name", *arguments)

    assert said == pytest.approx(expected)


@pytest.fixture(scope="module")
def definition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "signed.yaml"
    path.write_text(TABLE)
    return path


def test_a_report_is_said_in_a_file_and_options_go_before_it(
    suite: Suite, definition: Path
) -> None:
    # Of the touches of the product, the video is outside the window of impressions.
    parts = {"Display": 0.2, "Email": 0.5, "Search": 0.3}
    asked = ("--definition", str(definition))
    assert credit(suite, *asked) == pytest.approx(parts)
    assert credit(suite, *asked, "--model", "last_touch") == {"Search": 1}
    linear = credit(
        suite, *asked, "--window", "interaction=impression,lookback=12h", "--model", "linear"
    )
    assert linear == {"Display": 0.5, "Email": 0.5}

    done = suite.run("attribution", "report", "run", "signed", *asked, "-o", "json")
    report = json.loads(done.stdout)
    said = report["provenance"]["journeys"]
    assert said["windows"][0] == {"interaction": "impression", "lookback": "172800s", "channel": ""}
    (result,) = report["results"]
    assert credited(result["channels"]) == pytest.approx(parts)
    # The same file says what is looked at before anybody is credited.
    lengths = json.loads(suite.run("paths", "lengths", *asked, "-o", "json").stdout)["touches"]
    ended = {each["length"]: each["conversions"] for each in lengths["bins"]}
    assert {length: count for length, count in ended.items() if count != "0"} == {3: "1"}
    # And what is weighed against money.
    money = suite.run("attribution", "economics", *asked, "-o", "csv")
    rows = csv.DictReader(io.StringIO(money.stdout))
    assert credited(rows) == pytest.approx(parts)


def test_a_report_is_said_again_by_the_file_that_it_gives(suite: Suite, tmp_path: Path) -> None:
    rules = tmp_path / "again.yaml"
    rules.write_text(GROUPING.replace("name: tried", "name: again"))
    suite.run("attribution", "grouping", "apply", str(rules))
    report = ("attribution", "report")
    done = suite.run(
        *(*report, "run", "first", "--event-name", "renewal", "--channel-grouping", "again"),
        *("--model", "markov:order=2", "--model", "time_decay:half_life=36h", "--credited"),
        *("property=region", "--conversions-where", "value<=5", "--window"),
        *("channel=Display,lookback=7d", "--since", "2026-04-01", "--min-units", "1"),
        *("--replicates", "20", "--transform", "remove_if_not_all=a,b", "--output", "json"),
    )
    digest = json.loads(done.stdout)["digest"]
    # Another version of the grouping changes nothing of what is said again.
    rules.write_text(GROUPING.replace("name: tried", "name: again").replace("cpm", "cpx"))
    suite.run("attribution", "grouping", "apply", str(rules))
    done = suite.run(*report, "definition", "first")
    file = tmp_path / "report.yaml"
    file.write_text(done.stdout)
    again = suite.run(
        *(*report, "run", "again", "--definition", str(file), *done.stderr.split()),
        *("--output", "json"),
    )

    assert json.loads(again.stdout)["digest"] == digest


def test_a_schedule_runs_what_a_file_says_and_is_changed(suite: Suite, definition: Path) -> None:
    schedule = ("attribution", "schedule")
    suite.run(*schedule, "create", "daily", "--event-name", "order", "--daily", "06:00")
    suite.run(*schedule, "pause", "daily")
    suite.run(
        *(*schedule, "update", "daily", "--definition", str(definition)),
        *("--every-hours", "12", "--keep", "3", "--period-days", "30"),
    )

    done = suite.run(*schedule, "get", "daily", "--output", "json")
    found = json.loads(done.stdout)["report_schedule"]
    assert found["run"]["journeys"]["event_name"] == "signed"
    assert found["run"]["models"][0]["full_path"]["last"] == 0.3
    assert (found["interval"], found["period"], found["keep"]) == ("43200s", "2592000s", 3)
    assert found["paused"]
    assert "nothing to change" in refused(suite, *schedule, "update", "daily")
    suite.run(*schedule, "delete", "daily")


def test_a_file_that_is_wrong_is_told_with_every_place(suite: Suite, definition: Path) -> None:
    wrong = definition.with_name("wrong.yaml")
    wrong.write_text(
        TABLE.replace("lookback: 20d", "lookback: 20").replace("weight: 0.5", "wait: 0.5")
    )
    told = refused(suite, "attribution", "report", "run", "wrong", "-f", str(wrong))
    assert "wrong.yaml:7:15" in told
    assert "allowed: a span such as 14d" in told
    assert "did you mean 'weight'" in told


@pytest.fixture
def breaking(suite: Suite) -> Iterator[Any]:
    """Puts something between the commands and attribution that breaks off connections."""
    made: list[Breaking] = []
    name = "TOUCHSTONE_ATTRIBUTION_ADDRESS"
    before = suite.environment[name]

    def between(*breaks: int) -> Breaking:
        made.append(Breaking(suite.addresses["attribution"], list(breaks)))
        suite.environment[name] = made[-1].address
        return made[-1]

    yield between
    suite.environment[name] = before
    for each in made:
        each.close()


@pytest.fixture(scope="module")
def scored(suite: Suite) -> str:
    """A report of more credits than one message holds."""
    suite.run(
        *("attribution", "report", "run", "read", "--event-name", "read", "--model", "linear"),
        *("--min-units", "1", "--replicates", "0", "--hold-out", "0"),
    )
    return "read"


SCORES = ("attribution", "report", "scores")


def whole(suite: Suite, scored: str, form: str) -> str:
    """All credits, written by a run that nothing broke."""
    done = suite.run(*SCORES, scored, "--format", form)
    assert f"{2 * READERS:,} credits" in done.stderr
    return done.stdout


def test_scores_hold_every_credit_once(suite: Suite, scored: str) -> None:
    credits_ = [json.loads(line) for line in whole(suite, scored, "ndjson").splitlines()]
    shares: dict[str, float] = defaultdict(float)
    for each in credits_:
        shares[each["conversion_id"]] += each["weight"]
    assert len(credits_) == 2 * READERS
    assert set(shares.values()) == {1.0}
    rows = list(csv.DictReader(io.StringIO(whole(suite, scored, "csv"))))
    assert [row["touch_id"] for row in rows] == [each["touch_id"] for each in credits_]


@pytest.fixture(scope="module")
def one_message(suite: Suite, scored: str) -> int:
    """As many bytes of an answer as hold the first message of the stream, and not the second."""
    between = Breaking(suite.addresses["attribution"], [])
    name = "TOUCHSTONE_ATTRIBUTION_ADDRESS"
    suite.environment[name] = between.address
    whole(suite, scored, "ndjson")
    suite.environment[name] = suite.addresses["attribution"]
    between.close()
    # Of 2,400 credits a message holds 1,000.
    return between.sent * 6 // 10


def test_scores_go_on_where_a_connection_broke(
    suite: Suite, scored: str, breaking: Any, one_message: int, tmp_path: Path
) -> None:
    expected = whole(suite, scored, "ndjson")
    between = breaking(one_message)
    file = tmp_path / "scores.ndjson"
    suite.run(*SCORES, scored, "--to", str(file))

    assert between.broken == 1
    assert file.read_bytes() == expected.encode()
    assert [each.name for each in tmp_path.iterdir()] == [file.name]
    told = refused(suite, *SCORES, scored, "--to", str(file))
    assert "which is there and is whole" in told


def test_scores_go_on_in_another_run(
    suite: Suite, scored: str, breaking: Any, one_message: int, tmp_path: Path
) -> None:
    expected = whole(suite, scored, "ndjson")
    # The first message comes through; then every connection breaks at once.
    breaking(one_message, *[2_000] * 50)
    file = tmp_path / "scores.ndjson"
    to_file = (*SCORES, scored, "--to", str(file))
    told = suite.run(*to_file, status=1).stderr
    assert "1,000 credits are in" in told
    assert (tmp_path / "scores.ndjson.resume").exists()
    # What a run wrote behind the last place that it kept comes again.
    with file.open("a") as more:
        more.write('{"conversion_id": "half a li')
    other = suite.run(*SCORES, scored, "--format", "csv", "--to", str(file), status=1).stderr
    assert "as ndjson, and this is of result 0" in other
    breaking()
    told = suite.run(*to_file).stderr

    assert "holds 1,000 credits of a run that broke" in told
    assert file.read_bytes() == expected.encode()
    assert not (tmp_path / "scores.ndjson.resume").exists()


def test_scores_on_the_output_go_on_behind_a_token(
    suite: Suite, scored: str, breaking: Any, one_message: int
) -> None:
    expected = whole(suite, scored, "csv")
    breaking(one_message, *[2_000] * 50)
    broken = suite.run(*SCORES, scored, "--format", "csv", status=1)
    token = broken.stderr.split("--resume-from ")[1].split()[0]
    breaking()
    rest = suite.run(*SCORES, scored, "--format", "csv", "--resume-from", token)

    assert broken.stdout + rest.stdout == expected


def test_a_grouping_is_tried_before_it_is_kept_and_as_an_edit(suite: Suite, tmp_path: Path) -> None:
    rules = tmp_path / "tried.yaml"
    rules.write_text(GROUPING)
    sheet = tmp_path / "touches.csv"
    sheet.write_text(
        "channel,utm_source,utm_medium,utm_campaign,properties.region\n"
        "Display,adx,cpm,,\nDisplay,adx,cpm,,\nSearch,google,cpc,brand,\n"
        "Email,news,email,,\nCall,,,,north\n"
    )
    grouping = ("attribution", "grouping")

    def tried(*arguments: str) -> list[dict[str, Any]]:
        done = suite.run(*grouping, "test", *arguments, "--touches", str(sheet), "-o", "json")
        found: list[dict[str, Any]] = json.loads(done.stdout)["touches"]
        return found

    new = tried("--rules", str(rules))
    assert [(each["times"], each["channel"], each["rule"]) for each in new] == [
        (2, "Paid", 1),
        (1, "Brand", 0),
        (1, "Email", None),
        (1, "Field force", 2),
    ]
    suite.run(*grouping, "apply", str(rules))
    assert tried("tried") == new
    rules.write_text(GROUPING.replace("[cpc, cpm]", "[cpc, email]"))
    edit = tried("--rules", str(rules))
    assert [(each["channel"], each["kept_channel"], each["changed"]) for each in edit] == [
        ("Display", "Paid", True),
        ("Brand", "Brand", False),
        ("Paid", "Email", True),
        ("Field force", "Field force", False),
    ]
    done = suite.run(*grouping, "test", "tried@1", "--touches", str(sheet), "--unmatched")
    assert "4 of 5 touches are named by a rule" in done.stderr
    assert "Email" in done.stdout
    assert "Display" not in done.stdout
    done = suite.run(
        *grouping, "test", "tried", "--touch", "medium=cpc,campaign=brand", "-o", "csv"
    )
    assert list(csv.DictReader(io.StringIO(done.stdout))) == [
        {"touches": "1", "medium": "cpc", "campaign": "brand", "channel": "Brand", "rule": "0"}
    ]
    assert "rules that none of them fulfils first: 1 (Paid), 2 (Field force)" in done.stderr


def test_a_file_without_a_column_of_touches_is_told(suite: Suite, tmp_path: Path) -> None:
    sheet = tmp_path / "colours.csv"
    sheet.write_text("colour\nred\n")
    told = suite.run("attribution", "grouping", "test", "x", "--touches", str(sheet), status=1)
    assert "utm_medium" in told.stderr


def test_paths_of_a_file_are_transformed_and_take_parameters(suite: Suite, tmp_path: Path) -> None:
    sheet = tmp_path / "paths.csv"
    sheet.write_text("path,conversions,value,nulls\nA > A > B,3,30,1\nB > Direct,1,2,0\n")

    def of_file(*arguments: str) -> dict[str, float]:
        done = suite.run("attribute", str(sheet), *arguments, "-o", "csv")
        rows = list(csv.DictReader(io.StringIO(done.stdout)))
        return {row["channel"]: float(row["conversions"]) for row in rows}

    assert of_file("--model", "linear") == pytest.approx({"A": 2, "B": 1.5, "Direct": 0.5})
    assert of_file("--model", "linear", "--transform", "exposure") == (
        {"A": 1.5, "B": 2, "Direct": 0.5}
    )
    removed = ("--transform", "remove_if_last_and_not_all=Direct", "--transform", "exposure")
    assert of_file("--model", "linear", *removed) == {"A": 1.5, "B": 2.5, "Direct": 0}
    weights = of_file("--model", "by_position:weights=[1],count_from=last", *removed)
    assert weights == {"A": 0, "B": 4, "Direct": 0}
    intervals = ("--model", "linear", "--replicates", "20", "--output", "csv")
    done = suite.run("attribute", str(sheet), *intervals)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert all(
        float(row["conversions_low"]) <= float(row["conversions"]) <= float(row["conversions_high"])
        for row in rows
    )
    told = refused(suite, "attribute", str(sheet), "--model", "time_decay")
    assert "paths tell no times" in told
