"""What must hold between what clients were told and what readers see."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.compute as pc
from touchstone.events.v1 import event_pb2

from shared.lake.snapshot import LakeEventTables
from tests.robustness.content import (
    BAD,
    TABLES,
    Name,
    Row,
    columns_of,
    event_of,
    row_of,
    stored_row,
)
from tests.robustness.history import ACCEPTED, DUPLICATE, History, Outcome

CONFLICT = "CONFLICTING_DUPLICATE"
Stored = Mapping[tuple[str, str], list[Row]]
Rejections = Mapping[tuple[str, str, str], list[bytes]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was tried, and how often each promise was broken."""

    acknowledged: int
    calls: int = 0
    unknown: int = 0
    failed: int = 0
    reads: int = 0
    faults: int = 0
    broken: Mapping[str, int] = field(default_factory=dict)
    examples: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether something was tried and every promise was kept."""
        return self.acknowledged > 0 and not self.broken


@dataclass(slots=True)
class _Facts:
    """What the calls say of one event id of one project."""

    possible: set[int] = field(default_factory=set)
    """The takes that may be stored: acknowledged, or in a call without an answer."""
    told: set[int] = field(default_factory=set)
    """The takes that a client was told are stored."""
    conflicts: set[int] = field(default_factory=set)
    """The takes of which a client was told that another one stands."""
    accepted: int = 0


def judge(history: History, lake: Path, rejected: Path, faults: int) -> Verdict:
    """Compare: stored holds all that was acknowledged, each once and as it was sent, and nothing
    else; what was rejected is kept."""
    facts = _facts(history)
    stored = stored_rows(lake, {call.project for call in history.calls})
    for key, fact in facts.items():
        _judge_event(key, fact, stored.get(key, []), history)
    for key in stored.keys() - facts.keys():
        history.complain("invented", f"{key} was never sent")
    _judge_rejected(history, kept_rejections(rejected))
    outcomes = history.outcomes()
    return Verdict(
        acknowledged=sum(1 for fact in facts.values() if fact.told or fact.conflicts),
        calls=len(history.calls),
        unknown=outcomes[Outcome.UNKNOWN],
        failed=outcomes[Outcome.FAILED],
        reads=history.reads,
        faults=faults,
        broken=dict(history.complaints),
        examples=tuple(history.examples),
    )


def stored_rows(lake: Path, projects: set[str]) -> Stored:
    """Every stored row, by project and event id."""
    rows: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for project in projects:
        with LakeEventTables(lake).snapshot(project).read() as tables:
            for table in TABLES:
                found = tables[table].select(*columns_of(table)).to_pyarrow()
                time = pc.cast(found["event_time"], "int64")
                place = found.column_names.index("event_time")
                for values in found.set_column(place, "event_time", time).to_pylist():
                    rows[project, values["event_id"]].append(stored_row(table, values))
    return rows


def kept_rejections(path: Path) -> Rejections:
    """The payloads of the rejected events that are kept, by project, event id and reason."""
    kept: dict[tuple[str, str, str], list[bytes]] = defaultdict(list)
    connection = sqlite3.connect(path)
    try:
        query = "SELECT project, event_id, reason, payload FROM rejected"
        for project, event_id, reason, payload in connection.execute(query):
            kept[project, event_id, reason].append(bytes(payload))
    finally:
        connection.close()
    return kept


def _facts(history: History) -> dict[tuple[str, str], _Facts]:
    facts: dict[tuple[str, str], _Facts] = defaultdict(_Facts)
    for call in history.calls:
        for name, status in _told(call.outcome, call.names, call.statuses):
            fact = facts[name.project, name.event_id]
            if status in {ACCEPTED, DUPLICATE}:
                fact.told.add(name.take)
                fact.accepted += status == ACCEPTED
            if status in {ACCEPTED, DUPLICATE, ""}:
                fact.possible.add(name.take)
            if status == CONFLICT:
                fact.conflicts.add(name.take)
    return facts


def _told(
    outcome: Outcome, names: list[Name], statuses: list[str]
) -> Iterator[tuple[Name, str | None]]:
    """What each item came to; the empty text when nobody knows, None when nothing."""
    if outcome is Outcome.OK:
        yield from zip(names, statuses, strict=True)
    else:
        unknown = "" if outcome is Outcome.UNKNOWN else None
        yield from ((name, unknown) for name in names)


def _judge_event(key: tuple[str, str], fact: _Facts, rows: list[Row], history: History) -> None:
    project, event_id = key

    def complain(promise: str) -> None:
        history.complain(promise, f"{event_id} of {project}: {fact}, stored {rows}")

    if not rows:
        if fact.told or fact.conflicts:
            complain("lost")
        return
    if not fact.possible or event_id.startswith(BAD):
        complain("invented")
        return
    if len(rows) > 1 or fact.accepted > 1:
        complain("doubled")
    allowed = (fact.told or fact.possible) - fact.conflicts
    expected = {row_of(event_of(Name(project, event_id, take))) for take in allowed}
    if len(fact.told) > 1 or not expected.issuperset(rows):
        complain("altered")


def _judge_rejected(history: History, kept: Rejections) -> None:
    asked: set[tuple[str, str]] = set()
    for call in history.calls:
        for name, status in _told(call.outcome, call.names, call.statuses):
            asked.add((name.project, name.event_id))
            if not status or status in {ACCEPTED, DUPLICATE}:
                continue
            payloads = kept.get((name.project, name.event_id, status), [])
            if _payload(name) not in {_parsed(payload) for payload in payloads}:
                history.complain("rejected", f"{name} was {status} and is not kept")
            if name.event_id.startswith(BAD) == (status == CONFLICT):
                history.complain("reason", f"{name} was rejected as {status}")
    for project, event_id, reason in kept:
        if (project, event_id) not in asked:
            history.complain("rejected", f"{event_id} of {project} ({reason}) was never sent")


def _payload(name: Name) -> bytes:
    return event_of(name).SerializeToString(deterministic=True)


def _parsed(payload: bytes) -> bytes:
    return event_pb2.Event.FromString(payload).SerializeToString(deterministic=True)
