"""One way to change state: the change, its audit entry and its answer commit together."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import sqlalchemy as sa
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message

from shared import errors
from shared.clock import Clock
from shared.errors import Code, DomainError
from shared.security.audit import AuditEvent, AuditKeys, SqlAuditLog
from shared.security.caller import current_call
from shared.state.database import Database
from shared.state.platform import replies

M = TypeVar("M", bound=Message)

# How long a request id is remembered.
REPLIES_KEPT = dt.timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Mutation:
    """What is asked for: the request as it came, and the resource it concerns.

    `secret_fields` of the response are shown once and never stored.
    """

    request: Message
    resource: str
    request_id: str = ""
    validate_only: bool = False
    secret_fields: tuple[str, ...] = ()


class _ValidatedOnly(Exception):  # noqa: N818  it is not an error: it ends the transaction
    def __init__(self, response: Message) -> None:
        self.response = response


class Mutations:
    """Runs mutations for the caller of the current RPC."""

    def __init__(self, database: Database, keys: AuditKeys, clock: Clock) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock

    def run(self, mutation: Mutation, work: Callable[[sa.Connection], M]) -> M:
        """Does `work` in one transaction and returns its response.

        A request id that was used in the last seven days with the same body gives the first
        response again and does no work; with another body it raises INVALID_ARGUMENT.
        `validate_only` does the work and undoes it. Anything that `work` raises undoes everything.
        """
        try:
            with self._database.begin() as connection:
                return self._run(connection, mutation, work)
        except _ValidatedOnly as outcome:
            return outcome.response  # type: ignore[return-value]  # it is what `work` returned

    def earlier(self, mutation: Mutation) -> Message | None:
        """The first response to a request id that was used in the last seven days, or None.

        For work that takes too long to hold up every other change meanwhile, and does no harm when
        it is done twice: look here, do it, then `run` what only returns the response. Of two calls
        with one request id at once both may find None. INVALID_ARGUMENT as for `run`.
        """
        with self._database.read() as connection:
            return _first_response(connection, mutation, body_digest(mutation.request))

    def _run(
        self, connection: sa.Connection, mutation: Mutation, work: Callable[[sa.Connection], M]
    ) -> M:
        call = current_call()
        digest = body_digest(mutation.request)
        # One mutation of a project at a time: of two with one request id the second waits here.
        SqlAuditLog(connection, self._keys).lock(call.caller.project)
        first = _first_response(connection, mutation, digest)
        if first is not None:
            return first  # type: ignore[return-value]  # it is what `work` returned then
        response = work(connection)
        if mutation.validate_only:
            raise _ValidatedOnly(response)
        self._remember(connection, mutation, response, digest)
        return response

    def _remember(
        self, connection: sa.Connection, mutation: Mutation, response: Message, digest: str
    ) -> None:
        call = current_call()
        now = self._clock.now()
        SqlAuditLog(connection, self._keys).append(
            AuditEvent(
                project=call.caller.project,
                time=now,
                actor=call.caller.key_id,
                method=call.method,
                resource=mutation.resource,
                request_id=call.request_id,
                body_digest=digest,
            )
        )
        if not mutation.request_id:
            return
        connection.execute(sa.delete(replies).where(replies.c.create_time < now - REPLIES_KEPT))
        stored = type(response)()
        stored.CopyFrom(response)
        for field in mutation.secret_fields:
            stored.ClearField(field)
        connection.execute(
            sa.insert(replies).values(
                project=call.caller.project,
                method=call.method,
                request_id=mutation.request_id,
                body_digest=digest,
                response=stored.SerializeToString(deterministic=True),
                create_time=now,
            )
        )


def body_digest(request: Message) -> str:
    """The SHA-256 of a message in its deterministic encoding, in hexadecimal."""
    return hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()


def _first_response(connection: sa.Connection, mutation: Mutation, digest: str) -> Message | None:
    if not mutation.request_id or mutation.validate_only:
        return None
    call = current_call()
    key = (call.caller.project, call.method, mutation.request_id)
    stored = _stored_reply(connection, key, digest)
    return None if stored is None else _parse(call.method, stored)


def _stored_reply(
    connection: sa.Connection, key: tuple[str, str, str], digest: str
) -> bytes | None:
    project, method, request_id = key
    row = connection.execute(
        sa.select(replies.c.body_digest, replies.c.response).where(
            replies.c.project == project,
            replies.c.method == method,
            replies.c.request_id == request_id,
        )
    ).one_or_none()
    if row is None:
        return None
    if row.body_digest != digest:
        raise DomainError(
            Code.INVALID_ARGUMENT,
            "REQUEST_ID_REUSED",
            f"request_id {errors.shown(request_id)} was used before with another body; use a new "
            "id for a new request",
        )
    return bytes(row.response)


def _parse(method: str, data: bytes) -> Message:
    found = descriptor_pool.Default().FindMethodByName(method.strip("/").replace("/", "."))
    message = message_factory.GetMessageClass(found.output_type)()
    message.ParseFromString(data)
    return message
