"""What the audit log promises, over every database that is supported."""

import datetime as dt
import threading

import pytest
import sqlalchemy as sa

from shared.security.audit import AuditEvent, AuditKeys, Outcome, SqlAuditLog
from shared.state.platform import audit_entries, audit_heads, migrate_platform
from shared.testing.fakes import FixedClock

OLD, NEW, STRANGE = b"o" * 32, b"n" * 32, b"s" * 32
KEYS = AuditKeys((OLD,))
NOW = FixedClock().now()


def event(number=1, project="demo", **changes):
    values = {
        "project": project,
        "time": NOW + dt.timedelta(microseconds=number),
        "actor": "key1",
        "method": "/a.B/C",
        "resource": f"projects/{project}/things/{number}",
        "outcome": Outcome.DONE,
        "detail": "é\n|",
        "request_id": f"r{number}",
        "body_digest": "0" * 64,
    }
    return AuditEvent(**(values | changes))


def append(database, *events, keys=KEYS):
    for one in events:
        with database.begin() as connection:
            SqlAuditLog(connection, keys).append(one)


def verify(database, project="demo", keys=KEYS):
    with database.read() as connection:
        return SqlAuditLog(connection, keys).verify(project)


@pytest.fixture
def state(database):
    migrate_platform(database)
    return database


@pytest.fixture
def five(state):
    """A log of five entries in demo and one in other."""
    append(state, *(event(number) for number in range(1, 6)), event(1, "other"))
    return state


def tamper(database, statement):
    with database.begin() as connection:
        connection.execute(statement)


def at(sequence):
    return (audit_entries.c.project == "demo") & (audit_entries.c.sequence == sequence)


def test_entries_are_numbered_and_read_in_order(five):
    with five.read() as connection:
        log = SqlAuditLog(connection, KEYS)
        assert [e.sequence for e in log.entries("demo")] == [1, 2, 3, 4, 5]
        assert [e.sequence for e in log.entries("demo", after=2, limit=2)] == [3, 4]
        assert log.entries("demo")[2].event == event(3)
        assert len(log.entries("other")) == 1
        assert log.entries("nobody") == []


def test_untouched_log_is_intact_and_names_its_head(five):
    found = verify(five)
    assert (found.intact, found.checked, found.problem) == (True, 5, "")
    with five.read() as connection:
        assert found.head_hash == SqlAuditLog(connection, KEYS).entries("demo")[-1].chain_hash
    assert verify(five, "nobody").checked == 0


@pytest.mark.parametrize(
    "change",
    [
        {"actor": "key2"},
        {"method": "/a.B/D"},
        {"resource": "projects/demo/things/9"},
        {"outcome": 2},
        {"detail": ""},
        {"request_id": "r9"},
        {"body_digest": "1" * 64},
        {"create_time": NOW},
        {"chain_hash": "0" * 64},
    ],
    ids=lambda change: next(iter(change)),
)
def test_edited_entry_is_named(five, change):
    tamper(five, sa.update(audit_entries).where(at(3)).values(change))
    found = verify(five)
    assert not found.intact
    assert (found.first_bad_sequence, found.checked) == (3, 2)


def test_deleted_entry_is_named(five):
    tamper(five, sa.delete(audit_entries).where(at(3)))
    found = verify(five)
    assert found.first_bad_sequence == 3
    assert "missing" in found.problem


def test_first_entry_deleted_is_named(five):
    tamper(five, sa.delete(audit_entries).where(at(1)))
    assert verify(five).first_bad_sequence == 1


def test_swapped_entries_are_named(five):
    for old, new in ((2, 99), (3, 2), (99, 3)):
        tamper(five, sa.update(audit_entries).where(at(old)).values(sequence=new))
    assert verify(five).first_bad_sequence == 2


def test_deleted_entry_behind_which_the_rest_was_renumbered_is_named(five):
    tamper(five, sa.delete(audit_entries).where(at(3)))
    for old in (4, 5):
        tamper(five, sa.update(audit_entries).where(at(old)).values(sequence=old - 1))
    assert verify(five).first_bad_sequence == 3


def test_entries_cut_off_the_end_are_missed(five):
    tamper(five, sa.delete(audit_entries).where(at(5)))
    found = verify(five)
    assert found.first_bad_sequence == 5
    assert "cut off" in found.problem


def test_head_that_was_removed_is_noticed(five):
    tamper(five, sa.delete(audit_heads).where(audit_heads.c.project == "demo"))
    assert not verify(five).intact


def test_entry_moved_from_another_project_is_named(five):
    tamper(five, sa.delete(audit_entries).where(at(1)))
    tamper(
        five,
        sa.update(audit_entries)
        .where(audit_entries.c.project == "other")
        .values(project="demo", sequence=1),
    )
    assert verify(five).first_bad_sequence == 1


def test_entry_of_an_unknown_key_is_named(state):
    append(state, event(1))
    append(state, event(2), keys=AuditKeys((STRANGE,)))
    found = verify(state)
    assert found.first_bad_sequence == 2
    assert "unknown audit key" in found.problem


def test_chain_goes_on_over_a_rotated_key(state):
    append(state, event(1))
    rotated = AuditKeys((OLD, NEW))
    append(state, event(2), event(3), keys=rotated)
    assert verify(state, keys=rotated).intact
    with state.read() as connection:
        ids = [e.mac_key_id for e in SqlAuditLog(connection, rotated).entries("demo")]
    assert ids[0] != ids[1] == ids[2]
    assert verify(state, keys=AuditKeys((NEW,))).first_bad_sequence == 1


def test_entry_rolled_back_was_never_there(five):
    with pytest.raises(ZeroDivisionError), five.begin() as connection:
        append_and_fail(connection)
    append(five, event(6))
    found = verify(five)
    assert (found.intact, found.checked) == (True, 6)


def append_and_fail(connection):
    SqlAuditLog(connection, KEYS).append(event(6))
    raise ZeroDivisionError


def test_concurrent_appends_keep_one_chain(state):
    """Also the very first ones, when the chain has no head yet."""
    start = threading.Barrier(6)
    failures = []

    def write(writer):
        start.wait()
        try:
            append(state, *(event(writer * 100 + n) for n in range(8)))
        except BaseException as error:  # noqa: BLE001  the main thread reports it
            failures.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    found = verify(state)
    assert (found.intact, found.checked) == (True, 48)


def test_long_chain_is_walked_to_its_end(state):
    with state.begin() as connection:
        log = SqlAuditLog(connection, KEYS)
        for number in range(1, 1102):
            log.append(event(number))
    assert verify(state).checked == 1101
    tamper(state, sa.update(audit_entries).where(at(1050)).values(actor="x"))
    assert verify(state).first_bad_sequence == 1050


@pytest.mark.parametrize("secrets", [(), (b"short",), (OLD, b"short")])
def test_weak_keys_are_refused(secrets):
    with pytest.raises(ValueError, match="32 bytes"):
        AuditKeys(secrets)
