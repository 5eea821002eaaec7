"""The last steps of a decision: does the experiment own the unit's slot, and which variant?"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from touchstone_assignment.bucketing import Bucketer, encode_unit
from touchstone_assignment.cuts import TOTAL_SLOTS, Cut, Owns, cut_of, edges_of, owns
from touchstone_assignment.decision import MISSING_REGION, NOT_IN_SLOTS, WASHOUT, Decision
from touchstone_assignment.fused import halves, halves_of_slots
from touchstone_assignment.layers import CompiledLayer
from touchstone_assignment.subject import Subject
from touchstone_assignment.variants import Outcome, outcome_of, outcomes

if TYPE_CHECKING:
    from touchstone.assignment.v1.experiment_pb2 import Switchback
    from touchstone.assignment.v1.ruleset_pb2 import ExperimentRule

Choose = Callable[[Subject, bytes], Decision]
"""From a subject and its unit, as `unit_bytes` gives it, to the decision."""
Window = Callable[[Subject], "bytes | Decision"]
"""What stands for the unit in the split of a switchback, or why nothing does."""


def choose_of(rule: "ExperimentRule", layer: CompiledLayer) -> Choose:
    """Slot and split of an experiment in a layer.

    ValueError when its slots or weights are not possible.
    """
    edges, cut = edges_of(rule.slots), cut_of(rule.hash_version, rule.salt)
    outcome = outcome_of(rule)
    if rule.HasField("switchback"):
        return _by_window(
            owns(edges), layer.slot, cut.bucketer(), outcome, window_of(rule.switchback)
        )
    fused = _fused(rule, edges, layer.cut, cut) if len(rule.variants) == 2 else None
    return fused or _by_unit(edges, layer.slot, cut.bucketer(), outcome)


def _by_window(
    owned: Owns, slot: Bucketer, bucket: Bucketer, outcome: Outcome, window: Window
) -> Choose:
    def choose(subject: Subject, unit: bytes) -> Decision:
        if not owned(slot(unit)):
            return NOT_IN_SLOTS
        key = window(subject)
        return key if isinstance(key, Decision) else outcome(bucket(key))

    return choose


def _by_unit(edges: list[int], slot: Bucketer, bucket: Bucketer, outcome: Outcome) -> Choose:
    if edges == [0, TOTAL_SLOTS]:
        return lambda _subject, unit: outcome(bucket(unit))
    owned = owns(edges)
    return lambda _subject, unit: outcome(bucket(unit)) if owned(slot(unit)) else NOT_IN_SLOTS


def _fused(rule: "ExperimentRule", edges: list[int], layer: Cut, cut: Cut) -> Choose | None:
    """The common case by itself: two variants, and all slots or one run of them."""
    first, second = outcomes(rule)
    edge = rule.variants[0].weight
    if edges == [0, TOTAL_SLOTS]:
        return halves(cut, edge, first, second)
    if len(edges) == 2:
        return halves_of_slots((layer, edges[0], edges[1]), (cut, edge), first, second)
    return None


def window_of(rule: "Switchback") -> Window:
    """The key of the window that a subject's time and region fall into."""
    window_s, washout_s, attribute = rule.window_s, rule.washout_s, rule.region_attribute

    def window(subject: Subject) -> bytes | Decision:
        region: object = ""
        if attribute:
            region = subject.attributes.get(attribute)
            if not isinstance(region, str) or not region:
                return MISSING_REGION
        index = int(subject.now_s // window_s)
        if subject.now_s - index * window_s < washout_s:
            return WASHOUT
        return encode_unit(f"{region}/{index}").encode()

    return window
