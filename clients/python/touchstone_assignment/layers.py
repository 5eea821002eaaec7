"""Layers, and the domains whose units they cut."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from sys import intern
from typing import TYPE_CHECKING

from touchstone_assignment.bucketing import Bucketer
from touchstone_assignment.cuts import Cut, cut_of, edges_of, owns
from touchstone_assignment.order import dependency_order
from touchstone_assignment.origin import Origin, origin_of, taken_over

if TYPE_CHECKING:
    from touchstone.assignment.v1.ruleset_pb2 import DomainRule, LayerRule

Inside = Callable[[bytes], bool]
"""Whether a unit, as `unit_bytes` gives it, is one of a domain."""


@dataclass(frozen=True, slots=True)
class CompiledLayer:
    """A layer ready to cut; `inside` is None when it cuts all units of its type."""

    layer_id: str
    unit_type: str
    domain: str
    parameters: frozenset[str]
    cut: Cut
    slot: Bucketer
    around: "CompiledLayer | None"
    """The layer that its domain is cut from."""
    domain_edges: tuple[int, ...]
    """Where the runs of the domain's slots start and end."""
    inside: Inside | None
    origin: Origin


def compile_layers(
    rules: Iterable["LayerRule"],
    domains: Iterable["DomainRule"],
    previous: Mapping[str, CompiledLayer],
) -> dict[str, CompiledLayer]:
    """The layers by id, with what did not change taken over from `previous`.

    ValueError when layers hold one another through domains in a circle, or cannot cut.
    """
    by_id = {rule.layer: rule for rule in rules}
    cut_from = {domain.domain: domain for domain in domains}

    def parents(layer_id: str) -> list[str]:
        domain = cut_from.get(by_id[layer_id].domain)
        return [domain.layer] if domain else []

    compiled: dict[str, CompiledLayer] = {}
    for layer_id in dependency_order("layers", by_id, parents):
        rule = by_id[layer_id]
        domain = cut_from.get(rule.domain)
        parent = compiled.get(domain.layer) if domain else None
        origin = origin_of([rule, domain] if domain else [rule], [parent])
        compiled[layer_id] = taken_over(previous, layer_id, origin) or _compile(
            rule, domain, parent, origin
        )
    return compiled


def _compile(
    rule: "LayerRule",
    domain: "DomainRule | None",
    parent: CompiledLayer | None,
    origin: Origin,
) -> CompiledLayer:
    cut = cut_of(rule.hash_version, rule.salt)
    edges = edges_of(domain.slots) if domain else []
    return CompiledLayer(
        layer_id=rule.layer,
        unit_type=intern(rule.unit_type),
        domain=rule.domain,
        parameters=frozenset(parameter.key for parameter in rule.parameters),
        cut=cut,
        slot=cut.bucketer(),
        around=parent,
        domain_edges=tuple(edges),
        inside=_inside(rule, edges, parent),
        origin=origin,
    )


def _inside(rule: "LayerRule", edges: list[int], parent: CompiledLayer | None) -> Inside | None:
    if not rule.domain:
        return None
    if parent is None:
        # A released domain holds no slots any more: nobody reaches its layers.
        return lambda _unit: False
    if parent.unit_type != rule.unit_type:
        raise ValueError(
            f"layer {rule.layer!r} cuts units of type {rule.unit_type!r}, the domain "
            f"{rule.domain!r} those of type {parent.unit_type!r}"
        )
    owned, slot, around = owns(edges), parent.slot, parent.inside
    if around is None:
        return lambda unit: owned(slot(unit))
    return lambda unit: around(unit) and owned(slot(unit))
