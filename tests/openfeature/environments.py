"""Clients that nobody here wrote, in environments of their own under build/openfeature.

Each is installed once, from files that name every package with its hash, anew when one changes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SOURCES = Path(__file__).parent / "clients"
BUILD = Path(__file__).parents[2] / "build" / "openfeature"
INSTALL_S = 600


class ClientFailedError(AssertionError):
    """A client could not do what it was told."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A provider, by the environment that has it."""

    name: str
    environment: str
    """`flagd-v2`, `flagd-v3` (Python, by what its engine hashes) or `node`."""
    kind: str
    """As the program of the client calls it."""
    dialect: str = ""
    """The hash of its engine; empty for one that asks the server."""


PYTHON_RPC = Kind("Python flagd provider, RPC", "flagd-v3", "rpc")
PYTHON_V3 = Kind("Python flagd provider, in process", "flagd-v3", "in-process", "flagd-v3")
PYTHON_V2 = Kind(
    "Python flagd provider of the older hash, in process", "flagd-v2", "in-process", "flagd-v2"
)
PYTHON_OFREP = Kind("Python OFREP provider", "flagd-v3", "ofrep")
NODE_RPC = Kind("Node flagd provider, RPC", "node", "rpc")
NODE_IN_PROCESS = Kind("Node flagd provider, in process", "node", "in-process", "flagd-v2")
NODE_OFREP = Kind("Node OFREP provider", "node", "ofrep")
WEB_OFREP = Kind("OFREP provider for browsers", "node", "ofrep-web")
KINDS = (
    PYTHON_RPC,
    PYTHON_V3,
    PYTHON_V2,
    PYTHON_OFREP,
    NODE_RPC,
    NODE_IN_PROCESS,
    NODE_OFREP,
    WEB_OFREP,
)


class Client:
    """A process with one provider in it."""

    def __init__(self, kind: Kind, log: Path) -> None:
        self.kind = kind
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                _command(kind.environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=_environment(),
                text=True,
            )
        self._log = log

    def connect(self, **options: Any) -> float:
        """Sets the provider and waits until it is ready; how many seconds that took."""
        found: dict[str, float] = self._do("connect", kind=self.kind.kind, options=options)
        return found["seconds"]

    def evaluate(
        self, flags: list[list[Any]], units: list[dict[str, Any]], workers: int = 8
    ) -> list[list[list[Any]]]:
        """For each unit, for each flag: the value, and the code of an error."""
        found: list[list[list[Any]]] = self._do(
            "evaluate", flags=flags, units=units, workers=workers
        )
        return found

    def details(self, key: str, kind: str, default: Any, **context: Any) -> dict[str, Any]:
        """All that one evaluation says."""
        flags = [[key, kind, default]]
        [[found]] = self._do("evaluate", flags=flags, units=[context], detail=True)
        return dict(zip(("value", "variant", "reason", "error", "metadata"), found, strict=True))

    def events(self) -> list[tuple[str, list[str]]]:
        """What happened since the last time, with the flags that it is about."""
        return [(name, flags) for name, flags in self._do("events")]

    def close(self) -> None:
        """Ends the process."""
        try:
            if self._process.poll() is None:
                self._do("close")
                self._process.wait(20)
        finally:
            self._process.kill()
            self._process.communicate()

    def _do(self, what: str, **more: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": what, **more}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise ClientFailedError(f"{self.kind.name} ended: {self._log.read_text()[-2000:]}")
        answer = json.loads(line)
        if "failed" in answer:
            raise ClientFailedError(f"{self.kind.name}, {what}: {answer['failed']}")
        return answer["answer"]


def _command(environment: str) -> list[str]:
    if environment == "node":
        return ["node", str(node_environment() / "client.mjs")]
    return [str(python_environment(environment)), str(SOURCES / "client.py")]


def _environment() -> dict[str, str]:
    """Without what the suite and this environment say of themselves."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TOUCHSTONE_", "PYTHON", "FLAGD_", "OFREP_"))
    }


def python_environment(name: str) -> Path:
    """The interpreter of an environment with exactly the packages of clients/NAME.txt."""
    wanted = SOURCES / f"{name}.txt"

    def install(folder: Path) -> None:
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        _run([*pip, "--disable-pip-version-check", "--require-hashes", "-r", str(wanted)])

    version = sys.version.encode()
    return _installed(name, wanted.read_bytes() + version, install) / "bin" / "python"


def node_environment() -> Path:
    """The folder of the program for Node with exactly the packages of clients/package-lock.json."""
    lock = SOURCES / "package-lock.json"

    def install(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for source in (SOURCES / "package.json", lock):
            shutil.copy(source, folder)
        _run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], folder)

    folder = _installed("node", lock.read_bytes(), install)
    shutil.copy(SOURCES / "client.mjs", folder)
    return folder


def each(kind: Kind) -> Any:
    """A client as a parameter of a test, which is skipped on a machine without Node."""
    missing = kind.environment == "node" and not (shutil.which("node") and shutil.which("npm"))
    reason = "node and npm are not installed: apt-get install nodejs npm"
    return pytest.param(kind, id=kind.name, marks=pytest.mark.skipif(missing, reason=reason))


def _installed(name: str, wanted: bytes, install: Callable[[Path], None]) -> Path:
    folder, stamp = BUILD / name, BUILD / f"{name}.installed"
    digest = hashlib.sha256(wanted).hexdigest()
    with _alone(name):
        if not stamp.exists() or stamp.read_text() != digest:
            stamp.unlink(missing_ok=True)
            install(folder)
            stamp.write_text(digest)
    return folder


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """Two runs of the tests may want the same environment at once."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(command: list[str], folder: Path | None = None) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=INSTALL_S,
        check=False,
    )
    if done.returncode:
        raise ClientFailedError(f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
