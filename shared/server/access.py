"""AccessService and AuditService: the keys and the audit log of the caller's project."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.common.v1 import access_service_pb2 as pb
from touchstone.common.v1 import access_service_pb2_grpc, rpc_pb2

from shared import errors
from shared.clock import Clock
from shared.ids import IdGenerator
from shared.mutations import Mutation, Mutations
from shared.resource_names import require_id, require_parent, resource_name
from shared.security.audit import (
    ANONYMOUS,
    NO_PROJECT,
    OPERATOR,
    SCHEDULE,
    AuditEntry,
    AuditEvent,
    AuditKeys,
    SqlAuditLog,
    Verification,
)
from shared.security.caller import Role, current_caller
from shared.security.keys import ApiKey, SqlKeyStore, make_key
from shared.server.run import Platform, Servicer
from shared.state.database import Database
from shared.state.paging import read_page

T = TypeVar("T")


class AccessServicer:
    """The API keys of a project."""

    def __init__(
        self, database: Database, mutations: Mutations, clock: Clock, ids: IdGenerator
    ) -> None:
        self._database = database
        self._mutations = mutations
        self._clock = clock
        self._ids = ids

    async def GetCaller(self, request: pb.GetCallerRequest, context: Any) -> pb.GetCallerResponse:
        """Says who the credential of this call is."""
        del request, context
        caller = current_caller()
        return pb.GetCallerResponse(
            project=caller.project,
            key=resource_name(caller.project, "keys", caller.key_id),
            roles=_role_numbers(caller.roles),
        )

    async def CreateKey(self, request: pb.CreateKeyRequest, context: Any) -> pb.CreateKeyResponse:
        """Makes a key and shows its secret, once."""
        del context
        project = current_caller().project
        require_parent(request.parent, project)
        expire = _expire_time(request)
        roles = frozenset(Role(number) for number in request.roles)
        new = make_key(self._ids, project, request.display_name, roles, self._clock.now(), expire)

        def work(connection: sa.Connection) -> pb.CreateKeyResponse:
            SqlKeyStore(connection).add(new.key)
            secret = "" if request.validate_only else new.text
            return pb.CreateKeyResponse(key=_key_message(new.key), secret=secret)

        mutation = Mutation(
            request,
            resource_name(project, "keys", new.key.key_id),
            request.request_id,
            request.validate_only,
            secret_fields=("secret",),
        )
        return await asyncio.to_thread(self._mutations.run, mutation, work)

    async def ListKeys(self, request: pb.ListKeysRequest, context: Any) -> pb.ListKeysResponse:
        """Lists the project's keys, newest first, without their secrets."""
        del context
        project = current_caller().project
        require_parent(request.parent, project)
        page = read_page(request, project)
        keys, token = await _read(self._database, lambda c: SqlKeyStore(c).page(project, page))
        return pb.ListKeysResponse(keys=[_key_message(key) for key in keys], next_page_token=token)

    async def RevokeKey(self, request: pb.RevokeKeyRequest, context: Any) -> pb.RevokeKeyResponse:
        """Revokes a key for good."""
        del context
        project = current_caller().project
        key_id = require_id(request.name, project, "keys")

        def work(connection: sa.Connection) -> pb.RevokeKeyResponse:
            key = SqlKeyStore(connection).revoke(project, key_id, self._clock.now())
            return pb.RevokeKeyResponse(key=_key_message(key))

        mutation = Mutation(request, request.name, request.request_id, request.validate_only)
        return await asyncio.to_thread(self._mutations.run, mutation, work)


class AuditServicer:
    """The audit log of a project."""

    def __init__(self, database: Database, keys: AuditKeys) -> None:
        self._database = database
        self._keys = keys

    async def ListAuditEntries(
        self, request: pb.ListAuditEntriesRequest, context: Any
    ) -> pb.ListAuditEntriesResponse:
        """Lists entries of the caller's project, oldest first."""
        del context
        project = current_caller().project
        require_parent(request.parent, project)
        page = read_page(request, project)
        place = page.place(r"([0-9]{1,18})")
        after = int(place[0]) if place else 0
        entries = await _read(
            self._database,
            lambda c: SqlAuditLog(c, self._keys).entries(project, after, page.size + 1),
        )
        shown = entries[: page.size]
        token = page.token(str(shown[-1].sequence)) if len(entries) > page.size else ""
        return pb.ListAuditEntriesResponse(
            entries=[entry_message(entry) for entry in shown], next_page_token=token
        )

    async def VerifyAuditLog(
        self, request: pb.VerifyAuditLogRequest, context: Any
    ) -> pb.VerifyAuditLogResponse:
        """Recomputes the chain of the caller's project."""
        del context
        project = current_caller().project
        require_parent(request.parent, project)
        found = await _read(self._database, lambda c: SqlAuditLog(c, self._keys).verify(project))
        return verification_message(found)


def _expire_time(request: pb.CreateKeyRequest) -> dt.datetime | None:
    if not request.HasField("expire_time"):
        return None
    try:
        return request.expire_time.ToDatetime(dt.UTC)
    except (ValueError, OverflowError) as error:
        given = f"{request.expire_time.seconds} s, {request.expire_time.nanos} ns since 1970"
        raise errors.invalid("expire_time", given, "a time before the year 10000") from error


async def _read(database: Database, work: Callable[[sa.Connection], T]) -> T:
    def in_transaction() -> T:
        with database.read() as connection:
            return work(connection)

    return await asyncio.to_thread(in_transaction)


def _role_numbers(roles: frozenset[Role]) -> Sequence[rpc_pb2.Role.ValueType]:
    return [rpc_pb2.Role.ValueType(number) for number in sorted(role.value for role in roles)]


def _time(value: dt.datetime | None) -> Timestamp | None:
    if value is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(value)
    return stamp


def _key_message(key: ApiKey) -> pb.Key:
    return pb.Key(
        name=resource_name(key.project, "keys", key.key_id),
        display_name=key.display_name,
        roles=_role_numbers(key.roles),
        create_time=_time(key.create_time),
        expire_time=_time(key.expire_time),
        revoke_time=_time(key.revoke_time),
    )


def verification_message(found: Verification) -> pb.VerifyAuditLogResponse:
    """A verification as the contract says it."""
    return pb.VerifyAuditLogResponse(
        intact=found.intact,
        checked=found.checked,
        first_bad_sequence=found.first_bad_sequence,
        problem=found.problem,
        head_hash=found.head_hash,
    )


def entry_message(entry: AuditEntry) -> pb.AuditEntry:
    """An entry as the contract says it."""
    event = entry.event
    return pb.AuditEntry(
        sequence=entry.sequence,
        create_time=_time(event.time),
        actor=_actor(event),
        method=event.method,
        resource=event.resource,
        outcome=pb.AuditOutcome.ValueType(event.outcome.value),
        detail=event.detail,
        request_id=event.request_id,
        body_digest=event.body_digest,
        chain_hash=entry.chain_hash,
    )


def access_servicers(platform: Platform, mutations: Mutations) -> list[Servicer]:
    """Both services over the platform's state, for the server that is to host them."""
    return [
        Servicer(
            "touchstone.common.v1.AccessService",
            AccessServicer(platform.database, mutations, platform.clock, platform.ids),
            access_service_pb2_grpc.add_AccessServiceServicer_to_server,
        ),
        Servicer(
            "touchstone.common.v1.AuditService",
            AuditServicer(platform.database, platform.audit_keys),
            access_service_pb2_grpc.add_AuditServiceServicer_to_server,
        ),
    ]


def _actor(event: AuditEvent) -> str:
    """The resource name of the key that called, or what stands for a caller without one."""
    is_key = event.project != NO_PROJECT and event.actor not in {OPERATOR, ANONYMOUS, SCHEDULE}
    return resource_name(event.project, "keys", event.actor) if is_key else event.actor
