"""Who is calling: decided once by the server kit from the credential, read everywhere else."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


class Role(enum.Enum):
    """A role within a project. The values are the numbers of touchstone.common.v1.Role."""

    VIEWER = 1
    EXPERIMENTER = 2
    ADMIN = 3
    ASSIGN = 4
    INGEST = 5
    OPERATOR = 6


PROJECT_ROLES = frozenset(Role) - {Role.OPERATOR}
"""The roles that the holder of a project may have and give: none reaches beyond the project."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The holder of a valid credential. The project is the tenant of everything it does."""

    project: str
    key_id: str
    roles: frozenset[Role]


@dataclass(frozen=True, slots=True)
class Call:
    """One RPC in progress. `authorization` is the header to forward to another service."""

    caller: Caller
    method: str
    request_id: str
    authorization: str


CALL: ContextVar[Call] = ContextVar("call")


def current_call() -> Call:
    """The RPC being served. Raises LookupError outside of one."""
    return CALL.get()


def current_caller() -> Caller:
    """Who is calling. Raises LookupError outside of an RPC."""
    return CALL.get().caller


@contextmanager
def acting_as(call: Call) -> Iterator[None]:
    """Within the block the service acts as this call says: by itself, where nobody called."""
    token = CALL.set(call)
    try:
        yield
    finally:
        CALL.reset(token)
