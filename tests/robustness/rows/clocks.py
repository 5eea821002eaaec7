"""Rows 26 to 28: clocks that step, times that cannot be, events out of order."""

from __future__ import annotations

import datetime as dt
import itertools
import time
from collections import Counter
from pathlib import Path

import grpc
from deltalake import DeltaTable
from touchstone.events.v1 import event_pb2, events_service_pb2, events_service_pb2_grpc

from shared.lake.watermark import ConsistencyToken
from tests.robustness.content import TABLES, Name, Row
from tests.robustness.fault import PROJECTS, SERVICE, Fault, Play, Scene, open_scene
from tests.robustness.faults import EventsProcess
from tests.robustness.history import ACCEPTED, DUPLICATE
from tests.robustness.model import Verdict, stored_rows
from tests.robustness.reader import wait_for_watermark
from tests.robustness.rows.duplicates import by_hand, names

CLOCK = "tests.robustness.twins.clock"
HOUR_S, DAY_S = 3_600, 86_400
STEPS_S = (HOUR_S, -HOUR_S, -DAY_S, 40 * DAY_S, -40 * DAY_S, 0)
"""Ahead of the right time, one after another; more than the window of ids among them."""
TIDY_S = 0.3
VISITS = 8
"""Who sees a far day twice, with events stored on it, cannot tell it from days that passed."""


def _clock_scene(play: Play, ahead_s: float = 0.0) -> tuple[Scene, Path]:
    clock = play.folder / "clock"
    play.folder.mkdir(parents=True, exist_ok=True)
    clock.write_text(str(ahead_s))
    module = CLOCK if play.module == SERVICE else play.module
    more = {"TOUCHSTONE_TEST_CLOCK": str(clock)}
    return open_scene(play, EventsProcess(play.folder / "data", module, more=more)), clock


def _steps(play: Play) -> Verdict:
    """Step the clock; ids stay known, also after a restart, and positions never go back."""
    leap_day = dt.datetime(2028, 2, 29, 23, 59, 50, tzinfo=dt.UTC).timestamp()
    scene, clock = _clock_scene(play)
    try:
        for number in range(min(play.rounds, VISITS)):
            with by_hand(scene) as hand:
                hand.expect(names("acme", f"k{number}-", 200), ACCEPTED)
                step = STEPS_S[number % len(STEPS_S)]
                if number % 7 == 6:
                    step = int(leap_day - time.time())
                clock.write_text(str(step))
                time.sleep(TIDY_S)
                for earlier in range(number + 1):
                    hand.expect(names("acme", f"k{earlier}-", 200), DUPLICATE)
            scene.faults += 1
            if number % 2:
                scene.process.kill()
                scene.process.start()
                with by_hand(scene) as hand:
                    for earlier in range(number + 1):
                        hand.expect(names("acme", f"k{earlier}-", 200), DUPLICATE)
        verdict = scene.verdict()
        _complain_of_backward(scene)
    finally:
        scene.process.kill()
    return Verdict(
        verdict.acknowledged,
        calls=verdict.calls,
        faults=verdict.faults,
        broken=dict(scene.history.complaints),
        examples=tuple(scene.history.examples),
    )


def _complain_of_backward(scene: Scene) -> None:
    """What was acknowledged later stands at a later position, whatever the clock said, and was not
    received earlier unless the process was started in between."""
    positions = [
        ConsistencyToken.decode(call.token).position
        for call in scene.history.calls
        if ACCEPTED in call.statuses
    ]
    backward = sum(later <= sooner for sooner, later in itertools.pairwise(positions))
    if backward:
        scene.history.complain("position", f"goes back: {positions}", backward)
    received: dict[int, dt.datetime] = {}
    for table in TABLES:
        rows = DeltaTable(scene.process.lake / table).to_pyarrow_table(
            columns=["position", "receive_time"]
        )
        columns = rows["position"].to_pylist(), rows["receive_time"].to_pylist()
        received.update(zip(*columns, strict=True))
    times = [received[position] for position in sorted(received)]
    backward = sum(later < sooner for sooner, later in itertools.pairwise(times))
    if backward > scene.faults // 2:
        scene.history.complain("receive time", "goes back with the clock", backward)


def _times(play: Play) -> Verdict:
    """Events of impossible times are refused one by one, with the reason; old ones are taken."""
    scene, _ = _clock_scene(play)
    now = int(time.time())
    cases = {
        -62_135_596_800: "EVENT_TIME_OUT_OF_RANGE",  # year 0001
        -1: "EVENT_TIME_OUT_OF_RANGE",
        253_402_300_799: "EVENT_TIME_OUT_OF_RANGE",  # the last second of 9999
        now + 25 * HOUR_S + 60: "EVENT_TIME_OUT_OF_RANGE",
        now + 25 * HOUR_S - 60: ACCEPTED,
        now - 5 * 365 * DAY_S: ACCEPTED,
        0: ACCEPTED,
        10**15: "INVALID_FIELD",
        -(10**15): "INVALID_FIELD",
    }
    try:
        with grpc.insecure_channel(scene.target.address) as channel:
            stub = events_service_pb2_grpc.EventsServiceStub(channel)
            reply = stub.LogEvents(
                _of_times(list(cases)),
                timeout=10,
                metadata=(("authorization", f"Bearer {scene.target.keys['acme']}"),),
            )
        told = dict.fromkeys(range(len(cases)), ACCEPTED)
        for item in reply.rejected:
            reason = events_service_pb2.RejectionReason.Name(item.reason)
            told[item.item] = reason.removeprefix("REJECTION_REASON_")
        for place, (seconds, wanted) in enumerate(cases.items()):
            allowed = {wanted} if wanted == ACCEPTED else {wanted, "EVENT_TIME_OUT_OF_RANGE"}
            if told[place] not in allowed:
                scene.history.complain("time", f"{seconds} s is {told[place]}, not {wanted}")
        wait_for_watermark(scene.process.lake, reply.consistency_token)
        stored = stored_rows(scene.process.lake, {"acme"})
        if len(stored) != reply.accepted:
            scene.history.complain("lost", f"{len(stored)} of {reply.accepted} are stored")
    finally:
        scene.process.kill()
    broken, examples = dict(scene.history.complaints), tuple(scene.history.examples)
    return Verdict(reply.accepted, calls=1, broken=broken, examples=examples)


def _of_times(times: list[int]) -> events_service_pb2.LogEventsRequest:
    request = events_service_pb2.LogEventsRequest()
    for place, seconds in enumerate(times):
        event = event_pb2.Event(event_id=f"time-{place}")
        event.unit.type, event.unit.id = "user", "u"
        event.event_time.seconds = seconds
        event.conversion.event_name = "visit"
        request.events.append(event)
    return request


def _orders(play: Play) -> Verdict:
    """The same events in other orders and other batches end as the same tables."""
    ends: list[Counter[Row]] = []
    dice = play.dice
    events = [name for project in PROJECTS for name in names(project, "o-", 400)]
    verdicts = []
    for number in range(play.rounds + 1):
        once = Play(play.folder / str(number), play.module, 1, play.seed)
        scene = open_scene(once)
        order = dice.permutation(len(events)) if number else range(len(events))
        mixed = [events[int(place)] for place in order]
        try:
            with by_hand(scene) as hand:
                for batch in _batches(mixed, int(dice.integers(20, 200))):
                    hand.expect(batch, ACCEPTED)
            verdicts.append(scene.verdict())
        finally:
            scene.process.kill()
        rows = stored_rows(scene.process.lake, set(PROJECTS)).values()
        ends.append(Counter(row for some in rows for row in some))
    different = sum(end != ends[0] for end in ends)
    broken = Counter({"order": different} if different else {})
    for verdict in verdicts:
        broken.update(verdict.broken)
    examples = tuple(example for verdict in verdicts for example in verdict.examples)
    acknowledged = sum(verdict.acknowledged for verdict in verdicts)
    return Verdict(acknowledged, faults=play.rounds, broken=dict(broken), examples=examples)


def _batches(mixed: list[Name], size: int) -> list[list[Name]]:
    """Batches of one project each, in the order given."""
    batches = []
    for at in range(0, len(mixed), size):
        part = mixed[at : at + size]
        batches += [[n for n in part if n.project == project] for project in PROJECTS]
    return [batch for batch in batches if batch]


CLOCK_STEPS = Fault(
    26,
    "the clock steps an hour, a day, 40 days, back, onto a leap day",
    _steps,
    twins={"believes_clock": 5},
    short=2,
    rounds=VISITS,
    long_twins=("believes_clock",),
)
TIMES = Fault(
    27,
    "events of the years 1, 1969, 9999, 10^15 s, 25 hours ahead, 5 years ago",
    _times,
    twins={"any_time": 1},
    short=1,
    rounds=1,
)
ORDERS = Fault(
    28,
    "events arrive in any order and in any batches",
    _orders,
    twins={"stamps_arrival": 1},
    rounds=8,
)
