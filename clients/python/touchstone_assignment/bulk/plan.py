"""What is computed for all units at once, in hashes instead of buckets.

Comparing hashes with the first ones of buckets spares the multiplication in 64 bits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from touchstone_assignment.bucketing import HashVersion, bucketing_key, hash_key
from touchstone_assignment.bulk.murmur import Words
from touchstone_assignment.compiled import CompiledExperiment, Evaluator
from touchstone_assignment.cuts import TOTAL_SLOTS, Cut, cut_of, edges_of, first_hash
from touchstone_assignment.decision import NOT_IN_DOMAIN, NOT_IN_SLOTS, Decision
from touchstone_assignment.variants import outcomes

Codes = NDArray[np.uint16]
Mask = NDArray[np.bool_]
Apply = Callable[[Words, Codes], None]
_HASHES = 2**32
SINGLY = 0xFFFF
"""The code of a unit that has to be looked at by itself: its hash is that of a forced one."""
_FEW = 12
"""Up to so many edges, comparing with each is faster than a binary search."""


@dataclass(frozen=True, slots=True)
class Step:
    """Hashes under one salt, and what follows from them for the codes of the decisions."""

    cut: Cut
    apply: Apply


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps whose later ones override earlier ones: the order of decision backwards."""

    steps: tuple[Step, ...]
    outcomes: tuple[Decision, ...]
    begins_alike: bool
    """Whether the same bytes stand before ids of all sizes."""


def plan_of(evaluator: Evaluator, compiled: CompiledExperiment) -> Plan | None:
    """How to decide the experiment for many units; None when a unit's id does not suffice."""
    rule, layer = compiled.rule, compiled.layer
    asks = rule.HasField("targeting") or rule.HasField("switchback") or bool(rule.prerequisites)
    if not compiled.serves or layer is None or asks:
        return None
    found = [*outcomes(rule)]
    weights = [variant.weight for variant in rule.variants]
    steps = [Step(cut_of(rule.hash_version, rule.salt), _split(weights))]
    edges = edges_of(rule.slots)
    if edges != [0, TOTAL_SLOTS]:
        steps.append(Step(layer.cut, _outside(edges, _code(found, NOT_IN_SLOTS))))
    while layer is not None and layer.domain:
        code = _code(found, NOT_IN_DOMAIN)
        # Nobody is in a domain that is gone, whatever the hash.
        cut = layer.around.cut if layer.around else layer.cut
        steps.append(Step(cut, _outside(layer.domain_edges, code)))
        layer = layer.around
    for holdout in reversed([*evaluator.holdouts.values()]):
        if holdout.covers(rule) and holdout.unit_type == compiled.unit_type:
            inside = _inside((0, holdout.slots))
            steps.append(Step(holdout.cut, _where(inside, _code(found, holdout.out))))
    hashes = _forced_hashes(compiled, steps[-1].cut)
    if len(hashes):
        steps.append(Step(steps[-1].cut, _one_of(hashes, SINGLY)))
    # A key of the other version begins with its length.
    alike = all(step.cut.version is HashVersion.FLAGD_V2 for step in steps)
    return Plan(tuple(steps), tuple(found), alike)


def _forced_hashes(compiled: CompiledExperiment, cut: Cut) -> Words:
    ids = [found.unit_id for found in compiled.rule.forced if found.unit_type == compiled.unit_type]
    keys = [bucketing_key(cut.salt, unit_id) for unit_id in ids]
    return np.unique(np.array([hash_key(cut.version, key) for key in keys], np.uint32))


def _one_of(wanted: Words, code: int) -> Apply:
    last = len(wanted) - 1

    def equal(hashes: Words) -> Mask:
        places = np.minimum(np.searchsorted(wanted, hashes), last)
        found: Mask = wanted[places] == hashes
        return found

    return _where(equal, code)


def _code(found: list[Decision], decision: Decision) -> int:
    if decision not in found:
        found.append(decision)
    return found.index(decision)


def _split(weights: Sequence[int]) -> Apply:
    edges = [first_hash(edge) for edge in list(accumulate(weights))[:-1]]
    reached = np.array([edge for edge in edges if edge < _HASHES], np.uint32)

    def by_search(hashes: Words, codes: Codes) -> None:
        codes[:] = np.searchsorted(reached, hashes, side="right")

    def by_comparison(hashes: Words, codes: Codes) -> None:
        codes.fill(0)
        for edge in reached:
            np.add(codes, hashes >= edge, out=codes)

    return by_comparison if len(reached) <= _FEW else by_search


def _outside(edges: Sequence[int], code: int) -> Apply:
    inside = _inside(edges)
    return _where(lambda hashes: ~inside(hashes), code)


def _where(test: Callable[[Words], Mask], code: int) -> Apply:
    def apply(hashes: Words, codes: Codes) -> None:
        np.copyto(codes, np.uint16(code), where=test(hashes))

    return apply


def _inside(edges: Sequence[int]) -> Callable[[Words], Mask]:
    """Whether the buckets of hashes lie in runs that start and end at these edges."""
    ends = [first_hash(edge) for edge in edges]
    if not ends or list(edges) == [0, 0]:
        return lambda hashes: np.zeros(len(hashes), np.bool_)
    if ends == [0, _HASHES]:
        return lambda hashes: np.ones(len(hashes), np.bool_)
    if len(ends) == 2:
        low, width = np.uint32(ends[0]), np.uint32(ends[1] - ends[0])
        # Below `low` the difference wraps around to more than any width.
        return lambda hashes: (hashes - low) < width
    searched = np.array([end for end in ends if end < _HASHES], np.uint32)
    return lambda hashes: np.searchsorted(searched, hashes, side="right") & 1 == 1
