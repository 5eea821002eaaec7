"""Read identities from the event tables, and read only what is new the next time."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from ibis import ir

from shared.errors import limit_exceeded
from shared.identity.identity import Identity, no_identity
from shared.identity.log import EdgeLog, empty_log
from shared.identity.store import PolicySource
from shared.lake.watermark import Watermark

TABLE = "identifies"
COLUMNS = (
    *("event_id", "event_time", "unit_type", "unit_id"),
    *("other_unit_type", "other_unit_id", "action", "position", "content_digest"),
)
# The order of the log. Entries of one group commit have one position: their own times decide.
ORDER = ("position", "event_time", "event_id")
# Sums of 64-bit digests need more than 64 bits, in every engine.
_EXACT = "decimal(38, 0)"


@dataclass(frozen=True, slots=True)
class IdentityLimits:
    """What one process keeps: an entry takes about 250 bytes, and half as much again for each type
    that was asked about.

    `max_edges`: entries of one project; more are RESOURCE_EXHAUSTED. `cached_edges`: entries of
    all projects together that are kept for the next question, those asked last first.
    """

    max_edges: int = 10_000_000
    cached_edges: int = 10_000_000


@dataclass(slots=True)
class _Kept:
    """What was read of one project: the log, the table that it is of, and what was made of it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    journal_id: str = ""
    version: int = -1
    log: EdgeLog = field(default_factory=empty_log)
    identity: Identity = field(default_factory=no_identity)


class IdentityReader:
    """Gives the identities of a project as of a cut. Safe to use from several threads.

    The answer is a function of the cut and of the policy alone. While the table of identify events
    stays as it was, an answer costs nothing but a look at the policy; when it grew, the new rows
    are read; when rows went away, all of it is.
    """

    def __init__(self, policies: PolicySource, limits: IdentityLimits | None = None) -> None:
        self._policies = policies
        self._limits = limits or IdentityLimits()
        self._lock = threading.Lock()
        self._projects: OrderedDict[str, _Kept] = OrderedDict()

    def of(
        self,
        project: str,
        watermark: Watermark,
        tables: Mapping[str, ir.Table],
        *,
        past: bool = False,
    ) -> Identity:
        """The identities of a project in this cut; `tables` are those of the cut. `past`: they lack
        rows of the version that the watermark names, and nothing of it is kept.

        RESOURCE_EXHAUSTED for more links than may be kept; UNAVAILABLE without the policy.
        """
        version = watermark.table_versions.get(TABLE)
        if version is None:
            return no_identity()
        if past:
            return self._identity(project, self._read(tables[TABLE], empty_log()), no_identity())
        kept = self._kept(project)
        with kept.lock:
            known = (kept.journal_id, kept.version)
            if known != (watermark.journal_id, version):
                log = self._read(tables[TABLE], kept.log)
                if known[0] == watermark.journal_id and version < known[1]:
                    # A question about an older cut must not undo what later ones need.
                    return self._identity(project, log, no_identity())
                kept.log, kept.journal_id, kept.version = log, watermark.journal_id, version
            kept.identity = self._identity(project, kept.log, kept.identity)
            identity = kept.identity
        self._forget_the_oldest(project)
        return identity

    def _identity(self, project: str, log: EdgeLog, before: Identity) -> Identity:
        if not len(log):
            return before if not len(before.log) else no_identity()
        stored = self._policies.current(project)
        if before.log is log and before.stored == stored:
            return before
        return Identity(log, stored)

    def _read(self, rows: ir.Table, known: EdgeLog) -> EdgeLog:
        before = rows.position <= known.position
        digests = rows.content_digest.cast(_EXACT).sum(where=before)
        found = rows.aggregate(rows=rows.count(), before=before.sum(), digest=digests).to_pyarrow()
        (count,) = found["rows"].to_pylist()
        if count > self._limits.max_edges:
            raise limit_exceeded("identify events of a project", count, self._limits.max_edges)
        digest = int(found["digest"][0].as_py() or 0) % (1 << 64)
        grown = ((found["before"][0].as_py() or 0), digest) == (len(known), known.digest)
        if grown and count == len(known):
            return known
        wanted = rows.filter(~before) if grown else rows
        new = wanted.select(*COLUMNS).order_by(ORDER).to_pyarrow()
        log = known if grown else empty_log()
        return log.extended(new) if new.num_rows else log

    def _kept(self, project: str) -> _Kept:
        with self._lock:
            kept = self._projects.setdefault(project, _Kept())
            self._projects.move_to_end(project)
            return kept

    def _forget_the_oldest(self, project: str) -> None:
        with self._lock:
            total = sum(len(kept.log) for kept in self._projects.values())
            for name in list(self._projects):
                if name == project or total <= self._limits.cached_edges:
                    break
                total -= len(self._projects.pop(name).log)
