"""What holds for the repository as a whole."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PYTHON = [
    path
    for folder in ("services", "shared", "clients", "tests", "protos", "deploy")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "gen" not in path.parts and "twins" not in path.parts
]
PRODUCT = [path for path in PYTHON if "tests" not in path.relative_to(ROOT).parts]
BANNED_NAMES = {"utils", "helpers", "manager", "common", "misc", "util", "helper"}


def named(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_lock_pins_every_package_with_hashes_and_names_no_place(lock):
    text = lock.read_text()
    assert "://" not in text
    assert not re.search(r"--(extra-)?index-url|--find-links|--trusted-host", text)
    assert not re.search(r"(^|\s)(/|file:|\.\.?/)", text, re.MULTILINE)
    pins = re.findall(r"^([A-Za-z0-9._-]+(?:\[[a-z,]+\])?)==", text, re.MULTILINE)
    assert len(pins) > 20
    blocks = re.split(r"\n(?=[A-Za-z0-9])", text)
    unhashed = [block.split()[0] for block in blocks if "==" in block and "--hash=" not in block]
    assert unhashed == []


def test_no_tracked_file_holds_a_path_of_a_machine():
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    homes = re.compile(r"(?<![\w.])/(home|Users|root|work)/\w")
    found = []
    for name in tracked:
        path = ROOT / name
        if path.is_file() and path.suffix not in {".binpb", ".parquet"}:
            lines = path.read_text(errors="replace").splitlines()
            found += [name for line in lines if homes.search(line)]
    assert sorted(set(found) - {named(Path(__file__))}) == []


def test_make_help_explains_at_most_twenty_targets():
    done = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    targets = dict(re.findall(r"make (\S+)\s+(\S.*)", done))
    assert 5 <= len(targets) <= 20
    assert {"run", "test", "check", "bench", "up", "proto"} <= targets.keys()
    phony = set()
    for line in (ROOT / "Makefile").read_text().splitlines():
        if line.startswith(".PHONY:"):
            phony |= set(line.split()[1:])
    assert phony == targets.keys(), "a target without a text after ## is not in make help"


def test_ci_is_make_check_test():
    assert "make check test" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("path", PRODUCT, ids=named)
def test_module_is_of_a_size_to_read(path):
    lines = len(path.read_text().splitlines())
    assert lines <= 400
    assert path.stem not in BANNED_NAMES


def functions(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_functions_are_short():
    """Commands of the command line are long by their options, which are documentation."""
    long = [
        f"{named(path)}:{node.lineno} {node.name}"
        for path in PRODUCT
        if "commands" not in path.parts and "migrations" not in path.parts
        for node in functions(path)
        if (node.end_lineno or 0) - node.body[0].lineno > 45
    ]
    assert long == []


@pytest.mark.parametrize("path", PRODUCT, ids=named)
def test_nothing_is_opened_on_import(path):
    """A statement at module level defines: it opens, connects, starts and prints nothing."""
    doing = {"open", "print", "connect", "run", "Popen", "basicConfig", "create_engine", "mkdir"}
    for statement in ast.parse(path.read_text()).body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.If):
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                assert name not in doing, f"{named(path)}:{node.lineno} calls {name} on import"


def test_every_plan_is_elsewhere():
    word = re.compile(r"\b(TO" + "DO|FIX" + r"ME)\b")
    assert [named(path) for path in PYTHON if word.search(path.read_text())] == []


@pytest.fixture(scope="module")
def linted():
    return subprocess.run(
        [BIN / "lint-imports", "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_import_contracts_hold(linted):
    assert linted.returncode == 0, linted.stdout[-3000:]


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("services/results/domain/observation.py", "import services.attribution.domain.arrays"),
        ("services/attribution/domain/arrays.py", "import sqlalchemy"),
        ("services/assignment/domain/layer.py", "import grpc"),
        ("services/assignment/domain/layer.py", "import logging"),
        ("services/results/domain/observation.py", "import services.results.application"),
        ("services/events/application/flush.py", "import services.events.adapters"),
        ("shared/errors.py", "import services.events.domain"),
    ],
)
def test_import_that_crosses_a_wall_is_found(tmp_path, target, line):
    """The twin of the test above: with one such import in a copy, the contracts must break."""
    for name in ("services", "shared"):
        subprocess.run(["cp", "-R", str(ROOT / name), str(tmp_path)], check=True)
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    path = tmp_path / target
    path.write_text(f"{path.read_text()}\n{line}\n")
    done = subprocess.run(
        [BIN / "lint-imports", "--no-cache"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{tmp_path}:{tmp_path}/shared/gen"},
    )
    assert done.returncode == 1
    assert "BROKEN" in done.stdout
