"""Weights of touches, by plain arithmetic on one journey at a time: see attribution_oracle.

Each rule is written from its definition in docs/reference/attribution.md; nothing of the service is
used here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations, groupby, pairwise

import numpy as np
from google.protobuf import json_format
from touchstone.attribution.v1 import attribution_pb2 as pb

from tests.e2e.attribution_oracle import DAY, HOUR, Journey

Weights = list[float]
Weigh = Callable[[Journey], Weights]


@dataclass(frozen=True)
class Case:
    """A model as it is asked for, its name in the answer, and what it gives to touches.

    `prepare` sees all journeys, for models that learn from them.
    """

    model: pb.Model
    name: str
    prepare: Callable[[Sequence[Journey]], Weigh]
    additive: bool = True
    rule: Weigh | None = None

    @property
    def meant(self) -> tuple[object, ...]:
        """What two models have in common that are one, asked for in two ways."""
        if isinstance(self.rule, partial):
            return (self.name, self.rule.func, self.rule.args)
        return (self.name, self.rule or str(self.model))


def scaled(raw: Sequence[float]) -> Weights:
    total = math.fsum(raw)
    return [one / total for one in raw]


def only(place: int, journey: Journey) -> Weights:
    """Everything to one place, counted from 0, or from the end where it is negative."""
    weights = [0.0] * len(journey.touches)
    weights[place] = 1.0
    return weights


def last_non_direct(direct: tuple[str, ...], journey: Journey) -> Weights:
    others = [n for n, seen in enumerate(journey.touches) if seen.channel not in direct]
    return only(others[-1] if others else -1, journey)


def over_touches(journey: Journey) -> Weights:
    return scaled([1.0] * len(journey.touches))


def over_channels(journey: Journey) -> Weights:
    times = Counter(journey.path)
    return [1 / len(times) / times[channel] for channel in journey.path]


def over_runs(journey: Journey) -> Weights:
    runs = [len(list(group)) for _, group in groupby(journey.path)]
    return [1 / len(runs) / length for length in runs for _ in range(length)]


def position(
    first: float, middle: float, last: float, two: str, variant: str, journey: Journey
) -> Weights:
    """Three weights that sum to 1."""
    count = len(journey.touches)
    if count == 1:
        return [1.0]
    if count == 2 and two == "SPLIT_MIDDLE":
        return [first + middle / 2, last + middle / 2]
    if count == 2:
        return scaled([first, last])
    if variant == "PENULTIMATE" and last > first:
        return [*[first / (count - 2)] * (count - 2), middle, last]
    if variant == "PENULTIMATE":
        return [first, middle, *[last / (count - 2)] * (count - 2)]
    return [first, *[middle / (count - 2)] * (count - 2), last]


def by_position(
    weights: Sequence[float], beyond: float, from_last: bool, journey: Journey
) -> Weights:
    count = len(journey.touches)
    raw = [weights[n] if n < len(weights) else beyond for n in range(count)]
    if sum(raw) == 0:
        return over_touches(journey)
    return scaled(raw[::-1] if from_last else raw)


def decay(half_life: int, whole: str, factor: float, journey: Journey) -> Weights:
    assert journey.bought is not None
    origin = journey.touches[-1].time if whole == "LAST_TOUCH" else journey.bought.time
    ages = [(origin - seen.time) / half_life for seen in journey.touches]
    if whole:
        ages = [math.floor(age) for age in ages]
    return scaled([factor ** (age - min(ages)) for age in ages])


def rank(journey: Journey) -> Weights:
    return scaled([float(n + 1) for n in range(len(journey.touches))])


def full_path(
    first: float, milestones: Sequence[tuple[str, float]], last: float, journey: Journey
) -> Weights:
    """Anchors add; the others share what all weights leave to 1; then all are scaled."""
    count = len(journey.touches)
    anchors = [(0, first), (count - 1, last)]
    anchors += [
        (journey.milestones[name], weight)
        for name, weight in milestones
        if name in journey.milestones
    ]
    fixed: dict[int, float] = {}
    for place, weight in anchors:
        if weight > 0:
            fixed[place] = fixed.get(place, 0.0) + weight
    rest = 1 - first - last - sum(weight for _, weight in milestones)
    others = count - len(fixed)
    return scaled([fixed.get(n, rest / others if others else 0.0) for n in range(count)])


def participation(journey: Journey) -> Weights:
    times = Counter(journey.path)
    return [1 / times[channel] for channel in journey.path]


def same_touch(within: int, journey: Journey) -> Weights:
    assert journey.bought is not None
    at = [journey.bought.time - seen.time <= within for seen in journey.touches]
    return [float(one) / sum(at) if any(at) else 0.0 for one in at]


def shared_by_channel(parts: dict[str, float], journey: Journey) -> Weights:
    times = Counter(journey.path)
    return [parts[channel] / times[channel] for channel in journey.path]


def rate_game(closed: bool, journeys: Sequence[Journey]) -> Weigh:
    """Shapley values of the conversion rate of exactly a set, or of a set with its subsets."""
    seen = Counter(frozenset(journey.path) for journey in journeys)
    converted = Counter(frozenset(j.path) for j in journeys if j.bought is not None)

    def worth(channels: frozenset[str]) -> float:
        sets = [one for one in seen if (one <= channels if closed else one == channels)]
        total = sum(seen[one] for one in sets)
        return sum(converted[one] for one in sets) / total if total else 0.0

    def weigh(journey: Journey) -> Weights:
        players = frozenset(journey.path)
        count = len(players)
        parts = {}
        for channel in players:
            parts[channel] = sum(
                math.factorial(size)
                * math.factorial(count - size - 1)
                / math.factorial(count)
                * (worth(frozenset(others) | {channel}) - worth(frozenset(others)))
                for size in range(count)
                for others in combinations(sorted(players - {channel}), size)
            )
        whole = worth(players)
        return shared_by_channel({c: part / whole for c, part in parts.items()}, journey)

    return weigh


def fractribution(journeys: Sequence[Journey]) -> Weigh:
    seen = Counter(journey.path for journey in journeys)
    converted = Counter(journey.path for journey in journeys if journey.bought is not None)

    def weigh(journey: Journey) -> Weights:
        path = journey.path
        if len(path) == 1:
            return [1.0]
        rate = converted[path] / seen[path]
        without = [path[:n] + path[n + 1 :] for n in range(len(path))]
        gains = [
            max(rate - (converted[left] / seen[left] if seen[left] else 0.0), 0.0)
            for left in without
        ]
        return scaled(gains) if sum(gains) > 0 else only(-1, journey)

    return weigh


def states(path: Sequence[str], order: int) -> list[tuple[str, ...]]:
    """The last `order` touches at each step; the same ones in a row are one visit."""
    if len(path) <= order:
        return [tuple(path)]
    windows = (tuple(path[n : n + order]) for n in range(len(path) - order + 1))
    return [state for state, _ in groupby(windows)]


def removal_effects(
    journeys: Sequence[Journey], order: int, nulls: bool, valued: bool = False
) -> dict[str, float]:
    """By sending every state with the channel to null, and solving the chain again.

    Valued, the last state is worth its mean value in place of its chance to convert.
    """
    used = [journey for journey in journeys if nulls or journey.bought is not None]
    steps: Counter[tuple[object, object]] = Counter()
    ends: Counter[object] = Counter()
    for journey in used:
        walk: list[object] = ["start", *states(journey.path, order)]
        for pair in pairwise(walk):
            steps[pair] += 1
        won = journey.value if valued else 1.0
        ends[walk[-1]] += won if journey.bought is not None else 0.0  # type: ignore[assignment]
    leaving: Counter[object] = Counter()
    for (here, _), times in steps.items():
        leaving[here] += times
    for journey in used:
        leaving[states(journey.path, order)[-1]] += 1
    place = {state: n for n, state in enumerate(leaving)}
    moves, wins = np.zeros((len(place), len(place))), np.zeros(len(place))
    for (here, there), times in steps.items():
        moves[place[here], place[there]] = times / leaving[here]
    for state, won in ends.items():
        wins[place[state]] = won / leaving[state]

    def expected(channel: str) -> float:
        gone = [n for state, n in place.items() if state != "start" and channel in state]  # type: ignore[operator]
        kept, own = moves.copy(), wins.copy()
        kept[gone], own[gone] = 0.0, 0.0
        return float(np.linalg.solve(np.eye(len(place)) - kept, own)[place["start"]])

    whole = expected("")
    channels = {channel for journey in journeys for channel in journey.path}
    return {channel: 1 - expected(channel) / whole for channel in channels}


def path_credit(order: int, nulls: bool, journeys: Sequence[Journey]) -> Weigh:
    effects = removal_effects(journeys, order, nulls)

    def weigh(journey: Journey) -> Weights:
        total = sum(effects[channel] for channel in {*journey.path})
        parts = {channel: effects[channel] / total for channel in journey.path}
        return shared_by_channel(parts, journey)

    return weigh


def _case(name: str, parameters: Mapping[str, object], weigh: Weigh, kind: str = "") -> Case:
    model = json_format.ParseDict({kind or name: parameters}, pb.Model())
    return Case(model, name, lambda _: weigh, name != "participation", weigh)


def _learned(name: str, kind: str, parameters: dict[str, object], how: object) -> Case:
    return Case(json_format.ParseDict({kind: parameters}, pb.Model()), name, how)  # type: ignore[arg-type]


def _positions() -> Iterable[Case]:
    for first, last in ((0.4, 0.4), (0.2, 0.6), (0.6, 0.2)):
        for two in ("RENORMALISE", "SPLIT_MIDDLE"):
            for variant in ("ENDS_AND_MIDDLE", "PENULTIMATE"):
                if first == last and variant == "PENULTIMATE":
                    continue
                asked: dict[str, object] = {
                    "first": first,
                    "last": last,
                    "two_touch_rule": f"TWO_TOUCH_RULE_{two}",
                    "variant": f"POSITION_VARIANT_{variant}",
                }
                weigh = partial(position, first, 1 - first - last, last, two, variant)
                yield _case("position_based", asked, weigh)
    yield _case(
        "position_based",
        {},
        partial(position, 0.4, 1 - 0.4 - 0.4, 0.4, "RENORMALISE", "ENDS_AND_MIDDLE"),
    )
    # Weights that sum to 4.
    three = {"first": 2, "middle": 1.5, "last": 0.5}
    for two in ("", "RENORMALISE", "SPLIT_MIDDLE"):
        rule = {"two_touch_rule": f"TWO_TOUCH_RULE_{two}"} if two else {}
        weigh = partial(position, 0.5, 0.375, 0.125, two or "SPLIT_MIDDLE", "ENDS_AND_MIDDLE")
        yield _case("custom", {**three, **rule}, weigh)
    middle = partial(position, 0.0, 1.0, 0.0, "SPLIT_MIDDLE", "ENDS_AND_MIDDLE")
    yield _case("custom", {"middle": 7}, middle)


def _milestones() -> Iterable[Case]:
    pairs = (("lead", 0.3), ("opportunity", 0.3))
    yield _case("full_path", {}, partial(full_path, 0.3, pairs, 0.0))
    for first, own, last in ((0.225, (0.225, 0.225), 0.225), (0.1, (0.2, 0.0), 0.7)):
        steps = tuple(zip(("lead", "opportunity"), own, strict=True))
        asked = {
            "first": first,
            "milestones": [{"event_name": name, "weight": weight} for name, weight in steps],
            "last": last,
        }
        yield _case("full_path", asked, partial(full_path, first, steps, last))


def rules() -> list[Case]:
    """Every rule, with every value of every parameter that products differ in."""
    cases = [
        _case("first_touch", {}, partial(only, 0)),
        _case("last_touch", {}, partial(only, -1)),
        _case("last_non_direct", {}, partial(last_non_direct, ("direct", "Direct", "(direct)"))),
        _case(
            "last_non_direct",
            {"channels": ["direct", "Mail"]},
            partial(last_non_direct, ("direct", "Mail")),
        ),
        _case("linear", {}, over_touches),
        _case("linear", {"over": "LINEAR_OVER_CHANNELS"}, over_channels),
        _case("linear", {"over": "LINEAR_OVER_RUNS"}, over_runs),
        *_positions(),
        _case("by_position", {"weights": [3, 0, 1]}, partial(by_position, (3, 0, 1), 0, False)),
        _case(
            "by_position",
            {"weights": [0, 2], "count_from": "COUNT_FROM_LAST", "beyond": 0.5},
            partial(by_position, (0, 2), 0.5, True),
        ),
        _case("rank_decay", {}, rank),
        *_milestones(),
        _case("participation", {}, participation),
        _case("same_touch", {}, partial(same_touch, 0)),
        _case("same_touch", {"within": "43200s"}, partial(same_touch, 12 * HOUR)),
        _case("shapley_simplified", {}, over_channels, "shapley"),
    ]
    for text, half_life in (("", 7 * DAY), ("259200s", 3 * DAY)):
        for whole in ("", "CONVERSION", "LAST_TOUCH"):
            asked = {"half_life": text} if text else {}
            age = {"age": f"DECAY_AGE_WHOLE_FROM_{whole}"} if whole else {}
            weigh = partial(decay, half_life, whole, 0.5)
            cases.append(_case("time_decay", asked | age, weigh))
            kept = asked | age | {"factor": 0.9}
            cases.append(_case("time_decay", kept, partial(decay, half_life, whole, 0.9)))
    return cases


def games() -> list[Case]:
    """Models whose definitions products differ in and that learn from all journeys."""
    exact, subset = (f"SHAPLEY_GAME_{game}_RATE" for game in ("EXACT_SET", "SUBSET"))
    return [
        _learned("shapley_exact_set_rate", "shapley", {"game": exact}, partial(rate_game, False)),
        _learned("shapley_subset_rate", "shapley", {"game": subset}, partial(rate_game, True)),
        _learned("fractribution", "fractribution", {}, fractribution),
        *(
            _learned(
                "markov_path_credit",
                "markov",
                {"order": order, "ignore_non_converting": not nulls},
                partial(path_credit, order, nulls),
            )
            for order in (1, 2)
            for nulls in (True, False)
        ),
    ]
