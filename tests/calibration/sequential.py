"""Promises 3, 4, 8 and 10: what looking at results, again and again, does to the error rate."""

from collections.abc import Callable, Iterator

import numpy as np
from scipy import stats
from touchstone_statistics.anytime import Anytime, AnytimeT
from touchstone_statistics.boundaries import Ledger, Plan
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.estimand import Estimate, Mean, estimate
from touchstone_statistics.hybrid import Hybrid
from touchstone_statistics.inference import Fixed, Reading
from touchstone_statistics.interval import Side
from touchstone_statistics.looks import before, running
from touchstone_statistics.moments import Moments
from touchstone_statistics.operating import planned
from touchstone_statistics.sequential import GroupSequential
from touchstone_statistics.sequential_ratio import SequentialRatio
from touchstone_statistics.spending import OBrienFleming, Pocock, Spending

from tests.calibration.promises import Promise

Simulation = Callable[[int], float]
Paths = Callable[[int, int], Iterator[Contrast]]
Inference = Fixed | Anytime | AnytimeT | Hybrid | GroupSequential
ALPHA = 0.05
LOOKS, UNITS_A_DAY, RATE = 28, 500, 0.1
"""Four weeks of daily looks at a conversion rate, with so many units a day in each arm."""
END, AFTER = 2.0 * UNITS_A_DAY * LOOKS, 14
POWER = 0.8
MANY_LOOKS, CHUNK = 1000, 250


def conversions(trials: int, lift: float, seed: int) -> Contrast:
    """Cumulative daily results of experiments on a conversion rate: trials + looks."""
    rng = np.random.default_rng(seed)
    units = np.broadcast_to(UNITS_A_DAY * np.arange(1.0, LOOKS + 1), (trials, LOOKS))
    arms = []
    for rate in (RATE, RATE * (1 + lift)):
        converted = rng.binomial(UNITS_A_DAY, np.full(units.shape, rate))
        share = converted.cumsum(axis=1) / units
        co_moment = (units * share * (1 - share))[..., None, None]
        arms.append(estimate(Moments.of(units, share[..., None], co_moment), Mean(0)))
    return Contrast(arms[0], arms[1])


def detectable() -> float:
    """The lift that a fixed test finds with 80 % power at the end."""
    distance = stats.norm.isf(ALPHA / 2) + stats.norm.ppf(POWER)
    return float(distance * np.sqrt(2 * (1 - RATE) / RATE / (UNITS_A_DAY * LOOKS)))


def look(contrast: Contrast, number: int) -> Contrast:
    return Contrast(contrast.control[:, number], contrast.treatment[:, number])


def rejected(contrast: Contrast, at: Callable[[int], Inference]) -> float:
    """Share of trials that reject at any look, with the inference that each look has."""
    so_far = before(contrast.difference.shape[:1])
    for number in range(LOOKS):
        so_far = running(so_far, at(number).read(look(contrast, number)))
    return float(np.mean(so_far.p_value < ALPHA))


def group_sequential(spending: Spending) -> Callable[[int], Inference]:
    plan = Plan(END, ALPHA, spending=spending)
    ledger = planned(plan, np.arange(1, LOOKS + 1) / LOOKS)
    return lambda number: GroupSequential(plan, Ledger(ledger.looks[: number + 1]))


def level_of(at: Callable[[int], Inference]) -> Simulation:
    return lambda trials: rejected(conversions(trials, 0.0, seed=3), at)


def read_on(trials: int) -> float:
    """Share of A/A tests that reject when the bound of the end is used for two weeks more."""
    rng = np.random.default_rng(333)
    days = np.arange(1, LOOKS + AFTER + 1)
    score = rng.normal(size=(trials, days.size)).cumsum(axis=1) / np.sqrt(days)
    ledger = planned(Plan(END, ALPHA), np.arange(1, LOOKS + 1) / LOOKS)
    bounds = np.array([step.critical for step in ledger.looks], dtype=np.float64)
    frozen = np.concatenate([bounds, np.full(AFTER, bounds[-1])])
    return float((np.abs(score) > frozen).any(axis=1).mean())


def power_lost(trials: int) -> float:
    """How much more often a fixed test at the end finds the effect than the plan does."""
    contrast = conversions(trials, detectable(), seed=33)
    fixed = float(np.mean(Fixed(ALPHA).read(look(contrast, LOOKS - 1)).p_value < ALPHA))
    return fixed - rejected(contrast, group_sequential(OBrienFleming()))


def normal_paths(trials: int, batch: int) -> Iterator[Contrast]:
    """A/A tests of a normal outcome, `batch` units an arm and look, some trials at a time.

    The mean and the sum of squares within a batch are independent and have known laws, so
    batches are drawn as such and added up as moments are.
    """
    rng = np.random.default_rng(4)
    units = batch * np.arange(1.0, MANY_LOOKS + 1)
    for shape in _chunks(trials):
        arms = []
        for _ in range(2):
            means = rng.normal(0, batch**-0.5, shape)
            within = rng.chisquare(batch - 1, shape)
            mean = batch * means.cumsum(axis=1) / units
            between = batch * (means**2).cumsum(axis=1) - units * mean**2
            arms.append(_arm(mean, (within.cumsum(axis=1) + between) / (units - 1), units))
        yield Contrast(arms[0], arms[1])


def rare_paths(trials: int, batch: int) -> Iterator[Contrast]:
    """The same for an outcome that one unit in fifty has."""
    rng = np.random.default_rng(44)
    units = batch * np.arange(1.0, MANY_LOOKS + 1)
    for shape in _chunks(trials):
        counts = [rng.binomial(batch, 0.02, shape).cumsum(axis=1) for _ in range(2)]
        shares = [count / units for count in counts]
        arms = [_arm(share, share * (1 - share) * units / (units - 1), units) for share in shares]
        yield Contrast(arms[0], arms[1])


def _chunks(trials: int) -> Iterator[tuple[int, int]]:
    for begun in range(0, trials, CHUNK):
        yield min(CHUNK, trials - begun), MANY_LOOKS


def _arm(mean: np.ndarray, variance: np.ndarray, units: np.ndarray) -> Estimate:
    """Estimates from the mean and variance of a unit; without variance there is a gap."""
    none = np.zeros(mean.shape, dtype=np.uint8)
    return Estimate(mean, variance / units, np.broadcast_to(units, mean.shape), none, none)


def thousand_looks(inference: Inference, batch: int, paths: Paths) -> Simulation:
    """Share of A/A tests that reject at any of 1,000 looks."""

    def simulate(trials: int) -> float:
        found = []
        for part in paths(trials, batch):
            reading = inference.read(part)
            found.append(((reading.p_value < ALPHA) & (reading.gap == 0)).any(axis=1))
        return float(np.concatenate(found).mean())

    return simulate


def incoherent(trials: int) -> float:
    """Share of readings whose interval and p-value disagree, or whose running p-value rises."""
    rng = np.random.default_rng(8)
    contrast = conversions(trials, detectable() / 2, seed=88)
    broken = 0
    for at in _every_inference(rng):
        so_far = before((trials,))
        for number in range(LOOKS):
            reading = at(number).read(look(contrast, number))
            apart = reading.difference.excludes(0.0) != (reading.p_value < ALPHA)
            apart |= _lift_excludes_zero(reading) != (reading.p_value < ALPHA)
            after = running(so_far, reading)
            broken += int((apart | (after.p_value > so_far.p_value)).sum())
            so_far = after
    return broken / trials


def _every_inference(rng: np.random.Generator) -> list[Callable[[int], Inference]]:
    side = list(Side)[rng.integers(3)]
    return [
        lambda _: Fixed(ALPHA),
        lambda _: Anytime(10_000.0, ALPHA),
        lambda _: Anytime(3_000.0, ALPHA, side),
        lambda _: AnytimeT.tuned(10_000.0, ALPHA),
        lambda _: Hybrid(END, ALPHA),
        group_sequential(OBrienFleming()),
        group_sequential(Pocock()),
    ]


def _lift_excludes_zero(reading: Reading) -> np.ndarray:
    return np.where(reading.lift_gap == 0, reading.lift.excludes(0.0), reading.p_value < ALPHA)


def ratio_alarms(trials: int) -> float:
    """Share of correct splits that are called a mismatch at any daily look, at level 0.01."""
    rng = np.random.default_rng(10)
    first = rng.binomial(2 * UNITS_A_DAY, 0.5, (trials, LOOKS)).cumsum(axis=1)
    total = 2 * UNITS_A_DAY * np.arange(1, LOOKS + 1)
    counts = np.stack([first, total - first], axis=-1).astype(np.float64)
    log_e = SequentialRatio(np.array([1.0, 1.0])).read(counts).log_e
    return float((log_e > -np.log(0.01)).any(axis=1).mean())


DAILY = f"{LOOKS} daily looks"
PROMISES = [
    Promise(
        3,
        f"A/A tests rejected under O'Brien-Fleming spending, {DAILY}",
        0.0,
        0.053,
        level_of(group_sequential(OBrienFleming())),
    ),
    Promise(
        3,
        f"A/A tests rejected under Pocock spending, {DAILY}",
        0.0,
        0.053,
        level_of(group_sequential(Pocock())),
    ),
    Promise(
        3,
        f"Power that O'Brien-Fleming spending loses to one fixed look, {DAILY}",
        -0.01,
        0.03,
        power_lost,
    ),
    Promise(
        3,
        f"A/A tests rejected when fixed tests are peeked at, {DAILY} (why the others exist)",
        0.26,
        0.29,
        level_of(lambda _: Fixed(ALPHA)),
    ),
    Promise(
        3,
        f"A/A tests rejected when the last bound is used for {AFTER} days more (why it is not)",
        0.07,
        0.1,
        read_on,
    ),
    Promise(
        4,
        "A/A tests rejected by the confidence sequence, 1,000 looks",
        0.0,
        0.05,
        thousand_looks(Anytime(20_000.0, ALPHA), 20, normal_paths),
        cost=4,
    ),
    Promise(
        4,
        "A/A tests rejected by the confidence sequence of a rate of 2 %, 1,000 looks",
        0.0,
        0.05,
        thousand_looks(Anytime(100_000.0, ALPHA), 100, rare_paths),
        cost=4,
    ),
    Promise(
        4,
        "A/A tests rejected by the one-sided confidence sequence, 1,000 looks",
        0.0,
        0.05,
        thousand_looks(Anytime(20_000.0, ALPHA, Side.GREATER), 20, normal_paths),
        cost=4,
    ),
    Promise(
        4,
        "A/A tests rejected by the anytime-valid t test from 2 units an arm on, 1,000 looks",
        0.0,
        0.05,
        thousand_looks(AnytimeT(1.0, ALPHA), 2, normal_paths),
        cost=4,
    ),
    Promise(
        4,
        "A/A tests rejected by the hybrid until its end, 1,000 looks",
        0.0,
        0.05,
        thousand_looks(Hybrid(2.0 * 20 * MANY_LOOKS, ALPHA), 20, normal_paths),
        cost=4,
    ),
    Promise(
        8,
        "Readings whose interval and p-value disagree, or whose running p-value rises",
        0.0,
        0.0,
        incoherent,
        share=False,
    ),
    Promise(
        10,
        f"Correct splits called a mismatch by the sequential ratio test at 0.01, {DAILY}",
        0.0,
        0.01,
        ratio_alarms,
    ),
]
