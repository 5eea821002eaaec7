"""A plan as a table, and what it says below."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from services.cli.ascode.consequences import Consequence
from services.cli.ascode.plan import Plan, Step
from services.cli.rendering import Cell, Column, View, columns


def view(plan: Plan) -> View:
    """One row a step that does something."""
    steps = [step for step in plan.steps if step.action != "keep"]
    shown = (
        *columns("action", "kind", "name", "changes"),
        *(Column(name, _share, right=True) for name in ("enrolled", "join", "leave", "switch")),
        *columns("refused"),
    )
    document = {
        "steps": [_document(step) for step in steps],
        "consequences": [asdict(each) for each in plan.consequences],
    }
    return View(document, shown, [_row(step) for step in steps])


def remarks(plan: Plan) -> Iterator[str]:
    """What a person should know beside the table."""
    for step, refusal in plan.refused:
        yield f"refused: {step.name}: {refusal.field} {refusal.reason}"
    kept = sum(step.action == "keep" for step in plan.steps)
    if kept:
        yield f"{kept} resources of the project are in no file; they stay (--prune takes them away)"
    if any(step.kind.name == "Experiment" for step in plan.steps if step.action != "keep"):
        yield (
            "shares are of all units of the layer: exact over its 10,000 slots and the 10,000 "
            "buckets of the split, before holdouts, prerequisites and targeting"
        )
    yield from map(_consequence, plan.consequences)
    for step in plan.steps:
        if step.kind.name == "Holdout" and step.action == "create":
            share = step.wanted.slots / 10_000
            yield f"{step.name}: {share:.2%} of units leave the experiments that it covers"


def _consequence(each: Consequence) -> str:
    if each.leaving is None:
        return (
            f"{each.cause}: decides Experiment {each.experiment}, which runs on up to "
            f"{each.enrolled:.2%} of units; how many of them that moves depends on their "
            "attributes, which no service keeps"
        )
    return (
        f"{each.cause}: Experiment {each.experiment} needs it; {each.leaving:.2%} of units lose "
        f"their variant there, of {each.enrolled:.2%} that may have one"
    )


def _row(step: Step) -> tuple[Cell, ...]:
    moved = step.movement
    return (
        step.action,
        step.kind.name,
        step.resource_id,
        " ".join([*step.fields, *(verb.lower() for verb in step.verbs)]),
        moved.enrolled,
        moved.joining,
        moved.leaving,
        moved.switching,
        " ".join(refusal.field for refusal in step.refusals),
    )


def _document(step: Step) -> dict[str, object]:
    moved = step.movement
    return {
        "action": step.action,
        "kind": step.kind.name,
        "name": step.resource_id,
        "fields": list(step.fields),
        "verbs": [verb.lower() for verb in step.verbs],
        "movement": {
            "enrolled": moved.enrolled,
            "joining": moved.joining,
            "leaving": moved.leaving,
            "switching": moved.switching,
            "basis": "exact: slots of the layer and buckets of the split",
        },
        "refusals": [
            {"field": refusal.field, "reason": refusal.reason} for refusal in step.refusals
        ],
    }


def _share(cell: Cell) -> str:
    return f"{cell:.2%}" if isinstance(cell, int | float) and cell else ""
