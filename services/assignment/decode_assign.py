"""From the requests of AssignmentService to commands."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.assignment.v1 import assignment_service_pb2 as pb
from touchstone.common.v1 import unit_pb2
from touchstone_assignment.subject import Subject
from touchstone_assignment.values import plain_struct

from services.assignment.application.assign import AssignUnits
from services.assignment.application.snapshots import Snapshot
from shared import errors


def assign(request: pb.AssignRequest, snapshot: Snapshot, now_s: float) -> AssignUnits:
    """The command; attributes are read only when some experiment that is asked for reads them."""
    experiments = tuple(request.experiments)
    reading = snapshot.reading
    attributes = bool(reading) and (not experiments or not reading.isdisjoint(experiments))
    units = subjects(request.units, now_s, attributes=attributes)
    return AssignUnits(units, experiments)


def subjects(
    sent: Sequence[pb.UnitContext], now_s: float, *, attributes: bool = True
) -> list[Subject]:
    """The units with their ids by type, of which each may stand once, else INVALID_ARGUMENT."""
    units: list[Subject] = []
    for unit in sent:
        # Each access to a message's field makes an object: with thousands of units that counts.
        ids = unit.ids
        if len(ids) == 1:
            only = ids[0]
            found: Mapping[str, str] = {only.type: only.id}
        else:
            found = _ids(len(units), ids)
        if attributes and unit.HasField("attributes"):
            units.append(Subject(found, plain_struct(unit.attributes), now_s))
        else:
            units.append(Subject(found, now_s=now_s))
    return units


def replay_time_s(request: pb.AssignRequest, now: datetime) -> float:
    """The time that an older version decides at; INVALID_ARGUMENT without a version."""
    if not request.HasField("time"):
        return now.timestamp()
    if not request.config_version:
        raise errors.invalid(
            "time",
            request.time.ToJsonString() if _in_range(request.time) else request.time.seconds,
            "none without config_version: what is decided now is decided at the server's time",
        )
    if not _in_range(request.time):
        allowed = "a time from 0001-01-01T00:00:00Z to 9999-12-31T23:59:59Z"
        raise errors.invalid("time", request.time.seconds, allowed)
    return request.time.ToDatetime(UTC).timestamp()


def _in_range(time: Timestamp) -> bool:
    try:
        time.ToDatetime(UTC)
    except (ValueError, OverflowError):
        return False
    return True


def _ids(index: int, ids: Sequence[unit_pb2.UnitId]) -> Mapping[str, str]:
    found = {sent.type: sent.id for sent in ids}
    if len(found) < len(ids):
        types = [sent.type for sent in ids]
        raise errors.invalid(f"units[{index}].ids", types, "one id of each type")
    return found
