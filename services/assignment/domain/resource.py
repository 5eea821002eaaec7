"""What every versioned resource of a project has; each kind is a subclass with more fields."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Resource:
    """A named thing of one project; `config_version` is the one that its last change made."""

    project: str
    resource_id: str
    config_version: int
    create_time: datetime

    @property
    def etag(self) -> str:
        """Changes with every change of the resource."""
        return f"v{self.config_version}"
