"""From a project's configuration to the ruleset: all that decides, and nothing else."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Value
from touchstone.assignment.v1 import experiment_pb2, ruleset_pb2
from touchstone_assignment.bucketing import HashVersion

from services.assignment.domain.audience import Audience
from services.assignment.domain.domain import Domain
from services.assignment.domain.experiment import (
    Allocation,
    AssignmentSource,
    Design,
    Experiment,
    State,
    ValueType,
    Variant,
)
from services.assignment.domain.forced import ForcedVariant
from services.assignment.domain.holdout import Holdout
from services.assignment.domain.layer import Holder, Layer, LayerKind
from services.assignment.ports import ProjectConfig
from services.assignment.wire.condition_text import kept_condition
from services.assignment.wire.server_only import server_only

FORMAT = 1
_HASH = {
    HashVersion.FLAGD_V2: experiment_pb2.HASH_VERSION_FLAGD_V2,
    HashVersion.FLAGD_V3: experiment_pb2.HASH_VERSION_FLAGD_V3,
}
_VALUE_TYPE = {
    ValueType.KEY: experiment_pb2.VALUE_TYPE_KEY,
    ValueType.BOOLEAN: experiment_pb2.VALUE_TYPE_BOOLEAN,
    ValueType.STRING: experiment_pb2.VALUE_TYPE_STRING,
    ValueType.INTEGER: experiment_pb2.VALUE_TYPE_INTEGER,
    ValueType.FLOAT: experiment_pb2.VALUE_TYPE_FLOAT,
    ValueType.OBJECT: experiment_pb2.VALUE_TYPE_OBJECT,
}


def to_ruleset(config: ProjectConfig, project: str) -> ruleset_pb2.Ruleset:
    """The ruleset of a configuration: equal configurations give equal bytes."""
    experiments = [
        config.experiments[key]
        for key in sorted(config.experiments)
        if config.experiments[key].state is not State.ARCHIVED
    ]
    domains = [found for _, found in sorted(config.domains.items()) if not found.released]
    facts = _Facts(_held_slots(config.layers.values()), _forced(config), server_only(config))
    return ruleset_pb2.Ruleset(
        format=FORMAT,
        project=project,
        config_version=config.config_version,
        experiments=[_experiment(found, facts) for found in experiments],
        layers=[_layer(found) for found in _needed(config.layers, experiments, domains)],
        domains=[_domain(found, facts.held) for found in domains],
        holdouts=[
            _holdout(found) for _, found in sorted(config.holdouts.items()) if not found.ended
        ],
        audiences=[_audience(found) for _, found in sorted(config.audiences.items())],
    )


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the rules of all experiments draw on."""

    held: Mapping[Holder, Sequence[ruleset_pb2.Slots]]
    forced: Mapping[str, Sequence[ForcedVariant]]
    """By experiment, in the order of their resource ids."""
    server_only: frozenset[str]


def _forced(config: ProjectConfig) -> dict[str, list[ForcedVariant]]:
    found: dict[str, list[ForcedVariant]] = {}
    for _, forced in sorted(config.forced.items()):
        found.setdefault(forced.experiment_id, []).append(forced)
    return found


def _forced_rules(design: Design, forced: Iterable[ForcedVariant]) -> list[ruleset_pb2.ForcedRule]:
    keys = {variant.key for variant in design.variants}
    return [
        ruleset_pb2.ForcedRule(
            unit_type=found.unit_type, unit_id=found.unit_id, variant=found.variant
        )
        for found in forced
        # A draft may have lost the variant since.
        if found.variant in keys or not found.variant
    ]


def _held_slots(layers: Iterable[Layer]) -> dict[Holder, list[ruleset_pb2.Slots]]:
    held: dict[Holder, list[ruleset_pb2.Slots]] = {}
    for layer in layers:
        for row in layer.ledger:
            if row.release_time is None:
                run = ruleset_pb2.Slots(first=row.first, end=row.end)
                held.setdefault(row.holder, []).append(run)
    return held


def _needed(
    layers: Mapping[str, Layer], experiments: Iterable[Experiment], domains: Iterable[Domain]
) -> list[Layer]:
    asked = {found.design.layer for found in experiments} | {found.layer for found in domains}
    return [layer for key, layer in sorted(layers.items()) if key in asked or layer.parameters]


def _experiment(found: Experiment, facts: _Facts) -> ruleset_pb2.ExperimentRule:
    design = found.design
    forced = facts.forced.get(found.experiment_id, ())
    return ruleset_pb2.ExperimentRule(
        experiment=found.experiment_id,
        config_version=found.config_version,
        serving=_serving(found),
        unit_type=design.unit_type,
        layer=design.layer,
        slots=facts.held.get(Holder(experiment_id=found.experiment_id), ()),
        salt=design.salt,
        hash_version=_HASH[design.hash_version],
        variants=[_variant(variant, design.value_type) for variant in design.variants],
        value_type=_VALUE_TYPE[design.value_type],
        targeting=None if design.targeting is None else kept_condition(design.targeting),
        prerequisites=[
            ruleset_pb2.PrerequisiteRule(experiment=needed.experiment_id, variants=needed.variants)
            for needed in design.prerequisites
        ],
        forced=_forced_rules(design, forced),
        sticky=design.sticky,
        anonymous_unit_type=design.anonymous_unit_type,
        switchback=_switchback(design),
        bandit=design.allocation is Allocation.BANDIT,
        server_only=found.experiment_id in facts.server_only,
        control=design.control,
    )


def _serving(found: Experiment) -> ruleset_pb2.Serving.ValueType:
    if found.design.source is AssignmentSource.EXTERNAL:
        return ruleset_pb2.SERVING_EXTERNAL
    if found.killed:
        return ruleset_pb2.SERVING_KILLED
    running = found.state is State.RUNNING
    return ruleset_pb2.SERVING_RUNNING if running else ruleset_pb2.SERVING_NOT_RUNNING


def _variant(variant: Variant, value_type: ValueType) -> ruleset_pb2.VariantRule:
    rule = ruleset_pb2.VariantRule(key=variant.key, weight=variant.weight, dropped=variant.dropped)
    payload = json.loads(variant.payload) if variant.payload else {}
    match value_type:
        case ValueType.KEY:
            rule.value.string_value = variant.key
        case ValueType.OBJECT:
            rule.value.struct_value.update(payload)
        case _:
            rule.value.CopyFrom(_value(variant.value))
    if variant.payload is not None and value_type is not ValueType.OBJECT:
        rule.payload.update(payload)
    return rule


def _value(text: str | None) -> Value:
    """A JSON text as a message; None is null."""
    return json_format.Parse(text or "null", Value())


def _layer(found: Layer) -> ruleset_pb2.LayerRule:
    return ruleset_pb2.LayerRule(
        layer=found.layer_id,
        unit_type=found.unit_type,
        salt=found.salt,
        hash_version=_HASH[found.hash_version],
        domain=found.domain,
        launch=found.kind is LayerKind.LAUNCH,
        parameters=[
            ruleset_pb2.ParameterRule(key=parameter.key, default_value=_value(parameter.default))
            for parameter in found.parameters
        ],
    )


def _domain(
    found: Domain, held: Mapping[Holder, Sequence[ruleset_pb2.Slots]]
) -> ruleset_pb2.DomainRule:
    slots = held.get(Holder(domain_id=found.resource_id), ())
    return ruleset_pb2.DomainRule(domain=found.resource_id, layer=found.layer, slots=slots)


def _holdout(found: Holdout) -> ruleset_pb2.HoldoutRule:
    return ruleset_pb2.HoldoutRule(
        holdout=found.resource_id,
        unit_type=found.unit_type,
        salt=found.salt,
        hash_version=_HASH[found.hash_version],
        slots=found.slots,
        layers=sorted(found.layers),
        experiments=sorted(found.experiments),
    )


def _audience(found: Audience) -> ruleset_pb2.AudienceRule:
    listed = found.members
    if isinstance(listed, str):
        condition = kept_condition(listed)
        return ruleset_pb2.AudienceRule(audience=found.resource_id, condition=condition)
    return ruleset_pb2.AudienceRule(
        audience=found.resource_id,
        unit_type=listed.unit_type,
        digest=listed.digest,
        count=listed.count,
    )


def _switchback(design: Design) -> experiment_pb2.Switchback | None:
    found = design.switchback
    if found is None:
        return None
    return experiment_pb2.Switchback(
        window_s=found.window_s,
        washout_s=found.washout_s,
        region_attribute=found.region_attribute,
    )
