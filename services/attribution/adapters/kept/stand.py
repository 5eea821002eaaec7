"""Of which cut kept rows are, and whether a later cut only added to it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import ibis

from services.attribution.adapters.lake import FIRST_US, instant
from services.attribution.ports import EventQuery, WhyAll
from shared.lake.watermark import ConsistencyToken

READ = ("touchpoints", "conversions")

Days = Mapping[str, tuple[int, int]]
"""By day as YYYY-MM-DD: how many rows a table has, and their digests combined."""


@dataclass(frozen=True, slots=True)
class Stand:
    """The cut that rows are of, the times of events that they hold, and what the tables held."""

    project: str
    journal_id: str
    position: int
    identity: str
    from_us: int | None
    until_us: int | None
    days: Mapping[str, Days]

    @property
    def token(self) -> str:
        """The watermark of the cut."""
        return ConsistencyToken(self.journal_id, self.position).encode()

    def why_not(self, now: "Stand", before: Mapping[str, Days]) -> WhyAll | None:
        """Why the rows do not do for the cut `now`; None where it only adds to them.

        `before` is what the tables hold now of the rows up to the position of this cut.
        """
        if self.journal_id != now.journal_id or self.position > now.position:
            return WhyAll.NOTHING_KEPT
        if self.identity != now.identity:
            return WhyAll.IDENTITIES_CHANGED
        if self.from_us is not None and (now.from_us is None or now.from_us < self.from_us):
            return WhyAll.EARLIER_START
        first, last = _day(now.from_us, ""), _day(_earlier(self.until_us, now.until_us), "~")
        for name in READ:
            was, still = (_within(each[name], first, last) for each in (self.days, before))
            if was != still:
                return WhyAll.EVENTS_REMOVED
        return None

    def days_of(self, table: str) -> frozenset[str]:
        """The days of which rows of a table are kept, as YYYY-MM-DD."""
        first, last = _day(self.from_us, ""), _day(self.until_us, "~")
        return frozenset(_within(self.days[table], first, last))

    def ends_before(self, other: "Stand") -> bool:
        """Whether it ends at an earlier time than the other."""
        if self.until_us is None:
            return False
        return other.until_us is None or self.until_us < other.until_us

    def new_rows(self, table: ibis.Table, query: EventQuery) -> ibis.Table:
        """The rows that a query selects and that are not kept: those that came later, and those of
        times that were behind the end.
        """
        came = table.filter(table.position > self.position)
        if self.until_us is None or (
            query.until_us is not None and query.until_us <= self.until_us
        ):
            return came
        end = instant(self.until_us)
        old = table.filter(
            table.position <= self.position, table.day >= end.date(), table.event_time >= end
        )
        return came.union(old)

    def encode(self) -> str:
        """As text; `decode` gives the same again."""
        return json.dumps(asdict(self))

    @staticmethod
    def decode(text: str) -> "Stand":
        """The stand out of what `encode` made."""
        fields = json.loads(text)
        days = {
            name: {day: (int(rows), int(digest)) for day, (rows, digest) in of.items()}
            for name, of in fields.pop("days").items()
        }
        return Stand(days=days, **fields)


def days_of(table: ibis.Table, position: int) -> tuple[Days, Days]:
    """What a table holds by day: of all its rows, and of those up to a position."""
    old = table.position <= position
    digest = table.content_digest
    found = table.group_by("day").aggregate(
        rows=table.count(), all=digest.bit_xor(), before=old.sum(), of=digest.bit_xor(where=old)
    )
    every = found.to_pyarrow().to_pylist()
    now = {row["day"].isoformat(): (row["rows"], int(row["all"] or 0)) for row in every}
    before = {
        row["day"].isoformat(): (row["before"], int(row["of"] or 0))
        for row in every
        if row["before"]
    }
    return now, before


def _within(days: Days, first: str, last: str) -> Days:
    return {day: held for day, held in days.items() if first <= day <= last}


def _day(time_us: int | None, unbounded: str) -> str:
    """The day of a bound as it compares with others."""
    if time_us is None or time_us <= FIRST_US:
        return unbounded
    return instant(time_us).date().isoformat()


def _earlier(one: int | None, other: int | None) -> int | None:
    known = [each for each in (one, other) if each is not None]
    return min(known, default=None)
