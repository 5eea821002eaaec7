"""A population whose conversions by cause are known, with a random holdout for each channel.

Units with intent convert without any channel, and retargeting follows them around: it stands last
before conversions that it did not cause. A tenth and a half of the units are held out of each
channel, at random and of one channel only. Ghost exposures are logged: which held-out units would
have been shown the channel is known, so a test compares those with the shown ones.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.attribution.domain.credits import credits_by_channel, path_weights, rule_weights
from services.attribution.domain.events import Conversions, Touches
from services.attribution.domain.journeys import DAY_US, JourneyRules, Journeys, build_journeys
from services.attribution.domain.lift import Cell, Estimate, LiftTest, Outcome, Target, credit_error
from services.attribution.domain.markov import count_transitions, removal_effects
from services.attribution.domain.models import LastTouch, Linear

CHANNELS = ("display", "mail", "retargeting")
EFFECTS = np.array([0.04, 0.02, 0.01])
"""Conversions that showing a channel to one unit causes."""

SHOWN = np.array([[0.3, 0.4, 0.05], [0.3, 0.4, 0.7]])
"""Chance of being shown each channel, without intent and with it."""

ORGANIC = np.array([0.01, 0.25])
INTENT = 0.2
HELD_OUT = 0.15
ORDER_US = np.array([1, 2, 9]) * DAY_US
CONVERSION_US = 10 * DAY_US
CELL_US = (0, 30 * DAY_US)


@dataclass(frozen=True, slots=True)
class Population:
    """Who was shown what: `group` is the channel a unit is held out of, or 3 for none."""

    eligible: NDArray[np.bool_]
    group: NDArray[np.int64]
    converted: NDArray[np.bool_]

    @property
    def treated(self) -> NDArray[np.bool_]:
        everything: NDArray[np.bool_] = self.group == len(CHANNELS)
        return everything

    @property
    def caused(self) -> NDArray[np.float64]:
        """Expected conversions that each channel caused among the treated units."""
        caused: NDArray[np.float64] = EFFECTS * self.eligible[self.treated].sum(axis=0)
        return caused


def simulate(units: int, seed: int) -> Population:
    """Draw a population; the chance to convert is organic plus the effects of what was shown."""
    random = np.random.default_rng(seed)
    intent = (random.random(units) < INTENT).astype(np.int64)
    eligible = random.random((units, len(CHANNELS))) < SHOWN[intent]
    held = random.random(units)
    group = np.minimum((held / HELD_OUT).astype(np.int64), len(CHANNELS))
    shown = eligible & (group[:, None] != np.arange(len(CHANNELS)))
    chance = ORGANIC[intent] + shown @ EFFECTS
    return Population(eligible, group, random.random(units) < chance)


def journeys_of(population: Population) -> Journeys:
    """Journeys of the units that nothing was held from."""
    rows = np.flatnonzero(population.treated)
    units, codes = np.nonzero(population.eligible[rows])
    touches = Touches(
        CHANNELS,
        units=units,
        times=ORDER_US[codes],
        codes=codes.astype(np.int32),
        costs=np.full(len(units), np.nan),
    )
    buyers = np.flatnonzero(population.converted[rows])
    at = np.full(len(buyers), CONVERSION_US)
    return build_journeys(touches, Conversions(buyers, at, np.ones(len(buyers))), JourneyRules())


def attributed(journeys: Journeys) -> dict[str, NDArray[np.float64]]:
    """Credited conversions by channel under three models."""
    converting, others = count_transitions(journeys)
    effects = removal_effects(converting + others).effects
    weights = {
        "last_touch": rule_weights(LastTouch(), journeys),
        "linear": rule_weights(Linear(), journeys),
        "markov_path_credit": path_weights(journeys, effects),
    }
    return {name: credits_by_channel(each, journeys).conversions for name, each in weights.items()}


def attributed_by_unit(journeys: Journeys) -> dict[str, NDArray[np.float64]]:
    """The same by channel and unit, for the units that are credited with anything at all."""
    converting, others = count_transitions(journeys)
    effects = removal_effects(converting + others).effects
    weights = {
        "last_touch": rule_weights(LastTouch(), journeys),
        "linear": rule_weights(Linear(), journeys),
        "markov_path_credit": path_weights(journeys, effects),
    }
    # Every unit converts once at most.
    of = np.repeat(np.arange(journeys.converting), np.diff(journeys.converting_offsets))
    found = {}
    for name, each in weights.items():
        table = np.zeros((len(CHANNELS), journeys.converting))
        np.add.at(table, (journeys.converting_codes, of), each)
        found[name] = table
    return found


def lift_tests(
    population: Population,
    credited: NDArray[np.float64],
    by_unit: NDArray[np.float64] | None = None,
) -> list[LiftTest]:
    """The holdout of each channel, read among those who were or would have been shown it; the
    credit has an error where it is given by unit.
    """
    tests = []
    for channel, name in enumerate(CHANNELS):
        concerned = population.eligible[:, channel]
        shown = population.converted[concerned & population.treated]
        held = population.converted[concerned & (population.group == channel)]
        std_err = np.sqrt(shown.var(ddof=1) / len(shown) + held.var(ddof=1) / len(held))
        cell = Cell(*CELL_US, units=len(shown))
        difference = Estimate(float(shown.mean() - held.mean()), float(std_err))
        outcome = Outcome(difference, Estimate(float(credited[channel]), 0.0))
        if by_unit is not None:
            row = by_unit[channel]
            # Who is credited with the channel was shown it, and converted.
            outcomes = np.zeros(len(row) + int(shown.sum()) - np.count_nonzero(row))
            outcomes[: len(row)] = row > 0
            outcomes[len(row) :] = 1.0
            error = credit_error(
                np.append(row, np.zeros(len(outcomes) - len(row))), outcomes, len(shown)
            )
            attributed_ = Estimate(float(credited[channel]), float(np.sqrt(error.variance)))
            outcome = Outcome(difference, attributed_, error.covariance)
        tests.append(LiftTest(f"holdout-{name}", Target(name), cell, cell, outcome))
    return tests
