"""Between the messages of the identity service and what they mean."""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.common.v1 import unit_pb2
from touchstone.events.v1 import identity_service_pb2 as pb

from services.events.application.identity_policy import Patch
from shared import errors
from shared.errors import shown
from shared.identity.graph import EdgeState
from shared.identity.identity import Identity, ResolvedIdentity, instant
from shared.identity.log import UnitId
from shared.identity.policy import DEFAULT_LIMIT, IdType, StoredPolicy
from shared.identity.store import policy_name

MICROSECONDS = 1_000_000
_STATES = {
    EdgeState.ACTIVE: pb.IDENTITY_EDGE_STATE_ACTIVE,
    EdgeState.UNLINKED: pb.IDENTITY_EDGE_STATE_UNLINKED,
    EdgeState.REFUSED_LIMIT: pb.IDENTITY_EDGE_STATE_REFUSED_LIMIT,
    EdgeState.REFUSED_BLOCKED_ID: pb.IDENTITY_EDGE_STATE_REFUSED_BLOCKED_ID,
    EdgeState.REFUSED_SAME_UNIT: pb.IDENTITY_EDGE_STATE_REFUSED_SAME_UNIT,
    EdgeState.UNLINK: pb.IDENTITY_EDGE_STATE_UNLINK,
}


def _id_types(policy: pb.IdentityPolicy) -> tuple[IdType, ...]:
    return tuple(IdType(one.type, one.limit, one.rank) for one in policy.id_types)


# What an update mask may name, and how it is read.
UPDATABLE: Mapping[str, Callable[[pb.IdentityPolicy], Any]] = {
    "id_types": _id_types,
    "default_limit": lambda policy: policy.default_limit or DEFAULT_LIMIT,
    "blocked_ids": lambda policy: tuple(policy.blocked_ids),
}


def decode_patch(policy: pb.IdentityPolicy, paths: Sequence[str]) -> Patch:
    """The change that an update asks for; INVALID_ARGUMENT for a field that cannot change."""
    allowed = f"one or more of {', '.join(UPDATABLE)}"
    if not paths:
        raise errors.invalid("update_mask", "", allowed)
    for path in paths:
        if path not in UPDATABLE:
            raise errors.invalid("update_mask", path, allowed)
    fields = {path: UPDATABLE[path](policy) for path in paths}
    return lambda old: replace(old, **fields)


def decode_unit(unit: unit_pb2.UnitId) -> UnitId:
    """Type and id."""
    return unit.type, unit.id


def decode_as_of(
    request: pb.ResolveIdentityRequest | pb.BatchResolveIdentitiesRequest,
) -> int | None:
    """Microseconds since 1970 UTC, None where no time is asked for."""
    if not request.HasField("as_of_time"):
        return None
    time: Timestamp = request.as_of_time
    if not 0 <= time.nanos < 1_000_000_000:
        raise errors.invalid("as_of_time.nanos", time.nanos, "0 to 999999999")
    return time.seconds * MICROSECONDS + time.nanos // 1000


def encode_policy(stored: StoredPolicy, project: str) -> pb.IdentityPolicy:
    """A policy as its owner sees it."""
    policy = stored.policy
    return pb.IdentityPolicy(
        name=policy_name(project),
        id_types=[
            pb.IdTypePolicy(type=one.name, limit=one.limit, rank=one.rank)
            for one in policy.id_types
        ],
        default_limit=policy.default_limit,
        blocked_ids=policy.blocked_ids,
        version=stored.version,
        create_time=_timestamp(stored.create_time),
        etag=stored.etag,
    )


def encode_identity(found: ResolvedIdentity) -> pb.Identity:
    """An identity with its members."""
    return pb.Identity(
        canonical=_unit(found.canonical),
        members=[
            pb.IdentityMember(unit=_unit(one.unit), first_seen_time=_timestamp(one.first_seen))
            for one in found.members
        ],
    )


def encode_edge(identity: Identity, row: int) -> pb.IdentityEdge:
    """An entry of the edge log, and what became of it."""
    log, edges = identity.log, identity.log.edges
    state = EdgeState(int(identity.graph.states[row]))
    return pb.IdentityEdge(
        event_id=log.event_ids[row].as_py(),
        unit=_unit(log.unit(int(edges.first[row]))),
        other_unit=_unit(log.unit(int(edges.second[row]))),
        event_time=_timestamp(instant(int(edges.times_us[row]))),
        state=_STATES[state],
        reason=_reason(identity, row, state),
    )


def _reason(identity: Identity, row: int, state: EdgeState) -> str:
    edges = identity.log.edges
    if state is EdgeState.REFUSED_LIMIT:
        id_type = identity.log.type_names[identity.graph.full_types[row]]
        limit = identity.stored.policy.limit(id_type)
        return (
            f"the identity would hold more ids of type {id_type} than the {limit} that its policy "
            "allows: unlink the wrong ones, or raise the limit"
        )
    if state is EdgeState.REFUSED_BLOCKED_ID:
        ends = (int(edges.first[row]), int(edges.second[row]))
        blocked = next(end for end in ends if identity.graph.units.blocked[end])
        return f"{shown(identity.log.unit(blocked)[1])} is a placeholder, which never links"
    if state is EdgeState.REFUSED_SAME_UNIT:
        return "both ids are the same unit"
    return "a later identify event unlinked the two ids" if state is EdgeState.UNLINKED else ""


def _unit(unit: UnitId) -> unit_pb2.UnitId:
    return unit_pb2.UnitId(type=unit[0], id=unit[1])


def _timestamp(time: dt.datetime | None) -> Timestamp | None:
    if time is None:
        return None
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp
