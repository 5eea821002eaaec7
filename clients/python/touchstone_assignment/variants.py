"""What the variants of an experiment give, and which buckets of the split are theirs."""

from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from typing import TYPE_CHECKING

from touchstone_assignment.cuts import TOTAL_SLOTS
from touchstone_assignment.decision import VARIANT_DROPPED, Decision, Reason
from touchstone_assignment.values import plain

if TYPE_CHECKING:
    from touchstone.assignment.v1.ruleset_pb2 import ExperimentRule

_FLOAT = 5
"""The number of VALUE_TYPE_FLOAT."""

Outcome = Callable[[int], Decision]
"""From a bucket of the split to the decision."""


def value_of(rule: "ExperimentRule", variant: str) -> object:
    """The value of the variant with this key, None when there is none."""
    for found in rule.variants:
        if found.key == variant:
            value = plain(found.value)
            return float(value) if rule.value_type == _FLOAT and isinstance(value, int) else value
    return None


def outcomes(rule: "ExperimentRule") -> tuple[Decision, ...]:
    """What each variant's buckets decide, in the order of the variants."""
    return tuple(
        VARIANT_DROPPED
        if variant.dropped
        else Decision(
            variant.key,
            Reason.SPLIT,
            value_of(rule, variant.key),
            variant.weight / TOTAL_SLOTS if rule.bandit else 0.0,
        )
        for variant in rule.variants
    )


def outcome_of(rule: "ExperimentRule") -> Outcome:
    """The variants in their order, each as wide in the split as its weight.

    ValueError unless the weights sum to 10,000.
    """
    weights = [variant.weight for variant in rule.variants]
    if sum(weights) != TOTAL_SLOTS or min(weights) < 0:
        raise ValueError(
            f"the weights {weights[:10]} sum to {sum(weights)}; allowed are none below 0 that sum "
            f"to {TOTAL_SLOTS}"
        )
    found, edges = outcomes(rule), list(accumulate(weights))
    if len(found) == 1:
        (only,) = found
        return lambda _bucket: only
    if len(found) == 2:
        first, second = found
        edge = edges[0]
        return lambda bucket: first if bucket < edge else second
    return lambda bucket: found[bisect_right(edges, bucket)]
