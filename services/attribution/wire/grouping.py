"""Channel groupings between messages and the domain."""

from google.protobuf import json_format
from touchstone.attribution.v1 import attribution_pb2 as pb
from touchstone.attribution.v1 import attribution_service_pb2 as service_pb

from services.attribution.domain.grouping import ChannelGrouping, ChannelRule, channel_of
from shared.errors import FieldViolation, invalid, invalid_fields
from shared.filters.judge import Event
from shared.filters.rules import TOUCH_FIELDS, filter_faults
from shared.filters.wire import decode_filter, encode_filter


def decode_grouping(message: pb.ChannelGrouping, path: str) -> ChannelGrouping:
    """The grouping; INVALID_ARGUMENT where a filter asks what no touch can answer.

    One that only names what is kept has to be looked up before; see `resolved_definition`.
    """
    if is_reference(message):
        raise invalid(f"{path}.name", message.name, "rules: this call uses no kept grouping")
    faults: list[FieldViolation] = []
    rules = []
    for number, rule in enumerate(message.rules):
        at = f"{path}.rules[{number}].filter"
        condition = decode_filter(rule.filter, at, faults)
        faults += filter_faults(condition, at, TOUCH_FIELDS)
        rules.append(ChannelRule(condition, rule.channel))
    if faults:
        raise invalid_fields(faults)
    return ChannelGrouping(tuple(rules), message.otherwise, message.name, message.version)


def is_reference(message: pb.ChannelGrouping) -> bool:
    """Whether it says which grouping, and not what it is."""
    return bool(message.name) and not message.rules and not message.otherwise


def encode_grouping(grouping: ChannelGrouping) -> pb.ChannelGrouping:
    """The message of a grouping."""
    return pb.ChannelGrouping(
        rules=[
            pb.ChannelRule(filter=encode_filter(rule.filter), channel=rule.channel)
            for rule in grouping.rules
        ],
        otherwise=grouping.otherwise,
        name=grouping.name,
        version=grouping.version,
    )


def grouped_touches(
    request: service_pb.TestChannelGroupingRequest, kept: pb.ChannelGrouping | None = None
) -> service_pb.TestChannelGroupingResponse:
    """The channel of each touch, and the rule that named it; of an edit of `kept` what changes."""
    events = [_event(touch) for touch in request.touches]
    only_kept = kept is not None and is_reference(request.grouping)
    tried = kept if kept is not None and only_kept else request.grouping
    grouping = decode_grouping(tried, "grouping")
    answer = service_pb.TestChannelGroupingResponse(version=0 if kept is None else kept.version)
    before = None if kept is None or only_kept else decode_grouping(kept, "grouping")
    for event in events:
        channel, rule = channel_of(event, grouping)
        touch = answer.touches.add(channel=channel, rule=rule)
        if before is not None:
            was, was_rule = channel_of(event, before)
            edit = service_pb.GroupedTouch(
                kept_channel=was, kept_rule=was_rule, changed=was != channel
            )
            touch.MergeFrom(edit)
    answer.changed = sum(touch.changed for touch in answer.touches)
    return answer


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
