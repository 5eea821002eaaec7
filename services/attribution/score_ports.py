"""Where the credits behind reports are kept on the disk."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from services.attribution.application.stream_credits import CreditPage, Credits


@dataclass(frozen=True, slots=True)
class ScoresKey:
    """The credits of one result of a report; `digest` is what the report says."""

    project: str
    report_id: str
    digest: str
    result: int


class ScoreRows(Protocol):
    """Credits on the disk for one reader, who has no more than a part of them in memory.

    They can be read until `close`, whatever becomes of the file. UNAVAILABLE when it is damaged:
    it is then kept no longer.
    """

    @property
    def count(self) -> int:
        """How many credits there are."""
        ...

    @property
    def identity_version(self) -> str:
        """The policy and the links between ids that were used."""
        ...

    def pages(self, skip: int = 0) -> Iterator[CreditPage]:
        """All credits in their order behind the first `skip`; it reads none of those before."""
        ...

    def parts(self) -> Iterator[bytes]:
        """The bytes of a Parquet file with all of them."""
        ...

    def close(self) -> None:
        """Read no more. May be called twice."""
        ...


class KeptScores(Protocol):
    """Keeps credits from the first who asks for them to the next. Used by several threads."""

    def find(self, key: ScoresKey) -> ScoreRows | None:
        """The credits; None where none are kept, or events of theirs were erased or removed."""
        ...

    def keep(self, key: ScoresKey, compute: Callable[[], Credits]) -> ScoreRows:
        """Compute credits and keep them, if there is room; what is there is whole at any time.

        RESOURCE_EXHAUSTED when the disk is full. InterruptedError when nobody wants them any more.
        """
        ...

    def spool(self, compute: Callable[[], Credits]) -> ScoreRows:
        """Compute credits for this one reader; see keep."""
        ...
