"""OpenFeature's EventHook for Node, and OpenTelemetry's exporters, against the real process."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.otlp_process import Running

SOURCE = Path(__file__).parent / "node"
BUILD = Path(__file__).parents[2] / "build" / "otlp-node"
USERS = 60
pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or shutil.which("npm") is None,
    reason="node and npm are not installed: apt-get install nodejs npm",
)


@pytest.fixture(scope="module")
def program() -> Path:
    """The program with its packages, which are installed once and kept under build."""
    wanted = (SOURCE / "package.json").read_text()
    stamp = BUILD / ".installed"
    BUILD.mkdir(parents=True, exist_ok=True)
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.copy(SOURCE / "package.json", BUILD)
        subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"],
            cwd=BUILD,
            check=True,
            capture_output=True,
            timeout=240,
        )
        stamp.write_text(wanted)
    return Path(shutil.copy(SOURCE / "evaluate.mjs", BUILD))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    found = Running(tmp_path_factory.mktemp("otlp-node"))
    found.process.start()
    yield found
    assert found.process.terminate() == 0


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_evaluations_of_the_hook_become_exposures_and_evaluations(
    program: Path, running: Running, kind: str
) -> None:
    url = (
        f"http://{running.http}/v1/logs" if kind == "http" else f"http://{running.process.address}"
    )
    done = subprocess.run(
        ["node", str(program), kind, url, str(USERS)],
        env={**os.environ, "KEY": running.key},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    source = f"node {kind}"
    exposures = running.rows("exposures", source, USERS)
    assert len(exposures) == USERS
    first = next(row for row in exposures if row["unit_id"] == "customer-0")
    names = ("experiment", "variant", "unit_type", "reason", "config_version", "properties")
    assert [first[name] for name in names] == [
        *("checkout", "control", "user", "split", 12, '{"flag_set":"prod"}'),
    ]
    assert first["evaluator"].startswith("splitter (")
    evaluations = {row["flag"]: row for row in running.rows("evaluations", source, 3)}
    assert evaluations.keys() == {"banner", "theme", "missing"}
    assert (evaluations["theme"]["reason"], evaluations["theme"]["value_json"]) == (
        "default",
        '{"colour":"red"}',
    )
    assert (evaluations["banner"]["reason"], evaluations["banner"]["variant"]) == ("static", "blue")
    missing = evaluations["missing"]
    assert (missing["reason"], missing["error_type"], missing["properties"]) == (
        *("error", "general", '{"error_message":"no such flag"}'),
    )
