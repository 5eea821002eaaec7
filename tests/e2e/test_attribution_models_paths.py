"""What journeys look like, asked of a running suite and counted with pandas from the same file: the
real one where it lies beside the checkout, elsewhere one that is drawn.
"""

from __future__ import annotations

from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from google.protobuf.duration_pb2 import Duration
from touchstone.attribution.v1 import attribution_pb2, path_pb2, report_pb2
from touchstone.attribution.v1 import path_service_pb2 as pb
from touchstone.attribution.v1 import path_service_pb2_grpc as rpc
from touchstone.attribution.v1 import report_service_pb2 as report_pb
from touchstone.attribution.v1 import report_service_pb2_grpc as report_grpc

from tests.e2e import test_attribution_reports as reports
from tests.e2e.suite import Suite
from tests.e2e.test_loop import PROJECT

EVENT = "ordered"
LOOKBACK = pd.Timedelta(days=10)
DEFINITION = attribution_pb2.JourneyDefinition(
    event_name=EVENT, lookback=Duration(seconds=10 * 86_400)
)
journeys_file = reports.journeys_file
KINDS = {
    path_pb2.PATH_STATE_KIND_START: "(start)",
    path_pb2.PATH_STATE_KIND_CONVERSION: "(conversion)",
    path_pb2.PATH_STATE_KIND_NULL: "(null)",
}


@pytest.fixture(scope="module")
def suite(module_suite: Suite, journeys_file: Path) -> Suite:
    """Of its own: what is counted here is all that there is."""
    module_suite.run(
        *("import", "journeys", str(journeys_file), "--unit", "customer_id", "--time", "time"),
        *("--channel", "channel", "--interaction", "interaction", "--dataset", "journeys"),
        *("--value", "conversion_value", "--event-name", EVENT),
    )
    return module_suite


@pytest.fixture(scope="module")
def log(journeys_file: Path) -> pd.DataFrame:
    """The rows in the order of customers and times, those of one instant by event id."""
    rows = pd.read_csv(journeys_file)
    rows["time"] = pd.to_datetime(rows["time"], utc=True)
    rows["event"] = [f"journeys:{number}:touch" for number in range(1, len(rows) + 1)]
    ordered = rows.sort_values(["customer_id", "time", "event"]).reset_index(drop=True)
    return ordered.assign(row=range(len(ordered)))


@pytest.fixture(scope="module")
def touches(log: pd.DataFrame) -> pd.DataFrame:
    """A row for each touch of each journey: those that converted, and the runs of the rest."""
    bought = log[log["interaction"] == "conversion"].copy()
    bought["journey"] = range(len(bought))
    pairs = bought[["customer_id", "time", "journey", "conversion_value"]].merge(
        log[["customer_id", "time", "channel", "row"]], on="customer_id", suffixes=("_bought", "")
    )
    age = pairs["time_bought"] - pairs["time"]
    seen = pairs[(age >= pd.Timedelta(0)) & (age <= LOOKBACK)]
    unseen = log[~log["row"].isin(seen["row"])]
    before = unseen.shift(1)
    begins = (
        (unseen["customer_id"] != before["customer_id"])
        | (unseen["row"] != before["row"] + 1)
        | (unseen["time"] - before["time"] > LOOKBACK)
    )
    never = pd.Series(pd.NaT, index=unseen.index, dtype=log["time"].dtype)
    others = unseen.assign(journey=len(bought) + begins.cumsum(), time_bought=never)
    columns = ["journey", "customer_id", "time", "channel", "row", "time_bought"]
    both = pd.concat([seen[columns], others[columns]])
    return both.sort_values(["journey", "row"]).reset_index(drop=True)


@pytest.fixture(scope="module")
def journeys(touches: pd.DataFrame) -> pd.DataFrame:
    """A row for each journey."""
    grouped = touches.groupby("journey")
    found = grouped.agg(
        customer=("customer_id", "first"),
        touches=("channel", "size"),
        channels=("channel", "nunique"),
        first=("time", "min"),
        last=("time", "max"),
        bought=("time_bought", "first"),
        path=("channel", tuple),
    )
    return found.assign(converted=found["bought"].notna())


def ask(suite: Suite, method: str, min_units: int = 1, **fields: Any) -> Any:
    stub = rpc.PathServiceStub(suite.channel("attribution"))
    question = pb.PathQuestion(journeys=DEFINITION, min_units=min_units)
    request = getattr(pb, f"{method}Request")(question=question, **fields)
    return getattr(stub, method)(request, metadata=suite.metadata)


@pytest.mark.parametrize("of", ["touches", "channels"])
def test_lengths(suite: Suite, journeys: pd.DataFrame, of: str) -> None:
    longest = 12 if of == "touches" else 4
    reply = ask(suite, "GetPathLengths", max_length=longest)
    binned = journeys.groupby(journeys[of].clip(upper=longest)).agg(
        units=("customer", "nunique"), journeys=("touches", "size"), sold=("converted", "sum")
    )

    said = [(b.length, b.units, b.journeys, b.conversions) for b in getattr(reply, of).bins]
    assert said == [tuple(map(int, row)) for row in binned.itertuples()]
    few = getattr(ask(suite, "GetPathLengths", min_units=200, max_length=longest), of)
    told = {each.length for each in few.bins}
    together = journeys[~journeys[of].clip(upper=longest).isin(told)]
    assert all(each.units >= 200 for each in few.bins)
    assert few.HasField("suppressed") == bool(len(together))
    if len(together):
        assert few.suppressed.journeys == len(together)
        assert few.suppressed.units == together["customer"].nunique() >= 200


def test_lags(suite: Suite, touches: Any, journeys: Any) -> None:
    edges = [pd.Timedelta(hours=1), pd.Timedelta(days=1), pd.Timedelta(days=4)]
    levels = [0.0, 0.1, 0.5, 0.77, 1.0]
    reply = ask(
        suite,
        "GetTimeLags",
        edges=[Duration(seconds=int(edge.total_seconds())) for edge in edges],
        levels=levels,
    )
    sold = journeys[journeys["converted"]]
    gaps = touches.groupby("journey")["time"].diff().dropna()
    found = {
        "first_touch": (sold["bought"] - sold["first"], sold["customer"]),
        "last_touch": (sold["bought"] - sold["last"], sold["customer"]),
        "between_touches": (gaps, touches.loc[gaps.index, "customer_id"]),
    }
    ends = [pd.Timedelta(0), *edges, pd.Timedelta(days=400)]
    lags: Any
    owners: Any
    for name, (lags, owners) in found.items():
        said = getattr(reply, name)
        cells: Any = pd.cut(lags, ends, right=False, labels=False)  # type: ignore[call-overload]
        counted: Any = pd.DataFrame({"cell": cells, "owner": owners}).groupby("cell")["owner"]
        expected = {int(c): (g.nunique(), len(g)) for c, g in counted}
        assert {
            ends.index(pd.Timedelta(b.at_least.ToMicroseconds(), "us")): (b.units, b.lags)
            for b in said.bins
        } == expected
        assert (said.units, said.lags) == (owners.nunique(), len(lags))
        microseconds = (lags / pd.Timedelta(microseconds=1)).to_numpy()
        wanted = np.quantile(microseconds, levels, method="inverted_cdf")
        assert [q.lag.ToMicroseconds() for q in said.quantiles] == wanted.astype(int).tolist()


def steps_of(journeys: pd.DataFrame, *, self_loops: bool) -> pd.DataFrame:
    rows = []
    for customer, path, converted in journeys[["customer", "path", "converted"]].itertuples(
        index=False
    ):
        visits = list(path) if self_loops else [channel for channel, _ in groupby(path)]
        states = ["(start)", *visits, "(conversion)" if converted else "(null)"]
        rows += [(customer, *pair) for pair in pairwise(states)]
    return pd.DataFrame(rows, columns=["customer", "source", "target"])


def state(found: path_pb2.PathState) -> str:
    return found.channel or KINDS[found.kind]


@pytest.mark.parametrize("self_loops", [False, True])
def test_transitions(suite: Suite, journeys: pd.DataFrame, self_loops: bool) -> None:
    reply = ask(suite, "GetTransitions", self_loops=self_loops)
    steps = steps_of(journeys, self_loops=self_loops)
    expected = steps.groupby(["source", "target"])["customer"].agg(["nunique", "size"])
    leaving = steps.groupby("source").size()

    said = {(state(row.source), state(row.target)): row for row in reply.transitions}
    assert said.keys() == set(expected.index)
    for (source, target), (units, times) in zip(
        expected.index, expected.itertuples(index=False), strict=True
    ):
        row = said[source, target]
        assert (row.units, row.count) == (units, times)
        assert row.probability == pytest.approx(times / leaving[source])
    assert any(source == target for source, target in said) == self_loops


def walked(path: tuple[tuple[str, pd.Timestamp], ...], steps: list[tuple[str, ...]]) -> list[int]:
    """The places of the touches that reach the steps, as far as it comes."""
    found: list[int] = []
    for step in steps:
        begin = found[-1] + 1 if found else 0
        ahead = [at for at in range(begin, len(path)) if not step or path[at][0] in step]
        if not ahead:
            break
        found.append(ahead[0])
    return found


def test_funnels_by_channel_of_entry(suite: Suite, touches: Any, journeys: Any) -> None:
    social = ("Facebook", "Instagram")
    steps: list[tuple[str, ...]] = [(), social, ("Paid Search",)]
    reply = ask(
        suite,
        "GetFunnel",
        steps=[*(pb.FunnelStep(channels=step) for step in steps), pb.FunnelStep(event_name=EVENT)],
    )
    paths = touches.groupby("journey")[["channel", "time"]].apply(
        lambda rows: tuple(rows.itertuples(index=False, name=None))
    )
    orders: dict[str, list[pd.Timestamp]] = {}
    sold = journeys[journeys["converted"]]
    for customer, time in zip(sold["customer"], sold["bought"], strict=True):
        orders.setdefault(customer, []).append(time)
    rows = []
    journey: Any
    for journey in journeys.itertuples():
        path = paths[journey.Index]
        places = walked(path, steps)
        came = len(places)
        if came == len(steps):
            until = journey.bought if journey.converted else journey.last + LOOKBACK
            at = path[places[-1]][1]
            came += any(at <= time <= until for time in orders.get(journey.customer, ()))
        rows.append((journey.customer, path[0][0], came, journey.converted))
    walks = pd.DataFrame(rows, columns=["customer", "entry", "came", "converted"])

    def figures(own: pd.DataFrame) -> list[tuple[int, ...]]:
        found: list[tuple[int, ...]] = []
        for step in range(1, 5):
            here = own[own["came"] >= step]
            left = here[(here["came"] == step) & ~here["converted"]]
            found.append(
                (here["customer"].nunique(), len(here), int(here["converted"].sum()), len(left))
            )
        return found

    def told(found: Any) -> list[tuple[int, ...]]:
        each = [row.figures for row in found]
        return [(row.units, row.journeys, row.conversions, row.left) for row in each]

    assert told(reply.rows) == figures(walks)
    assert figures(walks)[3][1] > 50
    assert {row.channel: told(row.rows) for row in reply.channels} == {
        channel: figures(own) for channel, own in walks.groupby("entry")
    }


@pytest.mark.parametrize("order", [1, 2])
def test_who_holds_a_sequence(suite: Suite, journeys: Any, order: int) -> None:
    sequence = ("Facebook", "Paid Search")
    reply = ask(suite, "GetSequenceEffect", sequence=sequence, order=order)

    def seen(path: tuple[str, ...]) -> list[str]:
        runs = [(channel, len(list(run))) for channel, run in groupby(path)]
        return [channel for channel, times in runs for _ in range(min(times, order))]

    held = journeys[[sequence in set(pairwise(p)) for p in map(seen, journeys["path"])]]
    assert (reply.units, reply.journeys) == (held["customer"].nunique(), len(held))
    assert reply.conversions == held["converted"].sum() > 50
    assert reply.all_conversions == journeys["converted"].sum()
    assert 0 < reply.removal_effect < 1


@pytest.mark.parametrize("least", [1, 20])
def test_top_paths(suite: Suite, journeys: pd.DataFrame, least: int) -> None:
    stub = report_grpc.ReportServiceStub(suite.channel("attribution"))
    operation = stub.RunAttribution(
        report_pb.RunAttributionRequest(
            parent=PROJECT,
            report_id=f"paths-{least}",
            journeys=DEFINITION,
            models=[attribution_pb2.Model(linear=attribution_pb2.Linear())],
            min_units=least,
        ),
        metadata=suite.metadata,
    ).operation
    suite.run("operations", "wait", operation.name)
    rows: list[report_pb2.PathRow] = []
    token, following = "", True
    while following:
        reply = stub.ListPaths(
            report_pb.ListPathsRequest(
                name=f"{PROJECT}/attributionReports/paths-{least}",
                page_size=1_000,
                page_token=token,
            ),
            metadata=suite.metadata,
        )
        rows += reply.paths
        token = reply.next_page_token
        following = bool(token)
    counted = journeys.groupby("path").agg(
        units=("customer", "nunique"), journeys=("converted", "size"), sold=("converted", "sum")
    )
    told = [row for row in rows if row.channels]
    said = [(tuple(row.channels), row.units, row.journeys, row.conversions) for row in told]

    ranked = counted[counted["units"] >= least].reset_index()
    ranked["names"] = ranked["path"]
    ranked = ranked.sort_values(
        ["sold", "journeys", "names"], ascending=[False, False, True], kind="stable"
    )
    expected = [tuple(row)[:4] for row in ranked.itertuples(index=False)][:1_000]
    assert len(expected) > 10
    # Where too few took the others together, the rarest path that is told of joins them.
    joined = len(expected) - len(said)
    assert said == expected if joined <= 0 else set(said) < set(expected)
    # Every journey is in one row: those of few units, and those beyond the list, together.
    assert sum(row.journeys for row in rows) == len(journeys)
    assert all(row.units >= least for row in rows)
