"""Parameters: code asks for a value by its key, and whichever experiment the unit is in sets it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from touchstone_assignment.decision import Decision, Reason
from touchstone_assignment.subject import Subject
from touchstone_assignment.values import plain

if TYPE_CHECKING:
    from touchstone.assignment.v1.ruleset_pb2 import ExperimentRule, LayerRule

    from touchstone_assignment.compiled import CompiledExperiment, Evaluator


@dataclass(frozen=True, slots=True)
class ParameterDecision:
    """A value, and the experiment and variant that set it; both empty: it is the default."""

    value: object
    experiment: str = ""
    variant: str = ""


@dataclass(frozen=True, slots=True)
class Sources:
    """The layers that may set a parameter, the first of them first, and what holds else."""

    layers: tuple[str, ...]
    default: ParameterDecision


def sources_of(layers: Iterable["LayerRule"]) -> Mapping[str, Sources]:
    """Where the values of each parameter come from: EXPERIMENT layers before LAUNCH layers.

    The default is that of the first.
    """
    found: dict[str, Sources] = {}
    for layer in sorted(layers, key=lambda layer: (layer.launch, layer.layer)):
        for parameter in layer.parameters:
            known = found.get(parameter.key)
            found[parameter.key] = Sources(
                layers=(*known.layers, layer.layer) if known else (layer.layer,),
                default=known.default
                if known
                else ParameterDecision(plain(parameter.default_value)),
            )
    return found


def forcing_of(
    sources: Mapping[str, Sources], experiments: Iterable["ExperimentRule"]
) -> Mapping[str, tuple[str, ...]]:
    """The experiments that force variants, by their ids, for each layer that sets a parameter."""
    setting = {layer for found in sources.values() for layer in found.layers}
    forcing: dict[str, list[str]] = {}
    for rule in experiments:
        if rule.layer in setting and rule.forced:
            forcing.setdefault(rule.layer, []).append(rule.experiment)
    return {layer: tuple(sorted(ids)) for layer, ids in forcing.items()}


def resolve(
    evaluator: "Evaluator", subject: Subject, keys: Iterable[str]
) -> dict[str, ParameterDecision]:
    """The value of each key that some layer has; see `Evaluator.parameters`."""
    asked = {key: evaluator.parameter_rules.get(key) for key in keys}
    if not asked:
        asked = {
            key: sources
            for key, sources in evaluator.parameter_rules.items()
            if any(evaluator.layers[layer].unit_type in subject.ids for layer in sources.layers)
        }
    served: dict[str, tuple[CompiledExperiment, Decision] | None] = {}
    return {
        key: _value(evaluator, subject, key, sources, served)
        for key, sources in asked.items()
        if sources is not None
    }


def _value(
    evaluator: "Evaluator",
    subject: Subject,
    key: str,
    sources: Sources,
    served: dict[str, "tuple[CompiledExperiment, Decision] | None"],
) -> ParameterDecision:
    for layer in sources.layers:
        if layer not in served:
            served[layer] = _served_in(evaluator, layer, subject)
        found = served[layer]
        if found is not None:
            compiled, decision = found
            values = compiled.sets.get(decision.variant or "", {})
            if key in values:
                return ParameterDecision(
                    values[key], compiled.experiment_id, decision.variant or ""
                )
    return sources.default


def _served_in(
    evaluator: "Evaluator", layer_id: str, subject: Subject
) -> "tuple[CompiledExperiment, Decision] | None":
    """The one experiment of the layer that gives the subject a variant: forced before slots."""
    holders = evaluator.holders.get(layer_id)
    for experiment_id in evaluator.forcing.get(layer_id, ()):
        compiled = evaluator.experiments[experiment_id]
        decision = compiled.decide(subject)
        if decision.reason is Reason.FORCED and decision.variant is not None:
            return compiled, decision
    layer = evaluator.layers[layer_id]
    unit = subject.unit(layer.unit_type)
    if unit is None or holders is None:
        return None
    holder = holders.of(layer.slot(unit))
    if holder is None or not holder.experiment:
        return None
    compiled = evaluator.experiments[holder.experiment]
    decision = compiled.decide(subject)
    return None if decision.variant is None else (compiled, decision)
