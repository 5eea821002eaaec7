"""Row 13: an analysis that needs more memory than it may use."""

from __future__ import annotations

import datetime as dt
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.attribution.v1 import (
    attribution_pb2,
    attribution_service_pb2,
    attribution_service_pb2_grpc,
)

from shared.lake.rows import table_of
from shared.lake.writer import LakeWriter
from shared.testing.fakes import FixedClock
from tests.robustness.fault import SERVICE, Fault, Play
from tests.robustness.faults import EventsProcess, make_key
from tests.robustness.history import History
from tests.robustness.model import Verdict

START = dt.datetime(2026, 9, 1, tzinfo=dt.UTC)
ROWS, BATCH = 400_000, 50_000
LITTLE_MB = 64
THREADS = 32
"""Each takes memory of its own, so that little is too little."""
CALL_S = 60.0
TOO_LARGE = "LIMIT_EXCEEDED"


def _big_analyses(play: Play) -> Verdict:
    """Ask for analyses that do not fit, several at once, and for one that does in between."""
    play.folder.mkdir(parents=True, exist_ok=True)
    module = play.module.replace(SERVICE, "services.attribution")
    more = {
        "TOUCHSTONE_ATTRIBUTION_MEMORY_MB": str(LITTLE_MB),
        "TOUCHSTONE_ATTRIBUTION_THREADS": str(THREADS),
    }
    process = EventsProcess(play.folder / "data", module, service="attribution", more=more)
    key = make_key(process.data, "acme")
    _fill(process, play.rounds)
    process.start()
    history = History()
    told: list[str] = []
    try:
        for _ in range(play.rounds):
            with ThreadPoolExecutor(4) as threads:
                days = [30, 1, 30, 30]
                told += threads.map(lambda d: _ask(process.address, key, d), days)
            if not process.serving():
                history.complain("lives", "the service is not SERVING after a big analysis")
        if _ask(process.address, key, 1) != "OK":
            history.complain("lives", "a small analysis has no answer")
    finally:
        process.kill()
    for answer in set(told) - {"OK", TOO_LARGE}:
        history.complain("code", answer, told.count(answer))
    if TOO_LARGE not in told:
        history.complain("limit", f"no analysis met the limit: {set(told)}")
    broken, examples = dict(history.complaints), tuple(history.examples)
    return Verdict(
        told.count("OK"), len(told), faults=play.rounds, broken=broken, examples=examples
    )


def _fill(process: EventsProcess, _rounds: int) -> None:
    """Journeys of many units over a month, written as the events service writes them."""
    writer = LakeWriter(process.lake, "journal", FixedClock(START))
    for first in range(0, ROWS, BATCH):
        rows = [
            {
                "event_id": f"e{number}",
                "project": "acme",
                "event_time": START + dt.timedelta(seconds=number * 2_592_000 // ROWS),
                "unit_id": f"a-unit-with-a-rather-long-name-{number % (ROWS // 4)}",
                "position": first + 1,
            }
            for number in range(first, first + BATCH)
        ]
        touches = [row | {"channel": f"c{i % 40}"} for i, row in enumerate(rows) if i % 4]
        bought = [row | {"event_name": "buy", "value": 1.0} for row in rows[::4]]
        tables = {
            "touchpoints": table_of("touchpoints", touches),
            "conversions": table_of("conversions", bought),
        }
        writer.append(tables, first + 1)


def _ask(address: str, key: str, days: int) -> str:
    """Attribute so many days; OK, or the reason of the error."""
    end = START + dt.timedelta(days=days)
    request = attribution_service_pb2.GetAttributionRequest(
        journeys=attribution_pb2.JourneyDefinition(
            event_name="buy", start_time=_stamp(START), end_time=_stamp(end)
        )
    )
    with grpc.insecure_channel(address) as channel:
        stub = attribution_service_pb2_grpc.AttributionServiceStub(channel)
        metadata = (("authorization", f"Bearer {key}"),)
        try:
            stub.GetAttribution(request, timeout=CALL_S, metadata=metadata)
        except grpc.RpcError as error:
            return _reason(error)
    return "OK"


def _reason(error: grpc.RpcError) -> str:
    from tests.robustness.rows.replies import told

    what = told(error)
    return what.reason if what.reason == TOO_LARGE else f"{what.reason}: {what.message}"


def _stamp(moment: dt.datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


MEMORY = Fault(
    13,
    "analyses need more memory than they may use",
    _big_analyses,
    twins={"dies_of_memory": 1},
    rounds=3,
)
