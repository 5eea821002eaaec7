"""What data-driven models must say of journeys, by the plainest means: definitions that are spelt
out with dictionaries, orders of channels that are all gone through, chains that are solved again
with states taken out. Nothing here knows the program that is tested.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise, permutations

import numpy as np
import statsmodels.api as sm
from numpy.typing import NDArray

Path = tuple[str, ...]
Channels = frozenset[str]
Floats = NDArray[np.float64]

CHANNELS = ("affiliate", "display", "email", "search", "social")
START, CONVERSION, NULL = "(start)", "(conversion)", "(null)"


@dataclass(frozen=True)
class Journey:
    """A unit's touches, hours between them, and the value of a conversion an hour later, if any."""

    unit: str
    path: Path
    gaps_h: tuple[int, ...]
    value: float | None

    @property
    def bought(self) -> bool:
        return self.value is not None

    @property
    def channels(self) -> Channels:
        return frozenset(self.path)


def drawn_journeys(units: int, seed: int) -> list[Journey]:
    """Journeys of units with one to three each, whose next channel and whose conversion depend on
    the last two channels: a chain of order 2.
    """
    draw = np.random.default_rng(seed)
    count = len(CHANNELS)
    begin = draw.dirichlet(np.full(count, 3.0))
    moves = draw.dirichlet(np.full(count, 0.7), size=(count + 1, count))
    # A pair that converts well is another one from either of its channels.
    chances = np.where((np.arange(count + 1)[:, None] + 2 * np.arange(count)) % 3 == 0, 0.45, 0.06)
    found = []
    for number in range(units):
        taste = draw.uniform(0.5, 1.5)
        for _ in range(1 + number % 3):
            codes = [int(draw.choice(count, p=begin))]
            while draw.random() < 0.68 and len(codes) < 9:
                before = codes[-2] if len(codes) > 1 else count
                codes.append(int(draw.choice(count, p=moves[before, codes[-1]])))
            before = codes[-2] if len(codes) > 1 else count
            bought = draw.random() < taste * chances[before, codes[-1]]
            found.append(
                Journey(
                    f"shopper-{number}",
                    tuple(CHANNELS[code] for code in codes),
                    tuple(draw.integers(1, 9, len(codes) - 1).tolist()),
                    float(draw.integers(100, 9_999)) / 100 if bought else None,
                )
            )
    return found


# Markov chains.

State = Hashable
Steps = dict[State, Counter[State]]


def states_of(path: Path, order: int) -> list[Path]:
    """Its windows of `order` touches, those that repeat in a row once; a shorter path is one."""
    windows = [path[at : at + order] for at in range(max(len(path) - order, 0) + 1)]
    return [windows[0], *(there for here, there in pairwise(windows) if here != there)]


def steps_of(journeys: Iterable[Journey], order: int) -> Steps:
    steps: Steps = defaultdict(Counter)
    for journey in journeys:
        end = CONVERSION if journey.bought else NULL
        for here, there in pairwise([START, *states_of(journey.path, order), end]):
            steps[here][there] += 1
    return steps


def worth_of(journeys: Iterable[Journey], order: int) -> dict[State, float]:
    """What a conversion from each state brings, on average over all steps from it."""
    sums: dict[State, float] = defaultdict(float)
    for journey in journeys:
        sums[states_of(journey.path, order)[-1]] += journey.value or 0.0
    return sums


def solved(
    steps: Steps,
    removed: Callable[[State], bool] = lambda _: False,
    ends: Mapping[State, float] | None = None,
) -> float:
    """What a walk brings from the start on: a conversion, or `ends` over the steps from each state.
    Steps to states that are removed lead to nothing.
    """
    names = [state for state in steps if not removed(state)]
    place = {state: row for row, state in enumerate(names)}
    moves, brings = np.zeros((len(names),) * 2), np.zeros(len(names))
    for here, row in place.items():
        total = steps[here].total()
        for there, times in steps[here].items():
            if there in place:
                moves[row, place[there]] = times / total
        got = steps[here][CONVERSION] if ends is None else ends.get(here, 0.0)
        brings[row] = got / total
    return float(np.linalg.solve(np.eye(len(names)) - moves, brings)[place[START]])


def holds(path: Path, sequence: Path) -> bool:
    return any(path[at : at + len(sequence)] == sequence for at in range(len(path)))


def removal_effects(journeys: Sequence[Journey], order: int) -> dict[str, tuple[float, float]]:
    """Of each channel on conversions and on value."""
    steps, ends = steps_of(journeys, order), worth_of(journeys, order)

    def effect(channel: str, brings: Mapping[State, float] | None) -> float:
        left = solved(steps, lambda state: channel in state and state != START, brings)  # type: ignore[operator]
        return 1 - left / solved(steps, ends=brings)

    return {channel: (effect(channel, None), effect(channel, ends)) for channel in CHANNELS}


def sequence_effect(journeys: Sequence[Journey], sequence: Path, order: int) -> float:
    """By a chain whose states remember the last touches of the walk, without those that hold it."""
    steps = steps_of(journeys, order)
    remembered: Steps = {START: Counter()}
    waiting: list[tuple[State, Path, State]] = [(START, (), START)]
    while waiting:
        here, tail, known = waiting.pop()
        for there, times in steps[here].items():
            if there in (CONVERSION, NULL):
                remembered[known][there] += times
                continue
            assert isinstance(there, tuple)
            touched = tail + (there if here == START else there[-1:])
            if holds(touched, sequence):
                remembered[known]["removed"] += times
                continue
            kept = touched[max(len(touched) - len(sequence) + 1, 0) :]
            following = (there, kept)
            remembered[known][following] += times
            if following not in remembered:
                remembered[following] = Counter()
                waiting.append((there, kept, following))
    return 1 - solved(remembered) / solved(steps)


def divided(effects: Mapping[str, float], total: float) -> dict[str, float]:
    return {channel: effect / sum(effects.values()) * total for channel, effect in effects.items()}


def path_credit(journeys: Sequence[Journey], effects: Mapping[str, float]) -> dict[str, float]:
    return summed(
        {channel: effects[channel] / sum(effects[c] for c in journey.channels) for channel in path}
        for journey in journeys
        if journey.bought
        for path in [journey.channels]
    )


def summed(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    found = dict.fromkeys(CHANNELS, 0.0)
    for part in parts:
        for channel, credit in part.items():
            found[channel] += credit
    return found


# Shapley values.


def shapley(players: Sequence[str], worth: Callable[[Channels], float]) -> dict[str, float]:
    """The mean over all orders of what each player adds to those before it."""
    found = dict.fromkeys(players, 0.0)
    orders = list(permutations(players))
    for order in orders:
        before: Channels = frozenset()
        for player in order:
            found[player] += worth(before | {player}) - worth(before)
            before |= {player}
    return {player: gained / len(orders) for player, gained in found.items()}


def counts_of_sets(journeys: Iterable[Journey]) -> dict[Channels, tuple[int, int, float]]:
    """Journeys, conversions and value of those with exactly these channels."""
    found: dict[Channels, tuple[int, int, float]] = {}
    for journey in journeys:
        seen, converted, value = found.get(journey.channels, (0, 0, 0.0))
        found[journey.channels] = (
            seen + 1,
            converted + journey.bought,
            value + (journey.value or 0.0),
        )
    return found


def simplified(journeys: Sequence[Journey]) -> dict[str, float]:
    sets = counts_of_sets(journeys)
    return shapley(
        CHANNELS, lambda allowed: sum(m for held, (_, m, _) in sets.items() if held <= allowed)
    )


def exact_set_rate(journeys: Sequence[Journey]) -> Callable[[Channels], float]:
    sets = counts_of_sets(journeys)

    def rate(allowed: Channels) -> float:
        seen, converted, _ = sets.get(allowed, (0, 0, 0.0))
        return converted / seen if seen else 0.0

    return rate


def subset_rate(journeys: Sequence[Journey]) -> Callable[[Channels], float]:
    sets = counts_of_sets(journeys)

    def rate(allowed: Channels) -> float:
        own = [(n, m) for held, (n, m, _) in sets.items() if held <= allowed]
        seen = sum(n for n, _ in own)
        return sum(m for _, m in own) / seen if seen else 0.0

    return rate


def by_rate(
    journeys: Sequence[Journey], rate: Callable[[Channels], float]
) -> tuple[dict[str, float], dict[str, float]]:
    """Conversions and value of each set, divided in proportion to the game inside the set."""
    conversions, values = [], []
    for held, (_, converted, value) in counts_of_sets(journeys).items():
        if converted:
            game = shapley(sorted(held), rate)
            conversions.append({c: converted * part / rate(held) for c, part in game.items()})
            values.append({c: value * part / rate(held) for c, part in game.items()})
    return summed(conversions), summed(values)


def ordered(journeys: Iterable[Journey], positions: int) -> dict[str, list[float]]:
    """Zhao, Mahboobi and Bagheri (2018): a channel's 1/|S| in equal parts by where it stands."""
    found = {channel: [0.0] * positions for channel in CHANNELS}
    for journey in journeys:
        for at, channel in enumerate(journey.path if journey.bought else ()):
            part = 1 / len(journey.channels) / journey.path.count(channel)
            found[channel][min(at, positions - 1)] += part
    return found


# Learned models.


def design(sets: Sequence[Channels], channels: Sequence[str]) -> Floats:
    rows = [[1.0, *(float(channel in held) for channel in channels)] for held in sets]
    return np.array(rows)


def logistic(
    counts: Mapping[Channels, tuple[int, int, float]], channels: Sequence[str]
) -> tuple[float, dict[str, float]]:
    """Intercept and coefficients by the binomial regression of statsmodels."""
    sets = list(counts)
    outcomes = np.array([(m, n - m) for n, m, _ in counts.values()], dtype=np.float64)
    fit = sm.GLM(outcomes, design(sets, channels), family=sm.families.Binomial()).fit(tol=1e-12)
    intercept, *own = fit.params.tolist()
    return intercept, dict(zip(channels, own, strict=True))


def predicted(intercept: float, coefficients: Mapping[str, float], held: Channels) -> float:
    return 1 / (1 + math.exp(-intercept - sum(coefficients.get(c, 0.0) for c in held)))


def by_power(journeys: Sequence[Journey], coefficients: Mapping[str, float]) -> dict[str, float]:
    """Each conversion in proportion to the coefficients above 0 of its channels."""
    parts = []
    for journey in (j for j in journeys if j.bought):
        power = {channel: max(coefficients[channel], 0.0) for channel in journey.channels}
        if not sum(power.values()):
            power = dict.fromkeys(journey.channels, 1.0)
        parts.append({c: own / sum(power.values()) for c, own in power.items()})
    return summed(parts)


def shapley_of_sets(count: int, worth: Floats) -> Floats:
    """By the formula over all subsets; `worth` (2^count,) is that of the set of the bits."""
    found = np.zeros(count)
    sets = np.arange(1 << count)
    sizes = np.bitwise_count(sets).astype(int)
    weight = np.array([1 / count / math.comb(count - 1, size) for size in range(count)] + [0.0])
    for player in range(count):
        without = sets[(sets >> player) & 1 == 0]
        found[player] = weight[sizes[without]] @ (worth[without | 1 << player] - worth[without])
    return found


def shao_li(journeys: Sequence[Journey]) -> tuple[dict[str, float], dict[str, float]]:
    """Shares of conversions and of value: equations 1 to 3 of Shao and Li (2011)."""
    sets = counts_of_sets(journeys)

    def rate(*held: str) -> float:
        own = [(n, m) for each, (n, m, _) in sets.items() if each >= set(held)]
        return sum(m for _, m in own) / max(sum(n for n, _ in own), 1)

    by_count, by_value = dict.fromkeys(CHANNELS, 0.0), dict.fromkeys(CHANNELS, 0.0)
    for journey in (j for j in journeys if j.bought):
        for one in journey.channels:
            others = journey.channels - {one}
            beyond = sum(rate(one, other) - rate(one) - rate(other) for other in others)
            power = rate(one) + (beyond / (2 * len(others)) if others else 0.0)
            by_count[one] += power
            by_value[one] += power * (journey.value or 0.0)
    return divided(by_count, 1.0), divided(by_value, 1.0)


def shao_li_chance(journeys: Sequence[Journey]) -> Callable[[Journey], float]:
    """The mean rate of the pairs of a journey, or the rate of its only channel."""
    sets = counts_of_sets(journeys)

    def rate(held: Iterable[str]) -> float:
        own = [(n, m) for each, (n, m, _) in sets.items() if each >= set(held)]
        return sum(m for _, m in own) / max(sum(n for n, _ in own), 1)

    def chance(journey: Journey) -> float:
        held = sorted(journey.channels)
        pairs: list[Path] = [*combinations(held, 2)] or [tuple(held)]
        return sum(rate(pair) for pair in pairs) / len(pairs)

    return chance


def fractribution(journeys: Sequence[Journey]) -> dict[str, float]:
    """What a path converts less without a touch; all to the last touch where that is nothing."""
    rate = rates_by(journeys, lambda journey: journey.path)
    parts = []
    for journey in (j for j in journeys if j.bought):
        path = journey.path
        gains = [
            max(rate.get(path, 0.0) - rate.get(path[:at] + path[at + 1 :], 0.0), 0.0)
            for at in range(len(path))
        ]
        if len(path) == 1 or not sum(gains):
            gains = [0.0] * (len(path) - 1) + [1.0]
        part: dict[str, float] = defaultdict(float)
        for channel, gain in zip(path, gains, strict=True):
            part[channel] += gain / sum(gains)
        parts.append(part)
    return summed(parts)


def rates_by(
    journeys: Iterable[Journey], key: Callable[[Journey], Hashable]
) -> dict[Hashable, float]:
    """The part of the journeys of each key that converted."""
    converted: Counter[Hashable] = Counter()
    seen: Counter[Hashable] = Counter()
    for journey in journeys:
        seen[key(journey)] += 1
        converted[key(journey)] += journey.bought
    return {each: converted[each] / times for each, times in seen.items()}


# Held-out journeys.


def is_held_out(unit: str, part: float, seed: int) -> bool:
    """As docs/reference/attribution.md defines it."""
    mask = (1 << 64) - 1

    def word(text: str) -> int:
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")

    bits = word(unit) ^ word(f"held-out {seed}")
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & mask
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & mask
    return (bits ^ (bits >> 31)) < int(part * 2**64)


def area(chances: Floats, converted: NDArray[np.bool_]) -> float:
    """The part of pairs of a journey that converted and one that did not that are in order."""
    above, below = chances[converted][:, None], chances[~converted][None, :]
    return float(((above > below) + (above == below) / 2).mean())


def log_loss(chances: Floats, converted: NDArray[np.bool_]) -> float:
    right = np.where(converted, chances, 1 - chances)
    return float(-np.log(np.maximum(right, 1e-9)).mean())


def recalibrated(chances: Floats, converted: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and intercept of Cox (1958), by statsmodels."""
    bounded = np.clip(chances, 1e-9, 1 - 1e-9)
    odds = np.log(bounded / (1 - bounded))
    fit = sm.Logit(converted.astype(np.float64), sm.add_constant(odds)).fit(disp=0, tol=1e-12)
    return float(fit.params[1]), float(fit.params[0])
