"""What `Database` and `migrate` promise, over every database that is supported."""

import datetime as dt
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from shared.errors import Code, DomainError
from shared.state.database import Database, turn_wal_on
from shared.state.platform import migrate_platform, projects

REPOSITORY = Path(__file__).parents[2]
TIME = dt.datetime(2026, 2, 28, 23, 59, 59, 999_999, tzinfo=dt.UTC)


@pytest.fixture
def state(database):
    migrate_platform(database)
    return database


def names(connection):
    return sorted(connection.execute(sa.select(projects.c.project)).scalars())


@pytest.fixture
def table(database):
    """A table of its own, so that the test says nothing about the product's schema."""
    found = sa.Table("t", sa.MetaData(), sa.Column("x", sa.Integer))
    with database.begin() as connection:
        found.create(connection)
    return found


def fail_after(connection, table):
    connection.execute(sa.insert(table).values(x=2))
    raise ZeroDivisionError


def values(database, table):
    with database.read() as connection:
        return sorted(connection.execute(sa.select(table.c.x)).scalars())


def test_write_is_committed_and_an_error_undoes_all_of_it(database, table):
    with database.begin() as connection:
        connection.execute(sa.insert(table).values(x=1))
    with pytest.raises(ZeroDivisionError), database.begin() as connection:
        fail_after(connection, table)
    assert values(database, table) == [1]


def test_read_never_changes_anything(database, table):
    with database.read() as connection:
        connection.execute(sa.insert(table).values(x=1))
    assert values(database, table) == []


def test_read_is_one_consistent_view(database, table):
    with database.read() as reader:
        assert reader.execute(sa.select(table.c.x)).all() == []
        with database.begin() as writer:
            writer.execute(sa.insert(table).values(x=1))
        assert reader.execute(sa.select(table.c.x)).all() == []
    assert values(database, table) == [1]


def test_concurrent_writers_queue(database, table):
    with database.begin() as connection:
        connection.execute(sa.insert(table).values(x=0))
    start = threading.Barrier(8)
    failures = []

    def increment():
        start.wait()
        try:
            for _ in range(10):
                with database.begin() as connection:
                    row = connection.execute(sa.select(table.c.x).with_for_update()).scalar_one()
                    time.sleep(0.0005)
                    connection.execute(sa.update(table).values(x=row + 1))
        except BaseException as error:  # noqa: BLE001  the main thread reports it
            failures.append(error)

    threads = [threading.Thread(target=increment) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert values(database, table) == [80]


def test_use_after_close_is_unavailable(database):
    database.close()
    database.close()
    for block in (database.begin, database.read):
        with pytest.raises(DomainError) as caught, block():
            pass
        assert caught.value.code is Code.UNAVAILABLE
        assert caught.value.reason == "STORAGE_UNAVAILABLE"


def test_close_also_ends_the_connection_of_a_transaction_under_way(database):
    used, closed = [], []
    sa.event.listen(database.engine, "checkout", lambda c, *_: used.append(c))
    sa.event.listen(database.engine, "close", lambda c, _: closed.append(c))
    with database.read() as connection:
        connection.execute(sa.text("SELECT 1"))
        database.close()
        assert used[0] not in closed
    assert used[0] in closed


def test_text_is_case_sensitive_and_ordered_by_code_point(state):
    given = ["b", "B", "a", "ab", "ä", "a "]  # a byte order that collations disagree about
    with state.begin() as connection:
        for name in given:
            connection.execute(sa.insert(projects).values(project=name, create_time=TIME))
    with state.read() as connection:
        query = sa.select(projects.c.project).order_by(projects.c.project)
        assert list(connection.execute(query).scalars()) == sorted(given)
        assert connection.execute(query.where(projects.c.project == "A")).all() == []


def test_times_keep_their_microseconds(state):
    with state.begin() as connection:
        connection.execute(sa.insert(projects).values(project="p", create_time=TIME))
    with state.read() as connection:
        assert connection.execute(sa.select(projects.c.create_time)).scalar_one() == TIME


def test_text_with_a_nul_is_kept_whole_or_the_callers_fault(state):
    given = "a\0b"
    try:
        with state.begin() as connection:
            connection.execute(sa.insert(projects).values(project=given, create_time=TIME))
    except DomainError as error:
        assert (error.code, "NUL" in error.message) == (  # noqa: PT017  only PostgreSQL refuses
            Code.INVALID_ARGUMENT,
            True,
        )
        kept = []
    else:
        kept = [given]
    with state.read() as connection:
        assert names(connection) == kept


def test_migrating_twice_changes_nothing(state):
    with state.begin() as connection:
        connection.execute(sa.insert(projects).values(project="p", create_time=TIME))
    migrate_platform(state)
    with state.read() as connection:
        assert names(connection) == ["p"]


def test_processes_that_start_together_migrate_once(database_url):
    program = (
        "import sys; from shared.state.database import Database;"
        "from shared.state.platform import migrate_platform;"
        "sys.stdin.read(1); migrate_platform(Database.open(sys.argv[1]))"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", program, database_url],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(3)
    ]
    time.sleep(1)
    for process in running:
        assert process.stdin is not None
        process.stdin.write(b"x")
        process.stdin.flush()
    errors = [process.communicate()[1].decode() for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], errors
    database = Database.open(database_url)
    with database.read() as connection:
        assert names(connection) == []
    database.close()


def test_schema_of_a_newer_program_is_refused(state):
    with state.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version_platform SET version_num = '9999'"))
    with pytest.raises(DomainError) as caught:
        migrate_platform(state)
    assert caught.value.reason == "NEWER_VERSION"
    assert "newer" in caught.value.message


@pytest.mark.parametrize("url", ["mysql://u:secret@h/d", "not a url", "sqlite:////proc/no/x.db"])
def test_database_that_cannot_be_opened_is_named_without_its_password(url):
    with pytest.raises(DomainError) as caught:
        Database.open(url)
    assert caught.value.code in {Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION}
    assert "secret" not in caught.value.message


def test_server_that_does_not_answer_is_named_without_its_password():
    with pytest.raises(DomainError) as caught:
        Database.open("postgresql://ada:secret@127.0.0.1:1/touchstone")
    assert caught.value.reason == "STORAGE_UNAVAILABLE"
    assert "127.0.0.1:1" in caught.value.message
    assert "secret" not in caught.value.message


def test_two_who_turn_a_new_file_over_at_once_both_come_through():
    class Contended:
        """Answers as SQLite does to one of two that wait for each other: at once, in vain."""

        refusals = 3

        def execute(self, statement):
            assert statement == "PRAGMA journal_mode = WAL"
            if self.refusals:
                self.refusals -= 1
                raise sqlite3.OperationalError("database is locked")

    cursor = Contended()
    turn_wal_on(cursor)
    assert cursor.refusals == 0
