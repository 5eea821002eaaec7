"""Models between messages and the domain; every default is filled in here."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from touchstone.attribution.v1 import attribution_pb2 as pb

from services.attribution.domain.models import (
    AdditiveHazard,
    AskedModel,
    AutomaticMarkov,
    BaggedLogistic,
    ByPosition,
    CountFrom,
    Custom,
    DecayAge,
    FirstTouch,
    Fractribution,
    FullPath,
    LastNonDirect,
    LastTouch,
    LearnedShapley,
    Linear,
    LinearOver,
    Markov,
    Milestone,
    Model,
    OrderedShapley,
    Participation,
    Position,
    PositionVariant,
    Probabilistic,
    RankDecay,
    SameTouch,
    Shapley,
    TimeDecay,
    TwoTouchRule,
    w_shaped,
)
from services.attribution.domain.models.markov import HIGHEST_TRIED
from services.attribution.domain.shapley import Game
from services.attribution.domain.visibility import DIRECT_CHANNELS
from services.attribution.wire.times import encode_duration, microseconds
from shared.errors import fields_of, invalid

_TWO_TOUCH_RULES = {
    pb.TWO_TOUCH_RULE_RENORMALISE: TwoTouchRule.RENORMALISE,
    pb.TWO_TOUCH_RULE_SPLIT_MIDDLE: TwoTouchRule.SPLIT_MIDDLE,
}
_VARIANTS = {
    pb.POSITION_VARIANT_ENDS_AND_MIDDLE: PositionVariant.ENDS_AND_MIDDLE,
    pb.POSITION_VARIANT_PENULTIMATE: PositionVariant.PENULTIMATE,
}
_OVER = {
    pb.LINEAR_OVER_TOUCHES: LinearOver.TOUCHES,
    pb.LINEAR_OVER_CHANNELS: LinearOver.CHANNELS,
    pb.LINEAR_OVER_RUNS: LinearOver.RUNS,
}
_AGES = {
    pb.DECAY_AGE_EXACT: DecayAge.EXACT,
    pb.DECAY_AGE_WHOLE_FROM_CONVERSION: DecayAge.WHOLE_FROM_CONVERSION,
    pb.DECAY_AGE_WHOLE_FROM_LAST_TOUCH: DecayAge.WHOLE_FROM_LAST_TOUCH,
}
_COUNT_FROM = {
    pb.COUNT_FROM_FIRST: CountFrom.FIRST,
    pb.COUNT_FROM_LAST: CountFrom.LAST,
}

_GAMES = {
    pb.SHAPLEY_GAME_SIMPLIFIED: Game.SIMPLIFIED,
    pb.SHAPLEY_GAME_EXACT_SET_RATE: Game.EXACT_SET_RATE,
    pb.SHAPLEY_GAME_SUBSET_RATE: Game.SUBSET_RATE,
}


def decode_models(messages: Iterable[pb.Model]) -> tuple[AskedModel, ...]:
    """The models with their defaults, in the order asked for."""
    return tuple(decode_model(each, f"models[{number}]") for number, each in enumerate(messages))


def decode_model(message: pb.Model, path: str = "model") -> AskedModel:
    """The model with its defaults; INVALID_ARGUMENT where its parameters contradict each other.

    `path` is where the request has it.
    """
    kind = message.WhichOneof("kind")
    if kind is None:
        raise invalid(path, "without a kind", "one kind of model")
    with fields_of(path):
        return _DECODE[kind](getattr(message, kind))


def encode_model(model: AskedModel) -> pb.Model:
    """The model with every default filled in."""
    kind, encode = _ENCODE[type(model)]
    return pb.Model(**{kind: encode(model)})


def _position(message: pb.PositionBased) -> Position:
    rule = _TWO_TOUCH_RULES.get(message.two_touch_rule, TwoTouchRule.RENORMALISE)
    variant = _VARIANTS.get(message.variant, PositionVariant.ENDS_AND_MIDDLE)
    if message.first == 0 and message.last == 0:
        return Position(two_touch_rule=rule, variant=variant)
    return Position(message.first, message.last, rule, variant)


def _time_decay(message: pb.TimeDecay) -> TimeDecay:
    default = TimeDecay()
    half_life_us = default.half_life_us
    if message.HasField("half_life"):
        half_life_us = microseconds("time_decay.half_life", message.half_life)
    age = _AGES.get(message.age, default.age)
    return TimeDecay(half_life_us, age, message.factor or default.factor)


def _custom(message: pb.Custom) -> Custom:
    rule = _TWO_TOUCH_RULES.get(message.two_touch_rule, TwoTouchRule.SPLIT_MIDDLE)
    return Custom(message.first, message.middle, message.last, rule)


def _by_position(message: pb.ByPosition) -> ByPosition:
    count_from = _COUNT_FROM.get(message.count_from, CountFrom.FIRST)
    return ByPosition(tuple(message.weights), count_from, message.beyond)


def _full_path(message: pb.FullPath) -> FullPath:
    if message == pb.FullPath():
        return w_shaped()
    milestones = tuple(Milestone(each.event_name, each.weight) for each in message.milestones)
    return FullPath(message.first, milestones, message.last)


def _markov(message: pb.Markov) -> AskedModel:
    alone = message.ignore_non_converting
    if not message.automatic_order:
        return Markov(alone, message.order or 1)
    return AutomaticMarkov(alone, message.highest_order or HIGHEST_TRIED)


def _shapley(message: pb.Shapley) -> Model:
    if message.game == pb.SHAPLEY_GAME_ORDERED:
        return OrderedShapley(message.positions or OrderedShapley().positions)
    if message.game == pb.SHAPLEY_GAME_LEARNED:
        pairs = message.pairs or LearnedShapley().pairs
        return LearnedShapley(_bagged(message.learner), pairs, message.seed)
    return Shapley(_GAMES.get(message.game, Game.SIMPLIFIED))


def _encoded_learned(model: LearnedShapley) -> pb.Shapley:
    return pb.Shapley(
        game=pb.SHAPLEY_GAME_LEARNED,
        learner=_encoded_bagged(model.learner),
        pairs=model.pairs,
        seed=model.seed,
    )


def _bagged(message: pb.BaggedLogistic) -> BaggedLogistic:
    default = BaggedLogistic()
    return BaggedLogistic(
        row_part=message.row_part or default.row_part,
        column_part=message.column_part or default.column_part,
        rounds=message.rounds or default.rounds,
        ridge=message.ridge or default.ridge,
        seed=message.seed,
    )


def _encoded_bagged(model: BaggedLogistic) -> pb.BaggedLogistic:
    return pb.BaggedLogistic(
        row_part=model.row_part,
        column_part=model.column_part,
        rounds=model.rounds,
        ridge=model.ridge,
        seed=model.seed,
    )


def _encoded_position(model: Position) -> pb.PositionBased:
    return pb.PositionBased(
        first=model.first,
        last=model.last,
        two_touch_rule=_number(_TWO_TOUCH_RULES, model.two_touch_rule),
        variant=_number(_VARIANTS, model.variant),
    )


def _encoded_custom(model: Custom) -> pb.Custom:
    return pb.Custom(
        first=model.first,
        middle=model.middle,
        last=model.last,
        two_touch_rule=_number(_TWO_TOUCH_RULES, model.two_touch_rule),
    )


def _encoded_by_position(model: ByPosition) -> pb.ByPosition:
    return pb.ByPosition(
        weights=model.weights,
        count_from=_number(_COUNT_FROM, model.count_from),
        beyond=model.beyond,
    )


def _encoded_full_path(model: FullPath) -> pb.FullPath:
    milestones = [pb.Milestone(event_name=m.name, weight=m.weight) for m in model.milestones]
    return pb.FullPath(first=model.first, milestones=milestones, last=model.last)


def _number(names: Mapping[Any, Any], meant: object) -> Any:
    return next(number for number, each in names.items() if each is meant)


_DECODE: Mapping[str, Callable[[Any], AskedModel]] = {
    "first_touch": lambda _: FirstTouch(),
    "last_touch": lambda _: LastTouch(),
    "linear": lambda m: Linear(_OVER.get(m.over, LinearOver.TOUCHES)),
    "position_based": _position,
    "time_decay": _time_decay,
    "markov": _markov,
    "shapley": _shapley,
    "probabilistic": lambda _: Probabilistic(),
    "bagged_logistic": _bagged,
    "fractribution": lambda _: Fractribution(),
    "additive_hazard": lambda _: AdditiveHazard(),
    "last_non_direct": lambda m: LastNonDirect(frozenset(m.channels or DIRECT_CHANNELS)),
    "rank_decay": lambda _: RankDecay(),
    "custom": _custom,
    "by_position": _by_position,
    "full_path": _full_path,
    "participation": lambda _: Participation(),
    "same_touch": lambda m: SameTouch(microseconds("same_touch.within", m.within)),
}
_ENCODE: Mapping[type, tuple[str, Callable[[Any], Any]]] = {
    FirstTouch: ("first_touch", lambda _: pb.FirstTouch()),
    LastTouch: ("last_touch", lambda _: pb.LastTouch()),
    Linear: ("linear", lambda m: pb.Linear(over=_number(_OVER, m.over))),
    Position: ("position_based", _encoded_position),
    TimeDecay: (
        "time_decay",
        lambda m: pb.TimeDecay(
            half_life=encode_duration(m.half_life_us),
            age=_number(_AGES, m.age),
            factor=m.factor,
        ),
    ),
    AutomaticMarkov: (
        "markov",
        lambda m: pb.Markov(
            ignore_non_converting=m.ignore_non_converting,
            automatic_order=True,
            highest_order=m.highest_order,
        ),
    ),
    Markov: (
        "markov",
        lambda m: pb.Markov(order=m.order, ignore_non_converting=m.ignore_non_converting),
    ),
    Shapley: ("shapley", lambda m: pb.Shapley(game=_number(_GAMES, m.game))),
    OrderedShapley: (
        "shapley",
        lambda m: pb.Shapley(game=pb.SHAPLEY_GAME_ORDERED, positions=m.positions),
    ),
    LearnedShapley: ("shapley", _encoded_learned),
    Probabilistic: ("probabilistic", lambda _: pb.Probabilistic()),
    BaggedLogistic: ("bagged_logistic", _encoded_bagged),
    Fractribution: ("fractribution", lambda _: pb.Fractribution()),
    AdditiveHazard: ("additive_hazard", lambda _: pb.AdditiveHazard()),
    LastNonDirect: ("last_non_direct", lambda m: pb.LastNonDirect(channels=sorted(m.direct))),
    RankDecay: ("rank_decay", lambda _: pb.RankDecay()),
    Custom: ("custom", _encoded_custom),
    ByPosition: ("by_position", _encoded_by_position),
    FullPath: ("full_path", _encoded_full_path),
    Participation: ("participation", lambda _: pb.Participation()),
    SameTouch: ("same_touch", lambda m: pb.SameTouch(within=encode_duration(m.within_us))),
}
