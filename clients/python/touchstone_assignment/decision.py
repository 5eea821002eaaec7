"""What a decision says, and why."""

import enum
from dataclasses import dataclass


class Reason(enum.StrEnum):
    """Why a unit got its variant, or none: the names of touchstone.assignment.v1.DecisionReason."""

    SPLIT = "SPLIT"
    """The unit's slot belongs to the experiment, and the split chose the variant."""
    NOT_IN_SLOTS = "NOT_IN_SLOTS"
    """The unit's slot of the layer does not belong to the experiment."""
    NOT_RUNNING = "NOT_RUNNING"
    """Draft, paused or stopped: no variant is served, the caller's default is."""
    UNKNOWN_EXPERIMENT = "UNKNOWN_EXPERIMENT"
    """The project has no such experiment."""
    MISSING_UNIT = "MISSING_UNIT"
    """No id of the experiment's unit type was given."""
    EXTERNAL = "EXTERNAL"
    """Another system assigns; this one has nothing to say."""
    KILLED = "KILLED"
    """The kill switch is on."""
    FORCED = "FORCED"
    """A variant, or none, is forced for this unit; analysis leaves it out."""
    HOLDOUT = "HOLDOUT"
    """A holdout keeps the unit out."""
    PREREQUISITE = "PREREQUISITE"
    """The unit did not get what it needs in another experiment."""
    NOT_TARGETED = "NOT_TARGETED"
    """The unit is not one that the experiment is for."""
    NOT_IN_DOMAIN = "NOT_IN_DOMAIN"
    """The unit's slot is not that of the domain whose units the layer cuts."""
    VARIANT_DROPPED = "VARIANT_DROPPED"
    """The unit's variant was given up."""
    STICKY = "STICKY"
    """The unit was served this variant before and keeps it. Only a server says so."""
    WASHOUT = "WASHOUT"
    """The first part of a window, in which the one before fades."""
    MISSING_REGION = "MISSING_REGION"
    """The attribute that names the region is missing."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A variant (None: serve the caller's default) and its reason.

    Equal decisions of an experiment are one object, so a `value` that is a list or a dict belongs
    to all of them: read it, do not change it.
    """

    variant: str | None
    reason: Reason
    value: object = None
    """The variant's value: its key, its typed value or its payload."""
    propensity: float = 0.0
    """How probable the variant was for a unit of the experiment; 0 unless a bandit sets weights."""
    because_of: str = ""
    """The holdout, or the experiment that is a prerequisite, that kept the unit out."""
    tainted: bool = False
    """The unit was served another variant under another id. Only a server says so."""


@dataclass(frozen=True, slots=True)
class Trace:
    """The numbers behind a decision; None where the order of decision ended before them."""

    decision: Decision
    slot: int | None
    split_bucket: int | None
    unit: str
    """The id that was hashed; empty when none was."""
    detail: str


NOT_IN_SLOTS = Decision(None, Reason.NOT_IN_SLOTS)
NOT_RUNNING = Decision(None, Reason.NOT_RUNNING)
UNKNOWN_EXPERIMENT = Decision(None, Reason.UNKNOWN_EXPERIMENT)
MISSING_UNIT = Decision(None, Reason.MISSING_UNIT)
EXTERNAL = Decision(None, Reason.EXTERNAL)
KILLED = Decision(None, Reason.KILLED)
NOT_TARGETED = Decision(None, Reason.NOT_TARGETED)
NOT_IN_DOMAIN = Decision(None, Reason.NOT_IN_DOMAIN)
VARIANT_DROPPED = Decision(None, Reason.VARIANT_DROPPED)
WASHOUT = Decision(None, Reason.WASHOUT)
MISSING_REGION = Decision(None, Reason.MISSING_REGION)
