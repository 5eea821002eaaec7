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
    max_unit_types: int = 100
    """Unit types that a project declares."""
    max_attributes: int = 1_000
    """Attributes that a project declares."""
    max_domain_depth: int = 8
    """Domains within one another: a layer in a domain in a layer, and so on."""
    max_holdouts: int = 50
    """Holdouts in force: every decision looks at all that cover its experiment."""
    max_audiences: int = 2_000
    """Audiences of a project."""
    max_condition_bytes: int = 65_536
    """One condition, as JSON in UTF-8."""
    max_listed_ids: int = 5_000_000
    """Different ids of one audience: eight bytes each, in every server that decides by it."""
    max_waiting_ids: int = 20_000_000
    """Ids of a project in uploads that are not committed."""
    upload_kept_s: int = 86_400
    """How long a part of an upload waits to be committed, in seconds."""
    max_salts_compared: int = 200
    """Salts, the newest of the project, that a new one is tested against for independence."""
    max_salts_drawn: int = 8
    """Salts that are drawn for a cut before it is given up."""
    max_decisions: int = 100_000
    """Units times experiments of one Assign."""
    max_explained_decisions: int = 10_000
    """The same, when every decision is explained."""


LIMITS: Final = Limits()
