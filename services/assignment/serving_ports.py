"""What deciding needs from the outside besides the configuration: what was served, and a disk."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.assignment.domain.sticky import Kept, UnitKey

KeptUnits = Mapping[tuple[str, UnitKey], Kept]
"""What is kept, by experiment and unit."""
Keep = Callable[[KeptUnits], KeptUnits]
"""From what is kept to all of it with what is to be kept besides; it may be called again."""


class StickyStore(Protocol):
    """What units were served first, by project, experiment and unit."""

    def read(
        self, project: str, experiments: Collection[str], units: Collection[UnitKey]
    ) -> KeptUnits:
        """What is kept of these units in these experiments, and of those that they belong to.

        Absent is what was never kept. UNAVAILABLE when the store is away.
        """
        ...

    def keep(
        self, project: str, experiments: Collection[str], units: Collection[UnitKey], work: Keep
    ) -> KeptUnits:
        """Store what `work` makes of what `read` gives, all or nothing; the outcome.

        Nobody else's change comes in between: of two that keep the same unit first, both get what
        one of them kept. UNAVAILABLE when the store is away.
        """
        ...


@dataclass(frozen=True, slots=True)
class KeptRuleset:
    """A ruleset of a project as it was last confirmed; `ruleset` is serialized."""

    project: str
    config_version: int
    confirm_time: datetime
    ruleset: bytes


class RulesetDisk(Protocol):
    """The last known rulesets, where they outlive this process and the state store."""

    def keep(self, kept: KeptRuleset) -> None:
        """Replace what is kept of the project, whole or not at all; the one before stays beside it.

        OSError when the disk takes nothing.
        """
        ...

    def load(self) -> Sequence[KeptRuleset]:
        """The newest whole ruleset of every project, by project.

        What is damaged, older than the one before or not of this place is put aside. Where the one
        before it decides, no experiment serves that the one put aside had turned off.
        """
        ...
