"""ErasureService: decode, handle, encode; and the work of its operations."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

import grpc
import sqlalchemy as sa
from touchstone.events.v1 import erasure_service_pb2 as pb
from touchstone.events.v1 import erasure_service_pb2_grpc

from services.events.application.erase_units import (
    COLLECTION,
    Eraser,
    Pending,
    Run,
    target_of,
)
from services.events.domain.erasure import Erasing, Unit
from services.events.domain.limits import MICROSECONDS
from services.events.wire.erasure import encode_erasure, encode_progress
from shared import errors
from shared.clock import Clock
from shared.ids import IdGenerator
from shared.mutations import Mutation, Mutations
from shared.operations.runner import Begin, Kind, OperationRunner
from shared.operations.task import Task
from shared.resource_names import require_id, require_parent, resource_name
from shared.security.caller import current_caller
from shared.security.erasure_ledger import ErasureLedger, ErasureRecord
from shared.state.paging import read_page

ERASE, REPLAY = "erase-unit", "replay-erasures"
_ID_CHARACTERS = 20
_PLACE = r"([0-9]{1,9})"
MOST_UNITS = 1000
"""Ids of an identity that are erased together."""

IdentityOf = Callable[[str, Unit], Awaitable[Sequence[Unit]]]
"""Every id that is one thing with a unit of a project, by the links acknowledged so far."""


@dataclass(frozen=True, slots=True)
class ErasureServicer(erasure_service_pb2_grpc.ErasureServiceServicer):
    """See touchstone/events/v1/erasure_service.proto."""

    ledger: ErasureLedger
    pending: Pending
    mutations: Mutations
    runner: OperationRunner
    clock: Clock
    ids: IdGenerator
    identity_of: IdentityOf

    async def EraseUnit(
        self, request: pb.EraseUnitRequest, context: grpc.ServicerContext
    ) -> pb.EraseUnitResponse:
        """Begins to erase a unit."""
        project = current_caller().project
        require_parent(request.parent, project)
        unit = Unit(request.unit.type, request.unit.id)
        units = await self._units(project, unit, request.whole_identity)
        records = [self._record(project, one, request.reason) for one in units]
        name = resource_name(project, COLLECTION, records[0].erasure_id)

        def work(connection: sa.Connection) -> pb.EraseUnitResponse:
            answer = pb.EraseUnitResponse(
                erasure=encode_erasure(records[0]),
                linked_erasures=[encode_erasure(record) for record in records[1:]],
            )
            if not request.validate_only:
                begin = _begin(records[0], ERASE, records[0].erasure_id)
                answer.operation.CopyFrom(self.runner.begin(connection, begin))
                # The last step, because it cannot be undone: after a crash between the two the
                # units of the ledger are erased anyway, without an operation of this name.
                self._write(records, units)
            return answer

        mutation = Mutation(request, name, request.request_id, request.validate_only)
        answer = await asyncio.to_thread(self.mutations.run, mutation, work)
        self.runner.wake()
        return answer

    async def GetErasure(
        self, request: pb.GetErasureRequest, context: grpc.ServicerContext
    ) -> pb.GetErasureResponse:
        """Reads the record of an erasure."""
        project = current_caller().project
        record = self.ledger.get(project, require_id(request.name, project, COLLECTION))
        if record is None:
            raise errors.not_found("erasure", request.name)
        return pb.GetErasureResponse(erasure=encode_erasure(record))

    async def ListErasures(
        self, request: pb.ListErasuresRequest, context: grpc.ServicerContext
    ) -> pb.ListErasuresResponse:
        """Lists the records of erasures, newest first."""
        project = current_caller().project
        require_parent(request.parent, project)
        page = read_page(request, project)
        place = page.place(_PLACE)
        records = self.ledger.records(project)
        # Numbered from the oldest, so that new ones move no page.
        end = len(records) if place is None else min(int(place[0]), len(records))
        start = max(0, end - page.size)
        return pb.ListErasuresResponse(
            erasures=[encode_erasure(record) for record in reversed(records[start:end])],
            next_page_token=page.token(str(start)) if start else "",
        )

    async def _units(self, project: str, unit: Unit, whole_identity: bool) -> list[Unit]:
        """The unit, then the others of its identity when all are meant."""
        if not whole_identity:
            return [unit]
        others = [one for one in await self.identity_of(project, unit) if one != unit]
        if len(others) >= MOST_UNITS:
            raise errors.limit_exceeded("ids of an identity", len(others) + 1, MOST_UNITS)
        return [unit, *others]

    def _record(self, project: str, unit: Unit, reason: str) -> ErasureRecord:
        digest = self.ledger.digest(project, *unit)
        moment_us = int(self.clock.now().timestamp() * MICROSECONDS)
        return ErasureRecord(project, self.ids.new(_ID_CHARACTERS), digest.hex(), moment_us, reason)

    def _write(self, records: Sequence[ErasureRecord], units: Sequence[Unit]) -> None:
        targets = tuple(
            replace(target_of(record), unit=unit)
            for record, unit in zip(records, units, strict=True)
        )
        self.pending.save(records[0].erasure_id, Erasing(targets))
        for record in records:
            self.ledger.add_tombstone(record, self.clock.now())


def begin_replay(first: ErasureRecord, operation_id: str) -> Begin:
    """The operation that erases again what restored data holds; its progress names the first."""
    return _begin(first, REPLAY, operation_id)


def _begin(record: ErasureRecord, kind: str, operation_id: str) -> Begin:
    name = resource_name(record.project, COLLECTION, record.erasure_id)
    progress = encode_progress(record.project, record.erasure_id, Erasing(()))
    return Begin(record.project, kind, pb.GetErasureRequest(name=name), progress, operation_id)


def erasure_kinds(eraser: Eraser) -> list[Kind]:
    """The work of the operations, tried until it succeeds: an erasure must not be given up."""

    def run(task: Task) -> pb.Erasure:
        name = task.request(pb.GetErasureRequest).name
        erasure_id = require_id(name, task.project, COLLECTION)
        eraser.run(
            Run(
                project=task.project,
                operation_id=task.operation.operation_id,
                wait=task.wait,
                report=lambda e: task.progress(encode_progress(task.project, erasure_id, e)),
                postpone=task.postpone,
            )
        )
        record = eraser.ledger.get(task.project, erasure_id)
        if record is None:
            raise errors.not_found("erasure", name)
        return encode_erasure(record)

    return [Kind(ERASE, run, attempts=None), Kind(REPLAY, run, attempts=None)]
