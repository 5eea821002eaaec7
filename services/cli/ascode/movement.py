"""How many units a change moves: exactly, over the slots of the layer and the split's buckets.

A unit's slot and its bucket come from two salts, so that every share of the one meets every share
of the other: the share of units is the product. Holdouts, prerequisites and targeting keep more
units out, before and after alike; what they keep out is not taken off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from touchstone.assignment.v1 import experiment_pb2 as pb

TOTAL = 10_000
_RUNNING = pb.Experiment.STATE_RUNNING


@dataclass(frozen=True, slots=True)
class Movement:
    """Shares of all units of the layer, from 0 to 1."""

    enrolled: float = 0.0
    """Have a variant before."""
    joining: float = 0.0
    """Have none before, and one after."""
    leaving: float = 0.0
    """Have one before, and none after."""
    switching: float = 0.0
    """Have another one after."""

    @property
    def moved(self) -> float:
        """The share of those enrolled before that leave or switch."""
        return (self.leaving + self.switching) / self.enrolled if self.enrolled else 0.0


def movement(before: Any, after: Any) -> Movement:
    """Between two experiments of one layer and one salt; None is one that is not there."""
    old_slots, new_slots = _slots(before), _slots(after)
    old, new = _split(before), _split(after)
    both = min(old_slots, new_slots) / TOTAL
    switching = leaving = joining = 0
    edges = sorted({0, TOTAL, *_edges(old), *_edges(new)})
    for first, end in pairwise(edges):
        had, gets = _at(old, first), _at(new, first)
        width = end - first
        switching += width * (had is not None and gets is not None and had != gets)
        leaving += width * (had is not None and gets is None)
        joining += width * (had is None and gets is not None)
    gone = max(0, old_slots - new_slots) / TOTAL
    come = max(0, new_slots - old_slots) / TOTAL
    return Movement(
        enrolled=old_slots / TOTAL * _served(old),
        joining=both * joining / TOTAL + come * _served(new),
        leaving=both * leaving / TOTAL + gone * _served(old),
        switching=both * switching / TOTAL,
    )


def having(experiment: Any, variants: Sequence[str] = ()) -> float:
    """The share of the layer's units that have one of the variants; none named: any."""
    return _slots(experiment) / TOTAL * _served(_split(experiment), variants)


def lost(before: Any, after: Any, variants: Sequence[str] = ()) -> float:
    """The share of the layer's units that have one of the variants before, and none after."""
    old_slots, new_slots = _slots(before), _slots(after)
    old, new = _split(before), _split(after)
    edges = sorted({0, TOTAL, *_edges(old), *_edges(new)})
    gone = sum(
        end - first
        for first, end in pairwise(edges)
        if _among(_at(old, first), variants) and not _among(_at(new, first), variants)
    )
    both = min(old_slots, new_slots) / TOTAL
    out = max(0, old_slots - new_slots) / TOTAL
    return both * gone / TOTAL + out * _served(old, variants)


def _among(variant: str | None, variants: Sequence[str]) -> bool:
    return variant is not None and (not variants or variant in variants)


Split = list[tuple[int, int, str | None]]


def _slots(experiment: Any) -> int:
    if experiment is None or experiment.state != _RUNNING or experiment.killed:
        return 0
    return int(experiment.traffic_slots)


def _split(experiment: Any) -> Split:
    ranges: Split = []
    start = 0
    for variant in experiment.variants if experiment is not None else ():
        key = None if variant.dropped else variant.key
        ranges.append((start, start + variant.weight, key))
        start += variant.weight
    return ranges


def _edges(split: Split) -> set[int]:
    return {end for _, end, _ in split}


def _at(split: Split, bucket: int) -> str | None:
    return next((key for first, end, key in split if first <= bucket < end), None)


def _served(split: Split, variants: Sequence[str] = ()) -> float:
    return sum(end - first for first, end, key in split if _among(key, variants)) / TOTAL
