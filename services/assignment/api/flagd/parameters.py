"""Parameters as JsonLogic: which experiment sets one for the unit, and by which variant."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from touchstone.assignment.v1 import ruleset_pb2 as pb
from touchstone_assignment.values import plain

from services.assignment.api.flagd.experiments import Rules, by_unit, forced_steps, variant_logic
from services.assignment.api.flagd.logic import InexpressibleError, Logic, size_of


@dataclass(frozen=True, slots=True)
class ParameterLogic:
    """The logic that gives a name, or null for the default, and the value of each name."""

    logic: Logic
    values: Mapping[str, object]


def parameter_logic(key: str, unit_type: str, rules: Rules) -> ParameterLogic:
    """A parameter whose flag is about units of this type.

    A name is `<experiment>/<variant>`. InexpressibleError when only the server can decide one of
    the experiments that may set it.
    """
    layers = [layer for layer in rules.layers.values() if _has(layer, key)]
    setting = [
        _Setting(rule, _values(rule, key))
        for layer in sorted(layers, key=lambda layer: (layer.launch, layer.layer))
        for rule in _inside(layer, unit_type, rules)
    ]
    for one in setting:
        one.require_forced_set()

    def first_of(unit: Logic) -> Logic:
        found: list[Logic] = []
        size = 0
        for one in setting:
            found.append(variant_logic(one.rule, rules, unit, one.name))
            size = size_of(found[-1], size)
        return _first(found)

    without = [
        {"if": [asked, name, None]}
        for one in setting
        for asked, name in forced_steps(one.rule, None, one.name)
    ]
    values = {name: value for one in setting for name, value in one.named()}
    return ParameterLogic(by_unit(unit_type, first_of, _first(without)), values)


def _first(logics: list[Logic]) -> Logic:
    """The first that gives a name."""
    return {"or": [*logics, None]}


@dataclass(frozen=True, slots=True)
class _Setting:
    """An experiment that may set the parameter, and the values that it sets by its variants."""

    rule: pb.ExperimentRule
    values: Mapping[str, object]

    def name(self, variant: str) -> str | None:
        """The name of a variant that sets it; None for one that does not."""
        return f"{self.rule.experiment}/{variant}" if variant in self.values else None

    def named(self) -> Iterator[tuple[str, object]]:
        """The names with their values."""
        for variant, value in self.values.items():
            yield f"{self.rule.experiment}/{variant}", value

    def require_forced_set(self) -> None:
        """A forced variant that does not set it ends the matter of its layer all the same, which
        the first name that is there cannot say.
        """
        if any(forced.variant and forced.variant not in self.values for forced in self.rule.forced):
            raise InexpressibleError(
                f"a variant that {self.rule.experiment!r} forces does not set it"
            )


def _values(rule: pb.ExperimentRule, key: str) -> dict[str, object]:
    found = {}
    for variant in rule.variants:
        sent = variant.payload if variant.HasField("payload") else variant.value.struct_value
        if key in sent.fields:
            found[variant.key] = plain(sent.fields[key])
    return found


def _has(layer: pb.LayerRule, key: str) -> bool:
    return any(parameter.key == key for parameter in layer.parameters)


def _inside(layer: pb.LayerRule, unit_type: str, rules: Rules) -> Iterator[pb.ExperimentRule]:
    """The experiments of a layer; one that forces variants comes first, whoever owns the slot."""
    if layer.unit_type != unit_type:
        raise InexpressibleError("layers of several types of units set it")
    inside = rules.inside.get(layer.layer, ())
    if sum(bool(rule.forced) for rule in inside) > 1:
        raise InexpressibleError("several experiments of a layer force variants")
    yield from sorted(inside, key=lambda rule: not rule.forced)
