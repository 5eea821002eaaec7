"""Carries a plan out, one guarded call after another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from services.cli.ascode.kinds import GROUPINGS, METRICS
from services.cli.ascode.plan import Plan, Step, in_phases
from services.cli.ascode.present import CALLS
from services.cli.session import Session
from shared.resource_names import resource_name

Say = Callable[[str], None]


def carry_out(plan: Plan, session: Session, say: Say) -> int:
    """Does all of it, and says each thing that is done; how many there were.

    Every change is made only if the resource is still as it was read: ABORTED otherwise. What was
    done before a failure stays; the same files again go on from there.
    """
    etags: dict[str, str] = {}
    phases = in_phases(plan)
    for step, verb in phases:
        reply = _call(step, verb, session, etags)
        _remember(reply, step, etags)
        say(f"{_DONE[verb]} {step.name}")
    return len(phases)


def check(plan: Plan, session: Session) -> None:
    """Lets the service check what it can before anything is changed: updates, and whatever goes.

    What needs something that is not there yet can only be checked when that is made.
    """
    for step, verb in in_phases(plan):
        # A metric or a grouping needs nothing that has to be there first.
        checkable = step.old is not None or step.kind.name in (*METRICS, *GROUPINGS)
        if checkable and (verb != "Start" or not step.fields):
            _call(step, verb, session, {}, validate_only=True)


_DONE = {
    "Create": "created",
    "Update": "updated",
    "Start": "started",
    "Pause": "paused",
    "Stop": "stopped",
    "Archive": "archived",
    "Delete": "deleted",
    "Release": "released",
    "End": "ended",
}


def _call(
    step: Step, verb: str, session: Session, etags: dict[str, str], *, validate_only: bool = False
) -> Any:
    calls = CALLS[step.kind.name]
    name = resource_name(session.project, step.kind.collection, step.resource_id)
    read = step.old.etag if step.old is not None and hasattr(step.old, "etag") else ""
    etag = etags.get(step.name, read)
    request = calls.request(verb)()
    request.validate_only = validate_only
    if verb in ("Create", "Update"):
        message = getattr(request, calls.field)
        message.CopyFrom(step.wanted)
        if step.kind.name == "Experiment":
            message.ClearField("state")
    if verb == "Create":
        request.parent = session.parent
        setattr(request, f"{calls.field}_id", step.resource_id)
    elif verb == "Update":
        message.name = name
        message.etag = etag
        request.update_mask.CopyFrom(FieldMask(paths=list(step.fields)))
    else:
        request.name = name
        request.etag = etag
    return getattr(getattr(session, calls.stub), f"{verb}{calls.noun}")(request)


def _remember(reply: Any, step: Step, etags: dict[str, str]) -> None:
    changed = getattr(reply, CALLS[step.kind.name].field, None)
    if changed is not None:
        etags[step.name] = changed.etag
