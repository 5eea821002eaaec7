"""What a failed command tells the person at the terminal, and what it suggests to do next."""

from __future__ import annotations

import re
from typing import Any

import grpc
from google.rpc import code_pb2, error_details_pb2, status_pb2

from services.cli.terminal import printable
from shared.errors import Code, DomainError
from shared.server.status import from_rpc_error

FAILED = 1
USAGE = 2
REJECTED = 3
_SHOWN_VIOLATIONS = 20
# As gRPC says it, before any service of ours sees the call.
_TOO_LARGE = re.compile(r"Received message larger than max \((\d+) vs\. (\d+)\)")
# As the services say it of a call that is for the operator alone.
_FOR_OPERATORS = "needs one of the roles operator;"
_OPERATOR_NEXT = (
    "no project's admin can give that role: run `touchstone keys bootstrap --operator` on the "
    "machine of the services, and call with the key in operator.key"
)

NEXT = {
    Code.UNAUTHENTICATED: "set TOUCHSTONE_API_KEY to a valid key, or name the data folder that "
    "holds owner.key with --data",
    Code.PERMISSION_DENIED: "ask for a key with that role: `touchstone keys create --role ...` "
    "with an admin's key",
    Code.ABORTED: "read it again, then repeat the change",
    Code.DEADLINE_EXCEEDED: "try again; if it stays slow, look at `touchstone doctor`",
}


def from_call(error: Any) -> DomainError:
    """The error of a failed call of a stub; of one that reached no service, how to start it."""
    found: DomainError = from_rpc_error(error)
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return DomainError(
            Code.FAILED_PRECONDITION,
            "NEWER_VERSION",
            "the service does not know this call: it is of another version, or of another program; "
            "look at the addresses that `touchstone doctor` shows",
        )
    if too_large := _TOO_LARGE.search(found.message):
        size, most = (int(text) for text in too_large.groups())
        return DomainError(
            Code.RESOURCE_EXHAUSTED,
            "MESSAGE_TOO_LARGE",
            f"the request is of {size:,} bytes, and the service takes at most {most:,}: send less "
            "at once, or let its operator raise TOUCHSTONE_MAX_MESSAGE_BYTES",
        )
    from_service = "request_id" in found.metadata
    if found.code is Code.UNAVAILABLE and not from_service:
        return DomainError(
            Code.UNAVAILABLE,
            "NOT_RUNNING",
            f"no service answers ({found.message}); start it with `touchstone up`, or set "
            "TOUCHSTONE_<SERVICE>_ADDRESS to where it runs",
        )
    return found


def from_operation(error: status_pb2.Status) -> DomainError:
    """The error that an operation ended with."""
    info = error_details_pb2.ErrorInfo()
    for detail in error.details:
        detail.Unpack(info)
    name = code_pb2.Code.Name(code_pb2.Code.ValueType(error.code))
    # No call of ours ends with some of the codes, as an operation that was cancelled does.
    code = Code[name] if name in Code.__members__ else Code.FAILED_PRECONDITION
    return DomainError(code, info.reason, error.message, metadata=dict(info.metadata))


def lines(error: DomainError) -> list[str]:
    """The lines to show: the error, each violation when there are several, what to do next."""
    shown = [f"error: {error.message}"]
    if len(error.violations) > 1:
        shown = ["error: the request breaks several rules"]
        for violation in error.violations[:_SHOWN_VIOLATIONS]:
            shown.append(f"  {violation.field} {violation.description}")
        if (rest := len(error.violations) - _SHOWN_VIOLATIONS) > 0:
            shown.append(f"  and {rest} more")
    if error.retry_after_s is not None:
        shown.append(f"  next: try again in {error.retry_after_s:g} s")
    elif error.code is Code.PERMISSION_DENIED and _FOR_OPERATORS in error.message:
        shown.append(f"  next: {_OPERATOR_NEXT}")
    elif error.code in NEXT and "--data" not in error.message:
        shown.append(f"  next: {NEXT[error.code]}")
    elif error.code is Code.INTERNAL and (request_id := error.metadata.get("request_id")):
        shown.append(f"  next: look for request {request_id} in the service's log")
    return [printable(line) for line in shown]
