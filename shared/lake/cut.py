"""Which cut of the event tables is read: the newest, or one of the past."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ibis import ir

from shared.errors import Code, DomainError, shown, unavailable
from shared.lake.watermark import ConsistencyToken, Watermark


@dataclass(frozen=True, slots=True)
class Cut:
    """The position up to which rows count; `past`: later rows are there and must not be seen."""

    watermark: Watermark
    position: int
    past: bool

    def tables(self, tables: Mapping[str, ir.Table]) -> Mapping[str, ir.Table]:
        """The tables as they were then, without what was erased or removed since."""
        return _Until(tables, self.position) if self.past else tables

    @property
    def token(self) -> str:
        """The name of the cut; empty before the first event."""
        if not self.watermark.journal_id:
            return ""
        return ConsistencyToken(self.watermark.journal_id, self.position).encode()


def cut_of(watermark: Watermark, as_of: str) -> Cut:
    """The cut that a token names; the newest without one.

    INVALID_ARGUMENT for a token of another log, UNAVAILABLE for one that is not readable yet.
    """
    if not as_of:
        return Cut(watermark, watermark.position, past=False)
    token = ConsistencyToken.decode(as_of)
    if token.journal_id != watermark.journal_id:
        raise DomainError(
            Code.INVALID_ARGUMENT,
            "INVALID_CONSISTENCY_TOKEN",
            f"as_of is of event log {shown(token.journal_id)}; the tables are of "
            f"{shown(watermark.journal_id)}: leave it empty for the newest cut",
        )
    if token.position > watermark.position:
        raise unavailable(
            "NOT_YET_FRESH",
            f"as_of names position {token.position}; the tables stand at position "
            f"{watermark.position}: pass it as consistency_token to wait for it",
        )
    return Cut(watermark, token.position, past=token.position < watermark.position)


class _Until(Mapping[str, ir.Table]):
    """Tables without the rows that came later."""

    def __init__(self, tables: Mapping[str, ir.Table], position: int) -> None:
        self._tables = tables
        self._position = position

    def __getitem__(self, name: str) -> ir.Table:
        table = self._tables[name]
        return table.filter(table.position <= self._position)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)
