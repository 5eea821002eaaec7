"""The published cases come out as published, by the evaluator and by an interpreter."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from touchstone.assignment.v1.ruleset_pb2 import Ruleset
from touchstone_assignment.compile import compile_ruleset

from tests.golden import assignment_rule_cases, assignment_rules
from tests.unit.assignment import reference, ruling

PUBLISHED = json.loads(assignment_rules.FILE.read_text("utf-8"))
ANSWERS = {"variant", "reason", "because_of", "propensity", "slot", "split_bucket", "value"}


@pytest.mark.parametrize("case", PUBLISHED, ids=lambda case: str(case["case"]))
def test_every_published_answer_is_the_evaluators(case: dict[str, Any]) -> None:
    evaluator = compile_ruleset(json_format.ParseDict(case["ruleset"], Ruleset()), ruling.no_lists)
    for row in case["rows"]:
        asked = {key: value for key, value in row.items() if key not in ANSWERS}
        if "parameter" in row:
            asked.pop("experiment", None)
        assert asked | assignment_rules.answer(evaluator, asked) == row


@pytest.mark.parametrize(
    "case",
    [case for case in PUBLISHED if case["rule"] not in ("parameter", "targeting")],
    ids=lambda case: str(case["case"]),
)
def test_every_published_answer_is_the_interpreters(case: dict[str, Any]) -> None:
    rules = json_format.ParseDict(case["ruleset"], Ruleset())
    for row in case["rows"]:
        asked = reference.Asked(row["ids"], row.get("attributes", {}), row.get("now_s", 0))
        answer = (row.get("variant", ""), row["reason"], row.get("because_of", ""))
        assert reference.decide(rules, row["experiment"], asked) == answer


def test_every_rule_has_cases_for_both_hash_versions_and_every_reason_occurs() -> None:
    names = {case["case"] for case in PUBLISHED}
    for rule in {case["case"].partition("/")[0] for case in PUBLISHED}:
        assert {f"{rule}/flagd-v2", f"{rule}/flagd-v3"} <= names
    rules = {case["rule"] for case in PUBLISHED}
    assert rules >= {
        "layer",
        "slot",
        "holdout",
        "ramp",
        "forced",
        "switchback",
        "cluster",
        "identity",
    }
    reasons = {row["reason"] for case in PUBLISHED for row in case["rows"] if "reason" in row}
    # STICKY takes a server that remembers.
    assert len(reasons) == 15
    assert "STICKY" not in reasons


def test_nobody_who_was_in_moves_from_step_to_step_of_the_published_ramp() -> None:
    for version in ("flagd-v2", "flagd-v3"):
        steps = [
            {
                row["ids"]["user"]: row.get("variant")
                for row in case["rows"]
                if row["experiment"] == "one"
            }
            for name in ("ramp-1500", "ramp-3000", "ramp-8000")
            for case in PUBLISHED
            if case["case"] == f"{name}/{version}"
        ]
        assert len(steps) == 3
        assert any(steps[0].values())
        for before, after in pairwise(steps):
            assert all(after[unit] == had for unit, had in before.items() if had)


def test_the_generator_refuses_to_change_what_was_published(tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    cases = assignment_rule_cases.CASES[:2]
    assert assignment_rules.main(file, cases[:1]) == 0
    before = file.read_text("utf-8")
    rules = json.loads(json.dumps(cases[0].ruleset))
    rules["experiments"][0]["salt"] = "another"
    assert assignment_rules.main(file, [replace(cases[0], ruleset=rules)]) == 1
    assert assignment_rules.main(file, cases[1:]) == 1
    assert file.read_text("utf-8") == before
    assert assignment_rules.main(file, cases) == 0
    grown = json.loads(file.read_text("utf-8"))
    assert grown[:1] == json.loads(before)
    assert len(grown) == 2


def test_what_is_published_is_what_the_generator_knows() -> None:
    assert [case["case"] for case in PUBLISHED] == [
        case.name for case in assignment_rule_cases.CASES
    ]
