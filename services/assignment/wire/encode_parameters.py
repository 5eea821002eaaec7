"""Parameters and holdouts as they are sent: equal ones are encoded once and joined as bytes."""

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Value
from touchstone.assignment.v1 import assignment_service_pb2 as pb
from touchstone_assignment.parameters import ParameterDecision

from services.assignment.wire.encode_decisions import Answering


def parameters(answering: Answering, units: Sequence[Mapping[str, ParameterDecision]]) -> bytes:
    """The reply to GetParameters, serialized; `units` in the order of the request."""
    head = pb.GetParametersResponse(
        config_version=answering.snapshot.config_version, config_age_s=answering.age_s
    )
    encoded: dict[tuple[tuple[str, str, str], ...], bytes] = {}
    parts = [head.SerializeToString()]
    for values in units:
        # Of one snapshot, who set a parameter says what its value is.
        key = tuple((name, found.experiment, found.variant) for name, found in values.items())
        row = encoded.get(key)
        if row is None:
            row = encoded[key] = _parameters_of_unit(values)
        parts.append(row)
    return b"".join(parts)


def _parameters_of_unit(values: Mapping[str, ParameterDecision]) -> bytes:
    unit = pb.UnitParameters(
        values={
            name: pb.ParameterValue(
                value=_value(found.value),
                experiment=found.experiment,
                variant=found.variant,
            )
            for name, found in values.items()
        }
    )
    return pb.GetParametersResponse(units=[unit]).SerializeToString()


def _value(plain: Any) -> Value:
    return json_format.ParseDict(plain, Value())


def holdouts(config_version: int, units: Sequence[tuple[str, ...]]) -> bytes:
    """The reply to CheckHoldouts, serialized; `units` in the order of the request."""
    rows = {
        found: pb.CheckHoldoutsResponse(units=[pb.UnitHoldouts(holdouts=found)]).SerializeToString()
        for found in set(units)
    }
    head = pb.CheckHoldoutsResponse(config_version=config_version).SerializeToString()
    return b"".join([head, *[rows[found] for found in units]])
