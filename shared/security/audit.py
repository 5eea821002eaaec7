"""The audit log: append-only, one hash chain a project, keyed so that it cannot be rewritten.

Each entry's chain hash is HMAC-SHA256, under the audit key, over the hash before it and the
entry's own fields. Whoever can write the database but does not hold the key cannot change, drop or
reorder an entry unseen. Cutting entries off the end *and* turning the head back is seen only
against a head hash that was kept elsewhere, which is why `verify` returns it.
"""

from __future__ import annotations

import datetime as dt
import enum
import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from shared.state.platform import audit_entries, audit_heads

_START = "0" * 64
# The chain of what cannot be laid to any project: an unknown key has none.
NO_PROJECT = "-"
# Actors that are no key.
ANONYMOUS = "anonymous"
OPERATOR = "operator@local"
SCHEDULE = "schedule@local"


class Outcome(enum.Enum):
    """What came of an audited call. The values are those of touchstone.common.v1.AuditOutcome."""

    DONE = 1
    DENIED = 2


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """Something to be remembered. `body_digest` is the SHA-256 of the request, in hexadecimal."""

    project: str
    time: dt.datetime
    actor: str
    method: str
    resource: str = ""
    outcome: Outcome = Outcome.DONE
    detail: str = ""
    request_id: str = ""
    body_digest: str = ""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """An event with its place in the chain."""

    event: AuditEvent
    sequence: int
    mac_key_id: str
    chain_hash: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What a walk along the chain found. `first_bad_sequence` is 0 when all holds."""

    checked: int
    first_bad_sequence: int
    problem: str
    head_hash: str

    @property
    def intact(self) -> bool:
        """Every entry is present, in order and unchanged."""
        return self.first_bad_sequence == 0


@dataclass(frozen=True, slots=True)
class AuditKeys:
    """The keys of the chain: entries are made with the last one, and read with any."""

    secrets: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if not self.secrets or any(len(secret) < 32 for secret in self.secrets):
            raise ValueError("an audit key has at least 32 bytes, and there is at least one")

    @property
    def current(self) -> tuple[str, bytes]:
        """The id and the secret that new entries are made with."""
        secret = self.secrets[-1]
        return _key_id(secret), secret

    def by_id(self) -> Mapping[str, bytes]:
        """Every secret by its id."""
        return {_key_id(secret): secret for secret in self.secrets}


class SqlAuditLog:
    """The audit log within one transaction of the state database.

    Entries of one project are numbered from 1 without gaps; concurrent writers queue. An entry
    appended in a transaction that is rolled back was never there.
    """

    def __init__(self, connection: sa.Connection, keys: AuditKeys) -> None:
        self._connection = connection
        self._keys = keys

    def append(self, event: AuditEvent) -> AuditEntry:
        """Adds an entry at the end of its project's chain."""
        sequence, previous = self.lock(event.project)
        key_id, secret = self._keys.current
        entry = AuditEntry(
            event, sequence + 1, key_id, _chain_hash(secret, previous, sequence + 1, event)
        )
        self._connection.execute(sa.insert(audit_entries).values(_row(entry)))
        self._connection.execute(
            sa.update(audit_heads)
            .where(audit_heads.c.project == event.project)
            .values(sequence=entry.sequence, chain_hash=entry.chain_hash)
        )
        return entry

    def entries(self, project: str, after: int = 0, limit: int = 1000) -> list[AuditEntry]:
        """At most `limit` entries behind sequence number `after`, in order."""
        rows = self._connection.execute(
            sa.select(audit_entries)
            .where(audit_entries.c.project == project, audit_entries.c.sequence > after)
            .order_by(audit_entries.c.sequence)
            .limit(limit)
        )
        return [_entry(row) for row in rows]

    def verify(self, project: str) -> Verification:
        """Walks the whole chain of a project and stops at the first entry that does not hold."""
        keys = self._keys.by_id()
        previous, checked = _START, 0
        for entry in self._walk(project):
            expected = checked + 1
            problem = ""
            if entry.sequence != expected:
                problem = f"entry {expected} is missing: the next one is {entry.sequence}"
            elif entry.mac_key_id not in keys:
                problem = f"made with the unknown audit key {entry.mac_key_id}"
            elif not hmac.compare_digest(
                entry.chain_hash,
                _chain_hash(keys[entry.mac_key_id], previous, expected, entry.event),
            ):
                problem = "its fields or the entry before it were changed"
            if problem:
                return Verification(checked, expected, problem, previous)
            previous, checked = entry.chain_hash, expected
        head = self._connection.execute(
            sa.select(audit_heads).where(audit_heads.c.project == project)
        ).one_or_none()
        if (head.sequence, head.chain_hash) != (checked, previous) if head else checked > 0:
            return Verification(checked, checked + 1, "entries were cut off the end", previous)
        return Verification(checked, 0, "", previous)

    def unknown_keys(self) -> list[str]:
        """Ids of keys that ended a chain and that this log does not hold."""
        ends = sa.select(audit_entries.c.mac_key_id).join(
            audit_heads,
            (audit_heads.c.project == audit_entries.c.project)
            & (audit_heads.c.sequence == audit_entries.c.sequence),
        )
        used = set(self._connection.execute(ends.distinct()).scalars())
        return sorted(used - self._keys.by_id().keys())

    def projects(self) -> list[str]:
        """Every project that has a chain, and `-` for attempts that no project is to blame for."""
        query = sa.select(audit_heads.c.project).order_by(audit_heads.c.project)
        return list(self._connection.execute(query).scalars())

    def _walk(self, project: str) -> Iterator[AuditEntry]:
        after = 0
        while page := self.entries(project, after):
            yield from page
            after = page[-1].sequence

    def lock(self, project: str) -> tuple[int, str]:
        """Holds the end of the project's chain until the transaction ends: its sequence number
        and hash. Whoever else wants to append waits.
        """
        query = sa.select(audit_heads).where(audit_heads.c.project == project).with_for_update()
        head = self._connection.execute(query).one_or_none()
        if head is None:
            new = {"project": project, "sequence": 0, "chain_hash": _START}
            if self._connection.dialect.name == "postgresql":
                from sqlalchemy.dialects.postgresql import insert

                self._connection.execute(insert(audit_heads).values(new).on_conflict_do_nothing())
            else:
                self._connection.execute(sa.insert(audit_heads).values(new))
            head = self._connection.execute(query).one()
        return head.sequence, head.chain_hash


def _key_id(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()[:16]


def _chain_hash(secret: bytes, previous: str, sequence: int, event: AuditEvent) -> str:
    fields = [
        previous,
        sequence,
        event.project,
        event.time.isoformat(timespec="microseconds"),
        event.actor,
        event.method,
        event.resource,
        event.outcome.value,
        event.detail,
        event.request_id,
        event.body_digest,
    ]
    message = json.dumps(fields, ensure_ascii=True, separators=(",", ":")).encode()
    return hmac.new(secret, message, hashlib.sha256).hexdigest()


def _row(entry: AuditEntry) -> dict[str, object]:
    event = entry.event
    return {
        "project": event.project,
        "sequence": entry.sequence,
        "create_time": event.time,
        "actor": event.actor,
        "method": event.method,
        "resource": event.resource,
        "outcome": event.outcome.value,
        "detail": event.detail,
        "request_id": event.request_id,
        "body_digest": event.body_digest,
        "mac_key_id": entry.mac_key_id,
        "chain_hash": entry.chain_hash,
    }


def _entry(row: sa.Row[tuple[object, ...]]) -> AuditEntry:
    fields = row._mapping  # noqa: SLF001  SQLAlchemy's documented name
    event = AuditEvent(
        project=fields["project"],
        time=fields["create_time"],
        actor=fields["actor"],
        method=fields["method"],
        resource=fields["resource"],
        outcome=Outcome(fields["outcome"]),
        detail=fields["detail"],
        request_id=fields["request_id"],
        body_digest=fields["body_digest"],
    )
    return AuditEntry(event, fields["sequence"], fields["mac_key_id"], fields["chain_hash"])
