"""Requests that are bytes: repeated as the service says, in order, a few at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from touchstone.events.v1.events_service_pb2 import (
    LogEventsRequest,
    LogEventsResponse,
    RejectedItem,
    RejectionReason,
)

from services.cli.importing.bulk.fields import kind_of
from services.cli.importing.bulk.importing import EventImport, EventReport, import_events, plan
from services.cli.importing.bulk.instants import InstantRules
from services.cli.importing.bulk.mapping import EventMapping
from services.cli.importing.sender import Patience, Sender
from shared.errors import Code, DomainError, overloaded
from shared.server.status import to_status

ROWS = 40_000


class RefusedCall(grpc.RpcError):
    """A call that ended with an error of the suite's."""

    def __init__(self, error: DomainError) -> None:
        self._status = to_status(error, "r1")
        self._code = grpc.StatusCode[error.code.name]

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return str(self._status.details)

    def trailing_metadata(self) -> Any:
        return self._status.trailing_metadata


@dataclass(frozen=True, slots=True)
class OneBody:
    body: bytes

    def request(self) -> bytes | None:
        return self.body or None


class Service:
    """Counts events by id, and the calls that are under way at once."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}
        self.calls = self.now = self.most = 0
        self.before: Callable[[int], None] = lambda call: None
        self._lock = threading.Lock()

    def log_events(self, body: bytes) -> LogEventsResponse:
        with self._lock:
            self.calls += 1
            call = self.calls
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            time.sleep(0.001)
            self.before(call)
            request = LogEventsRequest.FromString(body)
            with self._lock:
                new = [e for e in request.events if e.event_id not in self.ids]
                self.ids.update({e.event_id: call for e in new})
            bad = [
                RejectedItem(
                    item=place,
                    reason=RejectionReason.REJECTION_REASON_INVALID_FIELD,
                    field="unit.id",
                    message="is bad",
                )
                for place, event in enumerate(request.events)
                if event.unit.id == "bad"
            ]
            known = len(request.events) - len(new)
            return LogEventsResponse(accepted=len(new) - len(bad), duplicates=known, rejected=bad)
        finally:
            with self._lock:
                self.now -= 1


def run(service: Service, path: Path, max_errors: int = 0) -> EventReport:
    mapping = EventMapping(kind_of("conversions"), InstantRules())
    rejects = path.with_suffix(".rejected.csv")
    wanted = EventImport((str(path),), None, mapping, "x", max_errors, rejects)
    sender = Sender(service.log_events, Patience(), lambda s: None, lambda text: None)
    return import_events(wanted, plan(wanted), sender, lambda tally: None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    rows = (f"2026-03-02T13:43:00Z,user,u{n},visit\n" for n in range(1, ROWS + 1))
    path.write_text("event_time,unit_type,unit_id,event_name\n" + "".join(rows))
    return path


def test_every_row_goes_in_once_through_trouble(path: Path) -> None:
    """Every third call fails, before or after it was stored."""
    service, slow = Service(), overloaded("the queue is full", 0.01)

    def fail_some(call: int) -> None:
        if call % 3 == 0:
            raise RefusedCall(slow)

    service.before = fail_some
    tally = run(service, path).tally
    assert (tally.rows, tally.accepted, tally.duplicates) == (ROWS, ROWS, 0)
    assert service.ids.keys() == {f"x:conversions:{n}" for n in range(1, ROWS + 1)}
    assert 1 < service.most <= 4
    again = run(service, path).tally
    assert (again.accepted, again.duplicates) == (0, ROWS)


def test_only_a_few_batches_exist_at_a_time() -> None:
    """A service that is slow slows the reading."""
    made, answered, widest = 0, 0, 0

    def bodies() -> Iterator[OneBody]:
        nonlocal made, widest
        for _ in range(100):
            made += 1
            widest = max(widest, made - answered)
            yield OneBody(b"x")

    def slow(body: bytes) -> LogEventsResponse:
        time.sleep(0.001)
        return LogEventsResponse(accepted=1)

    for _ in Sender(slow).send_all(bodies()):
        answered += 1
    assert (made, answered) == (100, 100)
    assert widest <= Patience().in_flight + 2


def test_pace_that_a_service_sets_is_kept_however_long_it_takes() -> None:
    """A limit with its delay does not wear out patience; a service that is full does."""
    slept: list[float] = []
    said: list[str] = []
    limited = DomainError(
        Code.RESOURCE_EXHAUSTED, "RATE_LIMITED", "at most 5 events a second", retry_after_s=60.0
    )
    answers: list[DomainError] = [limited] * 10

    def log_events(body: bytes) -> LogEventsResponse:
        if answers:
            raise RefusedCall(answers.pop())
        return LogEventsResponse(accepted=1)

    sender = Sender(log_events, Patience(give_up_s=120), slept.append, said.append)
    assert sender.send(OneBody(b"x")).accepted == 1
    assert slept == [60.0] * 10
    assert said == ["going on as fast as the service allows: at most 5 events a second"]
    answers[:] = [overloaded("the queue is full", 60.0)] * 10
    with pytest.raises(DomainError, match="the queue is full"):
        sender.send(OneBody(b"x"))
    assert len(slept) == 12


def test_too_many_errors_end_the_import_and_are_all_told(path: Path) -> None:
    """Those of the service count like those of the file."""
    text = path.read_text()
    path.write_text(text.replace(",u7,", ",bad,").replace(",u9,", ",,"))
    report = run(Service(), path, max_errors=2)
    assert (report.stopped, report.tally.rejected.total()) == (False, 2)
    assert report.tally.accepted == ROWS - 2
    assert [(row.row, row.kind) for row in report.first_rejected] == [
        (9, "BAD_ROW"),
        (7, "INVALID_FIELD"),
    ]
    report = run(Service(), path, max_errors=1)
    assert report.stopped
    assert report.tally.rows < ROWS
    lines = path.with_suffix(".rejected.csv").read_text().splitlines()
    assert len(lines) == 3
    assert lines[2].startswith(f"{path},7,unit_id,bad,INVALID_FIELD,is bad")


def test_rejects_of_another_kind_of_import_are_not_overwritten(path: Path) -> None:
    path.with_suffix(".rejected.csv").write_text("my own notes\n")
    with pytest.raises(DomainError, match="stays as it is"):
        run(Service(), path)
