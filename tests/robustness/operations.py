"""Long-running operations of the events service, as a client waits for them."""

from __future__ import annotations

import time
from typing import Any

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc

OPERATION_S = 120.0


def wait(channel: grpc.Channel, operation: operations_pb2.Operation, key: str) -> Any:
    """The operation when it is done; AssertionError when it failed or takes too long."""
    stub = operations_pb2_grpc.OperationsStub(channel)
    metadata = (("authorization", f"Bearer {key}"),)
    end = time.monotonic() + OPERATION_S
    while not operation.done:
        assert time.monotonic() < end, f"{operation.name} is not done"
        time.sleep(0.1)
        request = operations_pb2.GetOperationRequest(name=operation.name)
        operation = stub.GetOperation(request, timeout=10, metadata=metadata)
    assert not operation.HasField("error"), operation.error
    return operation
