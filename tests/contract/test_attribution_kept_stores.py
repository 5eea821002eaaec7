"""The promises of GroupingStore and ScheduleStore, over every supported database."""

import datetime as dt
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import pytest

from services.attribution.adapters.groupings_sql import SqlGroupingStore, migrate_groupings
from services.attribution.adapters.schedules_sql import SqlScheduleStore, migrate_schedules
from services.attribution.ports import StoredSchedule
from shared.errors import Code, DomainError
from shared.state.database import Database

R = TypeVar("R")
START = dt.datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)


@pytest.fixture
def state(database: Database) -> Database:
    for migrate in (migrate_groupings, migrate_schedules, migrate_groupings, migrate_schedules):
        migrate(database)
    return database


def groupings(database: Database, work: Callable[[SqlGroupingStore], R]) -> R:
    with database.begin() as connection:
        return work(SqlGroupingStore(connection))


def schedules(database: Database, work: Callable[[SqlScheduleStore], R]) -> R:
    with database.begin() as connection:
        return work(SqlScheduleStore(connection))


def code_of(work: Callable[[], object]) -> Code:
    with pytest.raises(DomainError) as refused:
        work()
    return refused.value.code


def schedule(schedule_id: str = "daily", **fields: object) -> StoredSchedule:
    made = StoredSchedule(
        project="acme",
        schedule_id=schedule_id,
        version=1,
        turn=1,
        create_time=START,
        update_time=START,
        next_time=START + HOUR,
        paused=False,
        operation_id="",
        document=b"\x00\xff decided",
        state=b"",
    )
    return replace(made, **fields)  # type: ignore[arg-type]


def test_a_grouping_comes_back_as_it_was_at_every_version(state: Database) -> None:
    first = groupings(state, lambda s: s.insert("acme", "main", b"\x00one\xff", START))
    second = groupings(state, lambda s: s.replace(first, b"two", START + HOUR))
    assert (first.version, second.version, second.create_time) == (1, 2, START)
    assert groupings(state, lambda s: s.get("acme", "main")) == second
    assert groupings(state, lambda s: s.get("acme", "main", 1)) == first
    for project, grouping_id, version in (
        ("acme", "main", 3),
        ("acme", "Main", 0),
        ("Acme", "main", 0),
        ("acme", "main ", 0),
    ):
        ask = (project, grouping_id, version)
        assert groupings(state, lambda s, a=ask: s.get(*a)) is None  # type: ignore[misc]
    assert [v.version for v in groupings(state, lambda s: s.versions("acme", "main", None, 9))] == [
        2,
        1,
    ]
    assert groupings(state, lambda s: s.versions("acme", "main", 2, 9)) == [first]
    assert groupings(state, lambda s: s.versions("acme", "main", None, 1)) == [second]


def test_an_id_is_taken_until_its_grouping_is_deleted(state: Database) -> None:
    made = groupings(state, lambda s: s.insert("acme", "main", b"one", START))
    insert = lambda: groupings(state, lambda s: s.insert("acme", "main", b"x", START))  # noqa: E731
    assert code_of(insert) is Code.ALREADY_EXISTS
    groupings(state, lambda s: s.insert("other", "main", b"theirs", START))
    groupings(state, lambda s: s.delete(made, START + HOUR))
    assert groupings(state, lambda s: s.get("acme", "main")) is None
    assert groupings(state, lambda s: s.get("acme", "main", 1)) is None
    assert groupings(state, lambda s: s.page("acme", "", 9)) == []
    assert groupings(state, lambda s: s.versions("acme", "main", None, 9)) == []
    assert code_of(lambda: groupings(state, lambda s: s.delete(made, START))) is Code.ABORTED
    replaced = lambda: groupings(state, lambda s: s.replace(made, b"x", START))  # noqa: E731
    assert code_of(replaced) is Code.ABORTED

    anew = groupings(state, lambda s: s.insert("acme", "main", b"anew", START + 2 * HOUR))
    assert (anew.version, anew.create_time) == (2, START + 2 * HOUR)
    assert groupings(state, lambda s: s.versions("acme", "main", None, 9)) == [anew]
    assert groupings(state, lambda s: s.get("acme", "main", 1)) is None
    theirs = groupings(state, lambda s: s.get("other", "main"))
    assert theirs is not None
    assert theirs.document == b"theirs"


def test_groupings_come_by_id(state: Database) -> None:
    for grouping_id in ("b", "a_", "a-", "c", "a"):
        groupings(state, lambda s, g=grouping_id: s.insert("acme", g, b"x", START))  # type: ignore[misc]
    page = groupings(state, lambda s: s.page("acme", "", 3))
    rest = groupings(state, lambda s: s.page("acme", page[-1].grouping_id, 9))
    assert [one.grouping_id for one in (*page, *rest)] == ["a", "a-", "a_", "b", "c"]


def test_of_changes_at_once_one_is_made(state: Database) -> None:
    grouping = groupings(state, lambda s: s.insert("acme", "main", b"one", START))
    one = schedule()
    schedules(state, lambda s: s.insert(one))
    together = threading.Barrier(8)
    outcomes: list[str] = []

    def change(number: int) -> None:
        together.wait(10)
        try:
            if number % 2:
                groupings(state, lambda s: s.replace(grouping, b"%d" % number, START))
            else:
                schedules(state, lambda s: s.replace(one, replace(one, state=b"%d" % number)))
        except DomainError as error:
            outcomes.append(error.code.value)
        else:
            outcomes.append(f"done {number % 2}")

    threads = [threading.Thread(target=change, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["ABORTED"] * 6 + ["done 0", "done 1"]


def test_a_schedule_comes_back_as_it_was(state: Database) -> None:
    one = schedule()
    schedules(state, lambda s: s.insert(one))
    assert schedules(state, lambda s: s.get("acme", "daily")) == one
    assert schedules(state, lambda s: s.get("other", "daily")) is None
    assert code_of(lambda: schedules(state, lambda s: s.insert(one))) is Code.ALREADY_EXISTS
    later = replace(one, operation_id="o1", state=b"ran", next_time=START + 2 * HOUR)
    schedules(state, lambda s: s.replace(one, later))
    found = schedules(state, lambda s: s.get("acme", "daily"))
    assert found == replace(later, turn=2)
    assert found is not None
    assert code_of(lambda: schedules(state, lambda s: s.replace(one, later))) is Code.ABORTED
    assert code_of(lambda: schedules(state, lambda s: s.delete(one))) is Code.ABORTED
    schedules(state, lambda s: s.delete(found))
    assert schedules(state, lambda s: s.get("acme", "daily")) is None
    # One that was made anew is another, though its turn is the same again.
    anew = schedule(create_time=START + HOUR)
    schedules(state, lambda s: s.insert(anew))
    assert code_of(lambda: schedules(state, lambda s: s.replace(one, later))) is Code.ABORTED


def test_what_is_due_comes_longest_due_first(state: Database) -> None:
    for made in (
        schedule("later", next_time=START + 2 * HOUR),
        schedule("due", next_time=START),
        schedule("longest", next_time=START - HOUR, project="other"),
        schedule("paused", next_time=START - HOUR, paused=True),
        schedule("running", next_time=START + 5 * HOUR, operation_id="o1", paused=True),
    ):
        schedules(state, lambda s, m=made: s.insert(m))  # type: ignore[misc]
    due = schedules(state, lambda s: s.due(START, 9))
    assert [one.schedule_id for one in due] == ["longest", "due", "running"]
    assert schedules(state, lambda s: s.due(START, 1)) == due[:1]
    page = schedules(state, lambda s: s.page("acme", "later", 1))
    assert [one.schedule_id for one in page] == ["paused"]


def test_the_reports_of_a_schedule_are_told_from_others(state: Database) -> None:
    for number, report_id in enumerate(("r1", "r2", "r3")):
        note = ("acme", "daily", report_id, START + number * HOUR)
        schedules(state, lambda s, n=note: s.note_report(*n))  # type: ignore[misc]
    schedules(state, lambda s: s.note_report("acme", "hourly", "h1", START))
    schedules(state, lambda s: s.note_report("other", "daily", "r1", START))
    assert schedules(state, lambda s: s.surplus("acme", "daily", 1)) == ["r2", "r1"]
    schedules(state, lambda s: s.forget_report("acme", "r2"))
    assert schedules(state, lambda s: s.surplus("acme", "daily", 1)) == ["r1"]
    assert schedules(state, lambda s: s.surplus("other", "daily", 0)) == ["r1"]

    one = schedule()
    schedules(state, lambda s: s.insert(one))
    schedules(state, lambda s: s.delete(one))
    assert schedules(state, lambda s: s.surplus("acme", "daily", 0)) == []
    assert schedules(state, lambda s: s.surplus("acme", "hourly", 0)) == ["h1"]
