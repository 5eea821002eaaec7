"""From an experiment's rule to the closure that decides it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from sys import intern
from typing import TYPE_CHECKING

from touchstone_assignment import gates
from touchstone_assignment.compiled import CompiledExperiment
from touchstone_assignment.cuts import hash_version
from touchstone_assignment.decision import EXTERNAL, KILLED, NOT_RUNNING, Decision
from touchstone_assignment.gates import Decide, Gate
from touchstone_assignment.holdouts import CompiledHoldout
from touchstone_assignment.layers import CompiledLayer
from touchstone_assignment.origin import Origin
from touchstone_assignment.split import choose_of
from touchstone_assignment.values import plain

if TYPE_CHECKING:
    from touchstone.assignment.v1.condition_pb2 import Condition
    from touchstone.assignment.v1.ruleset_pb2 import ExperimentRule

# The numbers of touchstone.assignment.v1.Serving.
RUNNING, NOT_SERVING, FOREIGN, SWITCHED_OFF = 1, 2, 3, 4
_FIXED = {NOT_SERVING: NOT_RUNNING, FOREIGN: EXTERNAL, SWITCHED_OFF: KILLED}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The compiled parts that an experiment's decisions need."""

    project: str
    layer: CompiledLayer | None
    holdouts: Sequence[CompiledHoldout]
    prerequisites: Sequence[CompiledExperiment | None]
    """In the order of the rule; None: the project has no such experiment."""
    predicate: Callable[["Condition"], gates.Predicate]
    """Compiles a condition."""


def compile_experiment(
    rule: "ExperimentRule", around: Surroundings, origin: Origin
) -> CompiledExperiment:
    """The experiment ready to decide; ValueError, naming it, when it cannot."""
    # A message that is part of a ruleset would keep all of that in memory.
    own = type(rule)()
    own.CopyFrom(rule)
    unit_type = intern(own.unit_type)
    try:
        decide = _decide(own, unit_type, around)
        version = hash_version(own.hash_version).value
    except ValueError as error:
        raise ValueError(f"experiment {own.experiment!r}: {error}") from error
    return CompiledExperiment(
        experiment_id=own.experiment,
        rule=own,
        unit_type=unit_type,
        layer=around.layer,
        decide=decide,
        metadata=_metadata(around.project, own, version),
        sets=_sets(own, around.layer.parameters) if around.layer else {},
        serves=own.serving == RUNNING,
        origin=origin,
    )


def _sets(rule: "ExperimentRule", parameters: frozenset[str]) -> Mapping[str, Mapping[str, object]]:
    """What each variant sets of these parameters, by the fields of its payload."""
    if not parameters:
        return {}
    found: dict[str, Mapping[str, object]] = {}
    for variant in rule.variants:
        payload = variant.payload if variant.HasField("payload") else variant.value.struct_value
        found[variant.key] = {
            key: plain(value) for key, value in payload.fields.items() if key in parameters
        }
    return found


def _metadata(
    project: str, rule: "ExperimentRule", version: str
) -> Mapping[str, str | int | float | bool]:
    return {
        "flagSetId": project,
        "experiment": rule.experiment,
        "layer": rule.layer,
        "configVersion": rule.config_version,
        "hashVersion": version,
    }


def _decide(rule: "ExperimentRule", unit_type: str, around: Surroundings) -> Decide:
    # Nothing overrides another system or the kill switch; a forced variant overrides the rest.
    if rule.serving in (FOREIGN, SWITCHED_OFF):
        return always(_FIXED[rule.serving])
    decide = (
        always(NOT_RUNNING) if rule.serving == NOT_SERVING else _running(rule, unit_type, around)
    )
    return gates.forced_first(rule, decide) if rule.forced else decide


def always(decision: Decision) -> Decide:
    """The same for everybody."""
    return lambda _subject: decision


def _running(rule: "ExperimentRule", unit_type: str, around: Surroundings) -> Decide:
    if rule.serving != RUNNING:
        raise ValueError(f"serving {rule.serving} is not known")
    layer = around.layer
    if layer is None:
        raise ValueError(f"runs without layer {rule.layer!r}")
    if layer.unit_type != unit_type:
        raise ValueError(
            f"is about units of type {unit_type!r}, its layer about {layer.unit_type!r}"
        )
    steps: list[Gate] = [gates.held_out(holdout) for holdout in around.holdouts]
    for needed, other in zip(rule.prerequisites, around.prerequisites, strict=True):
        decide = None if other is None else other.decide
        steps.append(gates.needing(needed.experiment, decide, needed.variants))
    choose = choose_of(rule, layer)
    if rule.HasField("targeting"):
        predicate = around.predicate(rule.targeting)
        if not steps and layer.inside is None:
            return gates.only_targeted(unit_type, predicate, choose)
        steps.append(gates.targeted(predicate))
    if layer.inside is not None:
        steps.append(gates.inside_domain(layer.inside))
    return gates.behind(unit_type, steps, choose)
