"""Append the cases that are new to assignment_rules.json; an existing case never changes.

Run from the repository root:  python -m tests.golden.assignment_rules

A case that no longer comes out the same means that running experiments would move their units, or
that another language would disagree: the command refuses and writes nothing. What the file holds,
and how to run it elsewhere, stands in assignment_rules.md.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from touchstone.assignment.v1.ruleset_pb2 import Ruleset
from touchstone_assignment.compile import compile_ruleset
from touchstone_assignment.compiled import Evaluator
from touchstone_assignment.conditions import IdSet
from touchstone_assignment.subject import Subject

from tests.golden.assignment_rule_cases import CASES, Case

FILE = Path(__file__).with_name("assignment_rules.json")
Row = dict[str, Any]


def written(case: Case) -> dict[str, Any]:
    """A case with every decision as the evaluator takes it now."""
    ruleset = json_format.ParseDict(case.ruleset, Ruleset())
    return {
        "case": case.name,
        "rule": case.rule,
        "ruleset": json_format.MessageToDict(ruleset, preserving_proto_field_name=True),
        "rows": rows_of(ruleset, case.asked),
    }


def rows_of(ruleset: Ruleset, asked: Iterable[Row]) -> list[Row]:
    """What was asked, each with the answer."""
    evaluator = compile_ruleset(ruleset, _no_lists)
    return [question | answer(evaluator, question) for question in asked]


def answer(evaluator: Evaluator, asked: Row) -> Row:
    """The answer to one question, with nothing that is empty or absent."""
    subject = Subject(asked["ids"], asked.get("attributes", {}), asked.get("now_s", 0))
    if "parameter" in asked:
        found = evaluator.parameters(subject, [asked["parameter"]])[asked["parameter"]]
        return _without_empty(
            {"experiment": found.experiment, "variant": found.variant}, value=found.value
        )
    trace = evaluator.explain(asked["experiment"], subject)
    decision = trace.decision
    told: Row = {
        "variant": decision.variant,
        "because_of": decision.because_of,
        "propensity": decision.propensity,
    }
    answered = _without_empty(told, reason=decision.reason.value)
    numbers = {"slot": trace.slot, "split_bucket": trace.split_bucket}
    return answered | {key: number for key, number in numbers.items() if number is not None}


def _without_empty(told: Row, **always: object) -> Row:
    return {key: value for key, value in told.items() if value} | always


def _no_lists(digest: str) -> IdSet:
    raise LookupError(digest)


def main(file: Path = FILE, cases: Sequence[Case] = CASES) -> int:
    """Check every existing case, then append those that are new."""
    existing = json.loads(file.read_text("utf-8")) if file.exists() else []
    current = {case.name: written(case) for case in cases}
    changed = [case["case"] for case in existing if current.get(case["case"]) != case]
    if changed:
        print(f"refused: {len(changed)} existing cases would change or vanish: {changed[:10]}")
        return 1
    known = {case["case"] for case in existing}
    added = [case for name, case in current.items() if name not in known]
    file.write_text(json.dumps(existing + added, indent=1, ensure_ascii=True) + "\n", "utf-8")
    print(f"{len(existing)} cases unchanged, {len(added)} added")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
