"""The owner key: made once, for its owner alone, found by every command."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from services.cli.checkup import (
    check_audit,
    check_data,
    check_key,
    check_python,
    check_service,
    refused,
)
from services.cli.owner import find_key, open_to_others, prepare
from services.cli.settings import CliSettings, read_settings
from services.cli.suite import free_addresses
from shared.errors import Code, DomainError


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliSettings:
    monkeypatch.delenv("TOUCHSTONE_API_KEY", raising=False)
    monkeypatch.delenv("TOUCHSTONE_DATABASE_URL", raising=False)
    return read_settings(tmp_path / "data")


def test_first_start_makes_a_key_that_later_starts_find(settings: CliSettings) -> None:
    key = prepare(settings, "shop")
    assert key.project == "shop"
    text, source = find_key(settings)
    assert text.startswith(f"ts_{key.key_id}_")
    assert source == str(settings.owner_key_path)
    assert settings.owner_key_path.stat().st_mode & 0o777 == 0o600
    assert prepare(settings, "shop").key_id == key.key_id
    assert find_key(settings)[0] == text


def test_second_project_gets_a_key_file_of_its_own(settings: CliSettings, tmp_path: Path) -> None:
    first = prepare(settings, "shop")
    second = prepare(settings, "bank", tmp_path / "bank.key")
    assert (first.project, second.project) == ("shop", "bank")
    assert (tmp_path / "bank.key").stat().st_mode & 0o777 == 0o600
    assert prepare(settings, "bank", tmp_path / "bank.key").key_id == second.key_id
    assert find_key(settings)[0].startswith(f"ts_{first.key_id}_")


def test_environment_wins_over_the_file(
    settings: CliSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(settings, "shop")
    monkeypatch.setenv("TOUCHSTONE_API_KEY", "ts_other")
    assert find_key(read_settings(settings.data)) == ("ts_other", "TOUCHSTONE_API_KEY")


@pytest.mark.parametrize("text", ["schlüssel", "ts_schlüssel", "ts_a b", "ts_\x01", "Bearer x"])
def test_what_no_call_can_carry_is_no_key(
    settings: CliSettings, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("TOUCHSTONE_API_KEY", text)
    with pytest.raises(DomainError, match="TOUCHSTONE_API_KEY does not hold a key") as caught:
        find_key(read_settings(settings.data))
    assert caught.value.code is Code.UNAUTHENTICATED
    assert text not in caught.value.message


def test_key_is_not_in_what_settings_show(
    settings: CliSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOUCHSTONE_API_KEY", "ts_secret")
    assert "ts_secret" not in repr(read_settings(settings.data))


def test_no_key_says_where_one_comes_from(settings: CliSettings) -> None:
    with pytest.raises(DomainError, match="touchstone up") as caught:
        find_key(settings)
    assert caught.value.code is Code.UNAUTHENTICATED


def test_key_of_another_project_is_refused(settings: CliSettings) -> None:
    prepare(settings, "shop")
    with pytest.raises(DomainError, match="--project shop"):
        prepare(settings, "other")


@pytest.mark.parametrize("content", ["nonsense", "ts_0123456789_" + "0" * 32])
def test_key_that_the_database_does_not_know_is_refused(
    settings: CliSettings, content: str
) -> None:
    prepare(settings, "shop")
    settings.owner_key_path.write_text(content)
    with pytest.raises(DomainError, match="move the file away"):
        prepare(settings, "shop")


def test_bad_project_is_refused_and_leaves_no_key(settings: CliSettings) -> None:
    with pytest.raises(DomainError, match="project"):
        prepare(settings, "Not A Project")
    assert not settings.owner_key_path.exists()


def test_doctor_sees_a_key_that_others_can_read(settings: CliSettings) -> None:
    prepare(settings, "shop")
    assert check_key(settings).ok
    settings.owner_key_path.chmod(0o644)
    assert open_to_others(settings.owner_key_path)
    check = check_key(settings)
    assert not check.ok
    assert "644" in check.found
    assert "chmod 600" in check.advice


def test_doctor_says_that_the_data_folder_is_a_file(settings: CliSettings) -> None:
    settings.data.write_text("")
    check = check_data(settings)
    assert not check.ok
    assert "is a file" in check.found
    assert "--data" in check.advice


@pytest.mark.parametrize(
    ("code", "reason", "advice"),
    [
        (Code.UNAVAILABLE, "NOT_RUNNING", "start the services"),
        (Code.UNAUTHENTICATED, "INVALID_CREDENTIAL", "TOUCHSTONE_API_KEY to a valid key"),
        (Code.PERMISSION_DENIED, "MISSING_ROLE", "keys create --role"),
        (Code.INTERNAL, "INTERNAL", "read the logs"),
    ],
)
def test_doctor_advises_by_what_failed(code: Code, reason: str, advice: str) -> None:
    check = refused("caller", DomainError(code, reason, "no"))
    assert (check.ok, check.found) == (False, "no")
    assert advice in check.advice


class Denied(grpc.RpcError):
    """The answer to a key without the role."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.PERMISSION_DENIED


class ViewerSession:
    """A session with a viewer's key."""

    parent = "projects/shop"

    @property
    def audit(self) -> ViewerSession:
        return self

    def VerifyAuditLog(self, request: object) -> None:  # noqa: N802  the contract's name
        raise Denied


def test_doctor_skips_what_the_key_may_not_ask() -> None:
    check = check_audit(ViewerSession())  # type: ignore[arg-type]
    assert (check.ok, check.found) == (True, "skipped: needs the role admin")


def test_doctor_sees_what_is_missing(settings: CliSettings) -> None:
    assert not check_data(settings).ok
    assert not check_key(settings).ok
    assert not check_python((3, 10)).ok
    nowhere = settings.model_copy(update={"events_address": free_addresses(1)[0]})
    check = check_service(nowhere, "events")
    assert (check.ok, check.advice) == (False, "run `touchstone up`")
