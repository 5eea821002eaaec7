"""From the requests of AssignmentService to commands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType

from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.assignment.v1 import assignment_service_pb2 as pb
from touchstone.common.v1 import unit_pb2
from touchstone_assignment.subject import Subject
from touchstone_assignment.values import plain_struct

from services.assignment.application.assign import AssignUnits
from services.assignment.application.snapshots import Snapshot
from services.assignment.domain.experiment import ID, UNIT_TYPE
from shared import errors
from shared.server.validation import RequestValidator

# What the contract allows; a test holds them against it.
MOST_UNITS, MOST_EXPERIMENTS, MOST_IDS = 5_000, 1_000, 16
MOST_CHARACTERS = 64
_NOTHING: Mapping[str, object] = MappingProxyType({})


def assign(
    request: pb.AssignRequest, snapshot: Snapshot, now_s: float, validator: RequestValidator
) -> AssignUnits:
    """The command; attributes are read only when some experiment that is asked for reads them.

    INVALID_ARGUMENT for what the contract forbids. Its rules cost as much as all else together, so
    that a request that keeps them for certain is not held against them one by one.
    """
    experiments = tuple(request.experiments)
    reading = snapshot.reading
    attributes = bool(reading) and (not experiments or not reading.isdisjoint(experiments))
    sent = request.units
    seen = Ids()
    if not 0 < len(sent) <= MOST_UNITS or not _keep_rules(request, experiments):
        validator.check(request, per_item="")
    units = subjects(sent, now_s, attributes=attributes, seen=seen)
    if not seen.certain():
        validator.check(request, per_item="")
    return AssignUnits(units, experiments)


@dataclass(slots=True)
class Ids:
    """All ids of a request, to be judged at once: one by one costs as much as deciding."""

    types: set[str] = field(default_factory=set)
    names: list[str] = field(default_factory=list)
    most: int = 1
    """The most that one unit has; 0 when one has none."""

    def certain(self) -> bool:
        """Whether they keep the rules of the contract for certain."""
        return (
            0 < self.most <= MOST_IDS
            and all(UNIT_TYPE.fullmatch(kind) for kind in self.types)
            and all(self.names)
            # Four bytes a character at most; what is printable holds no control characters.
            and max(map(len, self.names)) <= MOST_CHARACTERS
            and "".join(self.names).isprintable()
        )


def subjects(
    sent: Sequence[pb.UnitContext],
    now_s: float,
    *,
    attributes: bool = True,
    seen: Ids | None = None,
) -> list[Subject]:
    """The units with their ids by type, of which each may stand once, else INVALID_ARGUMENT.

    `seen` notes the ids.
    """
    seen = seen or Ids()
    see_type, see_name = seen.types.add, seen.names.append
    units: list[Subject] = []
    for unit in sent:
        # Each access to a message's field makes an object: with thousands of units that counts.
        ids = unit.ids
        if len(ids) == 1:
            only = ids[0]
            kind, name = only.type, only.id
            see_type(kind)
            see_name(name)
            found: Mapping[str, str] = {kind: name}
        else:
            found = _ids(len(units), ids)
            seen.types.update(found)
            seen.names.extend(found.values())
            seen.most = max(seen.most, len(found)) if found and seen.most else 0
        if attributes and unit.HasField("attributes"):
            units.append(Subject(found, plain_struct(unit.attributes), now_s))
        else:
            units.append(Subject(found, _NOTHING, now_s))
    return units


def _keep_rules(request: pb.AssignRequest, experiments: Sequence[str]) -> bool:
    return (
        len(experiments) <= MOST_EXPERIMENTS
        and len(set(experiments)) == len(experiments)
        and all(ID.fullmatch(one) for one in experiments)
        and request.config_version >= 0
    )


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
