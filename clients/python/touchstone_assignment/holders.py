"""Who holds which slots of a layer."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from touchstone.assignment.v1.ruleset_pb2 import DomainRule, ExperimentRule, Slots


@dataclass(frozen=True, slots=True)
class Holder:
    """An experiment or a domain, the other one being empty."""

    experiment: str = ""
    domain: str = ""

    def __str__(self) -> str:
        """As explanations name it."""
        return f"domain {self.domain!r}" if self.domain else f"experiment {self.experiment!r}"


@dataclass(frozen=True, slots=True)
class Holders:
    """The runs of slots of one layer, ascending, with their holders."""

    starts: tuple[int, ...]
    ends: tuple[int, ...]
    holders: tuple[Holder, ...]

    def of(self, slot: int) -> Holder | None:
        """Who holds the slot; None: nobody."""
        index = bisect_right(self.starts, slot) - 1
        return self.holders[index] if index >= 0 and slot < self.ends[index] else None


def holders_of(
    experiments: Iterable["ExperimentRule"], domains: Iterable["DomainRule"]
) -> Mapping[str, Holders]:
    """The holders of every layer that has some, by the layer's id.

    ValueError when two hold the same slot.
    """
    runs: dict[str, list[tuple[int, int, Holder]]] = {}

    def note(layer: str, slots: Iterable["Slots"], holder: Holder) -> None:
        runs.setdefault(layer, []).extend((run.first, run.end, holder) for run in slots)

    for rule in experiments:
        if rule.slots:
            note(rule.layer, rule.slots, Holder(experiment=rule.experiment))
    for domain in domains:
        note(domain.layer, domain.slots, Holder(domain=domain.domain))
    return {layer: _in_order(layer, found) for layer, found in runs.items()}


def _in_order(layer: str, runs: list[tuple[int, int, Holder]]) -> Holders:
    runs.sort(key=lambda run: run[0])
    for (_, end, one), (first, _, other) in pairwise(runs):
        if first < end:
            raise ValueError(f"{one} and {other} both hold slot {first} of layer {layer!r}")
    starts, ends, holders = zip(*runs, strict=True) if runs else ((), (), ())
    return Holders(starts, ends, holders)
