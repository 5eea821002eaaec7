"""The last steps of a decision: does the experiment own the unit's slot, and which variant?"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from touchstone_assignment.bucketing import Bucketer, encode_unit
from touchstone_assignment.cuts import TOTAL_SLOTS, cut_of, edges_of, owns
from touchstone_assignment.decision import MISSING_REGION, NOT_IN_SLOTS, WASHOUT, Decision
from touchstone_assignment.subject import Subject
from touchstone_assignment.variants import Outcome, outcome_of

if TYPE_CHECKING:
    from touchstone.assignment.v1.experiment_pb2 import Switchback
    from touchstone.assignment.v1.ruleset_pb2 import ExperimentRule

Choose = Callable[[Subject, bytes], Decision]
"""From a subject and its unit, as `unit_bytes` gives it, to the decision."""
Window = Callable[[Subject], "bytes | Decision"]
"""What stands for the unit in the split of a switchback, or why nothing does."""


def choose_of(rule: "ExperimentRule", slot: Bucketer) -> Choose:
    """Slot and split of an experiment whose layer cuts by `slot`.

    ValueError when its slots or weights are not possible.
    """
    edges = edges_of(rule.slots)
    bucket, outcome = cut_of(rule.hash_version, rule.salt).bucketer(), outcome_of(rule)
    if not rule.HasField("switchback"):
        return _by_unit(edges, slot, bucket, outcome)
    owned, window = owns(edges), window_of(rule.switchback)

    def by_window(subject: Subject, unit: bytes) -> Decision:
        if not owned(slot(unit)):
            return NOT_IN_SLOTS
        key = window(subject)
        return key if isinstance(key, Decision) else outcome(bucket(key))

    return by_window


def _by_unit(edges: list[int], slot: Bucketer, bucket: Bucketer, outcome: Outcome) -> Choose:
    # The common cases by themselves: every call that is left out is a tenth of a decision.
    if edges == [0, TOTAL_SLOTS]:
        return lambda _subject, unit: outcome(bucket(unit))
    if len(edges) == 2:
        first, end = edges
        return lambda _subject, unit: (
            outcome(bucket(unit)) if first <= slot(unit) < end else NOT_IN_SLOTS
        )
    owned = owns(edges)
    return lambda _subject, unit: outcome(bucket(unit)) if owned(slot(unit)) else NOT_IN_SLOTS


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
