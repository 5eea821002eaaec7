"""Why a flag cannot be answered, in the words of OpenFeature."""

import enum
from collections.abc import Sequence

from shared import errors
from shared.errors import Code, DomainError, FieldViolation


class FlagFault(enum.StrEnum):
    """The error codes of OpenFeature that a flag may end with."""

    FLAG_NOT_FOUND = "FLAG_NOT_FOUND"
    TYPE_MISMATCH = "TYPE_MISMATCH"
    TARGETING_KEY_MISSING = "TARGETING_KEY_MISSING"
    INVALID_CONTEXT = "INVALID_CONTEXT"


class FlagError(DomainError):
    """A flag that cannot be answered; `key` is the flag's, `fault` what OpenFeature calls it."""

    def __init__(
        self,
        key: str,
        fault: FlagFault,
        error: DomainError,
    ) -> None:
        super().__init__(
            error.code,
            error.reason,
            error.message,
            metadata=error.metadata,
            violations=error.violations,
        )
        self.key = key
        self.fault = fault


def flag_not_found(key: str) -> FlagError:
    """The project has no such flag."""
    return FlagError(key, FlagFault.FLAG_NOT_FOUND, errors.not_found("flag", key))


def type_mismatch(key: str, asked: str, is_of: str) -> FlagError:
    """The flag was asked for as another type than it has."""
    allowed = f"the type of the flag, {is_of}"
    return FlagError(key, FlagFault.TYPE_MISMATCH, errors.invalid("type", asked, allowed))


def targeting_key_missing(key: str, unit_type: str) -> FlagError:
    """Nothing in the context is the id that decides the flag."""
    message = (
        f"flag {key!r} is decided by the id of a {unit_type}, and the context holds none; send "
        f"it as the targeting key or as the attribute {unit_type!r}, text of 1 to 256 bytes"
    )
    error = DomainError(Code.FAILED_PRECONDITION, "TARGETING_KEY_MISSING", message)
    return FlagError(key, FlagFault.TARGETING_KEY_MISSING, error)


def invalid_context(key: str, names: Sequence[str]) -> FlagError:
    """Some ids of the context cannot be ids; their values are not repeated."""
    allowed = "is no id; allowed: text of 1 to 256 bytes in UTF-8 without control characters"
    error = DomainError(
        Code.FAILED_PRECONDITION,
        "INVALID_CONTEXT",
        f"context {', '.join(names)} {allowed}",
        violations=[FieldViolation(f"context.{name}", allowed) for name in names],
    )
    return FlagError(key, FlagFault.INVALID_CONTEXT, error)
