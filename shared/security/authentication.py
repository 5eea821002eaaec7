"""From a presented credential to a caller."""

from __future__ import annotations

import asyncio
import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from shared import errors
from shared.clock import Clock
from shared.errors import Code, DomainError, unavailable
from shared.security.caller import Caller
from shared.security.kept_keys import KeptKeys
from shared.security.keys import ApiKey, SqlKeyStore, authenticate, split_key
from shared.state.database import Database

_SCHEME = "Bearer "
_MAX_CACHED = 10_000
_MAX_READS = 1_000
# How long a key that was good goes on being good while the state database does not answer.
OUTAGE = dt.timedelta(minutes=15)
# How long a call waits for the database to confirm a key that was good a moment ago.
_PATIENCE_S = 1.0
# How long it waits on for a key of which the disk knows nothing either.
_MORE_PATIENCE_S = 9.0
_THREADS = 2


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
    While the state database is away or hangs, keys read within `outage` go on working, so that
    services which need no state keep serving; those of `kept` do so after a restart, too. Reads
    have threads of their own, and there is one at a time for each key, so that nothing else can
    keep callers out.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        cache_s: float,
        outage: dt.timedelta = OUTAGE,
        kept: KeptKeys | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._fresh = dt.timedelta(seconds=cache_s)
        self._outage = outage
        self._kept = kept
        self._cache: dict[str, _Cached] = {}
        self._reads: dict[str, asyncio.Task[ApiKey | None]] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="credentials")

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
        age = self._clock.now() - cached.read_time if cached else self._outage
        if cached is not None and age < self._fresh:
            return cached.key
        hanging = key_id in self._reads
        read = self._reads.get(key_id) or self._start_read(key_id)
        if cached is None or cached.key is None or age >= self._outage:
            return await self._after(key_id, read)
        try:
            # Whoever comes while a read hangs does not wait for it again.
            patience = 0.0 if hanging else _PATIENCE_S
            return await asyncio.wait_for(asyncio.shield(read), patience)
        except (TimeoutError, DomainError):
            return cached.key

    async def _after(self, key_id: str, read: asyncio.Task[ApiKey | None]) -> ApiKey | None:
        """What the read gives; when the database is away, what the disk has of it."""
        if self._kept is None:
            return await asyncio.shield(read)
        try:
            return await asyncio.wait_for(asyncio.shield(read), _PATIENCE_S)
        except TimeoutError:
            pass
        except DomainError as error:
            if error.code is not Code.UNAVAILABLE:
                raise
        found = await asyncio.to_thread(self._kept.find, key_id)
        if found is None or self._clock.now() - found[1] >= self._outage:
            return await _at_last(read)
        self._cache[key_id] = _Cached(*found)
        return found[0]

    def _start_read(self, key_id: str) -> asyncio.Task[ApiKey | None]:
        if len(self._reads) >= _MAX_READS:
            raise errors.overloaded(
                f"{_MAX_READS} credentials wait for the state database; call again later", 1.0
            )
        read = asyncio.create_task(self._read(key_id))
        self._reads[key_id] = read
        read.add_done_callback(lambda done: self._end_read(key_id, done))
        return read

    def _end_read(self, key_id: str, read: asyncio.Task[ApiKey | None]) -> None:
        del self._reads[key_id]
        if read.cancelled() or read.exception() is not None:
            return
        if len(self._cache) >= _MAX_CACHED:
            self._cache.clear()
        self._cache[key_id] = _Cached(read.result(), self._clock.now())

    async def _read(self, key_id: str) -> ApiKey | None:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._read_now, key_id)

    def _read_now(self, key_id: str) -> ApiKey | None:
        with self._database.read() as connection:
            store = SqlKeyStore(connection)
            key = store.find(key_id)
            if key is not None and self._kept is not None:
                now = self._clock.now()
                again = self._kept.due(key, now)
                if again:
                    self._kept.put(store.find_all(again), now)
            return key

    def close(self) -> None:
        """Lets go of the threads, without waiting for a database that hangs."""
        self._threads.shutdown(wait=False, cancel_futures=True)


async def _at_last(read: asyncio.Task[ApiKey | None]) -> ApiKey | None:
    """What the read gives in the end; UNAVAILABLE when the database is away or hangs on."""
    try:
        return await asyncio.wait_for(asyncio.shield(read), _MORE_PATIENCE_S)
    except (TimeoutError, DomainError) as error:
        if isinstance(error, DomainError) and error.code is not Code.UNAVAILABLE:
            raise
        raise unavailable(
            "STORAGE_UNAVAILABLE", "the key cannot be looked up now; call again later"
        ) from error
