"""Slot and split of the commonest experiments in one call: few runs of slots, two variants.

The edges of buckets are turned into hashes once, and no bucket is computed. Every call that is
left out is a tenth of a decision.
"""

from typing import TYPE_CHECKING

from mmh3 import mmh3_32_uintdigest as murmur3_x86_32

from touchstone_assignment.bucketing import HashVersion
from touchstone_assignment.cuts import Cut, first_hash
from touchstone_assignment.decision import NOT_IN_SLOTS, Decision
from touchstone_assignment.subject import Subject

if TYPE_CHECKING:
    from touchstone_assignment.split import Choose


def halves(cut: Cut, edge: int, first: Decision, second: Decision) -> "Choose | None":
    """The first decision below bucket `edge`, the second from there on; None for other hashes."""
    if cut.version is not HashVersion.FLAGD_V2:
        return None
    prefix, end = _prefix(cut), first_hash(edge)
    return lambda _subject, unit: first if murmur3_x86_32(prefix + unit) < end else second


def halves_of_slots(
    slots: tuple[Cut, int, int], split: tuple[Cut, int], first: Decision, second: Decision
) -> "Choose | None":
    """The same for the units whose bucket of the first cut is from one number to below another."""
    (slot_cut, low, high), (split_cut, edge) = slots, split
    if not slot_cut.version is split_cut.version is HashVersion.FLAGD_V2:
        return None
    slot_prefix, split_prefix = _prefix(slot_cut), _prefix(split_cut)
    start, stop, end = first_hash(low), first_hash(high), first_hash(edge)

    def choose(_subject: Subject, unit: bytes) -> Decision:
        if start <= murmur3_x86_32(slot_prefix + unit) < stop:
            return first if murmur3_x86_32(split_prefix + unit) < end else second
        return NOT_IN_SLOTS

    return choose


def _prefix(cut: Cut) -> bytes:
    return f"{cut.salt}:".encode("ascii")
