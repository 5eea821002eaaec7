"""google.longrunning.Operations: what became of the work that calls began."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa
from google.longrunning import operations_pb2 as pb
from google.longrunning import operations_pb2_grpc
from google.protobuf.empty_pb2 import Empty

from shared import errors
from shared.clock import Clock
from shared.mutations import Mutation, Mutations
from shared.operations.operation import COLLECTION, Operation, operation_message
from shared.operations.runner import OperationRunner
from shared.operations.store import SqlOperations
from shared.resource_names import require_id, require_parent
from shared.security.caller import Role, current_caller
from shared.server.rules import Rule
from shared.server.run import Platform, Servicer
from shared.state.database import Database
from shared.state.paging import read_page

T = TypeVar("T")

SERVICE = "google.longrunning.Operations"
MAX_WAIT_S = 30.0
MOST_WAITING = 100
_LOOK_EVERY_S = 0.25
_FILTERS = {"": None, "done=true": True, "done=false": False}
_READERS = frozenset({Role.VIEWER, Role.EXPERIMENTER, Role.ADMIN, Role.OPERATOR})


def _rule(roles: frozenset[Role], mutation: bool = False, max_s: float | None = None) -> Rule:
    return Rule(roles, any_role=False, mutation=mutation, per_item="", max_duration_s=max_s)


RULES = {
    "GetOperation": _rule(_READERS),
    "ListOperations": _rule(_READERS),
    "WaitOperation": _rule(_READERS, max_s=2 * MAX_WAIT_S),
    "CancelOperation": _rule(frozenset({Role.ADMIN}), mutation=True),
    "DeleteOperation": _rule(frozenset({Role.ADMIN}), mutation=True),
}
"""Who may call what: the contract is not ours and names no roles."""


class OperationsServicer:
    """The operations of the caller's project, whichever service works on them."""

    def __init__(
        self, database: Database, mutations: Mutations, runner: OperationRunner, clock: Clock
    ) -> None:
        self._database = database
        self._clock = clock
        self._mutations = mutations
        self._runner = runner
        self._waiting = 0

    async def GetOperation(self, request: pb.GetOperationRequest, context: Any) -> pb.Operation:
        """Says how far an operation is."""
        del context
        return operation_message(await self._operation(request.name))

    async def ListOperations(
        self, request: pb.ListOperationsRequest, context: Any
    ) -> pb.ListOperationsResponse:
        """Lists the project's operations, newest first."""
        del context
        project = current_caller().project
        require_parent(request.name.removesuffix(f"/{COLLECTION}"), project)
        if request.page_size < 0:
            raise errors.invalid("page_size", request.page_size, "0 for 100, or up to 1000")
        words = "".join(request.filter.split()).lower()
        if words not in _FILTERS:
            raise errors.invalid("filter", request.filter, "empty, done=true or done=false")
        page = read_page(request, project)
        found, token = await self._read(
            lambda connection: SqlOperations(connection).page(project, page, _FILTERS[words])
        )
        return pb.ListOperationsResponse(
            operations=[operation_message(one) for one in found], next_page_token=token
        )

    async def WaitOperation(self, request: pb.WaitOperationRequest, context: Any) -> pb.Operation:
        """Answers when the operation has ended, or with how far it is when the time is over."""
        del context
        asked_s = request.timeout.ToNanoseconds() / 1e9 if request.HasField("timeout") else None
        left_s = MAX_WAIT_S if asked_s is None else min(MAX_WAIT_S, max(0.0, asked_s))
        operation = await self._operation(request.name)
        if operation.done or not left_s:
            return operation_message(operation)
        if self._waiting >= MOST_WAITING:
            raise errors.overloaded(
                f"{self._waiting} calls wait for operations, as many as may; ask with GetOperation",
                retry_after_s=2.0,
            )
        self._waiting += 1
        try:
            until = asyncio.get_running_loop().time() + left_s
            while not operation.done and asyncio.get_running_loop().time() < until:
                await asyncio.sleep(_LOOK_EVERY_S)
                operation = await self._operation(request.name)
        finally:
            self._waiting -= 1
        return operation_message(operation)

    async def CancelOperation(self, request: pb.CancelOperationRequest, context: Any) -> Empty:
        """Asks an operation to end. One that has ended stays as it is."""
        del context
        project = current_caller().project
        operation_id = require_id(request.name, project, COLLECTION)

        def work(connection: sa.Connection) -> Empty:
            store = SqlOperations(connection)
            operation = store.get(project, operation_id)
            if operation.done:
                return Empty()
            if not self._runner.can_cancel(operation.kind):
                raise errors.wrong_state(
                    operation.name, operation.kind, "CancelOperation", "work that can be cancelled"
                )
            store.request_cancel(operation, self._clock.now())
            return Empty()

        answer = await asyncio.to_thread(self._mutations.run, Mutation(request, request.name), work)
        self._runner.wake()
        return answer

    async def DeleteOperation(self, request: pb.DeleteOperationRequest, context: Any) -> Empty:
        """Forgets an operation that has ended, and nothing of what it did."""
        del context
        project = current_caller().project
        operation_id = require_id(request.name, project, COLLECTION)

        def work(connection: sa.Connection) -> Empty:
            store = SqlOperations(connection)
            operation = store.get(project, operation_id)
            if not operation.done:
                raise errors.wrong_state(
                    operation.name, "running", "DeleteOperation", "an operation that has ended"
                )
            store.delete(operation)
            return Empty()

        return await asyncio.to_thread(self._mutations.run, Mutation(request, request.name), work)

    async def _operation(self, name: str) -> Operation:
        project = current_caller().project
        operation_id = require_id(name, project, COLLECTION)
        return await self._read(
            lambda connection: SqlOperations(connection).get(project, operation_id)
        )

    async def _read(self, work: Callable[[sa.Connection], T]) -> T:
        def in_transaction() -> T:
            with self._database.read() as connection:
                return work(connection)

        return await asyncio.to_thread(in_transaction)


def operations_servicer(
    platform: Platform, mutations: Mutations, runner: OperationRunner
) -> Servicer:
    """The service for the server whose runner works on operations."""
    return Servicer(
        SERVICE,
        OperationsServicer(platform.database, mutations, runner, platform.clock),
        operations_pb2_grpc.add_OperationsServicer_to_server,
        RULES,
    )
