"""How a decision came about, in numbers and in words."""

from touchstone_assignment.bucketing import unit_bytes

from services.assignment.domain.compile import (
    MISSING_UNIT,
    UNKNOWN_EXPERIMENT,
    CompiledExperiment,
    slot_bucketer,
    split_bucketer,
)
from services.assignment.domain.decision import Decision, Reason, Trace
from services.assignment.domain.layer import Layer


def trace_unknown(experiment_id: str) -> Trace:
    """The trace for an experiment that the project does not have."""
    detail = f"the project has no experiment {experiment_id!r}"
    return Trace(UNKNOWN_EXPERIMENT, None, None, "", detail)


def trace(compiled: CompiledExperiment, unit: str | None) -> Trace:
    """The decision of a raw unit id (None: not given) with what led to it."""
    experiment = compiled.experiment
    if unit is None:
        detail = f"the experiment is about units of type {compiled.unit_type!r}; none was given"
        return Trace(MISSING_UNIT, None, None, "", detail)
    encoded = unit_bytes(unit)
    decision = compiled.decide(encoded)
    if decision.reason is Reason.EXTERNAL:
        return Trace(decision, None, None, unit, "another system assigns this experiment")
    if compiled.layer is None or not compiled.serves:
        return Trace(decision, None, None, unit, f"the experiment is {experiment.state}")
    slot = slot_bucketer(compiled.layer)(encoded)
    return _trace_in_layer(compiled, compiled.layer, decision, slot, unit)


def _trace_in_layer(
    compiled: CompiledExperiment, layer: Layer, decision: Decision, slot: int, unit: str
) -> Trace:
    if decision.reason is Reason.NOT_IN_SLOTS:
        owner = next(
            (
                r.experiment_id
                for r in layer.ledger
                if not r.release_time and r.first <= slot < r.end
            ),
            None,
        )
        holder = f"experiment {owner!r}" if owner else "nobody"
        detail = f"slot {slot} of layer {layer.layer_id!r} belongs to {holder}"
        return Trace(decision, slot, None, unit, detail)
    bucket = split_bucketer(compiled.experiment.design)(unit_bytes(unit))
    detail = (
        f"slot {slot} of layer {layer.layer_id!r} belongs to the experiment, and split bucket "
        f"{bucket} to variant {decision.variant!r}"
    )
    return Trace(decision, slot, bucket, unit, detail)
