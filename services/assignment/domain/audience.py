"""An audience: units that experiments may ask for by name, by a rule or by a list of their ids."""

from dataclasses import dataclass
from datetime import datetime

from services.assignment.domain.resource import Resource


@dataclass(frozen=True, slots=True)
class ListedIds:
    """The ids that were uploaded last; `digest` names their content, empty before the first."""

    unit_type: str
    count: int = 0
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Audience(Resource):
    """`members` is the list, or the rule as the canonical text of its condition."""

    members: str | ListedIds
    update_time: datetime
    display_name: str = ""
    description: str = ""

    @property
    def condition(self) -> str | None:
        """The rule; None when it is a list."""
        return self.members if isinstance(self.members, str) else None

    @property
    def id_list(self) -> ListedIds | None:
        """The list; None when it is a rule."""
        return self.members if isinstance(self.members, ListedIds) else None
