"""The package by itself: built, installed into an empty environment, and used there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import hatch_build
import pytest

from tests.client.local_rig import KEY, Running
from tests.client.rig import CLIENT, eventually, stored

ROOT = CLIENT.parents[1]
CONTRACTS = [path.as_posix() for path in hatch_build.CONTRACTS]
PRODUCT = """
import sys
from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.flag_evaluation import FlagResolutionDetails
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider
from touchstone_events import EventSender, ExposureHook, Service, Settings, with_tracking

def evaluate(flag, context):
    return FlagResolutionDetails(True, reason="SPLIT", variant="on")

with EventSender(Service(sys.argv[1], sys.argv[2]), Settings(source="product")) as events:
    flag = InMemoryFlag("on", {"on": True}, context_evaluator=evaluate)
    api.set_provider_and_wait(with_tracking(InMemoryProvider({"flag": flag}), events))
    api.add_hooks([ExposureHook(events)])
    client = api.get_client()
    for n in range(10):
        assert client.get_boolean_value("flag", False, EvaluationContext(f"user-{n}"))
        client.track("purchase", EvaluationContext(f"user-{n}"))
print(events.stats().sent)
print(sorted({name.partition(".")[0] for name in sys.modules} & {"touchstone", "buf", "services"}))
"""


DECIDES = """
import sys
from pathlib import Path
from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from touchstone_assignment.local import LocalAssignment, Service, Settings
from touchstone_assignment.local.provider import TouchstoneProvider

address, key, folder = sys.argv[1:]
local = LocalAssignment(Service(address, key), Settings("shop", folder=Path(folder)))
api.set_provider_and_wait(TouchstoneProvider(local, wait_s=20))
client = api.get_client()
found = [client.get_string_value("green", "none", EvaluationContext(f"u{n}")) for n in range(100)]
print(" ".join(found))
print(sorted({name.partition(".")[0] for name in sys.modules} & {"touchstone", "buf", "services"}))
api.shutdown()
"""


def run(*command, folder=ROOT):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def wheel_of(source, out):
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation",
        "-w", out, source)  # fmt: skip
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return wheel_of(CLIENT, tmp_path_factory.mktemp("wheel"))


def pins():
    """What the client needs, from the lock: the packages that it names, and what those name."""
    lock = (ROOT / "requirements" / "dev.txt").read_text()
    blocks = re.split(r"\n(?=[A-Za-z0-9])", lock)
    named = [*tomllib.loads((CLIENT / "pyproject.toml").read_text())["project"]["dependencies"]]
    names = {re.split(r"[<>=]", each)[0] for each in named} | {"typing-extensions"}
    found = [block for block in blocks if block.partition("==")[0] in names]
    assert len(found) == len(names)
    return "\n".join(re.sub(r"^\s+#.*$", "", block, flags=re.MULTILINE) for block in found)


def test_the_contracts_of_this_tree_are_the_present_ones():
    """Before the tests that build: a build mends it."""
    for path, protos in hatch_build.CONTRACTS.items():
        stale = (CLIENT / path).read_bytes() != hatch_build.contract(protos)
        assert not stale, f"{path} has drifted: run make proto"


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The Python of an environment that holds the wheel and what it needs, and nothing else."""
    home = ROOT / "build" / "client-environment"
    shutil.rmtree(home, ignore_errors=True)
    python = home / "bin" / "python"
    run(sys.executable, "-m", "venv", home)
    locked = tmp_path_factory.mktemp("pins") / "pins.txt"
    locked.write_text(pins())
    run(python, "-m", "pip", "install", "-q", "--require-hashes", "--no-deps", "-r", locked)
    run(python, "-m", "pip", "install", "-q", "--no-deps", wheel)
    run(python, "-m", "pip", "check")
    return python


def test_the_package_alone_sends_events_from_an_empty_environment(installed, service, tmp_path):
    service.start()
    out = run(installed, "-I", "-c", PRODUCT, service.address, service.key, folder=tmp_path)
    assert out.split("\n")[:2] == ["20", "[]"]
    eventually(lambda: len(stored(service, "exposures")) == len(stored(service)) == 10)


def test_the_package_alone_decides_in_an_empty_environment(installed, tmp_path):
    service = Running()
    service.start()
    try:
        arguments = (f"127.0.0.1:{service.port}", KEY, tmp_path / "rules")
        out = run(installed, "-I", "-c", DECIDES, *arguments, folder=tmp_path)
        with service.local() as local:
            assert local.wait_ready(20)
            here = [local.decide("green", {"user": f"u{n}"}).variant for n in range(100)]
    finally:
        service.stop()
    found, loaded, *_ = out.split("\n")
    assert found.split() == here
    assert loaded == "[]"


def test_a_source_distribution_builds_the_same_package_without_the_repository(wheel, tmp_path):
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path, folder=CLIENT)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    again = wheel_of(archive.with_suffix("").with_suffix(""), tmp_path)
    assert contents(again) == contents(wheel)


def contents(wheel):
    with zipfile.ZipFile(wheel) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def test_the_wheel_holds_the_client_its_contract_and_nothing_else(wheel):
    names = {Path(name) for name in contents(wheel)}
    assert names >= {Path(path) for path in CONTRACTS}
    tops = {name.parts[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "touchstone_events",
        "touchstone_assignment",
        "touchstone_statistics",
    }


def test_the_contracts_carry_no_rules_and_are_not_committed():
    for path in CONTRACTS:
        assert b"buf/validate" not in (CLIENT / path).read_bytes()
    listed = run("git", "ls-files", CLIENT)
    assert "hatch_build.py" in listed
    assert "binpb" not in listed


def test_the_client_imports_nothing_of_the_services():
    """But for the types of messages, which only a type checker reads."""
    for path in CLIENT.rglob("*.py"):
        text = re.sub(r"(?m)^if TYPE_CHECKING:\n(    .*\n|\n)+", "", path.read_text())
        if path.name != "hatch_build.py":
            assert not re.search(r"(?m)^\s*(from|import) (services|shared|touchstone|buf)\b", text)
