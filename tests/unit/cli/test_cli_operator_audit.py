"""The operator reads any chain of the audit log, without a service."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from services.cli.operator_audit import list_chain, verify_chain
from services.cli.owner import prepare
from services.cli.settings import CliSettings, read_settings
from shared.errors import DomainError
from shared.security.audit import NO_PROJECT, AuditEvent, SqlAuditLog
from shared.server.platform import open_platform


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliSettings:
    """A data folder with an owner and one attempt that no project is to blame for."""
    monkeypatch.delenv("TOUCHSTONE_DATABASE_URL", raising=False)
    found = read_settings(tmp_path / "data")
    prepare(found, "shop")
    platform = open_platform(found)
    event = AuditEvent(NO_PROJECT, dt.datetime(2026, 1, 1, tzinfo=dt.UTC), "anonymous", "/a.B/C")
    with platform.database.begin() as connection:
        SqlAuditLog(connection, platform.audit_keys).append(event)
    platform.database.close()
    return found


def test_attempts_of_strangers_can_be_read_and_verified(settings: CliSettings) -> None:
    (entry,) = list_chain(settings, NO_PROJECT, 10).entries
    assert (entry.actor, entry.method) == ("anonymous", "/a.B/C")
    found = verify_chain(settings, NO_PROJECT)
    assert (found.intact, found.checked) == (True, 1)


def test_chain_of_a_project_is_read_too(settings: CliSettings) -> None:
    assert [entry.method for entry in list_chain(settings, "shop", 10).entries] == [
        "make owner key"
    ]


def test_more_entries_than_wanted_are_said(settings: CliSettings) -> None:
    prepare(settings, "shop", settings.data / "second.key")
    reply = list_chain(settings, "shop", 1)
    assert len(reply.entries) == 1
    assert reply.next_page_token


def test_unknown_project_is_named_with_those_there_are(settings: CliSettings) -> None:
    with pytest.raises(DomainError, match=r"'nobody'; allowed: one of -, shop"):
        verify_chain(settings, "nobody")
