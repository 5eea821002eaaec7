"""How a decision came about, in numbers and in words."""

from typing import TYPE_CHECKING

from touchstone_assignment.cuts import cut_of
from touchstone_assignment.decision import (
    UNKNOWN_EXPERIMENT,
    Decision,
    Reason,
    Trace,
)
from touchstone_assignment.split import window_of
from touchstone_assignment.subject import Subject

if TYPE_CHECKING:
    from touchstone_assignment.compiled import CompiledExperiment, Evaluator
    from touchstone_assignment.layers import CompiledLayer

_IN_SLOTS = frozenset({Reason.SPLIT, Reason.VARIANT_DROPPED, Reason.WASHOUT, Reason.MISSING_REGION})
_WORDS = {
    Reason.EXTERNAL: "another system assigns this experiment",
    Reason.KILLED: "the kill switch of the experiment is on",
    Reason.NOT_RUNNING: "the experiment does not run",
    Reason.NOT_TARGETED: "the unit is not one that the experiment is for",
}


def trace(evaluator: "Evaluator", experiment_id: str, subject: Subject) -> Trace:
    """The decision with what led to it; see `Evaluator.explain`."""
    compiled = evaluator.experiments.get(experiment_id)
    if compiled is None:
        detail = f"the project has no experiment {experiment_id!r}"
        return Trace(UNKNOWN_EXPERIMENT, None, None, "", detail)
    decision = compiled.decide(subject)
    layer, unit_id = compiled.layer, subject.ids.get(compiled.unit_type, "")
    unit = subject.unit(compiled.unit_type)
    if layer is not None and unit is not None:
        if decision.reason in _IN_SLOTS:
            return _in_slots(compiled, layer, decision, subject, unit)
        if decision.reason is Reason.NOT_IN_SLOTS:
            holders, slot = evaluator.holders.get(layer.layer_id), layer.slot(unit)
            holder = (holders and holders.of(slot)) or "nobody"
            detail = f"slot {slot} of layer {layer.layer_id!r} belongs to {holder}"
            return Trace(decision, slot, None, unit_id, detail)
    return Trace(decision, None, None, unit_id, _words(evaluator, compiled, decision))


def _words(evaluator: "Evaluator", compiled: "CompiledExperiment", decision: Decision) -> str:
    """What ended the order of decision before the slot."""
    match decision.reason:
        case Reason.FORCED:
            what = "no variant" if decision.variant is None else f"variant {decision.variant!r}"
            return f"{what} is forced for the unit"
        case Reason.MISSING_UNIT:
            wanted = compiled.unit_type
            return f"the experiment is about units of type {wanted!r}; none was given"
        case Reason.HOLDOUT:
            return f"holdout {decision.because_of!r} keeps the unit out"
        case Reason.PREREQUISITE:
            return _prerequisite(evaluator, compiled, decision.because_of)
        case Reason.NOT_IN_DOMAIN:
            domain = compiled.layer.domain if compiled.layer else ""
            return f"the unit's slot is not one of domain {domain!r}, which the layer cuts"
    return _WORDS[decision.reason]


def _prerequisite(evaluator: "Evaluator", compiled: "CompiledExperiment", other: str) -> str:
    if other not in evaluator.experiments:
        return f"the unit needs a variant of experiment {other!r}, which is none of the project"
    variants = next(
        sorted(needed.variants)
        for needed in compiled.rule.prerequisites
        if needed.experiment == other
    )
    what = f"one of {variants}" if variants else "a variant"
    return f"the unit needs {what} in experiment {other!r} and did not get it"


def _in_slots(
    compiled: "CompiledExperiment",
    layer: "CompiledLayer",
    decision: Decision,
    subject: Subject,
    unit: bytes,
) -> Trace:
    rule, slot, key = compiled.rule, layer.slot(unit), unit
    unit_id = subject.ids[compiled.unit_type]
    owned = f"slot {slot} of layer {layer.layer_id!r} belongs to the experiment"
    if rule.HasField("switchback"):
        window = window_of(rule.switchback)(subject)
        if isinstance(window, Decision):
            return Trace(
                decision, slot, None, unit_id, f"{owned}, {_no_window(compiled)[window.reason]}"
            )
        key = window
        owned += f", the window is {window.decode()!r}"
    bucket = cut_of(rule.hash_version, rule.salt).bucketer()(key)
    given = f"variant {decision.variant!r}" if decision.variant else "a variant that was given up"
    return Trace(decision, slot, bucket, unit_id, f"{owned}, and split bucket {bucket} to {given}")


def _no_window(compiled: "CompiledExperiment") -> dict[Reason, str]:
    rule = compiled.rule.switchback
    return {
        Reason.WASHOUT: f"but the first {rule.washout_s} s of a window give nobody a variant",
        Reason.MISSING_REGION: f"but the attribute {rule.region_attribute!r} names no region",
    }
