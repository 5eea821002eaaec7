"""The events service that tells of rejected events and keeps none."""

from __future__ import annotations

from collections.abc import Sequence

from services.events.adapters.sqlite_rejected import SqliteRejectedEvents
from services.events.domain.rejection import RejectedEvent
from tests.robustness.twins.replaced import replace, serve


class KeepsNothing(SqliteRejectedEvents):
    """Says that it kept them."""

    def keep(self, rejected: Sequence[RejectedEvent]) -> None:
        """Nothing."""


if __name__ == "__main__":
    replace("services.events.composition.core", "SqliteRejectedEvents", KeepsNothing)
    serve()
