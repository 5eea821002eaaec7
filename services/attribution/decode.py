"""From requests to commands: every default of the contract is filled in here."""

from collections.abc import Iterable

from touchstone.attribution.v1 import attribution_pb2 as pb

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
from services.attribution.wire.times import microseconds
from shared.errors import invalid

_TWO_TOUCH_RULES = {
    pb.TWO_TOUCH_RULE_UNSPECIFIED: TwoTouchRule.RENORMALISE,
    pb.TWO_TOUCH_RULE_RENORMALISE: TwoTouchRule.RENORMALISE,
    pb.TWO_TOUCH_RULE_SPLIT_MIDDLE: TwoTouchRule.SPLIT_MIDDLE,
}


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
    return TimeDecay(microseconds("time_decay.half_life", message.half_life))
