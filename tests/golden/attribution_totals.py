"""Totals of fixed journeys under every model: a change of a definition shows up here.

`python -m tests.golden.attribution_totals` writes attribution_totals.json anew; read its diff.
"""

import json
from pathlib import Path

import numpy as np

from services.attribution.domain.events import Conversions, Touches
from services.attribution.domain.journey_statistics import measure
from services.attribution.domain.journeys import DAY_US, JourneyRules, Repeats, build_journeys
from services.attribution.domain.models import (
    EVERY_MODEL,
    ByPosition,
    CountFrom,
    Custom,
    DecayAge,
    LastNonDirect,
    Linear,
    LinearOver,
    Markov,
    Model,
    Participation,
    Position,
    PositionVariant,
    RankDecay,
    SameTouch,
    TimeDecay,
    TwoTouchRule,
    j_shaped,
)
from services.attribution.domain.totals import model_totals

FILE = Path(__file__).with_suffix(".json")
CHANNELS = ("ads", "mail", "search", "video")
MODELS: dict[str, Model] = {
    **{type(model).__name__: model for model in EVERY_MODEL},
    "Position J": Position(0.2, 0.6),
    "Position J, split": Position(0.2, 0.6, TwoTouchRule.SPLIT_MIDDLE),
    "TimeDecay 1 day": TimeDecay(DAY_US),
    "Markov, converting": Markov(ignore_non_converting=True),
    "Markov 2": Markov(order=2),
    "Markov 3, converting": Markov(ignore_non_converting=True, order=3),
    "LastNonDirect ads": LastNonDirect(frozenset({"ads"})),
    "Linear, channels": Linear(LinearOver.CHANNELS),
    "Linear, runs": Linear(LinearOver.RUNS),
    "Position J, penultimate": j_shaped(variant=PositionVariant.PENULTIMATE),
    "TimeDecay, whole days": TimeDecay(DAY_US, DecayAge.WHOLE_FROM_CONVERSION),
    "RankDecay": RankDecay(),
    "Custom 30 60 30": Custom(30, 60, 30),
    "ByPosition from last": ByPosition((2.0, 1.0), CountFrom.LAST),
    "Participation": Participation(),
    "SameTouch, a day": SameTouch(DAY_US),
}
Totals = dict[str, dict[str, list[float]]]


def fixed_events() -> tuple[Touches, Conversions]:
    """Events by arithmetic alone, so that no generator can change them."""
    rows = np.arange(600)
    units, days = rows * 7 % 97, rows * 11 % 59
    order = np.lexsort((rows, days, units))
    touches = Touches(
        CHANNELS,
        units[order],
        days[order] * DAY_US,
        (rows * 5 % 17 % 4)[order].astype(np.int32),
        np.where(rows % 5 == 0, np.nan, rows % 13)[order],
    )
    bought = np.arange(80)
    units, days = bought * 5 % 61, 20 + bought * 3 % 31
    order = np.lexsort((bought, days, units))
    return touches, Conversions(
        units[order], days[order] * DAY_US, (bought % 9 * 2.5).astype(np.float64)[order]
    )


def compute() -> dict[str, Totals]:
    """Conversions and value by channel, for each rule for repeats, model and output."""
    touches, conversions = fixed_events()
    found: dict[str, Totals] = {}
    for repeats in Repeats:
        rules = JourneyRules(lookback_us=14 * DAY_US, repeats=repeats, start_us=22 * DAY_US)
        journeys = build_journeys(touches, conversions, rules)
        statistics = measure(touches, journeys, [*MODELS.values()], rules.start_us)
        found[repeats.value] = {
            f"{name}: {table.output.value}": {
                channel.channel: [channel.conversions, channel.value] for channel in table.channels
            }
            for name, model in MODELS.items()
            for table in model_totals(model, statistics, journeys)
        }
    return found


if __name__ == "__main__":
    FILE.write_text(json.dumps(compute(), indent=1) + "\n")
