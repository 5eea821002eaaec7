"""An import loses nothing: batches of whole rows, patience, checkpoints, rejected rows."""

from __future__ import annotations

import csv
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from touchstone.common.v1.unit_pb2 import UnitId
from touchstone.events.v1.event_pb2 import Conversion, Event
from touchstone.events.v1.events_service_pb2 import (
    REJECTION_REASON_CONFLICTING_DUPLICATE,
    REJECTION_REASON_INVALID_FIELD,
    LogEventsRequest,
    LogEventsResponse,
    RejectedItem,
)

from services.cli.importing.batches import MAX_EVENTS, Batch, in_batches
from services.cli.importing.cells import RowError
from services.cli.importing.checkpoint import Checkpoint, Counts
from services.cli.importing.finished import Finished
from services.cli.importing.rejects import require_ours
from services.cli.importing.replay import Outcome, Replay, run_replay
from services.cli.importing.runs import Run, rejects_path_of
from services.cli.importing.sender import Patience, Sender
from services.cli.importing.sources import SourceRow, open_source
from shared.errors import DomainError


class FailedCall(grpc.RpcError):
    """A failed call as a stub raises it."""

    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__()
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "refused"

    def trailing_metadata(self) -> tuple[()]:
        return ()


class EventLog:
    """An event log that stores each id once, and can be told to fail."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.calls = 0
        self.before: Callable[[int], None] = lambda call: None

    def log_events(self, request: LogEventsRequest) -> LogEventsResponse:
        self.calls += 1
        self.before(self.calls)
        new = [e.event_id for e in request.events if e.event_id not in self.ids]
        refused = [
            RejectedItem(item=i, event_id=e.event_id, field="unit.id", message="is bad")
            for i, e in enumerate(request.events)
            if e.unit.id == "bad"
        ]
        new = [one for one in new if one not in {r.event_id for r in refused}]
        self.ids.update(new)
        known = len(request.events) - len(new) - len(refused)
        token = f"t{self.calls}"
        return LogEventsResponse(
            accepted=len(new), duplicates=known, rejected=refused, consistency_token=token
        )


def events_of(row: SourceRow) -> list[Event]:
    text = str(row.cells[0])
    if text == "wrong":
        raise RowError("a", text, "is wrong")
    return [
        Event(
            event_id=f"{row.number}:{part}",
            unit=UnitId(type="user", id=text),
            conversion=Conversion(event_name="x"),
        )
        for part in range(2)
    ]


class Rows:
    """The events of a row, whose unit is its first column."""

    def events(self, row: SourceRow) -> list[Event]:
        return events_of(row)

    def column_of(self, event: Event, field: str) -> str:
        return "a" if field == "unit.id" else ""


def rows(count: int) -> list[SourceRow]:
    return [SourceRow(n, n + 1, [f"u{n}"]) for n in range(1, count + 1)]


def test_batches_hold_whole_rows_in_order() -> None:
    batches = list(in_batches(rows(2500), events_of))
    assert [len(batch.events) for batch in batches] == [MAX_EVENTS, MAX_EVENTS, 1000]
    assert [batch.last_row for batch in batches] == [1000, 2000, 2500]
    assert all(
        e.event_id.startswith(f"{r.number}:")
        for b in batches
        for e, r in zip(b.events, b.rows, strict=True)
    )


def test_batch_ends_before_it_is_too_large() -> None:
    def large(row: SourceRow) -> list[Event]:
        return [Event(event_id=str(row.number), source="x" * 3_000_000)]

    assert [len(batch.events) for batch in in_batches(rows(3), large)] == [1, 1, 1]


def test_rows_that_cannot_be_read_are_among_the_rejections() -> None:
    source = [
        SourceRow(1, 2, ["u1"]),
        SourceRow(2, 3, ["wrong"]),
        SourceRow(3, 4, [], "torn"),
    ]
    (batch,) = in_batches(source, events_of)
    assert [(r.row.line, r.column, r.reason) for r in batch.rejections] == [
        (3, "a", "is wrong"),
        (4, "", "torn"),
    ]
    assert batch.last_row == 3
    assert list(in_batches(source, events_of, after_row=3)) == []


def send(log: EventLog, slept: list[float], **patience: float) -> LogEventsResponse:
    sender = Sender(log.log_events, Patience(**patience), slept.append)  # type: ignore[arg-type]
    return sender.send(Batch(events=events_of(SourceRow(1, 2, ["u"]))))


def test_passing_trouble_is_waited_out_with_growing_delays() -> None:
    log, slept = EventLog(), list[float]()

    def fail_four_times(call: int) -> None:
        if call <= 4:
            raise FailedCall(grpc.StatusCode.UNAVAILABLE)

    log.before = fail_four_times
    assert send(log, slept, max_delay_s=1.0).accepted == 2
    assert slept == [0.2, 0.4, 0.8, 1.0]


def test_lasting_trouble_and_wrong_calls_are_raised() -> None:
    log, slept = EventLog(), list[float]()

    def always(call: int) -> None:
        raise FailedCall(grpc.StatusCode.UNAVAILABLE)

    log.before = always
    with pytest.raises(DomainError, match="touchstone up"):
        send(log, slept, give_up_s=3.0)
    assert 3.0 <= sum(slept) < 10

    def denied(call: int) -> None:
        raise FailedCall(grpc.StatusCode.PERMISSION_DENIED)

    log, slept = EventLog(), []
    log.before = denied
    with pytest.raises(DomainError):
        send(log, slept)
    assert (log.calls, slept) == (1, [])


def replay(folder: Path, log: EventLog, text: str, **options: bool) -> Outcome:
    path = folder / "in.csv"
    if not path.exists():
        path.write_text(text)
    job = Replay(
        open_source(path),
        Rows(),
        folder / "in.rejected.csv",
        Checkpoint(folder / "imports", "d", {"file": str(path)}),
        **options,
    )
    sender = Sender(log.log_events, Patience(in_flight=1), lambda s: None)
    return run_replay(job, sender, lambda count: None)


MANY = "a\n" + "".join(f"u{n}\n" for n in range(3000))


def test_importing_twice_changes_nothing(tmp_path: Path) -> None:
    log = EventLog()
    first = replay(tmp_path, log, MANY)
    assert (first.counts.events_accepted, first.counts.rows_read) == (6000, 3000)
    assert first.token == "t3"
    second = replay(tmp_path, log, MANY)
    assert (second.counts.events_accepted, second.counts.events_duplicate) == (0, 6000)
    assert len(log.ids) == 6000
    assert list((tmp_path / "imports").iterdir()) == []


@pytest.mark.parametrize("restart", [False, True])
def test_interrupted_import_goes_on_where_it_stopped(tmp_path: Path, restart: bool) -> None:
    log = EventLog()

    def break_third(call: int) -> None:
        if call == 3:
            raise FailedCall(grpc.StatusCode.PERMISSION_DENIED)

    log.before = break_third
    with pytest.raises(DomainError):
        replay(tmp_path, log, MANY)
    known = len(log.ids)
    assert known == 4000
    log.before = lambda call: None
    outcome = replay(tmp_path, log, MANY, restart=restart)
    assert len(log.ids) == 6000
    assert outcome.resumed_after_row == (0 if restart else 2000)
    assert outcome.counts.events_accepted == (2000 if restart else 6000)
    assert outcome.counts.events_duplicate == (4000 if restart else 0)


def rejected(folder: Path) -> list[dict[str, str]]:
    with (folder / "in.rejected.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_rejected_rows_are_kept_with_line_column_value_and_reason(tmp_path: Path) -> None:
    log = EventLog()
    outcome = replay(tmp_path, log, "a\nu1\nwrong\nbad\nu,2\n")
    assert (outcome.counts.rows_rejected, outcome.counts.rows_partly) == (3, 0)
    assert outcome.counts.events_accepted == 2
    lines = rejected(tmp_path)
    assert [(r["line"], r["column"], r["reason"]) for r in lines] == [
        ("3", "a", "is wrong"),
        ("5", "", "the row has 2 fields; allowed: 1, as in the header"),
        ("4", "a", "a is bad"),
    ]
    assert lines[2]["value"] == "bad"
    assert json.loads(lines[0]["row"]) == {"a": "wrong"}


def test_file_of_rejected_rows_is_of_the_last_import(tmp_path: Path) -> None:
    replay(tmp_path, EventLog(), "a\nwrong\nu1\n")
    assert len(rejected(tmp_path)) == 1
    (tmp_path / "in.csv").write_text("a\nu0\nu1\n")
    replay(tmp_path, EventLog(), "")
    assert not (tmp_path / "in.rejected.csv").exists()


def test_no_file_that_the_user_did_not_name_is_overwritten(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("a\n")
    wanted = tmp_path / "in.rejected.csv"
    job = Run(source, open_source(source), "d", wanted, restart=False)
    assert rejects_path_of(job, Counts()) == wanted
    wanted.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in.rejected-2.csv").write_text("")
    assert rejects_path_of(job, Counts()) == tmp_path / "in.rejected-3.csv"
    assert rejects_path_of(replace(job, rejects_named=True), Counts()) == wanted
    # One that goes on keeps to the file that it began.
    began = Counts(rows_read=2, rejects_bytes=9, rejects_file=str(wanted))
    assert rejects_path_of(job, began) == wanted
    assert rejects_path_of(job, replace(began, rejects_bytes=0)) == tmp_path / "in.rejected-3.csv"


def test_checkpoint_knows_the_file_of_rejects(tmp_path: Path) -> None:
    log = EventLog()

    def break_second(call: int) -> None:
        if call == 2:
            raise FailedCall(grpc.StatusCode.PERMISSION_DENIED)

    log.before = break_second
    with pytest.raises(DomainError):
        replay(tmp_path, log, "a\nwrong\n" + MANY.removeprefix("a\n"))
    known = Checkpoint(tmp_path / "imports", "d", {"file": str(tmp_path / "in.csv")}).load()
    assert known.rejects_file == str(tmp_path / "in.rejected.csv")
    assert known.rejects_bytes == (tmp_path / "in.rejected.csv").stat().st_size


def test_rejected_rows_of_the_first_part_stay_when_an_import_goes_on(tmp_path: Path) -> None:
    text = "a\nwrong\n" + "".join(f"u{n}\n" for n in range(2500)) + "wrong\n"
    log = EventLog()

    def break_third(call: int) -> None:
        if call == 3:
            raise FailedCall(grpc.StatusCode.PERMISSION_DENIED)

    log.before = break_third
    with pytest.raises(DomainError):
        replay(tmp_path, log, text)
    # What was written after the checkpoint is written again, once.
    with (tmp_path / "in.rejected.csv").open("a") as file:
        file.write("999,a,later,half a line")
    log.before = lambda call: None
    outcome = replay(tmp_path, log, text)
    assert outcome.counts.rows_rejected == 2
    assert [r["line"] for r in rejected(tmp_path)] == ["2", "2503"]


class PartLog(EventLog):
    """Refuses the first event of each row, for the reason it is given."""

    reason = REJECTION_REASON_INVALID_FIELD

    def log_events(self, request: LogEventsRequest) -> LogEventsResponse:
        refused = [
            RejectedItem(
                item=i, event_id=e.event_id, field="unit.id", message="is long", reason=self.reason
            )
            for i, e in enumerate(request.events)
            if e.event_id.endswith(":0")
        ]
        return LogEventsResponse(accepted=len(request.events) - len(refused), rejected=refused)


def test_row_that_went_in_without_a_value_is_a_figure_of_its_own(tmp_path: Path) -> None:
    outcome = replay(tmp_path, PartLog(), "a\nu1\nwrong\nu2\n")
    assert (outcome.counts.rows_rejected, outcome.counts.rows_partly) == (1, 2)
    assert [(r["line"], r["column"], r["value"]) for r in rejected(tmp_path)] == [
        ("3", "a", "wrong"),
        ("2", "a", "u1"),
        ("4", "a", "u2"),
    ]


def test_value_that_stands_says_how_to_make_new_data(tmp_path: Path) -> None:
    log = PartLog()
    log.reason = REJECTION_REASON_CONFLICTING_DUPLICATE
    replay(tmp_path, log, "a\nu1\n")
    (line,) = rejected(tmp_path)
    assert "--dataset NAME makes the file new data" in line["reason"]


@pytest.mark.parametrize("content", ["mine\n", "line,column\n"])
def test_file_that_no_import_wrote_stays_as_it_is(tmp_path: Path, content: str) -> None:
    path = tmp_path / "in.rejected.csv"
    path.write_text(content)
    with pytest.raises(DomainError, match="stays as it is"):
        replay(tmp_path, EventLog(), "a\nwrong\n")
    assert path.read_text() == content
    with pytest.raises(DomainError, match="--rejects"):
        require_ours(tmp_path)


def test_link_is_never_removed(tmp_path: Path) -> None:
    (tmp_path / "in.rejected.csv").symlink_to(tmp_path / "elsewhere")
    replay(tmp_path, EventLog(), "a\nwrong\n")
    replay(tmp_path, EventLog(), "")
    assert (tmp_path / "in.rejected.csv").is_symlink()
    assert len((tmp_path / "elsewhere").read_text().splitlines()) == 2


def test_interruption_does_not_wait_for_sleeping_calls() -> None:
    log, said = EventLog(), list[str]()

    def away(call: int) -> None:
        raise FailedCall(grpc.StatusCode.UNAVAILABLE)

    log.before = away
    sender = Sender(log.log_events, Patience(first_delay_s=60, give_up_s=120), tell=said.append)

    def batches() -> Iterator[Batch]:
        yield Batch(events=events_of(SourceRow(1, 2, ["u"])))
        while not said:
            time.sleep(0.01)
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(sender.send_all(batches()))
    for thread in threading.enumerate():
        if thread.name.startswith("log-events"):
            thread.join(10)
    assert time.monotonic() - began < 10
    assert log.calls == 1
    assert said == ["events does not answer, trying again for up to 120 s"]


def test_content_is_known_under_its_first_name(tmp_path: Path) -> None:
    one = Finished(tmp_path, {"content": "x", "mapping": "m"})
    assert one.other_than("a") == ""
    one.add("a")
    assert Finished(tmp_path, {"mapping": "m", "content": "x"}).other_than("copy") == "a"
    assert one.other_than("a") == ""
    assert Finished(tmp_path, {"content": "y", "mapping": "m"}).other_than("copy") == ""
    one.add("copy")
    assert (one.other_than("copy"), one.other_than("third")) == ("", "a, copy")
    one.path.write_text("damaged")
    assert one.other_than("third") == ""


def test_checkpoint_of_another_import_is_not_gone_on_with(tmp_path: Path) -> None:
    mine = Checkpoint(tmp_path, "d", {"mapping": 1})
    mine.save(Counts(rows_read=7))
    assert mine.load().rows_read == 7
    assert Checkpoint(tmp_path, "d", {"mapping": 2}).load() == Counts()
    for damage in ("", "{}", "[]", '{"version": 1, "identity": null, "counts": {}}'):
        mine.path.write_text(damage)
        assert mine.load() == Counts()
