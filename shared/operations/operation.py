"""A long-running operation: work that a call began and does not wait for."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from google.longrunning import operations_pb2
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from shared.errors import DomainError
from shared.resource_names import resource_name

COLLECTION = "operations"
DOMAIN = "touchstone"


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation as it is stored. `request`, `progress` and `response` are packed messages."""

    project: str
    operation_id: str
    kind: str
    request: bytes
    progress: bytes
    done: bool
    response: bytes | None
    error: bytes | None
    cancel_requested: bool
    attempts: int
    create_time: dt.datetime
    end_time: dt.datetime | None

    @property
    def name(self) -> str:
        """Its resource name."""
        return resource_name(self.project, COLLECTION, self.operation_id)


def packed(message: Message) -> bytes:
    """A message together with its type."""
    box = Any()
    box.Pack(message, deterministic=True)
    return box.SerializeToString(deterministic=True)


def operation_message(operation: Operation) -> operations_pb2.Operation:
    """An operation as google.longrunning says it."""
    message = operations_pb2.Operation(
        name=operation.name, metadata=Any.FromString(operation.progress), done=operation.done
    )
    if operation.error is not None:
        message.error.ParseFromString(operation.error)
    elif operation.response is not None:
        message.response.ParseFromString(operation.response)
    return message


def failure(error: DomainError) -> bytes:
    """The error that an operation ended with, as google.rpc.Status."""
    status = status_pb2.Status(
        code=code_pb2.Code.Value(error.code.value), message=error.message[:1000]
    )
    info = error_details_pb2.ErrorInfo(
        reason=error.reason, domain=DOMAIN, metadata=dict(error.metadata)
    )
    status.details.add().Pack(info)
    data: bytes = status.SerializeToString(deterministic=True)
    return data


def cancellation() -> bytes:
    """The error of an operation that was cancelled."""
    status = status_pb2.Status(code=code_pb2.CANCELLED, message="cancelled by CancelOperation")
    data: bytes = status.SerializeToString(deterministic=True)
    return data
