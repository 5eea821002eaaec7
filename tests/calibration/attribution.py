"""Intervals of credit: samples of units whose journeys go together, and what all of them get."""

from collections import Counter
from functools import cache, partial

import numpy as np

from services.attribution.domain.bootstrap.models import DrawnUnits, resample_models
from services.attribution.domain.bootstrap.weights import Resampling
from services.attribution.domain.events import Conversions, Touches
from services.attribution.domain.journeys import DAY_US, JourneyRules, Journeys, build_journeys
from services.attribution.domain.models import Linear, Markov, Shapley
from services.attribution.domain.unit_keys import keys_of_numbers
from tests.calibration.promises import Promise
from tests.e2e import model_oracles as oracle
from tests.e2e.model_oracles import Journey

CHANNELS = ("display", "email", "search")
KINDS = (
    *(("display",), ("email",), ("display", "email"), ("email", "search")),
    *(("display", "search", "email"), ("search", "email", "search", "search")),
)
TENTHS = np.array([3, 2, 2, 1, 1, 1])
"""How many units of ten are of each kind."""
CONVERTING_TENTHS = np.array([2, 5, 3, 4, 6, 1])
"""How many of ten units of a kind convert: in each of their journeys."""
REPEATS = (1, 2, 3)
APART_US = 60 * DAY_US
MODELS = (Linear(), Markov(), Shapley())
TABLES = ("linear", "markov_removal_share", "markov_path_credit", "shapley_simplified")


@cache
def truth() -> dict[str, dict[str, float]]:
    """What each table credits a channel with, a unit: over units of every kind in proportion."""
    everyone = [
        Journey("", kind, (), 1.0 if number < converting else None)
        for kind, tenths, converting in zip(
            KINDS, TENTHS.tolist(), CONVERTING_TENTHS.tolist(), strict=True
        )
        for number in range(10)
        for _ in range(tenths * sum(REPEATS))
    ]
    units = 100 * len(REPEATS)
    effects = {c: effect for c, (effect, _) in oracle.removal_effects(everyone, 1).items()}
    bought = [journey for journey in everyone if journey.bought]
    linear = oracle.summed(
        {channel: times / len(j.path) for channel, times in Counter(j.path).items()} for j in bought
    )
    tables = (
        linear,
        oracle.divided(effects, len(bought)),
        oracle.path_credit(everyone, effects),
        oracle.simplified(everyone),
    )
    return {
        name: {channel: table[channel] / units for channel in CHANNELS}
        for name, table in zip(TABLES, tables, strict=True)
    }


def drawn(rng: np.random.Generator, units: int) -> Journeys:
    """A period in which about so many units come, each with one to three journeys of its kind."""
    count = int(rng.poisson(units))
    kind = rng.choice(len(KINDS), count, p=TENTHS / 10)
    converts = rng.random(count) < CONVERTING_TENTHS[kind] / 10
    repeats = rng.choice(REPEATS, count)
    owner = np.repeat(np.arange(count), repeats)
    begin = (np.arange(len(owner)) - np.repeat(np.cumsum(repeats) - repeats, repeats)) * APART_US
    lengths = np.array([len(path) for path in KINDS])[kind[owner]]
    row = np.repeat(np.arange(len(owner)), lengths)
    place = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    table = np.zeros((len(KINDS), max(map(len, KINDS))), dtype=np.int32)
    for at, path in enumerate(KINDS):
        table[at, : len(path)] = [CHANNELS.index(channel) for channel in path]
    touches = Touches(
        channels=CHANNELS,
        units=owner[row],
        times=begin[row] + place * DAY_US,
        codes=table[kind[owner[row]], place],
        costs=np.full(len(row), np.nan),
    )
    bought = converts[owner]
    ends = (begin + lengths * DAY_US)[bought]
    conversions = Conversions(owner[bought], ends, np.ones(len(ends)))
    return build_journeys(touches, conversions, JourneyRules())


@cache
def missed(units: int, trials: int) -> dict[str, float]:
    """By table the share of intervals of a channel's conversions that miss the expected ones."""
    rng = np.random.default_rng(301)
    outside: Counter[str] = Counter()
    for trial in range(trials):
        journeys = drawn(rng, units)
        keys = keys_of_numbers(journeys.units)
        found = resample_models(
            MODELS,
            journeys,
            None,
            DrawnUnits(Resampling(200, trial), keys, 1e9),
            np.zeros(len(CHANNELS), dtype=np.bool_),
        )
        tables = [table.conversions for each in found for table in each.tables]
        for name, table in zip(TABLES, tables, strict=True):
            expected = np.array([truth()[name][channel] * units for channel in CHANNELS])
            low, high = table.ci_low[: len(CHANNELS)], table.ci_high[: len(CHANNELS)]
            outside[name] += int(((expected < low) | (high < expected)).sum())
    return {name: outside[name] / trials / len(CHANNELS) for name in TABLES}


def interval_missed(name: str, units: int, trials: int) -> float:
    """The share of one table."""
    return missed(units, trials)[name]


PROMISES = [
    Promise(
        11,
        f"Interval of a channel's conversions misses, {name}, {units:,} units",
        low,
        high,
        partial(interval_missed, name, units),
        cost=20,
    )
    for units, low, high in ((250, 0.04, 0.08), (1_500, 0.04, 0.065))
    for name in TABLES
]
