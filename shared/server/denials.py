"""Denied attempts go to the audit log; a flood of like attempts becomes two entries a window."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from shared.clock import Clock
from shared.errors import Code, DomainError
from shared.resource_names import OtherTenantError
from shared.security.audit import ANONYMOUS, NO_PROJECT, AuditEvent, AuditKeys, Outcome, SqlAuditLog
from shared.security.authentication import CredentialError
from shared.server.rpc import Rpc
from shared.state.database import Database

_WINDOW = dt.timedelta(seconds=10)
_MAX_KINDS = 1000
_PATIENCE_S = 2.0
_LOG = logging.getLogger("touchstone.audit")


Kind = tuple[str, str, str]
"""Project, actor and RPC."""
_STRANGER = "unknown"
_TOO_MANY: Kind = (NO_PROJECT, "many", "many")


@dataclass(slots=True)
class _Seen:
    since: dt.datetime
    more: int = 0


class DenialRecorder:
    """Writes denied attempts to the audit log: the first of a kind at once, and how many more there
    were within ten seconds as one entry, written with the next denied attempt or at the end.
    """

    def __init__(self, database: Database, keys: AuditKeys, clock: Clock) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock
        self._seen: dict[Kind, _Seen] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="denials")

    async def record(self, rpc: Rpc, error: DomainError) -> None:
        """Notes the attempt if it was a denied one. Never fails the call: it has failed already."""
        if not _denied(error):
            return
        now = self._clock.now()
        self._settle(now - _WINDOW)
        project, actor, detail = _attribution(rpc, error)
        # Made-up keys are of one kind: whoever makes them up must not choose how many entries.
        kind = (project, actor if project != NO_PROJECT else _STRANGER, rpc.method)
        if kind not in self._seen and len(self._seen) >= _MAX_KINDS:
            kind, actor = _TOO_MANY, _TOO_MANY[1]
        seen = self._seen.get(kind)
        if seen is not None:
            seen.more += 1
            return
        self._seen[kind] = _Seen(now)
        event = _event(kind, now, detail, rpc.request_id)
        loop = asyncio.get_running_loop()
        written = loop.run_in_executor(self._thread, self._append, replace(event, actor=actor))
        # The attempt has failed already; a database that hangs must not keep it waiting.
        await asyncio.wait({written}, timeout=_PATIENCE_S)

    def close(self) -> None:
        """Writes what is still to be written, then lets go of the thread."""
        self._settle(self._clock.now())
        self._thread.shutdown()

    def _settle(self, until: dt.datetime) -> None:
        """Ends the windows that began at `until` or before."""
        for kind, seen in list(self._seen.items()):
            if seen.since > until:
                continue
            del self._seen[kind]
            if seen.more:
                detail = f"{seen.more} more like it since {seen.since.isoformat()}"
                self._thread.submit(self._append, _event(kind, self._clock.now(), detail))

    def _append(self, event: AuditEvent) -> None:
        try:
            with self._database.begin() as connection:
                SqlAuditLog(connection, self._keys).append(event)
        except DomainError:
            _LOG.exception("denied attempt not recorded", extra={"request_id": event.request_id})


def _event(kind: Kind, now: dt.datetime, detail: str, request_id: str = "") -> AuditEvent:
    project, actor, method = kind
    return AuditEvent(
        project=project,
        time=now,
        actor=actor,
        method=method,
        outcome=Outcome.DENIED,
        detail=detail,
        request_id=request_id,
    )


def _denied(error: DomainError) -> bool:
    return isinstance(error, OtherTenantError) or error.code in {
        Code.UNAUTHENTICATED,
        Code.PERMISSION_DENIED,
    }


def _attribution(rpc: Rpc, error: DomainError) -> tuple[str, str, str]:
    if rpc.call is not None:
        caller = rpc.call.caller
        return caller.project, caller.key_id, f"{error.reason}: {error.message}"[:500]
    if isinstance(error, CredentialError):
        return error.project or NO_PROJECT, error.key_id or ANONYMOUS, error.detail
    return NO_PROJECT, ANONYMOUS, error.reason
