"""Between the messages of RejectedEventsService and the domain."""

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.events.v1 import event_pb2, events_service_pb2
from touchstone.events.v1 import rejected_events_service_pb2 as pb

from services.events.application.replay_rejected import Item, Result
from services.events.domain.limits import MICROSECONDS
from services.events.domain.rejection import KeptEvent, Reason, RejectedEvent, Rejection, Wanted
from shared import errors
from shared.resource_names import require_id, resource_name

COLLECTION = "rejectedEvents"
_MOST = 2**63 - 1
_REASON = "REJECTION_REASON_"


def number_in(name: str, project: str) -> int:
    """The number in the name of a rejected event of the caller's project."""
    text = require_id(name, project, COLLECTION)
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= _MOST):
        raise errors.not_found("rejected event", name)
    return int(text)


def name_of(project: str, number: int) -> str:
    """The name of a rejected event."""
    return resource_name(project, COLLECTION, str(number))


def decode_filter(sent: pb.RejectedEventsFilter) -> Wanted:
    """Which rejected events are meant."""
    return Wanted(
        reasons=frozenset(
            Reason(events_service_pb2.RejectionReason.Name(reason).removeprefix(_REASON))
            for reason in sent.reasons
        ),
        source=sent.source,
        event_id=sent.event_id,
        start_us=_microseconds(sent.start_time) if sent.HasField("start_time") else None,
        end_us=_microseconds(sent.end_time) if sent.HasField("end_time") else None,
    )


def decode_items(request: pb.ReplayRejectedEventsRequest, project: str) -> list[Item]:
    """What to replay, in the order of the request; what is named twice is replayed once."""
    items: dict[int, Item] = {}
    for sent in request.named.items:
        number = number_in(sent.name, project)
        corrected = None
        if sent.HasField("corrected_event"):
            corrected = sent.corrected_event.SerializeToString(deterministic=True)
        if number in items and items[number].corrected != corrected:
            raise errors.invalid("named.items", sent.name, "each name once")
        items[number] = Item(number, corrected)
    return list(items.values())


def encode_kept(kept: KeptEvent) -> pb.RejectedEvent:
    """A rejected event as it is listed."""
    return _encode(kept.number, kept.event, kept.payload_bytes)


def encode_whole(number: int, event: RejectedEvent) -> pb.RejectedEvent:
    """A rejected event with its payload."""
    message = _encode(number, event, len(event.payload))
    message.payload = event.payload
    sent = parse_event(event.payload)
    if sent is not None and not event.truncated and event.payload:
        message.event.CopyFrom(sent)
    return message


def parse_event(payload: bytes) -> event_pb2.Event | None:
    """The event that was encoded; None when the payload is no event."""
    try:
        return event_pb2.Event.FromString(payload)
    except (DecodeError, RecursionError):
        return None


def encode_result(project: str, result: Result) -> pb.ReplayResult:
    """What became of a rejected event."""
    why = result.rejection
    return pb.ReplayResult(
        name=name_of(project, result.number),
        outcome=pb.ReplayOutcome.Value(f"REPLAY_OUTCOME_{result.outcome.value}"),
        reason=_reason(why) if why else events_service_pb2.REJECTION_REASON_UNSPECIFIED,
        field=why.field if why else "",
        message=why.message if why else result.note,
    )


def _encode(number: int, event: RejectedEvent, payload_bytes: int) -> pb.RejectedEvent:
    why = event.rejection
    return pb.RejectedEvent(
        name=name_of(event.project, number),
        event_id=why.event_id,
        reason=_reason(why),
        field=why.field,
        message=why.message,
        receive_time=Timestamp(
            seconds=event.receive_time_us // MICROSECONDS,
            nanos=event.receive_time_us % MICROSECONDS * 1000,
        ),
        source=event.source,
        door=event.door,
        payload_bytes=payload_bytes,
        truncated=event.truncated,
    )


def _reason(why: Rejection) -> events_service_pb2.RejectionReason.ValueType:
    return events_service_pb2.RejectionReason.Value(f"{_REASON}{why.reason.value}")


def _microseconds(time: Timestamp) -> int:
    """Within what a store can compare, however far the time is."""
    return max(-_MOST, min(_MOST, time.seconds * MICROSECONDS + time.nanos // 1000))
