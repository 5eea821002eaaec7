"""From the contract's messages to commands; what a message cannot mean is INVALID_ARGUMENT."""

from collections.abc import Mapping, Sequence

from touchstone.assignment.v1 import assignment_service_pb2
from touchstone.common.v1 import unit_pb2
from touchstone_assignment.subject import Subject
from touchstone_assignment.values import plain_struct

from services.assignment.application.assign import AssignUnits
from shared import errors


def assign(request: assignment_service_pb2.AssignRequest, now_s: float) -> AssignUnits:
    """The command: the ids of each unit by their type, which may stand once."""
    units: list[Subject] = []
    for unit in request.units:
        # Each access to a message's field makes an object: with thousands of units that counts.
        ids = unit.ids
        if len(ids) == 1:
            only = ids[0]
            found: Mapping[str, str] = {only.type: only.id}
        else:
            found = _ids(len(units), ids)
        attributes = plain_struct(unit.attributes) if unit.HasField("attributes") else {}
        units.append(Subject(found, attributes, now_s))
    return AssignUnits(units, tuple(request.experiments))


def _ids(index: int, ids: Sequence[unit_pb2.UnitId]) -> Mapping[str, str]:
    found = {sent.type: sent.id for sent in ids}
    if len(found) < len(ids):
        types = [sent.type for sent in ids]
        raise errors.invalid(f"units[{index}].ids", types, "one id of each type")
    return found
