"""The one table between domain errors and gRPC statuses, in both directions."""

from __future__ import annotations

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from shared.errors import Code, DomainError, FieldViolation

DOMAIN = "touchstone"
REQUEST_ID = "x-request-id"
# A status travels as metadata, of which clients take 8 KiB: its message twice, once with each byte
# that is not ASCII written as three, and its details in base 64.
_MAX_MESSAGE_BYTES = 700
_MAX_VIOLATIONS = 20
_MAX_VIOLATIONS_BYTES = 3000


def to_status(error: DomainError, request_id: str) -> grpc.Status:
    """The status of an error, with ErrorInfo, and BadRequest and RetryInfo where they apply."""
    message = error.message.encode()[:_MAX_MESSAGE_BYTES].decode(errors="ignore")
    status = status_pb2.Status(code=code_pb2.Code.Value(error.code.value), message=message)
    info = error_details_pb2.ErrorInfo(
        reason=error.reason, domain=DOMAIN, metadata={**error.metadata, "request_id": request_id}
    )
    status.details.add().Pack(info)
    if error.violations:
        bad = error_details_pb2.BadRequest()
        for violation in error.violations[:_MAX_VIOLATIONS]:
            bad.field_violations.add(
                field=violation.field[:200], description=violation.description[:300]
            )
            if bad.ByteSize() > _MAX_VIOLATIONS_BYTES:
                del bad.field_violations[-1]
                break
        status.details.add().Pack(bad)
    if error.retry_after_s is not None:
        delay = Duration()
        delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    wire = rpc_status.to_status(status)
    # What a call ends with replaces the trailing metadata that was set before.
    metadata = (*wire.trailing_metadata, (REQUEST_ID, request_id))
    ended: grpc.Status = wire._replace(trailing_metadata=metadata)
    return ended


def from_rpc_error(error: grpc.Call | grpc.aio.AioRpcError) -> DomainError:
    """What a failed call to one of our services says.

    A failure without our ErrorInfo comes from the transport or from another program; its reason
    is then DEPENDENCY_UNAVAILABLE.
    """
    name = error.code().name
    status = _rich_status(error)
    if status is None:
        code = Code[name] if name in Code.__members__ else Code.UNAVAILABLE
        return DomainError(code, "DEPENDENCY_UNAVAILABLE", error.details() or name)
    return _from_details(name, status)


def _rich_status(error: grpc.Call | grpc.aio.AioRpcError) -> status_pb2.Status | None:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            return status_pb2.Status.FromString(value)
    return None


def _from_details(name: str, status: status_pb2.Status) -> DomainError:
    info = error_details_pb2.ErrorInfo(reason="DEPENDENCY_UNAVAILABLE")
    bad, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    for detail in status.details:
        for message in (info, bad, retry):
            detail.Unpack(message)
    return DomainError(
        Code[name] if name in Code.__members__ else Code.INTERNAL,
        info.reason,
        status.message,
        metadata=dict(info.metadata),
        violations=[FieldViolation(v.field, v.description) for v in bad.field_violations],
        retry_after_s=retry.retry_delay.ToNanoseconds() / 1e9
        if retry.HasField("retry_delay")
        else None,
    )
