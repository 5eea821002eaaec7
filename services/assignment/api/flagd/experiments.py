"""Experiments as JsonLogic that gives the key of the unit's variant, or null for the default."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from touchstone.assignment.v1 import experiment_pb2
from touchstone.assignment.v1 import ruleset_pb2 as pb
from touchstone_assignment.bucketing import HashVersion
from touchstone_assignment.cuts import TOTAL_SLOTS, edges_of

from services.assignment.api.flagd.conditions import condition_logic
from services.assignment.api.flagd.logic import (
    InexpressibleError,
    Logic,
    cut,
    is_text,
    owns,
    size_of,
    variable,
)

_HASH = {
    HashVersion.FLAGD_V2: experiment_pb2.HASH_VERSION_FLAGD_V2,
    HashVersion.FLAGD_V3: experiment_pb2.HASH_VERSION_FLAGD_V3,
}
TARGETING_KEY = {"var": "targetingKey"}
PLAIN = "plain-"
_TIME = {"var": "$flagd.timestamp"}
Step = tuple[Logic, Logic]
"""What ends the matter when it is true, and how."""
Name = Callable[[str], str | None]
"""From the key of a variant to what stands for it; None: nothing does."""


@dataclass(frozen=True, slots=True)
class Rules:
    """A ruleset by its parts, and the dialect that all of its hashes must be of."""

    dialect: HashVersion
    experiments: Mapping[str, pb.ExperimentRule]
    inside: Mapping[str, Sequence[pb.ExperimentRule]]
    """The experiments of each layer that has some, by their ids."""
    layers: Mapping[str, pb.LayerRule]
    domains: Mapping[str, pb.DomainRule]
    holdouts: tuple[pb.HoldoutRule, ...]
    audiences: Mapping[str, pb.AudienceRule]
    needed: dict[tuple[str, str], "Logic | InexpressibleError"] = field(default_factory=dict)
    """By experiment and unit, what others that need it say of it: made once for all of them."""

    def require_dialect(self, what: str, hash_version: int) -> None:
        """InexpressibleError unless the engines of the dialect hash so."""
        if hash_version != _HASH[self.dialect]:
            raise InexpressibleError(f"{what} is not hashed as {self.dialect.value} hashes")


def rules_of(ruleset: pb.Ruleset, dialect: HashVersion) -> Rules:
    """The parts of a ruleset."""
    inside: dict[str, list[pb.ExperimentRule]] = {}
    for rule in sorted(ruleset.experiments, key=lambda rule: rule.experiment):
        inside.setdefault(rule.layer, []).append(rule)
    return Rules(
        dialect=dialect,
        experiments={rule.experiment: rule for rule in ruleset.experiments},
        inside=inside,
        layers={rule.layer: rule for rule in ruleset.layers},
        domains={rule.domain: rule for rule in ruleset.domains},
        holdouts=tuple(ruleset.holdouts),
        audiences={rule.audience: rule for rule in ruleset.audiences},
    )


def experiment_logic(rule: pb.ExperimentRule, rules: Rules) -> Logic:
    """The variant of whom the context is about; InexpressibleError when only the server knows."""
    return by_unit(
        rule.unit_type,
        lambda unit: variant_logic(rule, rules, unit),
        _first([*forced_steps(rule, None)], None),
    )


def by_unit(unit_type: str, logic: Callable[[Logic], Logic], otherwise: Logic) -> Logic:
    """The logic of the unit's id: the attribute of its type's name, else the targeting key.

    All of it stands once for each: to choose the id wherever it stands would take longer.
    """
    named = variable(unit_type)
    return {
        "if": [
            is_text(named),
            logic(named),
            is_text(TARGETING_KEY),
            logic(TARGETING_KEY),
            otherwise,
        ]
    }


def _first(steps: list[Step], otherwise: Logic) -> Logic:
    flat = [part for step in steps for part in step]
    # Without a rule an engine would say STATIC, and its clients keep that.
    return {"if": [*flat, otherwise]} if flat else {"if": [True, otherwise]}


def variant_logic(rule: pb.ExperimentRule, rules: Rules, unit: Logic, name: Name = str) -> Logic:
    """The variant of a unit by the name that it is to have, or null."""
    if rule.server_only:
        raise InexpressibleError(f"only the server decides {rule.experiment!r}")
    if rule.serving in (pb.SERVING_KILLED, pb.SERVING_EXTERNAL):
        return _first([], None)
    steps = [*forced_steps(rule, unit, name)]
    if rule.serving != pb.SERVING_RUNNING:
        return _first(steps, None)
    rules.require_dialect(f"experiment {rule.experiment!r}", rule.hash_version)
    steps += [(out, None) for out in _outs(rule, rules, unit)]
    return _first(steps, _split(rule, unit, name))


def _plain(value: Logic) -> Logic:
    """`is_plain` of a variable, by a name that a document explains once."""
    return {"$ref": PLAIN + value["var"]}


def forced_steps(rule: pb.ExperimentRule, unit: Logic | None, name: Name = str) -> Iterator[Step]:
    """Forced variants: ids of the experiment's type come first; without a unit there are none."""
    if rule.serving in (pb.SERVING_KILLED, pb.SERVING_EXTERNAL):
        return
    groups: dict[tuple[bool, str, str], list[str]] = {}
    for forced in rule.forced:
        group = (forced.unit_type != rule.unit_type, forced.unit_type, forced.variant)
        groups.setdefault(group, []).append(forced.unit_id)
    for (other, unit_type, variant), ids in sorted(groups.items()):
        found = variable(unit_type) if other else unit
        if found is not None:
            yield {"in": [found, sorted(ids)]}, name(variant) if variant else None


def _outs(rule: pb.ExperimentRule, rules: Rules, unit: Logic) -> Iterator[Logic]:
    """What keeps the unit out. What costs least is asked first: each has the same end."""
    if rule.HasField("targeting"):
        yield {"!": [condition_logic(rule.targeting, rules.audiences)]}
    yield {"!": [_plain(unit)]}
    for needed in rule.prerequisites:
        yield {"!": [_has(needed, rule, rules, unit)]}
    for holdout in rules.holdouts:
        if holdout.slots and _covers(holdout, rule):
            yield _held_out(holdout, rule, rules, unit)
    layer = _layer(rule.layer, rules)
    if layer.unit_type != rule.unit_type:
        raise InexpressibleError(f"layer {layer.layer!r} cuts units of another type")
    yield from _outside(layer, rules, unit)
    owned = owns(layer.salt, unit, edges_of(rule.slots))
    if owned is not True:
        yield {"!": [owned]}
    if rule.HasField("switchback"):
        yield from _between_windows(rule.switchback)


def _has(needed: pb.PrerequisiteRule, rule: pb.ExperimentRule, rules: Rules, unit: Logic) -> Logic:
    other = rules.experiments.get(needed.experiment)
    if other is None:
        return False
    if other.unit_type != rule.unit_type:
        raise InexpressibleError(f"it needs {needed.experiment!r}, which is of other units")
    variants = list(needed.variants) or [variant.key for variant in other.variants]
    return {"in": [_needed(other, rules, unit), variants]}


def _needed(rule: pb.ExperimentRule, rules: Rules, unit: Logic) -> Logic:
    """`variant_logic`, made and measured once: of eight that need eight each there are millions."""
    key = (rule.experiment, unit["var"])
    if key not in rules.needed:
        try:
            made = rules.needed[key] = variant_logic(rule, rules, unit)
            size_of(made)
        except InexpressibleError as error:
            rules.needed[key] = error
    found = rules.needed[key]
    if isinstance(found, InexpressibleError):
        raise found
    return found


def _covers(holdout: pb.HoldoutRule, rule: pb.ExperimentRule) -> bool:
    if not holdout.layers and not holdout.experiments:
        return holdout.unit_type == rule.unit_type
    return rule.experiment in holdout.experiments or rule.layer in holdout.layers


def _held_out(holdout: pb.HoldoutRule, rule: pb.ExperimentRule, rules: Rules, unit: Logic) -> Logic:
    rules.require_dialect(f"holdout {holdout.holdout!r}", holdout.hash_version)
    if holdout.unit_type == rule.unit_type:
        return owns(holdout.salt, unit, [0, holdout.slots])
    other = variable(holdout.unit_type)
    # Whether it holds an id that cannot be hashed here is not known; such a unit stays out.
    held = {"or": [{"!": [_plain(other)]}, owns(holdout.salt, other, [0, holdout.slots])]}
    return {"and": [is_text(other), held]}


def _layer(layer_id: str, rules: Rules) -> pb.LayerRule:
    layer = rules.layers.get(layer_id)
    if layer is None:
        raise InexpressibleError(f"layer {layer_id!r} is not there")
    rules.require_dialect(f"layer {layer_id!r}", layer.hash_version)
    return layer


def _outside(layer: pb.LayerRule, rules: Rules, unit: Logic) -> Iterator[Logic]:
    """Whether the unit is outside the domain that the layer cuts, or one that holds that."""
    while layer.domain:
        domain = rules.domains.get(layer.domain)
        if domain is None:
            # A released domain holds no slots any more.
            yield True
            return
        layer = _layer(domain.layer, rules)
        yield {"!": [owns(layer.salt, unit, edges_of(domain.slots))]}


def _between_windows(switchback: experiment_pb2.Switchback) -> Iterator[Logic]:
    if switchback.region_attribute:
        region = variable(switchback.region_attribute)
        yield {"!": [is_text(region)]}
        yield {"!": [_plain(region)]}
    if switchback.washout_s:
        yield {"<": [{"%": [_TIME, switchback.window_s]}, switchback.washout_s]}


def _split(rule: pb.ExperimentRule, unit: Logic, name: Name) -> Logic:
    if sum(variant.weight for variant in rule.variants) != TOTAL_SLOTS:
        raise InexpressibleError(f"the weights of {rule.experiment!r} are not whole")
    parts: list[tuple[Any, int]] = [
        (None if variant.dropped else name(variant.key), variant.weight)
        for variant in rule.variants
    ]
    if not rule.HasField("switchback"):
        return cut(rule.salt, unit, parts)
    return cut(rule.salt, _window(rule.switchback), parts)


def _window(switchback: experiment_pb2.Switchback) -> Logic:
    attribute = switchback.region_attribute
    length = switchback.window_s
    index = {"/": [{"-": [_TIME, {"%": [_TIME, length]}]}, length]}
    return {"cat": [variable(attribute) if attribute else "", "/", index]}
