"""Id lists on the disk: what decided once decides again while the store is away."""

from pathlib import Path

import pytest
from touchstone_assignment.conditions.id_set import digest_of, fingerprint, written

from services.assignment.adapters.disk_id_lists import DiskIdLists
from services.assignment.adapters.sql import SqlConfiguration, migrate_assignment
from services.assignment.adapters.sql_id_lists import SqlIdLists
from services.assignment.application.id_sets import IdSets
from shared.errors import Code, DomainError
from shared.state.database import Database

CONTENT = written([fingerprint(f"u{number}") for number in range(100)])
DIGEST = digest_of(CONTENT)


@pytest.fixture
def lists(database: Database, tmp_path: Path) -> DiskIdLists:
    migrate_assignment(database)
    with database.begin() as connection:
        SqlConfiguration(connection).id_lists.put("acme", DIGEST, CONTENT)
    return DiskIdLists(SqlIdLists(database), tmp_path / "lists")


def test_a_list_that_decided_is_there_without_the_store(
    lists: DiskIdLists, database: Database
) -> None:
    assert "u1" in IdSets(lists)(DIGEST)
    database.close()
    again = IdSets(lists)(DIGEST)
    assert "u1" in again
    assert "stranger" not in again


def test_a_list_that_never_decided_is_not(lists: DiskIdLists, database: Database) -> None:
    assert lists.anywhere("0" * 64) is None
    database.close()
    with pytest.raises(DomainError) as caught:
        lists.anywhere(DIGEST)
    assert caught.value.code is Code.UNAVAILABLE


@pytest.mark.parametrize("damage", [b"", CONTENT[:-8], CONTENT + b"x"])
def test_a_damaged_list_is_read_from_the_store_again(
    lists: DiskIdLists, tmp_path: Path, damage: bytes
) -> None:
    lists.anywhere(DIGEST)
    (tmp_path / "lists" / DIGEST).write_bytes(damage)
    assert lists.anywhere(DIGEST) == CONTENT
    assert (tmp_path / "lists" / DIGEST).read_bytes() == CONTENT


def test_whose_list_it_is_only_the_store_says(lists: DiskIdLists, database: Database) -> None:
    lists.anywhere(DIGEST)
    assert lists.fingerprints("acme", DIGEST) == CONTENT
    with pytest.raises(DomainError) as caught:
        lists.fingerprints("rival", DIGEST)
    assert caught.value.code is Code.NOT_FOUND
