"""The limits of assignment, in one place."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of each thing there may be. Field lengths stand in the contract."""

    min_variants: int = 2
    """Variants of an experiment."""
    max_variants: int = 100
    """Variants of an experiment."""
    max_payload_bytes: int = 65_536
    """Payload of one variant, as JSON in UTF-8."""
    max_payload_bytes_in_all: int = 262_144
    """Payloads of all variants of an experiment: every Assign that asks for it carries them."""
    max_prerequisites: int = 8
    """Prerequisites of an experiment."""
    max_prerequisite_depth: int = 8
    """Experiments in a chain of which each needs the next, the first one not counted."""
    max_ramp_stages: int = 50
    """Stages of a schedule."""
    max_forced_variants: int = 1_000
    """Forced variants of an experiment."""
    max_decisions: int = 100_000
    """Units times experiments of one Assign."""
    max_explained_decisions: int = 10_000
    """The same, when every decision is explained."""


LIMITS: Final = Limits()
