"""From a presented credential to a caller."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import dataclass

from shared.clock import Clock
from shared.errors import Code, DomainError
from shared.security.caller import Caller
from shared.security.keys import ApiKey, SqlKeyStore, authenticate, split_key
from shared.state.database import Database

_SCHEME = "Bearer "
_MAX_CACHED = 10_000
# How long a key that was good goes on being good while the state database does not answer.
_OUTAGE = dt.timedelta(minutes=15)


class CredentialError(DomainError):
    """The credential is missing, malformed, unknown, expired or revoked.

    `project` and `key_id` say whose it seems to be, for the audit log only; the caller is told
    nothing that helps to guess.
    """

    def __init__(self, detail: str, project: str = "", key_id: str = "") -> None:
        super().__init__(
            Code.UNAUTHENTICATED,
            "INVALID_CREDENTIAL",
            "no valid credential; send `authorization: Bearer <key>` with a key of "
            "`touchstone keys create` that is neither expired nor revoked",
        )
        self.detail = detail
        self.project = project
        self.key_id = key_id


@dataclass(frozen=True, slots=True)
class _Cached:
    key: ApiKey | None
    read_time: dt.datetime


class Authenticator:
    """Finds the caller of a credential.

    Keys are remembered for `cache_s` seconds, which bounds how long a revoked one is accepted.
    While the state database is away, keys read in the last 15 minutes go on working, so that
    services which need no state keep serving.
    """

    def __init__(self, database: Database, clock: Clock, cache_s: float) -> None:
        self._database = database
        self._clock = clock
        self._fresh = dt.timedelta(seconds=cache_s)
        self._cache: dict[str, _Cached] = {}

    async def caller(self, authorization: str) -> Caller:
        """The caller of an `authorization` header. Raises CredentialError."""
        if not authorization.startswith(_SCHEME):
            raise CredentialError("no bearer credential")
        presented = split_key(authorization.removeprefix(_SCHEME).strip())
        if presented is None:
            raise CredentialError("not of the form of a key")
        key_id, secret_hash = presented
        key = await self._find(key_id)
        if key is None:
            raise CredentialError("unknown key", key_id=key_id)
        caller = authenticate(key, secret_hash, self._clock.now())
        if isinstance(caller, str):
            raise CredentialError(caller, key.project, key_id)
        return caller

    async def _find(self, key_id: str) -> ApiKey | None:
        cached = self._cache.get(key_id)
        now = self._clock.now()
        if cached is not None and now - cached.read_time < self._fresh:
            return cached.key
        try:
            key = await asyncio.to_thread(self._read, key_id)
        except DomainError:
            if cached is not None and cached.key and now - cached.read_time < _OUTAGE:
                return cached.key
            raise
        if len(self._cache) >= _MAX_CACHED:
            self._cache.clear()
        self._cache[key_id] = _Cached(key, now)
        return key

    def _read(self, key_id: str) -> ApiKey | None:
        with self._database.read() as connection:
            return SqlKeyStore(connection).find(key_id)
