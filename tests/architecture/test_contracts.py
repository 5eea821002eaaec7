"""The contracts, their stubs, and the checks that guard them, each with a twin that must fail."""

import filecmp
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
SERVICE = "touchstone/assignment/v1/assignment_service.proto"


def run(*command, folder=ROOT):
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(folder)},
    )


@pytest.fixture
def contracts(tmp_path):
    """A copy of the contracts with their compiler, to break."""
    shutil.copytree(ROOT / "protos", tmp_path / "protos", ignore=shutil.ignore_patterns("__py*"))
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    return tmp_path


def edit(contracts, old, new):
    path = contracts / "protos" / SERVICE
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def image(contracts, command="image"):
    out = contracts / "build" / f"{command}.binpb"
    out.parent.mkdir(exist_ok=True)
    done = run(sys.executable, "protos/compile.py", command, out, folder=contracts)
    assert done.returncode == 0, done.stderr
    return out


def lint(contracts):
    return run(BIN / "buf", "lint", image(contracts), "--config", "buf.yaml", folder=contracts)


def breaking(contracts):
    released = image(contracts, "released-image")
    command = ("breaking", image(contracts), "--against", released, "--config", "buf.yaml")
    return run(BIN / "buf", *command, folder=contracts)


def test_stubs_are_those_of_the_contracts(tmp_path):
    done = run(sys.executable, "protos/compile.py", "stubs", tmp_path)
    assert done.returncode == 0, done.stderr
    fresh = {path.relative_to(tmp_path) for path in tmp_path.rglob("*.py*")}
    stored = ROOT / "shared" / "gen"
    differing = [
        str(path)
        for path in sorted(fresh)
        if not (stored / path).exists()
        or not filecmp.cmp(tmp_path / path, stored / path, shallow=False)
    ]
    assert differing == [], "the stubs have drifted: run make proto"


def test_contracts_pass(contracts):
    found = lint(contracts)
    assert found.returncode == 0, found.stdout
    found = breaking(contracts)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("  // Its key.\n", "", "non-empty comment"),
        ("bool explain = 3", "bool Explain = 3", "lower_snake_case"),
        ("rpc Assign(AssignRequest)", "rpc Assign(UnitContext)", "AssignRequest"),
        ("DECISION_REASON_SPLIT = 1", "SPLIT = 1", "DECISION_REASON_"),
        ("service AssignmentService", "service Assignments", "suffixed"),
    ],
)
def test_lint_refuses_a_contract_that_breaks_the_style(contracts, old, new, rule):
    edit(contracts, old, new)
    found = lint(contracts)
    assert found.returncode == 100
    assert rule in found.stdout + found.stderr


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("bool explain = 3", "string explain = 3"),
        ("bool explain = 3", "bool explain = 33"),
        ("bool explain = 3", "bool explained = 3"),
        ("bool explain = 3;", ""),
        ("(AssignRequest) returns (AssignResponse)", "(AssignRequest) returns (UnitContext)"),
        ("(AssignRequest) returns (Assign", "(AssignRequest) returns (stream Assign"),
        ("rpc Assign(", "rpc Decide("),
        ("DECISION_REASON_SPLIT = 1", "DECISION_REASON_SPLIT = 99"),
    ],
)
def test_breaking_refuses_a_contract_that_old_clients_misread(contracts, old, new):
    edit(contracts, old, new)
    assert breaking(contracts).returncode == 100


def test_breaking_lets_a_contract_grow(contracts):
    edit(contracts, "bool explain = 3;", "bool explain = 3;\n  // New.\n  bool fresh = 77;")
    assert breaking(contracts).returncode == 0


def test_no_contract_of_others_is_copied_in():
    files = {path.relative_to(ROOT / "protos").parts[0] for path in (ROOT / "protos").rglob("*.p*")}
    # What stands in flagd/ declares the wire of a protocol in our own words.
    assert files <= {"touchstone", "flagd", "compile.py", "released.binpb", "__pycache__"}


def test_stubs_are_not_committed():
    listed = run("git", "ls-files", "shared/gen").stdout
    assert listed == ""
    assert re.search(r"^/shared/gen/$", (ROOT / ".gitignore").read_text(), re.MULTILINE)
