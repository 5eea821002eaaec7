"""Reports of one definition, again and again while events come, go and change hands: each says what
one out of all events says, to the byte; and what is erased is nowhere any more.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.attribution.v1 import (
    attribution_pb2,
    attribution_service_pb2,
    attribution_service_pb2_grpc,
    report_pb2,
    report_service_pb2,
    report_service_pb2_grpc,
    score_service_pb2,
    score_service_pb2_grpc,
)
from touchstone.common.v1 import unit_pb2
from touchstone.events.v1 import event_pb2

from tests.e2e.suite import Suite
from tests.e2e.test_loop import log

PARENT = "projects/default"
GROUPING = f"{PARENT}/channelGroupings/media"
TODAY = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
DAYS, UNITS = 12, 25
WHOLE = report_pb2.WholeReadingReason


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """Of its own: units are erased from it, and days removed."""
    running = Suite(tmp_path_factory.mktemp("refresh") / "data")
    running.environment["TOUCHSTONE_ERASURE_GRACE_S"] = "1"
    running.start()
    yield running
    assert running.stop() == 0


class World:
    """Random events of the past days, and reports of them."""

    def __init__(self, suite: Suite, seed: int) -> None:
        self.suite, self.random, self.number = suite, np.random.default_rng(seed), 0

    def named(self, kind: str = "") -> unit_pb2.UnitId:
        """A customer or a device at random."""
        chosen = kind or ("customer", "customer", "device")[int(self.random.integers(3))]
        return unit_pb2.UnitId(type=chosen, id=f"{chosen}-{int(self.random.integers(UNITS))}")

    def event(self, day: int, **payload: Any) -> event_pb2.Event:
        """An event of that day, or up to two days before."""
        self.number += 1
        late = int(self.random.integers(3)) if self.random.random() < 0.3 else 0
        time = TODAY - dt.timedelta(days=DAYS - day + late)
        stamp = Timestamp()
        stamp.FromDatetime(time + dt.timedelta(minutes=int(self.random.integers(1440))))
        return event_pb2.Event(
            event_id=f"e-{self.number:06d}", unit=self.named(), event_time=stamp, **payload
        )

    def grow(self, day: int) -> None:
        """Log events of a day, and wait until attribution sees them."""
        events = []
        for _ in range(int(self.random.integers(20, 60))):
            channel = ("ads-1", "ads-2", "mail", "search")[int(self.random.integers(4))]
            touch = event_pb2.Touchpoint(channel=channel, interaction="click")
            events.append(self.event(day, touchpoint=touch))
        for _ in range(int(self.random.integers(5, 15))):
            bought = event_pb2.Conversion(event_name="buy", value=float(self.random.random()))
            events.append(self.event(day, conversion=bought))
        self.log(events)

    def link(self, day: int, action: event_pb2.IdentifyAction.ValueType) -> None:
        """Link or unlink a device and a customer."""
        event = self.event(day, identify=event_pb2.Identify(other_unit=self.named("customer")))
        event.unit.CopyFrom(unit_pb2.UnitId(type="device", id="device-1"))
        event.identify.other_unit.id = "customer-1"
        event.identify.action = action
        self.log([event])

    def log(self, events: list[event_pb2.Event]) -> None:
        """Log events; what is asked of attribution afterwards has seen them."""
        request = attribution_service_pb2.GetAttributionRequest(
            journeys=attribution_pb2.JourneyDefinition(event_name="nothing"),
            consistency_token=log(self.suite, events),
        )
        stub = attribution_service_pb2_grpc.AttributionServiceStub
        self.call(stub, "GetAttribution", request)

    def call(self, stub: Any, method: str, request: Any) -> Any:
        """An answer of attribution."""
        service = stub(self.suite.channel("attribution"))
        return getattr(service, method)(request, metadata=self.suite.metadata, timeout=60)

    def run(self, report_id: str, as_of: str = "") -> report_pb2.AttributionReport:
        """A report of the definition."""
        definition = attribution_pb2.JourneyDefinition(event_name="buy", unit_type="customer")
        definition.channel_grouping.name = GROUPING
        models = [attribution_pb2.Model() for _ in range(3)]
        for model, kind in zip(models, ("linear", "time_decay", "markov"), strict=True):
            getattr(model, kind).SetInParent()
        request = report_service_pb2.RunAttributionRequest(
            parent=PARENT,
            report_id=report_id,
            journeys=definition,
            models=models,
            min_units=2,
            as_of=as_of,
        )
        request.bootstrap.replicates = 20
        stub = report_service_pb2_grpc.ReportServiceStub
        name = self.call(stub, "RunAttribution", request).operation.name
        wait = operations_pb2.WaitOperationRequest(name=name, timeout=Duration(seconds=20))
        for _ in range(6):
            done = self.call(operations_pb2_grpc.OperationsStub, "WaitOperation", wait)
            if done.done:
                break
        assert done.done, done
        assert not done.HasField("error"), done.error
        result = report_service_pb2.RunAttributionResult()
        done.response.Unpack(result)
        return result.report

    def credits(self, report_id: str) -> list[str]:
        """The units of the credits of a report."""
        request = score_service_pb2.StreamScoresRequest(
            report=f"{PARENT}/attributionReports/{report_id}"
        )
        stub = score_service_pb2_grpc.ScoreServiceStub(self.suite.channel("attribution"))
        replies = stub.StreamScores(request, metadata=self.suite.metadata, timeout=60)
        return [credit.unit.id for reply in replies for credit in reply.credits]


def said(report: report_pb2.AttributionReport) -> bytes:
    """All that a report says; when its cut was committed is known of the newest cut alone."""
    told = report_pb2.AttributionReport()
    told.CopyFrom(report)
    for name in ("name", "create_time", "reading"):
        told.ClearField(name)
    told.provenance.ClearField("watermark_time")
    return told.SerializeToString(deterministic=True)


def same_as_whole(world: World, step: str) -> report_pb2.AttributionReport:
    """The report now, which is that of all events of its cut."""
    newest = world.run(f"new-{step}")
    whole = world.run(f"whole-{step}", newest.provenance.watermark)
    assert whole.reading.whole_reading_reason == WHOLE.WHOLE_READING_REASON_PAST_CUT
    assert said(newest) == said(whole), step
    assert newest.digest == whole.digest
    return newest


def grouping(world: World, folder: Path, number: int) -> None:
    """Another version of the rules of channels."""
    file = folder / "media.yaml"
    file.write_text(
        "apiVersion: touchstone/v1\nkind: ChannelGrouping\nmetadata: {name: media}\nspec:\n"
        "  rules:\n    - channel: Ads\n      filter: {compare: {field: channel, "
        f'operator: STARTS_WITH, values: ["ads-{number}"]}}}}\n'
    )
    world.suite.run("attribution", "grouping", "apply", str(file))


def wait_removed(lake: Path, days: dict[str, int]) -> None:
    """Return when retention has removed what is older than so many days."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        first = {name: min(days_of(lake / name)) for name in days}
        if all(first[name] >= TODAY.date() - dt.timedelta(days=days[name]) for name in days):
            return
        time.sleep(0.2)
    raise AssertionError("retention has removed nothing")


def days_of(table: Path) -> list[dt.date]:
    """The days of the newest version of a table, one a file."""
    actions = pa.table(DeltaTable(table).get_add_actions(flatten=True))
    return [dt.date.fromisoformat(str(day)) for day in actions["partition.day"].to_pylist()]


def kept_files_hold(data: Path, unit: str) -> bool:
    """Whether a file that attribution keeps names the unit."""
    for path in (data / "attribution-scores").glob("*.*"):
        if unit in pq.read_table(path)["unit_id"].to_pylist():
            return True
    quoted = pa.array([unit])[0].as_py().encode()
    return any(quoted in path.read_bytes() for path in (data / "attribution-kept").glob("*.*"))


def test_reports_are_those_of_all_events_whatever_happens_between(
    suite: Suite, tmp_path: Path
) -> None:
    world = World(suite, seed=20261122)
    grouping(world, tmp_path, 1)
    reasons: dict[str, int] = {}
    for day in range(DAYS):
        world.grow(day)
        if day == 3:
            world.link(day, event_pb2.IDENTIFY_ACTION_LINK)
        if day == 5:
            world.link(day, event_pb2.IDENTIFY_ACTION_UNLINK)
        if day == 7:
            grouping(world, tmp_path, 2)
        if day == 9:
            suite.run("retention", "set", "--touchpoint", str(DAYS - 1), "--conversion", str(DAYS))
            wait_removed(suite.data / "lake", {"touchpoints": DAYS - 1, "conversions": DAYS})
        report = same_as_whole(world, f"{day:02d}")
        assert report.summary.converting_journeys > 0
        reasons[f"{day}"] = report.reading.whole_reading_reason
        if day in (1, 6, 10):
            assert report.reading.kept_events > 0
    assert reasons["0"] == WHOLE.WHOLE_READING_REASON_NOTHING_KEPT
    assert reasons["1"] == reasons["2"] == WHOLE.WHOLE_READING_REASON_UNSPECIFIED
    assert reasons["3"] == reasons["5"] == WHOLE.WHOLE_READING_REASON_IDENTITIES_CHANGED
    assert reasons["7"] == WHOLE.WHOLE_READING_REASON_NOTHING_KEPT
    assert reasons["8"] == WHOLE.WHOLE_READING_REASON_UNSPECIFIED
    assert reasons["9"] == WHOLE.WHOLE_READING_REASON_EVENTS_REMOVED


def test_an_erased_unit_is_in_nothing_that_attribution_keeps(suite: Suite) -> None:
    world = World(suite, seed=1)
    world.number = 900_000
    touch = world.event(1, touchpoint=event_pb2.Touchpoint(channel="mail"))
    bought = world.event(1, conversion=event_pb2.Conversion(event_name="buy", value=1.0))
    gone = "customer-to-be-erased"
    for event, hours in ((touch, 48), (bought, 24)):
        event.unit.CopyFrom(unit_pb2.UnitId(type="customer", id=gone))
        event.event_time.FromDatetime(TODAY - dt.timedelta(hours=hours))
    world.log([touch, bought])
    before = world.run("before")
    assert gone in world.credits("before")
    assert kept_files_hold(suite.data, gone)

    suite.run("erase", f"customer={gone}", "--reason", "ticket-7", "--wait")

    # The credits of before are refused, also though they were kept.
    with pytest.raises(grpc.RpcError) as refused:
        world.credits("before")
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    after = same_as_whole(world, "after")
    assert after.summary.units == before.summary.units - 1
    assert gone not in world.credits("new-after")
    assert not kept_files_hold(suite.data, gone)
