"""Where spend is kept."""

import datetime as dt
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from services.attribution.domain.economics import Spend, SpendKey


@dataclass(frozen=True, slots=True)
class SpendSelection:
    """Which spend of a project; both days are included, and empty or None is all."""

    project: str
    source: str = ""
    channel: str = ""
    first_day: dt.date | None = None
    last_day: dt.date | None = None


class SpendStore(Protocol):
    """The spend of all projects, inside one transaction. Names are compared exactly."""

    def known(self, project: str, keys: Sequence[SpendKey]) -> Sequence[Spend]:
        """The rows with these keys, in any order; keys without a row are left out."""
        ...

    def count(self, project: str) -> int:
        """How many rows the project has."""
        ...

    def put(self, project: str, rows: Sequence[Spend]) -> None:
        """Keep the rows in the place of those with their keys. Each key is there once."""
        ...

    def remove(self, project: str, keys: Sequence[SpendKey]) -> None:
        """Forget the rows with these keys; keys without a row change nothing."""
        ...

    def delete(self, selection: SpendSelection) -> int:
        """Forget the rows; how many there were."""
        ...

    def page(
        self, selection: SpendSelection, after: SpendKey | None, limit: int
    ) -> Sequence[Spend]:
        """At most `limit` rows behind `after`, by channel, campaign, day and source."""
        ...


class Ledger(Protocol):
    """Opens transactions on spend."""

    def read(self) -> AbstractContextManager[SpendStore]:
        """A transaction that sees one moment; UNAVAILABLE when the store is away."""
        ...

    def within(self, connection: Any) -> SpendStore:
        """The spend inside the transaction of a mutation."""
        ...
