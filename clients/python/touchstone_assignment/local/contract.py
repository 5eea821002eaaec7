"""The contract's messages, in a descriptor pool of their own.

A product may hold other copies of the same protos; the pool that a process shares would refuse the
second one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from google.protobuf.message_factory import GetMessageClass
from touchstone_events.contract import read_pool

_PACKAGE = "touchstone.assignment.v1"
_SERVICE = f"/{_PACKAGE}.AssignmentService"
WATCH, ID_LIST = f"{_SERVICE}/WatchConfig", f"{_SERVICE}/GetIdList"
ASSIGN, PARAMETERS = f"{_SERVICE}/Assign", f"{_SERVICE}/GetParameters"
_REASON_PREFIX = "DECISION_REASON_"


@dataclass(frozen=True, slots=True)
class Contract:
    """The message classes that are needed. Protobuf makes them, so they are untyped."""

    ruleset: Any
    watch_request: Any
    watch_response: Any
    id_list_request: Any
    id_list_response: Any
    assign_request: Any
    assign_response: Any
    parameters_request: Any
    parameters_response: Any
    reasons: dict[int, str]
    """The names of the decision reasons, without their prefix."""


@cache
def contract() -> Contract:
    """Reads the contract that lies beside this module; FileNotFoundError when it was not made."""
    pool = read_pool(__package__)

    def message(name: str) -> Any:
        return GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))

    reasons = pool.FindEnumTypeByName(f"{_PACKAGE}.DecisionReason").values
    return Contract(
        ruleset=message("Ruleset"),
        watch_request=message("WatchConfigRequest"),
        watch_response=message("WatchConfigResponse"),
        id_list_request=message("GetIdListRequest"),
        id_list_response=message("GetIdListResponse"),
        assign_request=message("AssignRequest"),
        assign_response=message("AssignResponse"),
        parameters_request=message("GetParametersRequest"),
        parameters_response=message("GetParametersResponse"),
        reasons={each.number: each.name.removeprefix(_REASON_PREFIX) for each in reasons},
    )
