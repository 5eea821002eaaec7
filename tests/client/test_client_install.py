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

from tests.client.rig import CLIENT, eventually, stored

ROOT = CLIENT.parents[1]
CONTRACT = "touchstone_events/contract.binpb"
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


def test_the_contract_of_this_tree_is_the_present_one():
    """Before the tests that build: a build mends it."""
    stale = (CLIENT / CONTRACT).read_bytes() != hatch_build.contract()
    assert not stale, "the contract has drifted: run make proto"


def test_the_package_alone_sends_events_from_an_empty_environment(wheel, service, tmp_path):
    home = ROOT / "build" / "client-environment"
    shutil.rmtree(home, ignore_errors=True)
    python = home / "bin" / "python"
    run(sys.executable, "-m", "venv", home)
    (tmp_path / "pins.txt").write_text(pins())
    run(python, "-m", "pip", "install", "-q", "--require-hashes", "--no-deps",
        "-r", tmp_path / "pins.txt")  # fmt: skip
    run(python, "-m", "pip", "install", "-q", "--no-deps", wheel)
    run(python, "-m", "pip", "check")
    service.start()
    out = run(python, "-I", "-c", PRODUCT, service.address, service.key, folder=tmp_path)
    assert out.split("\n")[:2] == ["20", "[]"]
    eventually(lambda: len(stored(service, "exposures")) == len(stored(service)) == 10)


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
    assert Path(CONTRACT) in names
    tops = {name.parts[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"touchstone_events"}


def test_the_contract_carries_no_rules_and_is_not_committed():
    assert b"buf/validate" not in (CLIENT / CONTRACT).read_bytes()
    listed = run("git", "ls-files", CLIENT)
    assert "hatch_build.py" in listed
    assert "binpb" not in listed


def test_the_client_imports_nothing_of_the_services():
    for path in CLIENT.rglob("*.py"):
        for line in path.read_text().splitlines():
            if path.name != "hatch_build.py":
                assert not re.match(r"\s*(from|import) (services|shared|touchstone|buf)\b", line)
