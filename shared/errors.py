"""The errors of every service: one root, which the server kit turns into a gRPC status.

DomainError
|- made by: invalid, malformed        INVALID_ARGUMENT
|           not_found                 NOT_FOUND
|           already_exists            ALREADY_EXISTS
|           wrong_state, in_use       FAILED_PRECONDITION
|           stale_etag                ABORTED
|           limit_exceeded            RESOURCE_EXHAUSTED
|           overloaded                RESOURCE_EXHAUSTED, with a delay
|           unavailable               UNAVAILABLE
|           denied, unauthenticated   PERMISSION_DENIED, UNAUTHENTICATED
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

_SHOWN = 80


class Code(enum.Enum):
    """The canonical codes that a service may answer with."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    UNAVAILABLE = "UNAVAILABLE"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field that is wrong: its path in the request, and what is wrong, which value, what is
    allowed.
    """

    field: str
    description: str


class DomainError(Exception):
    """A failure that the caller is told about.

    `reason` is the name of an ErrorReason without its prefix. `metadata` holds names and limits
    for a program, never personal data. `retry_after_s` asks the caller to wait before it calls
    again.
    """

    def __init__(
        self,
        code: Code,
        reason: str,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[FieldViolation] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_after_s = retry_after_s


def shown(value: object) -> str:
    """A value as an error message shows it: printable, and cut when it is long."""
    # What an enum prints of itself is for programmers: its value is what was sent.
    text = ascii(value.value if isinstance(value, enum.Enum) else value)
    if len(text) <= _SHOWN:
        return text
    return f"{text[:_SHOWN]}... ({len(text)} characters)"


def invalid(field: str, value: object, allowed: str) -> DomainError:
    """A field holds a value that is not allowed."""
    description = f"is {shown(value)}; allowed: {allowed}"
    return DomainError(
        Code.INVALID_ARGUMENT,
        "INVALID_FIELD",
        f"{field} {description}",
        violations=[FieldViolation(field, description)],
    )


def invalid_fields(violations: Sequence[FieldViolation]) -> DomainError:
    """Several fields hold values that are not allowed; every one is named."""
    message = "; ".join(f"{v.field} {v.description}" for v in violations[:5])
    if len(violations) > 5:
        message += f"; and {len(violations) - 5} more"
    return DomainError(
        Code.INVALID_ARGUMENT, "INVALID_FIELD", message, violations=tuple(violations[:100])
    )


@contextmanager
def fields_of(path: str) -> Iterator[None]:
    """What is wrong with fields within is told with the path of the message that holds them."""
    try:
        yield
    except DomainError as error:
        if not error.violations:
            raise
        violations = [
            FieldViolation(f"{path}.{each.field}", each.description) for each in error.violations
        ]
        raise invalid_fields(violations) from error


def not_found(kind: str, name: str) -> DomainError:
    """The caller's project has no such resource."""
    return DomainError(
        Code.NOT_FOUND,
        "RESOURCE_NOT_FOUND",
        f"no {kind} {shown(name)} in the project of this credential; list what there is",
        metadata={"kind": kind},
    )


def already_exists(kind: str, name: str) -> DomainError:
    """The id is taken."""
    return DomainError(
        Code.ALREADY_EXISTS,
        "RESOURCE_EXISTS",
        f"{kind} {shown(name)} exists; choose another id, or get and update that one",
        metadata={"kind": kind},
    )


def failed_precondition(reason: str, message: str) -> DomainError:
    """Something else must change before the call can succeed."""
    return DomainError(Code.FAILED_PRECONDITION, reason, message)


def wrong_state(name: str, state: str, verb: str, allowed: str) -> DomainError:
    """The resource's state does not allow the verb."""
    return DomainError(
        Code.FAILED_PRECONDITION,
        "WRONG_STATE",
        f"{shown(name)} is {state}: {verb} needs {allowed}",
        metadata={"state": state},
    )


def in_use(name: str, users: Sequence[str]) -> DomainError:
    """Others need the resource as it is; they are named."""
    more = f" and {len(users) - 10} more" if len(users) > 10 else ""
    return DomainError(
        Code.FAILED_PRECONDITION,
        "IN_USE",
        f"{shown(name)} is used by {', '.join(users[:10])}{more}: end or change these first",
    )


def stale_etag(name: str, given: str, current: str) -> DomainError:
    """Somebody changed the resource since the caller read it."""
    return DomainError(
        Code.ABORTED,
        "STALE_ETAG",
        f"{shown(name)} has etag {shown(current)}, not {shown(given)}: somebody changed it; "
        "get it again and repeat the change",
    )


def limit_exceeded(limit: str, value: object, allowed: object) -> DomainError:
    """A named limit was exceeded."""
    return DomainError(
        Code.RESOURCE_EXHAUSTED,
        "LIMIT_EXCEEDED",
        f"{limit} is {shown(value)}; at most {shown(allowed)}",
        metadata={"limit": limit},
    )


def overloaded(message: str, retry_after_s: float) -> DomainError:
    """A queue is full; nothing of the call was done."""
    return DomainError(Code.RESOURCE_EXHAUSTED, "OVERLOADED", message, retry_after_s=retry_after_s)


def unavailable(reason: str, message: str, retry_after_s: float | None = 1.0) -> DomainError:
    """The service cannot keep its promise now; the same call may succeed later."""
    return DomainError(Code.UNAVAILABLE, reason, message, retry_after_s=retry_after_s)
