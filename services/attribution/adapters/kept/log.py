"""JourneyLog that reads what is new, and takes the rest from the reading before."""

import hashlib
from dataclasses import dataclass, replace

from services.attribution.adapters.journey_events import ReadCut, events_of
from services.attribution.adapters.journey_rows import EventRows
from services.attribution.adapters.kept.files import KeptFiles
from services.attribution.adapters.kept.stand import READ, Stand, days_of
from services.attribution.adapters.lake import LakeJourneyLog, read_rows
from services.attribution.ports import EventQuery, HowRead, JourneyEvents, WhyAll
from shared.identity.identity import Identity
from shared.lake.cut import cut_of
from shared.lake.snapshot import Snapshot
from shared.version import VERSION

FORMAT = "1"
"""Changes when rows that were kept before must not be read any more."""


@dataclass(frozen=True, slots=True)
class KeptJourneyLog:
    """See the module. The events are those that the log gives, to the last bit.

    A past cut, and questions for ids, are asked of the event tables.
    """

    log: LakeJourneyLog
    files: KeptFiles

    async def wait_until(self, at_least: str, timeout_s: float) -> None:
        """See JourneyLog."""
        await self.log.wait_until(at_least, timeout_s)

    def read(self, query: EventQuery) -> JourneyEvents:
        """See JourneyLog."""
        snapshot = self.log.tables.snapshot(query.project)
        if query.as_of or query.identified or not snapshot.watermark.journal_id:
            how = HowRead(WhyAll.PAST_CUT, "", 0, 0) if query.as_of else None
            return replace(self.log.read(query), how=how)
        rows, identity, how = self._rows(snapshot, replace(query, identified=True))
        mark = snapshot.watermark
        token = cut_of(mark, "").token
        return events_of(rows, query, ReadCut(token, mark.commit_time, identity.version, how))

    def _rows(self, snapshot: Snapshot, query: EventQuery) -> tuple[EventRows, Identity, HowRead]:
        mark, name = snapshot.watermark, name_of(query)
        found = self.files.load(name)
        with snapshot.read() as tables:
            identity = self.log.identities.of(query.project, mark, tables)
            position = mark.position if found is None else found[0].position
            days = {table: days_of(tables[table], position) for table in READ}
            stand = Stand(
                mark.journal_id,
                mark.position,
                identity.version,
                query.from_us,
                query.until_us,
                {table: held for table, (held, _) in days.items()},
            )
            why: WhyAll | None = WhyAll.NOTHING_KEPT
            if found is not None:
                why = found[0].why_not(stand, {table: old for table, (_, old) in days.items()})
            if found is None or why is not None:
                rows = read_rows(tables, query, identity)
                how = HowRead(why, "", 0, len(rows))
            else:
                since, kept = found
                new = {table: since.new_rows(tables[table], query) for table in READ}
                came = read_rows(new, query, identity)
                kept = kept.each(lambda each: each.between(query.from_us, query.until_us))
                rows = kept.with_new(came)
                how = HowRead(None, since.token, len(kept), len(came))
        self.files.save(name, stand, rows)
        return rows, identity, how


def name_of(query: EventQuery) -> str:
    """Equal for queries that differ in the bounds of time at most."""
    asked = replace(query, from_us=None, until_us=None, as_of="", identified=False)
    return hashlib.sha256(repr((FORMAT, VERSION, asked)).encode()).hexdigest()[:32]
