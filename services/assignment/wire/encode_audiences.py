"""From an audience to the contract's message."""

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.assignment.v1 import audience_pb2

from services.assignment.domain.audience import Audience
from services.assignment.wire.condition_text import named_condition
from shared.resource_names import resource_name


def audience(found: Audience) -> audience_pb2.Audience:
    """The audience as it is sent."""
    sent = audience_pb2.Audience(
        name=resource_name(found.project, "audiences", found.resource_id),
        display_name=found.display_name,
        description=found.description,
        config_version=found.config_version,
        etag=found.etag,
        create_time=_time(found.create_time),
        update_time=_time(found.update_time),
    )
    members = found.members
    if isinstance(members, str):
        sent.condition.CopyFrom(named_condition(members, found.project))
    else:
        sent.id_list.unit_type = members.unit_type
        sent.id_list.count = members.count
        sent.id_list.digest = members.digest
    return sent


def _time(time: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp
