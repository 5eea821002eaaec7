"""The flags of the projects, as the doors for OpenFeature see them."""

from collections.abc import AsyncIterator
from typing import Protocol

from services.assignment.application.flags import FlagRules


class ServedFlags(Protocol):
    """The flags of the projects, as they are served now."""

    async def rules(self, project: str, at_least: int = 0) -> FlagRules:
        """What decides in a project.

        Of at least this configuration version if the store has it by now: what another process of
        the service told of may not have come here yet. UNAVAILABLE when the project was never
        loaded and the store is away.
        """
        ...

    def changes(self, project: str) -> AsyncIterator[FlagRules]:
        """What decides in a project, now and whenever it is something else, be its version older;
        only the newest when the reader is slow. It has no end.
        """
        ...
