"""Erased units and what is too old, judged as events arrive."""

import datetime as dt
import json
from pathlib import Path

import pytest
from touchstone.common.v1 import unit_pb2
from touchstone.events.v1 import event_pb2

from services.events.adapters.erased_units import LedgerErasedUnits
from services.events.application.arrival_rules import NO_RULES, ArrivalRules
from services.events.batch import portions_of
from services.events.domain.event import Event
from services.events.domain.rejection import Reason, RejectedEvent, Rejection
from shared.security.audit import AuditKeys
from shared.security.erasure_ledger import ErasureLedger, ErasureRecord

MOMENT_US = 1_000_000_000


class FixedRetention:
    def __init__(self, **oldest_us: int) -> None:
        self._oldest_us = oldest_us

    def oldest_us(self, project: str, table: str) -> int:
        return self._oldest_us.get(table, 0) if project == "acme" else 0


@pytest.fixture
def ledger(tmp_path: Path):
    made = ErasureLedger(tmp_path, AuditKeys((b"k" * 32,)))
    digest = made.digest("acme", "user", "gone")
    record = ErasureRecord("acme", "era", digest.hex(), MOMENT_US)
    made.add_tombstone(record, dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    yield made
    made.close()


def event(name: str, unit: str = "u", time_us: int = 5, kind: str = "user", **fields: str) -> Event:
    linked = fields.get("linked")
    payload: tuple[str, tuple[str | float | None, ...]]
    if "other" in fields:
        payload = ("identifies", ("user", fields["other"], None))
    else:
        payload = ("conversions", ("buy", 1.0, None))
    return Event(name, time_us, kind, unit, linked, None, None, *payload)


def judged(rules: ArrivalRules, *events: Event, project: str = "acme"):
    """Ids of what may be stored, and the reasons of the rest by place."""
    rejected: dict[int, Rejection] = {}
    kept: list[str] = []
    for portion in portions_of(list(enumerate(events))):
        left = rules.apply(project, portion, rejected)
        kept += left.ids if len(left) else []
    return kept, {place: why.reason for place, why in rejected.items()}


def linked(*units: tuple[str, str]) -> str:
    return json.dumps([{"type": kind, "id": id_} for kind, id_ in units])


def test_every_way_of_naming_an_erased_unit_is_refused(ledger) -> None:
    rules = ArrivalRules(LedgerErasedUnits(ledger), FixedRetention())
    kept, reasons = judged(
        rules,
        event("own", "gone"),
        event("stays"),
        event("linked", linked=linked(("device", "d"), ("user", "gone"))),
        event("other", other="gone"),
        event("linked-elsewhere", linked=linked(("device", "gone"))),
        event("another", other="somebody"),
        event("another-type", "gone", kind="device"),
    )
    assert sorted(kept) == ["another", "another-type", "linked-elsewhere", "stays"]
    assert reasons == {0: Reason.UNIT_ERASED, 2: Reason.UNIT_ERASED, 3: Reason.UNIT_ERASED}


def test_moment_of_the_erasure_is_the_border(ledger) -> None:
    rules = ArrivalRules(LedgerErasedUnits(ledger), FixedRetention())
    kept, _ = judged(rules, event("at", "gone", MOMENT_US), event("after", "gone", MOMENT_US + 1))
    assert kept == ["after"]


def test_other_projects_have_their_own_units(ledger) -> None:
    rules = ArrivalRules(LedgerErasedUnits(ledger), FixedRetention())
    assert judged(rules, event("own", "gone"), project="rival") == (["own"], {})


def test_what_is_older_than_is_kept_of_its_kind_is_refused(ledger) -> None:
    rules = ArrivalRules(LedgerErasedUnits(ledger), FixedRetention(conversions=100))
    kept, reasons = judged(
        rules, event("old", time_us=99), event("edge", time_us=100), event("link", other="x")
    )
    assert kept == ["edge", "link"]
    assert reasons == {0: Reason.EVENT_TIME_OUT_OF_RANGE}


def test_what_is_too_old_is_told_as_a_date(ledger) -> None:
    rules = ArrivalRules(LedgerErasedUnits(ledger), FixedRetention(conversions=86_400_000_000))
    rejected: dict[int, Rejection] = {}
    for portion in portions_of([(0, event("old", time_us=1_000_000))]):
        rules.apply("acme", portion, rejected)
    assert rejected[0].message.startswith(
        "is 1970-01-01T00:00:01Z, before what the project keeps of conversions; allowed: from "
        "1970-01-02T00:00:00Z: "
    )


def test_too_old_and_erased_is_refused_once(ledger) -> None:
    rules = ArrivalRules(LedgerErasedUnits(ledger), FixedRetention(conversions=100))
    assert judged(rules, event("both", "gone", 5))[0] == []


def kept_of(rules: ArrivalRules, reason: Reason, payload: bytes) -> list[RejectedEvent]:
    why = Rejection("e", reason, "value", "is wrong")
    return rules.keepable("acme", [RejectedEvent("acme", why, 1, "", payload)])


def test_nothing_of_a_rejected_event_that_names_an_erased_unit_is_kept(ledger) -> None:
    rules = ArrivalRules(LedgerErasedUnits(ledger), FixedRetention())
    gone, other = (unit_pb2.UnitId(type="user", id=id_) for id_ in ("gone", "other"))
    for named in (
        event_pb2.Event(unit=gone),
        event_pb2.Event(unit=other, linked_units=[other, gone]),
        event_pb2.Event(unit=other, identify=event_pb2.Identify(other_unit=gone)),
    ):
        assert kept_of(rules, Reason.INVALID_FIELD, named.SerializeToString()) == []
    harmless = event_pb2.Event(unit=other).SerializeToString()
    assert len(kept_of(rules, Reason.INVALID_FIELD, harmless)) == 1
    assert kept_of(rules, Reason.UNIT_ERASED, harmless) == []
    assert kept_of(rules, Reason.INVALID_FIELD, b"\xff\xff") == [], "nobody can tell"
    assert len(kept_of(NO_RULES, Reason.INVALID_FIELD, b"\xff\xff")) == 1
