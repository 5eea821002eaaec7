"""What a product gets: always an answer, and always why."""

from __future__ import annotations

import enum
from typing import NamedTuple

from touchstone_assignment.decision import Reason


class Unanswered(enum.StrEnum):
    """Why the rules did not decide, so that the caller's default holds."""

    NOT_READY = "NOT_READY"
    """There are no rules yet: the service was never reached, and none are on the disk."""
    SERVER_ONLY = "SERVER_ONLY"
    """Only the service can decide, and was not asked, or did not answer in time."""
    INVALID = "INVALID"
    """What was asked cannot be decided: an id that the service refuses, or that is no text."""


class Answer(NamedTuple):
    """What one unit gets in one experiment."""

    variant: str | None
    """The key of the variant; None where the unit gets none."""
    value: object
    """The variant's value; the caller's default where the unit gets no variant."""
    reason: Reason | Unanswered
    """Why."""
    config_version: int = 0
    """The configuration version that decided; 0 when none did. Log the exposure with it."""
    propensity: float = 0.0
    """How probable the variant was, of bandits; log the exposure with it."""
    because_of: str = ""
    """The holdout or the prerequisite that kept the unit out."""
    tainted: bool = False
    """The unit was served another variant before, under another id."""
    from_server: bool = False
    """The service decided, because only it can."""
    detail: str = ""
    """What went wrong, where something did."""


class ParameterAnswer(NamedTuple):
    """The value of one parameter for one unit."""

    value: object
    """The value: of an experiment, of the layer, or the caller's default."""
    experiment: str = ""
    """The experiment that set it. Empty: none did."""
    variant: str = ""
    """Its variant. Log the exposure with it when the value is used."""
    reason: Unanswered | None = None
    """Why it is the caller's default; None when the rules decided."""
    config_version: int = 0
    """The configuration version that decided; 0 when none did."""
