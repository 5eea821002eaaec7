"""From requests to commands: every default of the contract is filled in here."""

from collections.abc import Iterable

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from touchstone.attribution.v1 import attribution_pb2 as pb

from services.attribution.application.questions import JourneyDefinition
from services.attribution.domain.journeys import Repeats
from services.attribution.domain.models import (
    FirstTouch,
    LastTouch,
    Linear,
    Markov,
    Model,
    Position,
    TimeDecay,
    TwoTouchRule,
)
from shared.errors import invalid
from shared.identity.wire import stitching_of

_NANOS_PER_SECOND = 1_000_000_000
_REPEATS = {
    pb.REPEAT_RULE_UNSPECIFIED: Repeats.ALL,
    pb.REPEAT_RULE_ALL: Repeats.ALL,
    pb.REPEAT_RULE_FIRST: Repeats.FIRST,
    pb.REPEAT_RULE_SPLIT: Repeats.SPLIT,
}
_TWO_TOUCH_RULES = {
    pb.TWO_TOUCH_RULE_UNSPECIFIED: TwoTouchRule.RENORMALISE,
    pb.TWO_TOUCH_RULE_RENORMALISE: TwoTouchRule.RENORMALISE,
    pb.TWO_TOUCH_RULE_SPLIT_MIDDLE: TwoTouchRule.SPLIT_MIDDLE,
}


def decode_definition(message: pb.JourneyDefinition) -> JourneyDefinition:
    """The definition with its defaults; INVALID_ARGUMENT where its parts contradict each other."""
    default = JourneyDefinition(message.event_name)
    return JourneyDefinition(
        event_name=message.event_name,
        unit_type=message.unit_type or default.unit_type,
        lookback_us=_microseconds("journeys.lookback", message.lookback)
        if message.HasField("lookback")
        else default.lookback_us,
        start_us=_microseconds("journeys.start_time", message.start_time)
        if message.HasField("start_time")
        else None,
        end_us=_microseconds("journeys.end_time", message.end_time)
        if message.HasField("end_time")
        else None,
        repeats=_REPEATS[message.repeat_rule],
        stitching=stitching_of(message.stitching),
    )


def decode_models(messages: Iterable[pb.Model]) -> tuple[Model, ...]:
    """The models with their defaults, in the order asked for."""
    return tuple(decode_model(message) for message in messages)


def decode_model(message: pb.Model) -> Model:
    """The model with its defaults; INVALID_ARGUMENT where its parameters contradict each other."""
    match message.WhichOneof("kind"):
        case "first_touch":
            return FirstTouch()
        case "last_touch":
            return LastTouch()
        case "linear":
            return Linear()
        case "position_based":
            return _position(message.position_based)
        case "time_decay":
            return _time_decay(message.time_decay)
        case "markov":
            return Markov(ignore_non_converting=message.markov.ignore_non_converting)
        case None:
            raise invalid("model", "without a kind", "one kind of model")


def _position(message: pb.PositionBased) -> Position:
    rule = _TWO_TOUCH_RULES[message.two_touch_rule]
    if message.first == 0 and message.last == 0:
        return Position(two_touch_rule=rule)
    return Position(message.first, message.last, rule)


def _time_decay(message: pb.TimeDecay) -> TimeDecay:
    if not message.HasField("half_life"):
        return TimeDecay()
    return TimeDecay(_microseconds("time_decay.half_life", message.half_life))


def _microseconds(field: str, time: Timestamp | Duration) -> int:
    """Whole microseconds, rounded down. The library's own conversion raises on odd values."""
    if not 0 <= time.nanos < _NANOS_PER_SECOND:
        raise invalid(f"{field}.nanos", time.nanos, "0 to 999999999")
    return time.seconds * 1_000_000 + time.nanos // 1_000
