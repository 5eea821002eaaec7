"""The reference says what the code says."""

import ast
import re
from pathlib import Path

import pytest
from touchstone.common.v1 import errors_pb2

from shared.telemetry import METRICS
from tests.docs.reference import FOLDER, TABLES, with_table

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SOURCES = sorted([*(ROOT / "services").rglob("*.py"), *(ROOT / "shared").glob("[!g]*/**/*.py")])
SOURCES += sorted((ROOT / "shared").glob("*.py"))
REASONS = {v.name.removeprefix("ERROR_REASON_") for v in errors_pb2.ErrorReason.DESCRIPTOR.values}
# Where the reason stands among the arguments.
RAISERS = {"DomainError": 1, "failed_precondition": 0, "unavailable": 0}


@pytest.mark.parametrize("name", TABLES)
def test_table_follows_from_the_code(name):
    page = (FOLDER / f"{name}.md").read_text()
    assert page == with_table(page, TABLES[name]()), "run: python -m tests.docs.reference"


def reasons_raised():
    for path in SOURCES:
        if "cli" in path.parts:
            continue  # what it says of itself never goes over the wire
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            function = node.func
            name = getattr(function, "attr", getattr(function, "id", ""))
            place = RAISERS.get(name)
            if place is not None and len(node.args) > place:
                value = node.args[place]
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield path.relative_to(ROOT), value.value


def test_every_reason_that_is_raised_is_in_the_contract():
    raised = list(reasons_raised())
    assert len(raised) > 30
    unknown = [(str(path), reason) for path, reason in raised if reason not in REASONS]
    assert unknown == []


def test_every_metric_that_is_made_is_in_the_registry():
    made = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and "create_" in getattr(node.func, "attr", ""):
                made |= {a.value for a in node.args[:1] if isinstance(a, ast.Constant)}
    assert {name for name in made if "." in str(name)} <= METRICS.keys()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    missing = [
        link for link in links if "://" not in link and not (page.parent / link).resolve().exists()
    ]
    assert missing == []


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs" / "adr").glob("*.md")), ids=lambda page: page.name
)
def test_decision_record_has_its_parts(page):
    text = page.read_text()
    number = page.name[:4]
    assert text.startswith(f"# {number}: ")
    assert re.search(r"^Status: (proposed|accepted|rejected|superseded)", text, re.MULTILINE)
    for heading in ("## Context", "## Decision", "## Consequences"):
        assert heading in text


def test_decision_records_are_numbered_once():
    numbers = [page.name[:4] for page in (ROOT / "docs" / "adr").glob("*.md")]
    assert len(numbers) == len(set(numbers))
