"""Runs operations in threads: a few at once, again after a failure, on after a restart."""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from google.longrunning import operations_pb2
from google.protobuf.message import Message

from shared.clock import Clock
from shared.errors import Code, DomainError
from shared.ids import IdGenerator
from shared.operations.operation import Operation, cancellation, failure, operation_message, packed
from shared.operations.store import EPOCH, Lease, SqlOperations
from shared.operations.task import Cancelled, Interrupted, Postponed, Task
from shared.state.database import Database

_LOG = logging.getLogger("touchstone.operations")
LEASE = dt.timedelta(seconds=60)
EXTEND_EVERY_S = 15.0
POLL_S = 1.0
MAX_BACKOFF_S = 300.0
ATTEMPTS = 8
AT_ONCE = 4
_TRANSIENT = frozenset({Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.ABORTED})
_ID_CHARACTERS = 20


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of work. `run` is idempotent and returns the response of the operation.

    A DomainError that another attempt cannot mend ends the operation with it. After any other
    failure `run` is called again, with growing delays, `attempts` times since it last stored
    progress (None: until it succeeds). A process that ended in the middle of it counts as one.
    """

    name: str
    run: Callable[[Task], Message]
    cancellable: bool = False
    attempts: int | None = ATTEMPTS


@dataclass(frozen=True, slots=True)
class Begin:
    """What an operation is begun with. An empty `operation_id`: one is made."""

    project: str
    kind: str
    request: Message
    progress: Message
    operation_id: str = ""


class OperationRunner:
    """Works on the operations of its kinds that stand in the state database.

    `sole` says that no other process works on these kinds, so that what a crash left is taken up
    at once instead of after `LEASE`.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        ids: IdGenerator,
        kinds: Sequence[Kind],
        sole: bool = False,
    ) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._kinds: Mapping[str, Kind] = {kind.name: kind for kind in kinds}
        self._sole = sole
        self._runner = ids.new()
        self._working: set[str] = set()
        self._lock = threading.Lock()
        self._next_extension = 0.0
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._threads = ThreadPoolExecutor(AT_ONCE, "operation")
        self._dispatcher = threading.Thread(target=self._run, name="operations", daemon=True)

    def begin(self, connection: sa.Connection, begin: Begin) -> operations_pb2.Operation:
        """Store a new operation in the caller's transaction. Call `wake` after its commit."""
        if begin.kind not in self._kinds:
            raise ValueError(f"no such kind of operation here: {begin.kind}")
        operation = Operation(
            project=begin.project,
            operation_id=begin.operation_id or self._ids.new(_ID_CHARACTERS),
            kind=begin.kind,
            request=packed(begin.request),
            progress=packed(begin.progress),
            done=False,
            response=None,
            error=None,
            cancel_requested=False,
            attempts=0,
            create_time=self._clock.now(),
            end_time=None,
        )
        SqlOperations(connection).insert(operation)
        return operation_message(operation)

    def wake(self) -> None:
        """Look at once for what can be begun."""
        self._wake.set()

    def can_cancel(self, kind: str) -> bool:
        """Whether operations of the kind end when they are asked to."""
        return kind in self._kinds and self._kinds[kind].cancellable

    def start(self) -> None:
        """Begin to work, with what was left unfinished."""
        if not self._kinds:
            return
        if self._sole:
            with self._database.begin() as connection:
                SqlOperations(connection).forget_leases(list(self._kinds))
        self._dispatcher.start()

    def close(self) -> None:
        """Interrupt the work and wait for its threads. May be called twice."""
        self._stopping.set()
        self._wake.set()
        if self._dispatcher.ident is not None:
            self._dispatcher.join()
        self._threads.shutdown(wait=True)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._begin_due()
            # Whatever happens to the database, the operations are stored: the next look is soon.
            except Exception:  # noqa: BLE001  see above
                _LOG.exception("operations cannot be looked up; trying again")
            self._wake.wait(POLL_S)
            self._wake.clear()

    def _begin_due(self) -> None:
        now = self._clock.now()
        lease = Lease(self._runner, now + LEASE)
        self._extend(lease)
        with self._lock:
            free = AT_ONCE - len(self._working)
        if not free or not self._anything_due(now):
            return
        with self._database.begin() as connection:
            due = SqlOperations(connection).claim(list(self._kinds), now, lease, free)
        for operation in due:
            with self._lock:
                self._working.add(operation.name)
            self._threads.submit(self._work, operation)

    def _extend(self, lease: Lease) -> None:
        with self._lock:
            busy = bool(self._working)
        if busy and time.monotonic() >= self._next_extension:
            with self._database.begin() as connection:
                SqlOperations(connection).extend(lease)
            self._next_extension = time.monotonic() + EXTEND_EVERY_S

    def _anything_due(self, now: dt.datetime) -> bool:
        """A look that takes no write lock: most of them find nothing."""
        with self._database.read() as connection:
            return SqlOperations(connection).anything_due(list(self._kinds), now)

    def _work(self, operation: Operation) -> None:
        try:
            self._attempt(operation, self._kinds[operation.kind])
        except Exception:  # noqa: BLE001  the lease runs out, and the operation is begun again
            _LOG.exception("operation %s cannot be recorded", operation.name)
        finally:
            with self._lock:
                self._working.discard(operation.name)
            self._wake.set()

    def _attempt(self, operation: Operation, kind: Kind) -> None:
        task = Task(
            operation, lambda data: self._store(operation, data), self._stopping, kind.cancellable
        )
        try:
            if operation.cancel_requested and kind.cancellable:
                raise Cancelled  # noqa: TRY301  as if the work had noticed
            self._require_survivable(operation, kind)
            response = kind.run(task)
        except Interrupted:
            self._release(operation, EPOCH)
        except Cancelled:
            self._finish(operation, error=cancellation())
        except Postponed as later:
            self._release(operation, later.until)
        except DomainError as error:
            self._failed(operation, kind, error, error.code in _TRANSIENT)
        except Exception as error:  # noqa: BLE001  a fault of the work must not end the runner
            self._failed(operation, kind, _unexpected(operation, error), True)
        else:
            self._finish(operation, response=packed(response))

    def _require_survivable(self, operation: Operation, kind: Kind) -> None:
        """Raise when the process ended as often as the work may fail: it would end again."""
        attempts = self._attempts(operation)
        if kind.attempts is not None and attempts >= kind.attempts:
            raise DomainError(
                Code.INTERNAL,
                "INTERNAL",
                f"the process ended or failed {attempts} times while it worked on this, perhaps "
                f"for lack of memory: ask for less, or tell the operator {operation.name}",
            )

    def _failed(self, operation: Operation, kind: Kind, error: DomainError, again: bool) -> None:
        attempts = self._attempts(operation) + 1
        _LOG.warning("operation %s, attempt %d: %s", operation.name, attempts, error.reason)
        if again and (kind.attempts is None or attempts < kind.attempts):
            delay = dt.timedelta(seconds=min(MAX_BACKOFF_S, 0.5 * 2 ** min(attempts, 12)))
            self._release(operation, self._clock.now() + delay, attempts=attempts)
        else:
            self._finish(operation, error=failure(error))

    def _attempts(self, operation: Operation) -> int:
        with self._database.read() as connection:
            store = SqlOperations(connection)
            return store.get(operation.project, operation.operation_id).attempts

    def _store(self, operation: Operation, progress: bytes) -> bool:
        """Store progress; whether the end was asked for."""
        with self._database.begin() as connection:
            store = SqlOperations(connection)
            values = {"progress": progress, "attempts": 0, "update_time": self._clock.now()}
            if not store.record(operation, self._runner, values):
                raise Interrupted
            return store.get(operation.project, operation.operation_id).cancel_requested

    def _release(self, operation: Operation, not_before: dt.datetime, **values: Any) -> None:
        self._record(operation, runner="", lease_until=EPOCH, not_before=not_before, **values)

    def _finish(self, operation: Operation, **values: Any) -> None:
        self._record(operation, done=True, end_time=self._clock.now(), runner="", **values)
        _LOG.info("operation %s of kind %s ended", operation.name, operation.kind)

    def _record(self, operation: Operation, **values: Any) -> None:
        values["update_time"] = self._clock.now()
        with self._database.begin() as connection:
            SqlOperations(connection).record(operation, self._runner, values)


def _unexpected(operation: Operation, error: Exception) -> DomainError:
    _LOG.error("operation %s failed", operation.name, exc_info=error)
    return DomainError(
        Code.INTERNAL,
        "INTERNAL",
        f"an unexpected failure; tell the operator the name of the operation, {operation.name}",
    )
