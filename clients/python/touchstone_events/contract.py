"""The contract's messages, in a descriptor pool of their own.

A product may hold other copies of the same protos, of its own or of another library; the pool that
a process shares would refuse the second one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

LOG_EVENTS = "/touchstone.events.v1.EventsService/LogEvents"
EVENTS_TAG = b"\x0a"
"""Before each event of a LogEventsRequest: field 1, length-delimited."""
_UNLINK = "IDENTIFY_ACTION_UNLINK"
_REASON_PREFIX = "REJECTION_REASON_"


@dataclass(frozen=True, slots=True)
class Contract:
    """The message classes that the client needs. Protobuf makes them, so they are untyped."""

    event: Callable[[], Any]
    reply: Any
    status: Any
    retry_info: Any
    unlink: int
    reasons: dict[int, str]
    """The names of the rejection reasons, without their prefix."""


@cache
def contract() -> Contract:
    """Reads the contract that lies beside this module; FileNotFoundError when it was not made."""
    pool = read_pool(__package__)

    def message(name: str) -> Any:
        return GetMessageClass(pool.FindMessageTypeByName(name))

    actions = pool.FindEnumTypeByName("touchstone.events.v1.IdentifyAction")
    reasons = pool.FindEnumTypeByName("touchstone.events.v1.RejectionReason")
    return Contract(
        event=message("touchstone.events.v1.Event"),
        reply=message("touchstone.events.v1.LogEventsResponse"),
        status=message("google.rpc.Status"),
        retry_info=message("google.rpc.RetryInfo"),
        unlink=actions.values_by_name[_UNLINK].number,
        reasons={value.number: value.name.removeprefix(_REASON_PREFIX) for value in reasons.values},
    )


def read_pool(package: str) -> DescriptorPool:
    """A pool of its own with the contract of a package; FileNotFoundError when it was not made."""
    try:
        stored = files(package).joinpath("contract.binpb").read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"contract.binpb of {package} is missing: in a clone, run `make proto`; "
            "elsewhere, install the wheel anew"
        ) from error
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(stored).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool
