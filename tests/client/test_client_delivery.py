"""The delivery decides by its state alone: a clock that stands, a wire that answers as told."""

from __future__ import annotations

import pytest
from touchstone_events.buffer import Buffer
from touchstone_events.contract import contract
from touchstone_events.delivery import Delivery
from touchstone_events.events import NOTHING_MORE, Conversion, Stamp, Unit, encode
from touchstone_events.settings import Settings
from touchstone_events.stats import Ledger, Problem, ProblemLog
from touchstone_events.transport import Outcome, Rejection

from tests.client.rig import Clock, Wire, ids

AWAY = Outcome("UNAVAILABLE", "gone")


class Rig:
    """A delivery without its thread."""

    def __init__(self, **settings):
        self.clock, self.wire = Clock(), Wire()
        self.problems: list[Problem] = []
        self.settings = Settings(**{"batch_events": 3, "segment_bytes": 200} | settings)
        self.ledger = Ledger(self.problems.append)
        self.buffer = Buffer(self.settings, self.clock.monotonic)
        self.delivery = Delivery(self.settings, self.buffer, self.wire, self.ledger, self.clock)
        self.delivery.spooling.open()
        self.made = 0

    def put(self, count=1):
        taken = []
        for _ in range(count):
            name = f"e{self.made}"
            self.made += 1
            stamp = Stamp(name, self.clock.time_ns(), "test")
            unit, what = Unit("user", "u"), Conversion("purchase")
            if self.buffer.put(encode(contract(), unit, what, NOTHING_MORE, stamp)):
                taken.append(name)
        return taken

    def turns(self, most=200):
        """Works until there is a pause; returns how long it is."""
        for _ in range(most):
            wait_s = self.delivery.turn()
            if wait_s != 0.0 or self.delivery.finished:
                return wait_s
        raise AssertionError("it never pauses")

    def later(self, seconds):
        self.clock.now_s += seconds
        return self.turns()

    @property
    def counts(self):
        return self.ledger.snapshot()


def test_a_batch_goes_when_it_is_full_or_old_enough():
    rig = Rig(batch_age_s=2.0)
    rig.put(4)
    assert rig.turns() == pytest.approx(2.0)
    assert [call.events for call in rig.wire.calls] == [["e0", "e1", "e2"]]
    assert rig.later(1.0) == pytest.approx(1.0)
    assert len(rig.wire.calls) == 1
    assert rig.later(1.0) is None
    assert rig.wire.arrived == ["e0", "e1", "e2", "e3"]
    assert rig.counts.sent == 4


def test_a_batch_is_bounded_in_bytes_but_a_large_event_goes_alone():
    rig = Rig(batch_bytes=150, batch_events=100)
    rig.put(7)
    rig.later(1.0)
    rig.later(1.0)
    sizes = [len(call.events) for call in rig.wire.calls]
    assert sum(sizes) == 7
    assert max(sizes) == 150 // (rig.made and len_of_one())
    tiny = Rig(batch_bytes=1)
    tiny.put(2)
    tiny.later(1.0)
    tiny.later(1.0)
    assert [len(call.events) for call in tiny.wire.calls] == [1, 1]


def len_of_one():
    stamp = Stamp("e0", int(1_790_000_000 * 1e9), "test")
    return len(encode(contract(), Unit("user", "u"), Conversion("purchase"), NOTHING_MORE, stamp))


def test_one_call_at_a_time():
    rig = Rig()
    rig.wire.usual = None
    rig.put(9)
    assert rig.turns() is None
    assert len(rig.wire.calls) == 1


@pytest.mark.parametrize("code", sorted(Settings().retry_codes))
def test_a_call_that_may_be_repeated_is_the_same_until_it_arrives(code):
    rig = Rig()
    rig.wire.answers = [Outcome(code)] * 3
    rig.put(3)
    rig.turns()
    for _ in range(10):
        rig.later(1.0)
    assert [call.events for call in rig.wire.calls] == [["e0", "e1", "e2"]] * 4
    assert (rig.counts.sent, rig.counts.failures, rig.problems) == (3, 3, [])


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "FAILED_PRECONDITION", "INTERNAL", "UNKNOWN"])
def test_any_other_code_ends_the_batch_and_is_reported(code):
    rig = Rig()
    rig.wire.answers = [Outcome(code, "why")]
    rig.put(4)
    rig.later(1.0)
    rig.later(1.0)
    assert rig.wire.arrived == ["e3"]
    assert rig.counts.refused == 3
    (problem,) = rig.problems
    assert (problem.kind, problem.reason, problem.message, problem.events) == (
        "refused", code, "why", 3,
    )  # fmt: skip


def test_rejected_items_are_reported_one_by_one():
    rig = Rig()
    bad = Rejection("e1", "INVALID_FIELD", "unit.id", "is ''")
    rig.wire.answers = [Outcome("OK", accepted=1, duplicates=1, rejected=(bad,))]
    rig.put(3)
    rig.turns()
    assert (rig.counts.sent, rig.counts.duplicates, rig.counts.rejected) == (1, 1, 1)
    (problem,) = rig.problems
    assert (problem.event_id, problem.reason, problem.field) == ("e1", "INVALID_FIELD", "unit.id")


def test_waits_double_up_to_the_longest_and_are_spread_by_full_jitter():
    rig = Rig(first_retry_s=1.0, longest_retry_s=8.0)
    rig.wire.usual = "UNAVAILABLE"
    rig.put(3)
    waits = []
    for _ in range(60):
        wait_s = rig.turns()
        waits.append(wait_s)
        rig.clock.now_s += wait_s
    for n, wait_s in enumerate(waits):
        assert 0 < wait_s <= min(2.0**n, 8.0)
    settled = waits[4:]
    assert min(settled) < 1.5
    assert max(settled) > 6.5


def test_the_service_can_ask_for_more_patience():
    rig = Rig(first_retry_s=0.1)
    rig.wire.answers = [Outcome("RESOURCE_EXHAUSTED", retry_after_s=7.0)]
    rig.put(3)
    assert 7.0 <= rig.turns() <= 7.1
    rig.later(6.9)
    assert len(rig.wire.calls) == 1


def test_memory_is_bounded_while_the_service_is_away_and_what_fits_arrives_later():
    rig = Rig(queue_events=10)
    rig.wire.usual = "UNAVAILABLE"
    taken = []
    for _ in range(20):
        taken += rig.put(5)
        rig.later(0.5)
        assert rig.buffer.size[0] + rig.delivery.in_hand[0] <= 10 + 3
    assert len(taken) == 13
    assert rig.buffer.dropped == 100 - 13
    rig.wire.usual = "OK"
    for _ in range(60):
        rig.later(1.0)
    assert rig.wire.arrived == taken


def test_memory_is_bounded_in_bytes_too():
    rig = Rig(queue_bytes=5 * len_of_one())
    rig.wire.usual = None
    rig.turns()
    assert len(rig.put(50)) == 5


def test_away_events_go_to_disk_and_come_back_in_order(tmp_path):
    rig = Rig(queue_events=10, spool_folder=tmp_path)
    rig.wire.usual = "UNAVAILABLE"
    taken = []
    for _ in range(20):
        taken += rig.put(4)
        rig.later(0.3)
    assert len(taken) == 80
    assert rig.delivery.spooling.events >= 77
    assert rig.buffer.size[0] + rig.delivery.in_hand[0] <= 3
    rig.wire.usual = "OK"
    rig.later(60.0)
    rig.later(1.0)
    assert rig.wire.arrived == taken
    assert rig.counts.sent == 80
    assert rig.delivery.spooling.size == (0, 0)
    assert list(tmp_path.rglob("*.segment")) == []


def test_new_events_wait_behind_the_spool(tmp_path):
    rig = Rig(spool_folder=tmp_path)
    rig.wire.answers = [AWAY]
    old = rig.put(6)
    rig.later(0.2)
    new = rig.put(3)
    rig.later(60.0)
    rig.later(1.0)
    assert rig.wire.arrived == old + new


def test_a_call_that_hangs_does_not_cost_events_when_there_is_a_disk(tmp_path):
    rig = Rig(queue_events=10, spool_folder=tmp_path)
    rig.wire.usual = None
    rig.put(3)
    rig.turns()
    for _ in range(30):
        assert len(rig.put(2)) == 2
        rig.turns()
    (hanging,) = rig.wire.calls
    hanging.result = Outcome("OK", accepted=3)
    rig.wire.usual = "OK"
    rig.later(1.0)
    assert sorted(rig.wire.arrived) == sorted(f"e{n}" for n in range(63))


def test_a_full_spool_leaves_memory_and_then_drops(tmp_path):
    rig = Rig(queue_events=10, spool_folder=tmp_path, spool_bytes=1000)
    rig.wire.usual = "UNAVAILABLE"
    taken = []
    for _ in range(40):
        taken += rig.put(3)
        rig.later(0.3)
        assert rig.delivery.spooling.size[1] <= 1000
        assert rig.delivery.in_hand[0] + rig.buffer.size[0] <= 16
    assert rig.buffer.dropped == 120 - len(taken) > 0
    rig.wire.usual = "OK"
    rig.later(60.0)
    rig.later(1.0)
    assert sorted(rig.wire.arrived) == sorted(taken)
    assert len(set(rig.wire.arrived)) == len(taken)


def test_a_disk_that_fails_costs_no_event_while_memory_has_room(tmp_path):
    rig = Rig(queue_events=1000, spool_folder=tmp_path)
    for slot in tmp_path.glob("slot-*"):
        (slot / "lock").unlink()
        slot.rmdir()
    rig.wire.answers = [AWAY]
    taken = rig.put(9)
    rig.later(0.3)
    assert rig.counts.spool_errors > 0
    rig.later(60.0)
    rig.later(1.0)
    assert rig.wire.arrived == taken


def test_closing_sends_what_is_left_at_once():
    rig = Rig(batch_age_s=1000.0)
    taken = rig.put(7)
    rig.turns()
    rig.delivery.close(5.0)
    rig.turns()
    assert rig.wire.arrived == taken
    assert rig.delivery.finished
    assert rig.put(1) == []


def test_closing_while_away_leaves_everything_on_disk(tmp_path):
    rig = Rig(spool_folder=tmp_path)
    rig.wire.usual = "UNAVAILABLE"
    taken = rig.put(7)
    rig.turns()
    rig.delivery.close(5.0)
    rig.turns()
    assert rig.delivery.finished
    assert rig.counts.lost == 0
    after = Rig(spool_folder=tmp_path)
    assert after.counts.recovered == 7
    after.turns()
    assert after.wire.arrived == taken


def test_closing_while_away_without_a_disk_tries_until_the_time_is_over():
    rig = Rig(first_retry_s=30.0)
    rig.wire.usual = "UNAVAILABLE"
    rig.put(7)
    rig.turns()
    rig.delivery.close(5.0)
    while not rig.delivery.finished:
        rig.clock.now_s += rig.turns() or 0.0
    assert len(rig.wire.calls) >= 5
    assert (rig.counts.lost, rig.counts.sent) == (7, 0)


def test_closing_goes_on_trying_what_finds_no_room_on_disk(tmp_path):
    rig = Rig(spool_folder=tmp_path, spool_bytes=400)
    rig.wire.usual = "UNAVAILABLE"
    taken = rig.put(12)
    rig.turns()
    rig.delivery.close(20.0)
    rig.turns()
    assert rig.counts.lost == 0
    rig.wire.usual = "OK"
    for _ in range(5):
        rig.later(1.0)
    assert rig.delivery.finished
    assert (rig.counts.lost, rig.counts.sent) == (0, 12)
    assert sorted(rig.wire.arrived) == sorted(taken)


def test_a_service_cannot_ask_for_patience_without_end():
    rig = Rig()
    rig.wire.answers = [Outcome("UNAVAILABLE", retry_after_s=1e12)]
    rig.put(3)
    assert rig.turns() < 700


def test_closing_gives_up_a_call_that_hangs(tmp_path):
    rig = Rig(spool_folder=tmp_path)
    rig.wire.usual = None
    rig.put(3)
    rig.turns()
    rig.delivery.close(2.0)
    assert rig.turns() == pytest.approx(2.0)
    rig.later(2.0)
    assert rig.delivery.finished
    assert rig.wire.disconnected >= 1
    assert rig.counts.lost == 0
    assert Rig(spool_folder=tmp_path).counts.recovered == 3


def test_an_idle_sender_delivers_what_ended_processes_left(tmp_path):
    dead = [Rig(spool_folder=tmp_path) for _ in range(3)]
    left = []
    for n, rig in enumerate(dead):
        rig.wire.usual = "UNAVAILABLE"
        rig.made = 100 * n
        left += rig.put(4)
        rig.turns()
    for rig in dead:
        rig.delivery.close(0.001)
        rig.turns()
    heir = Rig(spool_folder=tmp_path)
    for _ in range(10):
        heir.later(1.0)
    assert sorted(heir.wire.arrived) == sorted(left)
    assert heir.counts.recovered == len(left)
    assert list(tmp_path.rglob("*.segment")) == []


def test_parking_gives_up_the_call_and_takes_the_batch_back():
    rig = Rig()
    rig.wire.usual = None
    taken = rig.put(3)
    rig.turns()
    rig.delivery.park(0.0)
    assert rig.turns() is None
    assert rig.wire.disconnected == 1
    rig.wire.usual = "OK"
    rig.delivery.unpark()
    rig.turns()
    assert rig.wire.arrived == taken
    assert rig.counts.failures == 0


def test_what_a_key_function_raises_is_a_failure_that_is_repeated():
    rig = Rig()

    class NoKey(Wire):
        def start(self, body, timeout_s, done):
            if not self.calls:
                self.calls.append(ids(body))
                raise LookupError("no key yet")
            return rig.wire.start(body, timeout_s, done)

    rig.delivery._transport = NoKey()
    taken = rig.put(3)
    rig.turns()
    assert rig.counts.failures == 1
    rig.later(1.0)
    assert rig.wire.arrived == taken


def test_every_event_is_accounted_for(tmp_path):
    rig = Rig(queue_events=12, spool_folder=tmp_path, spool_bytes=800)
    bad = Rejection("e1", "INVALID_FIELD", "", "")
    rig.wire.answers = [
        Outcome("OK", accepted=1, duplicates=1, rejected=(bad,)), Outcome("INTERNAL"),
        *[AWAY] * 12,
    ]  # fmt: skip
    for _ in range(30):
        rig.put(4)
        rig.later(0.2)
    rig.delivery.close(0.0)
    rig.turns()
    end = rig.counts
    spooled, _ = rig.delivery.spooling.size
    assert rig.buffer.taken == (
        spooled + end.sent + end.duplicates + end.rejected + end.refused + end.lost
    )
    assert rig.buffer.taken + rig.buffer.dropped == 120


def test_many_problems_do_not_fill_the_log(caplog):
    log = ProblemLog()
    for n in range(2500):
        log(Problem("rejected", "INVALID_FIELD", "is wrong", event_id=f"e{n}"))
    log(Problem("refused", "INTERNAL", "an error", 7))
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 10 + 2 + 1
    assert "e0" in lines[0]
    assert "2000 of this reason" in lines[11]
