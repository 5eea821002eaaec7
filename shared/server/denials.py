"""Denied attempts go to the audit log; a flood of like attempts becomes one entry a window."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from shared.clock import Clock
from shared.errors import Code, DomainError
from shared.resource_names import OtherTenantError
from shared.security.audit import ANONYMOUS, NO_PROJECT, AuditEvent, AuditKeys, Outcome, SqlAuditLog
from shared.security.authentication import CredentialError
from shared.server.rpc import Rpc
from shared.state.database import Database

_WINDOW = dt.timedelta(seconds=10)
_MAX_KINDS = 1000
_TOO_MANY = (NO_PROJECT, "many", "many")
_PATIENCE_S = 2.0
_LOG = logging.getLogger("touchstone.audit")


@dataclass(slots=True)
class _Seen:
    since: dt.datetime
    suppressed: int = 0


class DenialRecorder:
    """Writes denied attempts to the audit log, at most one entry of a kind in ten seconds; the
    next entry of that kind says how many there were in between.
    """

    def __init__(self, database: Database, keys: AuditKeys, clock: Clock) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock
        self._seen: dict[tuple[str, str, str], _Seen] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="denials")

    async def record(self, rpc: Rpc, error: DomainError) -> None:
        """Notes the attempt if it was a denied one. Never fails the call: it has failed already."""
        if not _denied(error):
            return
        project, actor, detail = _attribution(rpc, error)
        # Made-up keys are of one kind: whoever makes them up must not choose how many entries.
        kind = (project, actor if project != NO_PROJECT else "unknown", rpc.method)
        suppressed = self._admit(kind)
        if suppressed is None:
            return
        if suppressed:
            detail += f"; {suppressed} more like it before"
        event = AuditEvent(
            project=project,
            time=self._clock.now(),
            actor=actor,
            method=rpc.method,
            outcome=Outcome.DENIED,
            detail=detail,
            request_id=rpc.request_id,
        )
        loop = asyncio.get_running_loop()
        written = loop.run_in_executor(self._thread, self._append_or_log, event)
        # The attempt has failed already; a database that hangs must not keep it waiting.
        await asyncio.wait({written}, timeout=_PATIENCE_S)

    def close(self) -> None:
        """Writes what is still to be written, then lets go of the thread."""
        self._thread.shutdown()

    def _append_or_log(self, event: AuditEvent) -> None:
        try:
            with self._database.begin() as connection:
                SqlAuditLog(connection, self._keys).append(event)
        except DomainError:
            _LOG.exception("denied attempt not recorded", extra={"request_id": event.request_id})

    def _admit(self, kind: tuple[str, str, str]) -> int | None:
        """How many attempts to report besides this one, or None to keep this one back."""
        now = self._clock.now()
        if kind not in self._seen and len(self._seen) >= _MAX_KINDS:
            self._seen = {k: s for k, s in self._seen.items() if now - s.since < _WINDOW}
            if len(self._seen) >= _MAX_KINDS:
                kind = _TOO_MANY
        seen = self._seen.get(kind)
        if seen is not None and now - seen.since < _WINDOW:
            seen.suppressed += 1
            return None
        self._seen[kind] = _Seen(now)
        return seen.suppressed if seen else 0


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
