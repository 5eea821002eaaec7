"""The ledger of erasures: durable, chained, without plain ids, merged after a restore."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from pathlib import Path

import pytest

from shared.errors import DomainError
from shared.security.audit import AuditKeys
from shared.security.erasure_ledger import FILE, KEY_FILE, ErasureLedger, ErasureRecord

NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
KEYS = AuditKeys((b"k" * 32,))


def record(ledger: ErasureLedger, name: str, project: str = "acme", moment_us: int = 1000):
    digest = ledger.digest(project, "user", f"id-{name}")
    return ErasureRecord(project, name, digest.hex(), moment_us, "ticket")


def erase(ledger: ErasureLedger, name: str, **fields):
    made = record(ledger, name, **fields)
    ledger.add_tombstone(made, NOW)
    return made


def reopened(folder: Path, keys: AuditKeys = KEYS) -> ErasureLedger:
    return ErasureLedger(folder, keys)


def test_what_was_noted_is_there_after_a_restart(tmp_path):
    ledger = reopened(tmp_path)
    one = erase(ledger, "one")
    ledger.add_proof(one, {"rows_found": 0}, NOW)
    erase(ledger, "two", project="rival")
    ledger.close()
    again = reopened(tmp_path)
    assert [r.erasure_id for r in again.records()] == ["one", "two"]
    assert [r.erasure_id for r in again.records("rival")] == ["two"]
    found = again.get("acme", "one")
    assert found is not None
    assert found.proof == {"rows_found": 0}
    assert again.get("rival", "one") is None
    assert again.moments("acme") == {again.digest("acme", "user", "id-one"): 1000}
    again.close()


def test_digests_hold_no_id_and_tell_projects_types_and_installations_apart(tmp_path):
    ledger, other = reopened(tmp_path / "a"), reopened(tmp_path / "b")
    digests = {
        ledger.digest("acme", "user", "1"),
        ledger.digest("rival", "user", "1"),
        ledger.digest("acme", "device", "1"),
        ledger.digest("acme", "user", "2"),
        other.digest("acme", "user", "1"),
    }
    assert len(digests) == 5
    erase(ledger, "one")
    assert b"id-one" not in (tmp_path / "a" / FILE).read_bytes()
    for path in (tmp_path / "a").iterdir():
        assert path.stat().st_mode & 0o077 == 0
    ledger.close()
    other.close()


def test_of_two_erasures_of_a_unit_the_later_moment_holds(tmp_path):
    ledger = reopened(tmp_path)
    name = ledger.digest("acme", "user", "id-x")
    for erasure_id, moment_us in (("first", 2000), ("second", 1000)):
        ledger.add_tombstone(ErasureRecord("acme", erasure_id, name.hex(), moment_us), NOW)
    assert ledger.moments("acme") == {name: 2000}
    ledger.close()


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [lines[0].replace(b"ticket", b"tocket"), *lines[1:]],
        lambda lines: lines[1:],
        lambda lines: [lines[1], lines[0], *lines[2:]],
        lambda lines: [lines[0], *lines[2:]],
        lambda lines: [b"nonsense\n", *lines[1:]],
    ],
    ids=["changed", "first-cut", "reordered", "dropped", "damaged"],
)
def test_ledger_that_was_tampered_with_is_refused(tmp_path, change):
    ledger = reopened(tmp_path)
    for name in ("one", "two", "three"):
        erase(ledger, name)
    ledger.close()
    path = tmp_path / FILE
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(DomainError) as caught:
        reopened(tmp_path)
    assert caught.value.reason == "STORAGE_UNAVAILABLE"
    assert "line" in caught.value.message


def test_part_of_a_line_that_a_crash_left_is_cut_off(tmp_path):
    ledger = reopened(tmp_path)
    erase(ledger, "one")
    erase(ledger, "two")
    ledger.close()
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:-10])
    again = reopened(tmp_path)
    assert [r.erasure_id for r in again.records()] == ["one"]
    erase(again, "three")
    again.close()
    assert [r.erasure_id for r in reopened(tmp_path).records()] == ["one", "three"]


def test_ledger_without_its_key_or_of_a_newer_version_is_refused(tmp_path):
    ledger = reopened(tmp_path)
    erase(ledger, "one")
    ledger.close()
    with pytest.raises(DomainError, match="unknown audit key"):
        reopened(tmp_path, AuditKeys((b"x" * 32,)))
    (tmp_path / KEY_FILE).rename(tmp_path / "elsewhere")
    with pytest.raises(DomainError, match="is missing"):
        reopened(tmp_path)
    (tmp_path / "elsewhere").rename(tmp_path / KEY_FILE)
    body, chain = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps([body | {"v": 2}, chain]) + "\n")
    with pytest.raises(DomainError) as caught:
        reopened(tmp_path)
    assert caught.value.reason == "NEWER_VERSION"


def test_audit_key_may_be_changed(tmp_path):
    ledger = reopened(tmp_path)
    erase(ledger, "one")
    ledger.close()
    both = AuditKeys((b"k" * 32, b"n" * 32))
    newer = reopened(tmp_path, both)
    erase(newer, "two")
    newer.close()
    assert len(reopened(tmp_path, both).records()) == 2


def test_two_processes_do_not_share_a_ledger(tmp_path):
    ledger = reopened(tmp_path)
    with pytest.raises(DomainError, match="another process"):
        reopened(tmp_path)
    ledger.close()
    reopened(tmp_path).close()


def test_older_copy_takes_over_what_the_newer_knows(tmp_path):
    ledger = reopened(tmp_path / "now")
    erase(ledger, "one")
    ledger.close()
    shutil.copytree(tmp_path / "now", tmp_path / "older")
    ledger = reopened(tmp_path / "now")
    two = erase(ledger, "two")
    ledger.add_proof(two, {"rows_found": 0}, NOW)
    ledger.close()
    older = reopened(tmp_path / "older")
    erase(older, "only here")
    assert older.merge(tmp_path / "now") == 2
    assert older.merge(tmp_path / "now") == 0
    assert older.merge(tmp_path / "nothing there") == 0
    older.close()
    again = reopened(tmp_path / "older")
    assert [r.erasure_id for r in again.records()] == ["one", "only here", "two"]
    found = again.get("acme", "two")
    assert found is not None
    assert found.proof == {"rows_found": 0}
    again.close()


def test_ledger_of_another_installation_is_not_taken_over(tmp_path):
    other = reopened(tmp_path / "other")
    erase(other, "one")
    other.close()
    ledger = reopened(tmp_path / "mine")
    with pytest.raises(DomainError, match="of another"):
        ledger.merge(tmp_path / "other")
    assert ledger.records() == []
    ledger.close()
