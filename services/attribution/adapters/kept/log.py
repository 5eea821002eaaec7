"""JourneyLog that reads what is new, and takes the rest from the reading before."""

import hashlib
from dataclasses import dataclass, replace

from services.attribution.adapters.journey_events import ReadCut, events_of
from services.attribution.adapters.journey_rows import EventRows
from services.attribution.adapters.kept.files import Kept, KeptFiles
from services.attribution.adapters.kept.stand import READ, Stand, days_of
from services.attribution.adapters.lake import LakeJourneyLog, read_rows
from services.attribution.ports import EventQuery, HowRead, JourneyEvents, WhyAll
from shared.identity.identity import Identity
from shared.lake.cut import cut_of
from shared.lake.snapshot import Snapshot
from shared.version import VERSION

MOST_MOVED = 0.1
"""A larger part of rows that came or went is worth a new file of all rows."""
FORMAT = "3"
"""Changes when rows that were kept before must not be read any more."""


@dataclass(frozen=True, slots=True)
class KeptJourneyLog:
    """See the module. The events are those that the log gives, to the last bit.

    A past cut, and questions for ids or for units that convert alone, are asked of the event
    tables: a first conversion would need touches of its unit that were not kept.
    """

    log: LakeJourneyLog
    files: KeptFiles

    async def wait_until(self, at_least: str, timeout_s: float) -> None:
        """See JourneyLog."""
        await self.log.wait_until(at_least, timeout_s)

    def read(self, query: EventQuery) -> JourneyEvents:
        """See JourneyLog."""
        # Before the tables are read, so that what is erased meanwhile takes the rows with it.
        name = self.files.named(name_of(query))
        snapshot = self.log.tables.snapshot(query.project)
        alone = query.as_of or query.identified or query.converting
        if alone or not snapshot.watermark.journal_id:
            how = HowRead(WhyAll.PAST_CUT, "", 0, 0) if query.as_of else None
            return replace(self.log.read(query), how=how)
        rows, identity, how = self._rows(name, snapshot, replace(query, identified=True))
        mark = snapshot.watermark
        token = cut_of(mark, "").token
        return events_of(rows, query, ReadCut(token, mark.commit_time, identity.version, how))

    def _rows(
        self, name: str, snapshot: Snapshot, query: EventQuery
    ) -> tuple[EventRows, Identity, HowRead]:
        mark = snapshot.watermark
        kept = self.files.load(name)
        with snapshot.read() as tables:
            identity = self.log.identities.of(query.project, mark, tables)
            position = mark.position if kept is None else kept.stand.position
            days = {table: days_of(tables[table], position) for table in READ}
            stand = Stand(
                query.project,
                mark.journal_id,
                mark.position,
                identity.version,
                query.from_us,
                query.until_us,
                {table: held for table, (held, _) in days.items()},
            )
            why: WhyAll | None = WhyAll.NOTHING_KEPT
            if kept is not None:
                why = kept.stand.why_not(stand, {table: old for table, (_, old) in days.items()})
            if kept is None or why is not None:
                rows = read_rows(tables, query, identity)
                self.files.save(name, stand, rows)
                return rows, identity, HowRead(why, "", 0, len(rows))
            new = {table: kept.stand.new_rows(tables[table], query) for table in READ}
            came = read_rows(new, query, identity)
        rows = self._joined(name, kept, came, stand)
        how = HowRead(None, kept.stand.token, len(rows) - len(came), len(came))
        return rows, identity, how

    def _joined(self, name: str, kept: Kept, came: EventRows, stand: Stand) -> EventRows:
        """All rows of the cut `stand`, which is kept."""
        added = kept.added.with_new(came, identified=True)
        every = kept.base.with_new(added, identified=False)
        rows = _within(every, stand)
        moved = len(added) + len(every) - len(rows)
        # What lies behind an earlier end would be read once more when the end moves on again.
        if stand.ends_before(kept.stand) or moved > MOST_MOVED * len(kept.base):
            rows = _within(kept.base.with_new(added, identified=True), stand)
            self.files.save(name, stand, rows)
        elif stand != kept.stand:
            self.files.add(name, stand, added, kept.base_file)
        return rows


def _within(rows: EventRows, stand: Stand) -> EventRows:
    return rows.each(lambda each: each.between(stand.from_us, stand.until_us))


def name_of(query: EventQuery) -> str:
    """Equal for queries that differ in the bounds of time at most."""
    asked = replace(query, from_us=None, until_us=None, as_of="", identified=False)
    return hashlib.sha256(repr((FORMAT, VERSION, asked)).encode()).hexdigest()[:32]
