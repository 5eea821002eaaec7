"""What a decision says, and why."""

import enum
from dataclasses import dataclass


class Reason(enum.StrEnum):
    """Why a unit got its variant, or none."""

    SPLIT = "SPLIT"
    """The unit's slot belongs to the experiment, and the split chose the variant."""
    NOT_IN_SLOTS = "NOT_IN_SLOTS"
    """The unit's slot of the layer does not belong to the experiment."""
    NOT_RUNNING = "NOT_RUNNING"
    """Draft, paused, stopped or archived: no variant is served, the caller's default is."""
    UNKNOWN_EXPERIMENT = "UNKNOWN_EXPERIMENT"
    """The project has no such experiment."""
    MISSING_UNIT = "MISSING_UNIT"
    """No id of the experiment's unit type was given."""
    EXTERNAL = "EXTERNAL"
    """Another system assigns; this one has nothing to say."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A variant (None: serve the caller's default) and its reason."""

    variant: str | None
    reason: Reason


@dataclass(frozen=True, slots=True)
class Trace:
    """The numbers behind a decision; None where the order of decision ended before them."""

    decision: Decision
    slot: int | None
    split_bucket: int | None
    unit: str
    detail: str
