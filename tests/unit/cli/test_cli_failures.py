"""Errors tell what to do next, and the exit code tells a script."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from services.cli.failures import from_call, lines
from shared.errors import Code, DomainError, FieldViolation, invalid_fields


class FailedCall(grpc.RpcError):
    """A failed call as a stub raises it, without the details of one of our services."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__()
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> tuple[()]:
        return ()


def test_service_that_does_not_run_says_how_to_start_it() -> None:
    error = from_call(FailedCall(grpc.StatusCode.UNAVAILABLE, "Connection refused"))
    assert error.reason == "NOT_RUNNING"
    assert "touchstone up" in error.message
    assert "Connection refused" in error.message


def test_unknown_call_is_another_version() -> None:
    error = from_call(FailedCall(grpc.StatusCode.UNIMPLEMENTED, "Method not found!"))
    assert error.code is Code.FAILED_PRECONDITION
    assert "another version" in error.message


def test_a_request_that_is_too_large_says_how_large_and_what_to_do() -> None:
    said = "SERVER: Received message larger than max (19922537 vs. 4194304)"
    error = from_call(FailedCall(grpc.StatusCode.RESOURCE_EXHAUSTED, said))
    assert error.code is Code.RESOURCE_EXHAUSTED
    assert "19,922,537 bytes" in error.message
    assert "at most 4,194,304" in error.message
    assert "TOUCHSTONE_MAX_MESSAGE_BYTES" in error.message


def test_every_violation_is_shown() -> None:
    error = invalid_fields([FieldViolation(f"f{n}", "is wrong") for n in range(25)])
    shown = lines(error)
    assert shown[1] == "  f0 is wrong"
    assert shown[-1] == "  and 5 more"
    assert len(shown) == 22


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (DomainError(Code.UNAUTHENTICATED, "INVALID_CREDENTIAL", "no"), "TOUCHSTONE_API_KEY"),
        (DomainError(Code.PERMISSION_DENIED, "MISSING_ROLE", "no"), "keys create --role"),
        (
            DomainError(
                Code.PERMISSION_DENIED,
                "MISSING_ROLE",
                "/a.B/C needs one of the roles operator; this key holds admin",
            ),
            "keys bootstrap --operator",
        ),
        (DomainError(Code.ABORTED, "STALE_ETAG", "no"), "read it again"),
        (DomainError(Code.RESOURCE_EXHAUSTED, "OVERLOADED", "no", retry_after_s=2), "in 2 s"),
        (DomainError(Code.INTERNAL, "INTERNAL", "no", metadata={"request_id": "r7"}), "r7"),
    ],
)
def test_what_to_do_next(error: DomainError, expected: str) -> None:
    assert expected in lines(error)[-1]


def test_control_characters_in_an_error_are_escaped() -> None:
    assert "\x1b" not in lines(DomainError(Code.NOT_FOUND, "X", "no \x1b[2Jthing"))[0]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("TOUCHSTONE_")}
    return subprocess.run(
        [sys.executable, "-m", "services.cli", *arguments],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_exit_codes(tmp_path: Path) -> None:
    usage = run("experiment", "list", "--nonsense")
    assert (usage.returncode, usage.stdout) == (2, "")
    failed = run("experiment", "list", TOUCHSTONE_DATA=str(tmp_path))
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith("error: no key")
    assert "Traceback" not in failed.stderr
    done = run("version")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_output_that_cannot_be_written_is_an_error_without_a_trace() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "services.cli", "version"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("error: standard output cannot be written (No space left")
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_reader_that_goes_away_ends_the_command_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "services.cli", "version"],
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("days", ["1e12", "0.5", "-1", "nan"])
def test_life_of_a_key_is_bounded(tmp_path: Path, days: str) -> None:
    failed = run(
        "keys", "create", "--role", "viewer", "--days", days, TOUCHSTONE_DATA=str(tmp_path)
    )
    assert failed.returncode == 2
    assert "3650" in failed.stderr


@pytest.mark.parametrize("days", ["1e12", "-1", "nan", "inf"])
def test_days_that_no_contract_takes_are_a_usage_error(tmp_path: Path, days: str) -> None:
    for command in (
        ("attribution", "show", "--event-name", "x", "--lookback-days", days),
        ("metric", "create", "x", "--kind", "mean", "--window-days", days),
    ):
        failed = run(*command, TOUCHSTONE_DATA=str(tmp_path))
        assert failed.returncode == 2, failed.stderr
        assert "from 0 to 366" in failed.stderr


def test_slow_libraries_are_loaded_by_those_that_need_them_alone() -> None:
    slow = ("sqlalchemy", "alembic", "pandas", "pyarrow", "numpy", "duckdb", "ibis")
    code = f"import sys, services.cli.main; print([m for m in {slow!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_bad_setting_is_named_by_its_variable(tmp_path: Path) -> None:
    failed = run("doctor", TOUCHSTONE_EVENTS_ADDRESS="nowhere", TOUCHSTONE_DATA=str(tmp_path))
    assert failed.returncode == 1
    assert "TOUCHSTONE_EVENTS_ADDRESS" in failed.stderr
