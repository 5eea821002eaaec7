"""Channel groupings between messages and the domain."""

from google.protobuf import json_format
from touchstone.attribution.v1 import attribution_pb2 as pb
from touchstone.attribution.v1 import attribution_service_pb2 as service_pb

from services.attribution.domain.grouping import ChannelGrouping, ChannelRule, channel_of
from shared.errors import FieldViolation, invalid_fields
from shared.filters.judge import Event
from shared.filters.rules import TOUCH_FIELDS, filter_faults
from shared.filters.wire import decode_filter, encode_filter


def decode_grouping(message: pb.ChannelGrouping, path: str) -> ChannelGrouping:
    """The grouping; INVALID_ARGUMENT where a filter asks what no touch can answer."""
    faults: list[FieldViolation] = []
    rules = []
    for number, rule in enumerate(message.rules):
        at = f"{path}.rules[{number}].filter"
        condition = decode_filter(rule.filter, at, faults)
        faults += filter_faults(condition, at, TOUCH_FIELDS)
        rules.append(ChannelRule(condition, rule.channel))
    if faults:
        raise invalid_fields(faults)
    return ChannelGrouping(tuple(rules), message.otherwise)


def encode_grouping(grouping: ChannelGrouping) -> pb.ChannelGrouping:
    """The message of a grouping."""
    return pb.ChannelGrouping(
        rules=[
            pb.ChannelRule(filter=encode_filter(rule.filter), channel=rule.channel)
            for rule in grouping.rules
        ],
        otherwise=grouping.otherwise,
    )


def grouped_touches(
    request: service_pb.TestChannelGroupingRequest,
) -> service_pb.TestChannelGroupingResponse:
    """The channel of each touch, and the rule that named it."""
    grouping = decode_grouping(request.grouping, "grouping")
    found = [channel_of(_event(touch), grouping) for touch in request.touches]
    return service_pb.TestChannelGroupingResponse(
        touches=[service_pb.GroupedTouch(channel=channel, rule=number) for channel, number in found]
    )


def _event(touch: service_pb.SampleTouch) -> Event:
    """The touch as filters see it: what is not sent is None."""
    sent = touch.touchpoint
    event: dict[str, object] = {
        field.name: getattr(sent, field.name) or None
        for field in sent.DESCRIPTOR.fields
        if field.name != "cost"
    }
    cost = sent.cost if sent.HasField("cost") else None
    properties = json_format.MessageToDict(touch.properties)
    return event | {"cost": cost, "source": touch.source or None, "properties": properties}
