"""A file of journeys is imported and reported, and every figure equals one counted from the file
with plain Python; the same journeys, aggregated by path, give the same.

The real file lies beside the checkout where there is one; elsewhere the tests make one.
"""

from __future__ import annotations

import csv
import datetime as dt
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from touchstone.attribution.v1 import attribution_pb2, attribution_service_pb2_grpc
from touchstone.attribution.v1 import attribution_service_pb2 as pb

from tests.e2e.suite import Suite

REAL = Path(__file__).parents[3] / "shared" / "data" / "journeys.csv"
CHANNELS = ("Facebook", "Instagram", "Online Display", "Online Video", "Paid Search")
LOOKBACK = dt.timedelta(days=10)
RULES = ("first_touch", "last_touch", "linear", "position_based", "time_decay")
GROUPING = """apiVersion: touchstone/v1
kind: ChannelGrouping
metadata: {name: media}
spec:
  rules:
    - channel: Social
      filter: {compare: {field: channel, operator: IN, values: [Facebook, Instagram]}}
    - channel: Online
      filter: {compare: {field: channel, operator: STARTS_WITH, values: ["Online "]}}
"""


@pytest.fixture(scope="module")
def suite(module_suite: Suite) -> Suite:
    """Of its own: what is counted here is all that there is."""
    return module_suite


@dataclass(frozen=True)
class Row:
    """A row of the file; `order` is that of its event id among touches of one instant."""

    customer: str
    time: dt.datetime
    order: str
    channel: str
    value: float | None


@dataclass(frozen=True)
class Journey:
    """Touches, and the time and value of the conversion that they led to, if any."""

    customer: str
    touches: tuple[Row, ...]
    bought: dt.datetime | None = None
    value: float = 0.0

    @property
    def path(self) -> tuple[str, ...]:
        return tuple(touch.channel for touch in self.touches)


@pytest.fixture(scope="module")
def journeys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if REAL.exists():
        return REAL
    draw = random.Random(20180701)
    path = tmp_path_factory.mktemp("files") / "journeys.csv"
    with path.open("w", newline="") as file:
        sheet = csv.writer(file)
        sheet.writerow(
            ["customer_id", "time", "interaction", "conversion", "conversion_value", "channel"]
        )
        for _ in range(8000):
            time = dt.datetime(2018, 7, 1, tzinfo=dt.UTC) + dt.timedelta(
                seconds=draw.randrange(30 * 86400)
            )
            bought = draw.random() < 0.1
            sheet.writerow(
                [
                    f"A{draw.randrange(1500):06d}",
                    f"{time:%Y-%m-%dT%H:%M:%SZ}",
                    "conversion" if bought else "impression",
                    int(bought),
                    draw.choice([5.0, 6.5, 8.5]) if bought else 0,
                    draw.choice(CHANNELS),
                ]
            )
    return path


@pytest.fixture(scope="module")
def journeys(journeys_file: Path) -> tuple[list[Journey], int]:
    """All journeys, and how many conversions saw no touch."""
    customers: dict[str, list[Row]] = defaultdict(list)
    with journeys_file.open(newline="") as file:
        for number, cells in enumerate(csv.DictReader(file), 1):
            bought = cells["interaction"] == "conversion"
            row = Row(
                cells["customer_id"],
                dt.datetime.fromisoformat(cells["time"]),
                f"journeys:{number}:touch",
                cells["channel"],
                float(cells["conversion_value"]) if bought else None,
            )
            customers[row.customer].append(row)
    found: list[Journey] = []
    alone = 0
    for rows in customers.values():
        rows.sort(key=lambda row: (row.time, row.order))
        seen: set[Row] = set()
        for row in rows:
            if row.value is None:
                continue
            touches = tuple(t for t in rows if timedelta_within(row.time - t.time))
            seen.update(touches)
            alone += not touches
            found.append(Journey(row.customer, touches, row.time, row.value))
        found += runs_without(rows, seen)
    return found, alone


def timedelta_within(age: dt.timedelta) -> bool:
    return dt.timedelta(0) <= age <= LOOKBACK


def runs_without(rows: list[Row], seen: set[Row]) -> Iterator[Journey]:
    """The longest runs of touches that no conversion saw, cut where a gap exceeds the lookback."""
    for unseen, group in groupby(rows, key=lambda row: row not in seen):
        run: list[Row] = []
        for row in group if unseen else ():
            if run and row.time - run[-1].time > LOOKBACK:
                yield Journey(row.customer, tuple(run))
                run = []
            run.append(row)
        if run:
            yield Journey(run[0].customer, tuple(run))


def weights(model: str, journey: Journey) -> list[float]:
    """The weights of touches, as the reference defines them."""
    count = len(journey.touches)
    if model == "linear":
        return [1 / count] * count
    if model == "position_based" and count > 2:
        return [0.4, *[0.2 / (count - 2)] * (count - 2), 0.4]
    if model == "position_based":
        return [1 / count] * count
    if model == "time_decay":
        assert journey.bought is not None
        ages = [(journey.bought - touch.time) / dt.timedelta(days=7) for touch in journey.touches]
        raw = [2**-age for age in ages]
        return [one / sum(raw) for one in raw]
    chosen = 0 if model == "first_touch" else count - 1
    return [float(place == chosen) for place in range(count)]


def by_channel(model: str, found: list[Journey]) -> dict[str, tuple[float, float]]:
    """Conversions and value of each channel."""
    credits_: dict[str, list[Fraction]] = {c: [Fraction(0), Fraction(0)] for c in CHANNELS}
    for journey in found:
        if journey.bought is not None and journey.touches:
            for touch, weight in zip(journey.touches, weights(model, journey), strict=True):
                credits_[touch.channel][0] += Fraction(weight)
                credits_[touch.channel][1] += Fraction(weight) * Fraction(journey.value)
    return {channel: (float(a), float(b)) for channel, (a, b) in credits_.items()}


def removal_effects(found: list[Journey]) -> dict[str, float]:
    """By sending a channel to null in the chain, and solving it again."""

    def rate(without: str) -> float:
        steps: dict[str, Counter[str]] = defaultdict(Counter)
        for journey in found:
            end = "(null)" if journey.bought is None else "(conversion)"
            states = ["(start)", *(channel for channel, _ in groupby(journey.path)), end]
            for here, there in pairwise(states):
                steps[here][there] += 1
        names = ["(start)", *CHANNELS]
        moves, ends = np.zeros((len(names),) * 2), np.zeros(len(names))
        for here, row in ((h, steps[h]) for h in names if h != without):
            for there, times in row.items():
                part = times / row.total()
                if there in names:
                    moves[names.index(here), names.index(there)] = part
                elif there == "(conversion)":
                    ends[names.index(here)] = part
        return float(np.linalg.solve(np.eye(len(names)) - moves, ends)[0])

    touched = [journey for journey in found if journey.touches]
    found = touched
    whole = rate("")
    return {channel: 1 - rate(channel) / whole for channel in CHANNELS}


@pytest.fixture(scope="module")
def report(suite: Suite, journeys_file: Path) -> dict[str, Any]:
    suite.run(
        *("import", "journeys", str(journeys_file), "--unit", "customer_id", "--time", "time"),
        *("--channel", "channel", "--interaction", "interaction", "--dataset", "journeys"),
        *("--value", "conversion_value", "--event-name", "attributed-order"),
    )
    asked = [part for model in (*RULES, "markov") for part in ("--model", model)]
    done = suite.run(
        *("attribution", "report", "run", "july", "--event-name", "attributed-order"),
        *("--lookback-days", "10", "--min-units", "1", "--output", "json", *asked),
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def results(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        result["model_name"]: {channel["channel"]: channel for channel in result["channels"]}
        for result in found["results"]
    }


def test_the_journeys_are_those_of_the_file(
    report: dict[str, Any], journeys: tuple[list[Journey], int]
) -> None:
    found, alone = journeys
    summary = report["summary"]
    converting = [j for j in found if j.bought is not None and j.touches]
    assert len(converting) > 100
    assert int(summary["converting_journeys"]) == len(converting)
    assert int(summary["non_converting_journeys"]) == sum(j.bought is None for j in found)
    assert int(summary["conversions_without_touch"]) == alone
    assert summary["value"] == pytest.approx(sum(j.value for j in converting), rel=1e-12)
    assert int(summary["units"]) == len({j.customer for j in found if j.touches})
    for activity in report["activity"]:
        channel = activity["channel"]
        touched = {touch for j in found for touch in j.touches if touch.channel == channel}
        assert int(activity["touches"]) == len(touched)
        assert int(activity["journeys"]) == sum(channel in j.path for j in found)
        assert int(activity["converting_journeys"]) == sum(channel in j.path for j in converting)


@pytest.mark.parametrize("model", RULES)
def test_rules_credit_what_plain_python_counts(
    report: dict[str, Any], journeys: tuple[list[Journey], int], model: str
) -> None:
    said, expected = results(report)[model], by_channel(model, journeys[0])
    whole = sum(conversions for conversions, _ in expected.values())
    assert said.keys() == expected.keys()
    for channel, (conversions, value) in expected.items():
        assert said[channel]["conversions"] == pytest.approx(conversions, rel=1e-9, abs=1e-9)
        assert said[channel]["value"] == pytest.approx(value, rel=1e-9, abs=1e-9)
        assert said[channel]["share"] == pytest.approx(conversions / whole, rel=1e-9, abs=1e-9)


def test_removal_effects_equal_those_by_force(
    report: dict[str, Any], journeys: tuple[list[Journey], int]
) -> None:
    effects = removal_effects(journeys[0])
    converting = sum(j.bought is not None and bool(j.touches) for j in journeys[0])
    said = results(report)["markov_removal_share"]
    credited = results(report)["markov_path_credit"]
    expected = dict.fromkeys(CHANNELS, 0.0)
    for journey in (j for j in journeys[0] if j.bought is not None and j.touches):
        total = sum(effects[channel] for channel in set(journey.path))
        for channel in set(journey.path):
            expected[channel] += effects[channel] / total
    for channel, effect in effects.items():
        share = effect / sum(effects.values())
        assert said[channel]["removal_effect"] == pytest.approx(effect, abs=1e-11)
        assert said[channel]["conversions"] == pytest.approx(share * converting, rel=1e-9)
        assert credited[channel]["conversions"] == pytest.approx(expected[channel], rel=1e-9)


def test_paths_are_those_of_the_file(
    suite: Suite, report: dict[str, Any], journeys: tuple[list[Journey], int]
) -> None:
    converted = Counter(j.path for j in journeys[0] if j.bought is not None and j.touches)
    done = suite.run("attribution", "report", "paths", "july", "--limit", "50", "-o", "json")
    rows = json.loads(done.stdout)["paths"]
    assert len(rows) == 50
    assert int(rows[0]["conversions"]) == converted.most_common(1)[0][1]
    for row in rows:
        assert int(row["conversions"]) == converted[tuple(row["channels"])]
    assert report["min_units"] == 1


def test_the_same_journeys_by_path_give_the_same(
    suite: Suite, report: dict[str, Any], journeys: tuple[list[Journey], int]
) -> None:
    rows: dict[tuple[str, ...], list[float]] = defaultdict(lambda: [0, 0.0, 0])
    for journey in (j for j in journeys[0] if j.touches):
        row = rows[journey.path]
        row[0] += journey.bought is not None
        row[1] += journey.value
        row[2] += journey.bought is None
    models = [attribution_pb2.Model() for _ in range(5)]
    timeless = ("first_touch", "last_touch", "linear", "position_based", "markov")
    for model, name in zip(models, timeless, strict=True):
        getattr(model, name).SetInParent()
    request = pb.EvaluatePathsRequest(
        paths=[
            pb.PathCounts(path=" > ".join(p), conversions=int(c), value=v, nulls=int(n))
            for p, (c, v, n) in rows.items()
        ],
        models=models,
    )
    stub = attribution_service_pb2_grpc.AttributionServiceStub(suite.channel("attribution"))
    reply = stub.EvaluatePaths(request, metadata=suite.metadata)
    by_events = results(report)
    assert reply.summary.converting_journeys == int(report["summary"]["converting_journeys"])
    assert [result.model_name for result in reply.results] == [
        *timeless[:-1],
        "markov_removal_share",
        "markov_path_credit",
    ]
    for result in reply.results:
        for channel in result.channels:
            said = by_events[result.model_name][channel.channel]
            assert channel.conversions == pytest.approx(said["conversions"], rel=1e-9)
            # The value of a path is spread over its journeys, which changes no sum.
            assert channel.value == pytest.approx(said["value"], rel=1e-9)


def test_a_file_of_credits_sums_to_the_report(
    suite: Suite, report: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "credits.csv"
    suite.run(
        *("attribution", "report", "export", "july", "--result", "2"),
        *("--format", "csv", "--output", str(file)),
    )
    sums: dict[str, float] = defaultdict(float)
    with file.open(newline="") as lines:
        for line in csv.DictReader(lines):
            sums[line["channel"]] += float(line["weight"])
            conversion = line["conversion_id"]
    for channel, said in results(report)["linear"].items():
        assert sums[channel] == pytest.approx(said["conversions"], rel=1e-9)
    done = suite.run("attribution", "report", "credits", "july", conversion, "-o", "json")
    why = json.loads(done.stdout)
    counted = [touch for touch in why["touches"] if touch["weights"]]
    names = why["model_names"]
    assert names == [*RULES, "markov_path_credit"]
    for number in range(len(names)):
        assert sum(touch["weights"][number] for touch in counted) == pytest.approx(1)


def test_a_grouping_from_a_file_is_what_a_report_credits(
    suite: Suite, journeys: tuple[list[Journey], int], tmp_path: Path
) -> None:
    file = tmp_path / "media.yaml"
    file.write_text(GROUPING)
    grouping = ("attribution", "grouping")
    suite.run(*grouping, "diff", str(file), status=3)
    suite.run(*grouping, "apply", str(file), "--dry-run")
    suite.run(*grouping, "apply", str(file))
    suite.run(*grouping, "diff", str(file))
    folder = tmp_path / "out"
    suite.run(*grouping, "export", "--folder", str(folder))
    suite.run(*grouping, "diff", str(folder))
    file.write_text(GROUPING + "  otherwise: Rest\n")
    suite.run(*grouping, "apply", str(file))

    def asked(name: str, text: str) -> dict[str, Any]:
        done = suite.run(
            *("attribution", "report", "run", name, "--event-name", "attributed-order"),
            *("--lookback-days", "10", "--min-units", "1", "--model", "linear"),
            *("--channel-grouping", text, "--output", "json"),
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    newest, first = asked("newest", "media"), asked("first", "media@1")
    linear = by_channel("linear", journeys[0])
    social = linear["Facebook"][0] + linear["Instagram"][0]
    for found, rest in ((newest, "Rest"), (first, "Paid Search")):
        said = results(found)["linear"]
        assert said.keys() == {"Social", "Online", rest}
        assert said["Social"]["conversions"] == pytest.approx(social, rel=1e-9)
        assert said[rest]["conversions"] == pytest.approx(linear["Paid Search"][0], rel=1e-9)
    versions = [f["provenance"]["journeys"]["channel_grouping"]["version"] for f in (newest, first)]
    assert versions == ["2", "1"]
