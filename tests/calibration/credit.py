"""Credit corrected by experiments: how often intervals hold what channels really caused.

Units of a tested group convert by a channel or anyhow, and a model credits the channel with some
conversions of either kind: credit is what a model makes of touches, and cause is what the switch
makes. A report is of the tested units, of others, or of both.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from services.attribution.domain.calibration import Calibration, Prior, calibrate, incremental
from services.attribution.domain.joint import JointTest
from services.attribution.domain.journeys import DAY_US
from services.attribution.domain.lift import (
    Applied,
    Cell,
    CreditError,
    Estimate,
    LiftTest,
    Measured,
    Outcome,
    Target,
    measure,
)
from services.attribution.domain.pooling import SPREAD_STD_DEV
from tests.calibration.promises import Promise
from tests.unit.attribution.channel_simulator import CHANNELS as CHANNELS_OF_JOURNEYS
from tests.unit.attribution.channel_simulator import (
    attributed,
    attributed_by_unit,
    journeys_of,
    lift_tests,
    simulate,
)

UNITS, CREDITED, ANYHOW = 10_000, 0.02, 0.06
"""Units of a group, the chance to be credited, and to convert without the channel."""
FLAT, TAU = Prior(100.0), Prior(0.5)
CHANNELS = ("display", "mail", "search")
ALPHA, LOOKS = 0.05, 20

Draws = np.random.Generator


@dataclass(frozen=True, slots=True)
class Arms:
    """Sums of the group with the channel on, and with it off: all conversions, and the credited."""

    converted_on: int
    converted_off: int
    credited: int
    units: int

    def test(self, name: str, target: Target, month: int, applied: Applied) -> LiftTest:
        """What the experiment and the model say."""
        on, off = self.converted_on / self.units, self.converted_off / self.units
        std_err = np.sqrt((on * (1 - on) + off * (1 - off)) / self.units)
        error = CreditError(
            self.credited - self.credited**2 / self.units,
            self.credited * (1 - self.converted_on / self.units),
        )
        cell = Cell(month * 30 * DAY_US, (month + 1) * 30 * DAY_US, self.units)
        attributed = Estimate(float(self.credited), float(np.sqrt(error.variance)))
        outcome = Outcome(Estimate(on - off, float(std_err)), attributed, error.covariance)
        return LiftTest(name, target, cell, cell, outcome, applied)


def arms(draws: Draws, kappa: float, units: int = UNITS) -> Arms:
    """One experiment; the credited convert by the channel, or would have anyhow, or both.

    Of kappa conversions that the channel causes for each credited one, at most one is credited.
    """
    caused = kappa * CREDITED
    credited, others, _ = draws.multinomial(
        units, [CREDITED, ANYHOW + caused - CREDITED, 1 - ANYHOW - caused]
    )
    return Arms(credited + others, draws.binomial(units, ANYHOW), credited, units)


MAIL = Target("mail")


def _missed(known: Calibration, target: Target, credited: float, truth: float) -> bool:
    row = incremental(target, Estimate(credited, 0.0), 1.0, known)
    return not row.low <= truth <= row.high


def _share(world: Callable[[Draws], bool], seed: int, trials: int) -> float:
    draws = np.random.default_rng(seed)
    return float(np.mean([world(draws) for _ in range(trials)]))


def same_units(kappa: float, trials: int) -> float:
    """The report is of the tested units: what the channel caused is the lift."""

    def world(draws: Draws) -> bool:
        found = arms(draws, kappa)
        known = calibrate([found.test("e", MAIL, 0, Applied(1.0, contained=True))], prior=FLAT)
        return _missed(known, MAIL, found.credited, kappa * CREDITED * UNITS)

    return _share(world, 301, trials)


def other_units(kappa: float, size: float, trials: int) -> float:
    """The report is of so many times as many other units."""
    units = round(size * UNITS)

    def world(draws: Draws) -> bool:
        found, reported = arms(draws, kappa), draws.binomial(units, CREDITED)
        applied = Applied(found.credited / max(reported, 1))
        known = calibrate([found.test("e", MAIL, 0, applied)], prior=FLAT)
        return _missed(known, MAIL, reported, kappa * CREDITED * units)

    return _share(world, 302, trials)


def some_units(kappa: float, trials: int) -> float:
    """The report is of the tested units and of twice as many others."""

    def world(draws: Draws) -> bool:
        found = arms(draws, kappa)
        reported = found.credited + draws.binomial(2 * UNITS, CREDITED)
        applied = Applied(found.credited / reported, contained=True)
        known = calibrate([found.test("e", MAIL, 0, applied)], prior=FLAT)
        return _missed(known, MAIL, reported, kappa * CREDITED * 3 * UNITS)

    return _share(world, 303, trials)


def credit_alone(kappa: float, trials: int) -> float:
    """Credit with three of its own standard deviations, taken for what was caused."""

    def world(draws: Draws) -> bool:
        credited = arms(draws, kappa).credited
        return bool(abs(credited - kappa * CREDITED * UNITS) > 3 * np.sqrt(credited))

    return _share(world, 304, trials)


def shrunken(units: int, trials: int) -> float:
    """The kappa of each channel is drawn as the prior says, in tests of so many units."""

    def world(draws: Draws) -> bool:
        kappa = draws.normal(1.0, TAU.std_dev)
        found = arms(draws, kappa, units)
        if not found.credited:
            return False
        known = calibrate([found.test("e", MAIL, 0, Applied(1.0, contained=True))], prior=TAU)
        left = np.sqrt((1.0 - known.of(MAIL).weight ** 2) * found.credited)
        credit = Estimate(float(found.credited), float(left))
        row = incremental(MAIL, credit, 1.0, known)
        return not row.low <= kappa * CREDITED * units <= row.high

    return _share(world, 305, trials)


def split(which: str, trials: int) -> float:
    """A holdout from three channels at once; their kappas are drawn as the prior says."""
    sizes = np.array([0.03, 0.02, 0.01])

    def world(draws: Draws) -> bool:
        common = draws.normal(0.0, TAU.std_dev * np.sqrt(0.5))
        kappas = 1.0 + common + draws.normal(0.0, TAU.std_dev * np.sqrt(0.5), 3)
        caused = max(float(kappas @ sizes), -ANYHOW / 2)
        on = draws.binomial(UNITS, ANYHOW + caused)
        credited = draws.poisson(sizes * UNITS) + 1.0
        whole = Arms(on, draws.binomial(UNITS, ANYHOW), int(credited.sum()), UNITS)
        test = whole.test("all-off", Target(CHANNELS[0]), 0, Applied(1.0, contained=True))
        pairs = zip(map(Target, CHANNELS), credited.tolist(), strict=True)
        known = calibrate([], prior=TAU, joint=[JointTest(test, tuple(pairs))])
        if which == "each":
            believed = known.of(Target("mail"))
            return not believed.low <= kappas[1] <= believed.high
        assert known.believed is not None
        total = known.believed.total(credited.tolist())
        return bool(abs(total.value - kappas @ sizes * UNITS) > 1.959964 * total.std_err)

    return _share(world, 306, trials)


def disagreeing(tests: int, trials: int) -> float:
    """Kappa moves from month to month, by as much as is taken for likely before any test; so many
    tests tell of the month after.
    """

    def world(draws: Draws) -> bool:
        spread = abs(draws.normal(0.0, SPREAD_STD_DEV))
        kappas = 1.0 + draws.normal(0.0, 0.3) + draws.normal(0.0, spread, tests + 1)
        seen = [
            arms(draws, kappa, 4 * UNITS).test(f"e{month}", MAIL, month, Applied())
            for month, kappa in enumerate(kappas[:-1])
        ]
        believed = calibrate(seen, prior=FLAT).of(MAIL)
        return not believed.low <= kappas[-1] <= believed.high

    return _share(world, 307, trials)


def harmful(trials: int) -> float:
    """A channel that keeps people from converting, and is not found to do so."""

    def world(draws: Draws) -> bool:
        found = arms(draws, -1.0, 4 * UNITS)
        known = calibrate([found.test("e", MAIL, 0, Applied(1.0, contained=True))], prior=TAU)
        return known.of(MAIL).high >= 0

    return _share(world, 308, trials)


def journeys(which: str, trials: int) -> float:
    """Journeys of three channels under three models, each channel with a holdout of its own; the
    report is of other customers.
    """
    missed = []
    for seed in range(trials):
        tested, reported = simulate(6_000, 2 * seed), simulate(6_000, 2 * seed + 1)
        others = attributed(journeys_of(reported))
        for model, credits_ in attributed_by_unit(journeys_of(tested)).items():
            tests = [
                replace(test, applied=Applied(min(float(row.sum() / other), 1.0)))
                for test, row, other in zip(
                    lift_tests(tested, credits_.sum(axis=1), credits_),
                    credits_,
                    others[model],
                    strict=True,
                )
            ]
            known = calibrate(tests, prior=FLAT)
            for channel, name in enumerate(CHANNELS_OF_JOURNEYS):
                truth, credit = float(reported.caused[channel]), float(others[model][channel])
                if which == "kappa":
                    missed.append(_missed(known, Target(name), credit, truth))
                elif name == "retargeting":
                    missed.append(abs(credit - truth) > 3 * np.sqrt(credit))
    return float(np.mean(missed))


def stopped(drawn: bool, which: str, trials: int) -> float:
    """Looked at 20 times, and stopped as soon as the interval of kappa leaves 1 out."""

    def world(draws: Draws) -> bool:
        kappa = draws.normal(1.0, TAU.std_dev) if drawn else 1.0
        parts = [arms(draws, kappa, UNITS // 2) for _ in range(LOOKS)]
        sums = np.cumsum(
            [(each.converted_on, each.converted_off, each.credited) for each in parts], axis=0
        )
        for look, row in enumerate(sums.tolist()):
            on, off, credited = row
            found = Arms(on, off, credited, (look + 1) * (UNITS // 2))
            test = found.test("e", MAIL, 0, Applied(1.0, contained=True))
            low, high = _ends(test, which)
            if not low <= 1.0 <= high:
                break
        return not low <= kappa <= high

    return _share(world, 309, trials)


def _ends(test: LiftTest, which: str) -> tuple[float, float]:
    if which == "believed":
        known = calibrate([test], prior=TAU).of(MAIL)
        return known.low, known.high
    found = measure(test, ALPHA)
    assert isinstance(found, Measured)
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


def _kept(what: str, low: float, high: float, found: Callable[[int], float], cost: int) -> Promise:
    return Promise(20, f"Interval of what was caused misses: {what}", low, high, found, cost=cost)


def _nominal(what: str, found: Callable[[int], float], cost: int = 1) -> Promise:
    return _kept(what, 0.04, 0.065, found, cost)


def _at_most(what: str, found: Callable[[int], float], cost: int = 1) -> Promise:
    return _kept(what, 0.0, 0.06, found, cost)


ANY_KAPPA = "kappa as the prior says"
PROMISES = [
    *(
        _nominal(f"kappa {kappa:g}, report of the tested units", partial(same_units, kappa))
        for kappa in (-0.5, 0.0, 0.3, 1.0, 3.0)
    ),
    *(
        _at_most(
            f"kappa {kappa:g}, report of {size:g} times as many others",
            partial(other_units, kappa, size),
        )
        for kappa in (0.0, 0.3, 1.0, 3.0)
        for size in (0.5, 5.0)
    ),
    *(
        _at_most(
            f"kappa {kappa:g}, report of the tested and twice as many others",
            partial(some_units, kappa),
        )
        for kappa in (0.3, 1.0, 3.0)
    ),
    *(
        _nominal(f"{ANY_KAPPA}, tests of {units:,} units an arm", partial(shrunken, units))
        for units in (1_000, 5_000, 50_000)
    ),
    _nominal(f"{ANY_KAPPA}, three channels switched at once, of one", partial(split, "each")),
    _nominal(f"{ANY_KAPPA}, three channels switched at once, of all", partial(split, "all")),
    *(
        _nominal(
            f"kappa moves as it is expected to, {tests} tests, the month after",
            partial(disagreeing, tests),
            4,
        )
        for tests in (2, 4, 10)
    ),
    _nominal(
        f"{ANY_KAPPA}, stopped when 1 is out, 20 looks", partial(stopped, True, "believed"), 4
    ),
    _at_most("journeys, three models and channels, of others", partial(journeys, "kappa"), 20),
    Promise(
        20,
        "Kappa of one look misses 1 when stopped as soon as 1 is out, 20 looks",
        0.2,
        0.3,
        partial(stopped, False, "tested"),
        cost=4,
    ),
    Promise(
        20,
        "Credit within three standard deviations of what was caused, kappa 0.3",
        0.0,
        0.001,
        lambda trials: 1.0 - credit_alone(0.3, trials),
    ),
    Promise(
        20,
        "Credit within three standard deviations of what was caused, retargeting of journeys",
        0.0,
        0.001,
        lambda trials: 1.0 - journeys("credit", trials),
        cost=20,
    ),
    Promise(20, "Harm of kappa -1 not found, 40,000 units an arm", 0.0, 0.01, harmful),
]
