"""Id lists and uploads over every database: what is put comes back, and nothing leaks."""

import datetime as dt

import pytest
from touchstone_assignment.conditions import IdSet
from touchstone_assignment.conditions.id_set import digest_of, written

from services.assignment.adapters import sql_id_lists
from services.assignment.adapters.sql import migrate_assignment
from services.assignment.adapters.sql_id_lists import SqlIdLists, SqlIdListStore
from services.assignment.application.id_sets import IdSets
from services.assignment.ports import Upload
from shared.errors import Code, DomainError

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
UPLOAD = Upload("demo", "vip", "monday")


@pytest.fixture
def store(database):
    migrate_assignment(database)
    with database.begin() as connection:
        yield SqlIdListStore(connection)


def test_parts_are_kept_replaced_and_forgotten(store) -> None:
    store.put_part(UPLOAD, 1, written([3, 4]), NOW)
    store.put_part(UPLOAD, 0, written([1]), NOW)
    store.put_part(UPLOAD, 1, written([5]), NOW)
    assert list(store.parts(UPLOAD)) == [0, 1]
    assert store.part(UPLOAD, 1) == written([5])
    assert store.waiting("demo") == 2
    store.forget(UPLOAD)
    store.forget(UPLOAD)
    assert list(store.parts(UPLOAD)) == []
    assert store.waiting("demo") == 0


@pytest.mark.parametrize(
    "other",
    [
        Upload("other", "vip", "monday"),
        Upload("demo", "VIP", "monday"),
        Upload("demo", "vip", "Monday"),
    ],
)
def test_uploads_are_apart(store, other) -> None:
    store.put_part(UPLOAD, 0, written([1, 2]), NOW)
    store.put_part(other, 0, written([9]), NOW)
    assert store.part(UPLOAD, 0) == written([1, 2])
    store.forget(other)
    assert list(store.parts(UPLOAD)) == [0]
    assert store.waiting("demo") == 2


def test_old_parts_of_everybody_are_swept(store) -> None:
    store.put_part(UPLOAD, 0, written([1]), NOW - dt.timedelta(hours=25))
    store.put_part(UPLOAD, 1, written([1]), NOW)
    other = Upload("other", "vip", "monday")
    store.put_part(other, 0, written([1]), NOW - dt.timedelta(hours=25))
    store.sweep(NOW - dt.timedelta(days=1))
    assert list(store.parts(UPLOAD)) == [1]
    assert list(store.parts(other)) == []


def put(database, project: str, content: bytes) -> str:
    with database.begin() as connection:
        store = SqlIdListStore(connection)
        store.put(project, digest_of(content), content)
        store.put(project, digest_of(content), content)
    return digest_of(content)


def test_a_content_comes_back_whole_whatever_its_size(database) -> None:
    migrate_assignment(database)
    lists = SqlIdLists(database)
    chunk = sql_id_lists.CHUNK_BYTES // 8
    for count in (0, 1, chunk, chunk + 1):
        content = written(range(count))
        assert lists.fingerprints("demo", put(database, "demo", content)) == content


def test_a_content_is_shown_to_its_project_alone(database) -> None:
    migrate_assignment(database)
    lists = SqlIdLists(database)
    content = written([1, 2, 3])
    digest = put(database, "demo", content)
    with pytest.raises(DomainError) as caught:
        lists.fingerprints("other", digest)
    assert caught.value.code is Code.NOT_FOUND
    assert lists.anywhere(digest) == content
    assert lists.anywhere("0" * 64) is None
    put(database, "other", content)
    assert lists.fingerprints("other", digest) == content


def test_id_sets_are_read_once_while_something_holds_them(database) -> None:
    migrate_assignment(database)
    digest = put(database, "demo", written([1, 2, 3]))
    id_sets = IdSets(SqlIdLists(database))
    held = id_sets(digest)
    assert isinstance(held, IdSet)
    assert len(held) == 3
    assert id_sets(digest) is held
    with pytest.raises(LookupError, match="not in the store"):
        id_sets("0" * 64)


def test_a_damaged_content_is_not_decided_by(database) -> None:
    migrate_assignment(database)
    with database.begin() as connection:
        SqlIdListStore(connection).put("demo", "f" * 64, written([1, 2, 3]))
    with pytest.raises(ValueError, match="damaged in the store"):
        IdSets(SqlIdLists(database))("f" * 64)
