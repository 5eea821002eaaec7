"""Choose the parts of ErasureService, and erase again what restored data does not reflect."""

import asyncio
import datetime as dt
import threading
from collections.abc import Sequence

import sqlalchemy as sa
from touchstone.events.v1 import erasure_service_pb2_grpc

from services.events.adapters.erased_pending import PendingErasures
from services.events.adapters.erased_stores import LocalErasureStores
from services.events.api.erasure import ErasureServicer, IdentityOf, begin_replay, erasure_kinds
from services.events.application.erase_units import Eraser, target_of
from services.events.composition.core import Core
from services.events.domain.erasure import Erasing, Unit
from shared.identity.reader import IdentityReader
from shared.identity.store import SqlPolicySource, migrate_identity
from shared.lake.snapshot import EngineLimits, LakeEventTables
from shared.lake.watermark import ConsistencyToken
from shared.mutations import Mutations
from shared.operations.runner import Kind, OperationRunner
from shared.operations.store import SqlOperations
from shared.server.run import Servicer

SERVICE = "touchstone.events.v1.ErasureService"
_ENGINE = EngineLimits(threads=1, memory_limit_mb=512)
_LONGEST_WAIT_S = 20.0


class Erasures:
    """Erasing, and what is still to be erased before the service is ready."""

    def __init__(self, core: Core) -> None:
        settings, ledger = core.settings, core.privacy.ledger
        self._core = core
        self._lock = threading.Lock()
        self._awaited: set[str] = set()
        self._pending = PendingErasures(settings.erasures_path / "pending")
        self._stores = LocalErasureStores(
            lake=settings.lake_path,
            marker=settings.erasures_marker_path,
            journal=core.journal,
            scrub_journal=core.files.scrub_journal,
            sink=core.sink,
            rejected=core.rejected,
            do=core.flusher.do,
            digest=ledger.digest,
            clock=core.platform.clock,
        )
        self._eraser = Eraser(
            stores=self._stores,
            ledger=ledger,
            pending=self._pending,
            clock=core.platform.clock,
            grace=dt.timedelta(seconds=settings.erasure_grace_s),
            reflected=self._reflected,
        )

    @property
    def ready(self) -> bool:
        """Whether no reader sees anything of what was erased before this start."""
        with self._lock:
            return not self._awaited

    def kinds(self) -> list[Kind]:
        """The work of its operations."""
        return erasure_kinds(self._eraser)

    def servicer(self, runner: OperationRunner) -> Servicer:
        """ErasureService."""
        platform = self._core.platform
        servicer = ErasureServicer(
            self._core.privacy.ledger,
            self._pending,
            Mutations(platform.database, platform.audit_keys, platform.clock),
            runner,
            platform.clock,
            platform.ids,
            identity_of(self._core),
        )
        add = erasure_service_pb2_grpc.add_ErasureServiceServicer_to_server
        return Servicer(SERVICE, servicer, add)

    def begin_replays(self, runner: OperationRunner) -> None:
        """Begin an operation for what the ledger knows and the data at hand does not reflect.

        What an unfinished operation works on is left to it.
        """
        reflected = self._stores.reflected()
        missing = [
            record
            for record in self._core.privacy.ledger.records()
            if record.erasure_id not in reflected
        ]
        with self._lock:
            self._awaited = {record.erasure_id for record in missing}
        with self._core.platform.database.begin() as connection:
            worked_on = self._worked_on(connection)
            left = [record for record in missing if record.erasure_id not in worked_on]
            for project in sorted({record.project for record in left}):
                records = [record for record in left if record.project == project]
                operation_id = self._core.platform.ids.new(20)
                targets = tuple(target_of(record) for record in records)
                self._pending.save(operation_id, Erasing(targets))
                runner.begin(connection, begin_replay(records[0], operation_id))

    def _worked_on(self, connection: sa.Connection) -> set[str]:
        """The erasures of operations that go on. What is kept for others is of no more use."""
        found: set[str] = set()
        going_on = set(SqlOperations(connection).unfinished([kind.name for kind in self.kinds()]))
        for operation_id in self._pending.operations():
            erasing = self._pending.load(operation_id)
            if operation_id not in going_on:
                self._pending.forget(operation_id)
            elif erasing is not None:
                found |= {target.erasure_id for target in erasing.targets}
        return found

    def _reflected(self, erasures: Sequence[str]) -> None:
        with self._lock:
            self._awaited -= set(erasures)


def identity_of(core: Core) -> IdentityOf:
    """Reads identities from the tables, when they hold every link that is acknowledged."""
    migrate_identity(core.platform.database)
    tables = LakeEventTables(core.settings.lake_path, _ENGINE)
    reader = IdentityReader(SqlPolicySource(core.platform.database))

    async def read(project: str, unit: Unit) -> Sequence[Unit]:
        token = ConsistencyToken(core.journal.id, core.log.commits.last)
        await tables.wait_until(token.encode() if token.position else "", _LONGEST_WAIT_S)

        def members() -> list[Unit]:
            snapshot = tables.snapshot(project)
            with snapshot.read() as found:
                identity = reader.of(project, snapshot.watermark, found)
            (resolved,) = identity.resolve([(unit.type, unit.id)])
            return [Unit(*member.unit) for member in resolved.members]

        return await asyncio.to_thread(members)

    return read
