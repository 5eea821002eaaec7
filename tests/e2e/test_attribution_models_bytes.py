"""A report says what it is a function of, and says the same to the last byte: run again, after a
restart, after new events, and read anew where it was read from what was kept.
"""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Iterator

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.attribution.v1 import (
    attribution_pb2,
    attribution_service_pb2,
    attribution_service_pb2_grpc,
    report_pb2,
    uncertainty_pb2,
)
from touchstone.attribution.v1 import report_service_pb2 as pb
from touchstone.attribution.v1 import report_service_pb2_grpc as rpc
from touchstone.common.v1 import identity_pb2, unit_pb2
from touchstone.events.v1 import event_pb2

from tests.e2e.suite import Suite
from tests.e2e.test_loop import PROJECT, log

START = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)
CHANNELS = ("email", "search", "social", "partner")
LINKED = 700
"""Links make a report read everything again, so that later users have none."""
DEFINITION = attribution_pb2.JourneyDefinition(
    event_name="order",
    lookback=Duration(seconds=7 * 86_400),
    windows=[attribution_pb2.Window(channel="social", lookback=Duration(seconds=86_400))],
    repeat_rule=attribution_pb2.REPEAT_RULE_SPLIT,
    stitching=identity_pb2.STITCHING_POINT_IN_TIME,
)
MODELS = [
    attribution_pb2.Model(linear=attribution_pb2.Linear()),
    attribution_pb2.Model(time_decay=attribution_pb2.TimeDecay()),
    attribution_pb2.Model(markov=attribution_pb2.Markov(automatic_order=True, highest_order=3)),
    attribution_pb2.Model(
        shapley=attribution_pb2.Shapley(game=attribution_pb2.SHAPLEY_GAME_SUBSET_RATE)
    ),
    attribution_pb2.Model(
        shapley=attribution_pb2.Shapley(
            game=attribution_pb2.SHAPLEY_GAME_LEARNED,
            learner=attribution_pb2.BaggedLogistic(rounds=10),
        )
    ),
    attribution_pb2.Model(probabilistic=attribution_pb2.Probabilistic()),
    attribution_pb2.Model(fractribution=attribution_pb2.Fractribution()),
    attribution_pb2.Model(additive_hazard=attribution_pb2.AdditiveHazard()),
]


def stamp(hours: float) -> Timestamp:
    time = Timestamp()
    time.FromDatetime(START + dt.timedelta(hours=hours))
    return time


def events_of(units: range, seed: int) -> Iterator[event_pb2.Event]:
    """Touches of devices that log in as users, and what these buy; of later users no device."""
    draw = np.random.default_rng(seed)
    for number in units:
        device = unit_pb2.UnitId(type="device", id=f"device-{number}")
        user = unit_pb2.UnitId(type="user", id=f"user-{number}")
        begin = float(draw.integers(0, 200))
        if number < LINKED:
            yield event_pb2.Event(
                event_id=f"link-{number}",
                event_time=stamp(begin),
                unit=device,
                identify=event_pb2.Identify(other_unit=user),
            )
        for touch in range(int(draw.integers(1, 6))):
            yield event_pb2.Event(
                event_id=f"touch-{number}-{touch}",
                event_time=stamp(begin + 3 * touch + 1),
                unit=device if touch % 2 and number < LINKED else user,
                touchpoint=event_pb2.Touchpoint(
                    channel=str(draw.choice(CHANNELS)), cost=float(draw.random())
                ),
            )
        if draw.random() < 0.3:
            yield event_pb2.Event(
                event_id=f"order-{number}",
                event_time=stamp(begin + 20),
                unit=user,
                conversion=event_pb2.Conversion(event_name="order", value=float(draw.random())),
            )


def logged(suite: Suite, units: range, seed: int) -> None:
    """Logs the events of the units; every report after that has seen them."""
    stub = attribution_service_pb2_grpc.AttributionServiceStub(suite.channel("attribution"))
    stub.GetAttribution(
        attribution_service_pb2.GetAttributionRequest(
            journeys=DEFINITION,
            models=MODELS[:1],
            consistency_token=log(suite, list(events_of(units, seed))),
        ),
        metadata=suite.metadata,
    )


def reported(suite: Suite, report_id: str, as_of: str = "") -> report_pb2.AttributionReport:
    stub = rpc.ReportServiceStub(suite.channel("attribution"))
    operation = stub.RunAttribution(
        pb.RunAttributionRequest(
            parent=PROJECT,
            report_id=report_id,
            journeys=DEFINITION,
            models=MODELS,
            as_of=as_of,
            min_units=10,
            bootstrap=uncertainty_pb2.Bootstrap(replicates=40, seed=3),
        ),
        metadata=suite.metadata,
    ).operation
    suite.run("operations", "wait", operation.name)
    return stub.GetReport(
        pb.GetReportRequest(name=f"{PROJECT}/attributionReports/{report_id}"),
        metadata=suite.metadata,
    ).report


def said(report: report_pb2.AttributionReport) -> bytes:
    """All that it says but for its name, when it was made, and what was read again for it."""
    told = report_pb2.AttributionReport()
    told.CopyFrom(report)
    for field in ("name", "create_time", "etag", "reading"):
        if field in told.DESCRIPTOR.fields_by_name:
            told.ClearField(field)  # type: ignore[arg-type]
    told.provenance.ClearField("watermark_time")
    return told.SerializeToString(deterministic=True)


@pytest.fixture
def suite(own_suite: Suite) -> Suite:
    return own_suite


def test_the_same_cut_says_the_same_however_it_was_read(suite: Suite) -> None:
    logged(suite, range(700), seed=1)
    first = reported(suite, "first")
    again = reported(suite, "again", first.provenance.watermark)

    assert first.provenance.watermark
    assert again.digest == first.digest
    assert said(again) == said(first)
    assert first.results[0].channels[0].HasField("intervals")

    # Later events, and a report that reads them alone and keeps the rest.
    logged(suite, range(700, 900), seed=2)
    second = reported(suite, "second")
    assert second.digest != first.digest
    assert second.reading.kept_events > 0
    assert 0 < second.reading.read_events < second.reading.kept_events

    suite.stop()
    suite.start()
    third = reported(suite, "third", second.provenance.watermark)
    assert said(third) == said(second)

    # Without what was kept everything is read, in another order of files.
    suite.stop()
    shutil.rmtree(suite.data / "attribution-kept")
    suite.start()
    whole = reported(suite, "whole")
    assert whole.reading.whole_reading_reason
    assert whole.provenance.watermark == second.provenance.watermark
    assert said(whole) == said(second)
    old = reported(suite, "old", first.provenance.watermark)
    assert said(old) == said(first)


def test_a_report_says_what_it_is_a_function_of(suite: Suite) -> None:
    logged(suite, range(300), seed=5)
    report = reported(suite, "told")
    asked = report.provenance.journeys

    assert report.provenance.watermark
    assert report.provenance.HasField("watermark_time")
    assert report.provenance.identity_version.startswith("p0-e")
    assert report.provenance.engine_version
    assert asked.lookback.seconds == 7 * 86_400
    assert [(w.channel, w.lookback.seconds) for w in asked.windows] == [("social", 86_400)]
    assert asked.repeat_rule == attribution_pb2.REPEAT_RULE_SPLIT
    assert asked.stitching == identity_pb2.STITCHING_POINT_IN_TIME
    assert asked.unit_type == "user"
    assert report.min_units == 10
    assert (report.bootstrap.replicates, report.bootstrap.seed) == (40, 3)
    assert report.bootstrap.level == 0.95
    assert report.held_out.part == 0.2
    # Each result names its model with every parameter; the order is the one that was taken.
    decay = next(r.model.time_decay for r in report.results if r.model_name == "time_decay")
    assert decay.half_life.seconds == 7 * 86_400
    chain = next(r for r in report.results if r.model_name == "markov_removal_share")
    assert chain.model.markov.order == chain.order_selection.chosen >= 1
    # Two reports of other definitions are not of one digest.
    assert report.digest
