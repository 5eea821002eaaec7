"""Promises 7 and 10: families, decisions, programmes and the sample ratio err as seldom as said."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy import special
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.decide import (
    Levels,
    Situation,
    Verdict,
    decide,
    levels,
)
from touchstone_statistics.estimand import Estimate
from touchstone_statistics.family import (
    Adjusted,
    Correction,
    Method,
    Role,
    correct,
    correct_evidence,
)
from touchstone_statistics.findings import Goal, findings
from touchstone_statistics.gaps import FloatArray
from touchstone_statistics.health import ALERT_BELOW
from touchstone_statistics.heterogeneity import Effects, heterogeneity, shrink
from touchstone_statistics.holdouts import evaluate
from touchstone_statistics.interval import Side
from touchstone_statistics.plan import Design, History, Size, sample_size
from touchstone_statistics.winners import programme

from tests.calibration.promises import Promise

LEVEL, FAMILY, NULLS = 0.05, 20, 10
EFFECT = 2.5
"""Of every family of twenty, ten effects are real and lie so many standard errors from zero."""


def none(values: FloatArray) -> np.ndarray:
    return np.zeros(values.shape, dtype=np.uint8)


def scores(families: int, correlation: float, seed: int) -> FloatArray:
    """z statistics of families: the nulls first, all equally correlated."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(families, 1)) * np.sqrt(correlation)
    noise = rng.normal(size=(families, FAMILY)) * np.sqrt(1.0 - correlation)
    return np.asarray(shared + noise + np.repeat([0.0, EFFECT], [NULLS, FAMILY - NULLS]))


def false_share(found: Adjusted) -> float:
    """Mean share of nulls among the rejections of each family."""
    wrong = found.rejected[:, :NULLS].sum(axis=1)
    return float(np.mean(wrong / np.maximum(found.rejected.sum(axis=1), 1)))


def stepwise(method: Method, correlation: float) -> Callable[[int], float]:
    def simulate(families: int) -> float:
        z = scores(families, correlation, seed=7)
        p = 2.0 * special.ndtr(-np.abs(z))
        return false_share(correct(p, none(p), Correction(method, LEVEL)))

    return simulate


def holm(families: int) -> float:
    """Share of families in which Holm rejects any null."""
    z = scores(families, 0.0, seed=71)
    p = 2.0 * special.ndtr(-np.abs(z))
    found = correct(p, none(p), Correction(Method.HOLM, LEVEL))
    return float(found.rejected[:, :NULLS].any(axis=1).mean())


def stopped_evidence(families: int) -> float:
    """e-BH on correlated e-processes, each family stopped when it has rejected most falsely.

    The worst stopping rule there is: it knows the truth. e-values are likelihood ratios of a
    normal mean that grows over 20 looks.
    """
    rng = np.random.default_rng(72)
    drift = np.repeat([0.0, 0.6], [NULLS, FAMILY - NULLS])
    log_e = np.zeros((families, FAMILY))
    share = np.zeros(families)
    for _ in range(20):
        shared = rng.normal(size=(families, 1)) * np.sqrt(0.5)
        x = shared + rng.normal(size=(families, FAMILY)) * np.sqrt(0.5) + drift
        log_e += 0.6 * x - 0.18
        found = correct_evidence(log_e, none(log_e), LEVEL)
        wrong = found.rejected[:, :NULLS].sum(axis=1)
        share = np.maximum(share, wrong / np.maximum(found.rejected.sum(axis=1), 1))
    return float(share.mean())


def missed_waves(trials: int) -> float:
    """Share of journeys in which any of four waves' intervals misses its true difference."""
    rng = np.random.default_rng(73)
    truth, variances = np.array([0.0, 0.5, 2.0, -1.0]), np.array([1.0, 0.3, 2.0, 0.6])
    control = _arm(50.0 + rng.normal(size=(trials, 1)), np.ones(1))
    waves = 50.0 + truth + rng.normal(size=(trials, 4)) * np.sqrt(variances)
    found = evaluate(control, _arm(waves, variances)).reading.difference
    return float(((found.low > truth) | (found.high < truth)).any(axis=1).mean())


def _arm(value: FloatArray, variance: FloatArray) -> Estimate:
    shape = value.shape
    units = np.full(shape, 1e6)
    return Estimate(value, np.broadcast_to(variance, shape), units, none(value), none(value))


ROLES = [Role.PRIMARY] * 3 + [Role.GUARDRAIL] * 2 + [Role.SECONDARY] * 2
MARGIN, LIFT, MEAN, STD_DEV = 0.02, 0.02, 10.0, 5.0


def planned_units(rule: Levels) -> float:
    """Units an arm with which every metric has the power that the rule asks for."""
    history = History(MEAN, STD_DEV**2)
    up = Design(power=rule.power, side=Side.GREATER, alpha=rule.superiority)
    safe = replace(up, alpha=rule.non_inferiority, null_lift=-MARGIN)
    sizes = sample_size(history, LIFT * MEAN, up), sample_size(history, 0.0, safe)
    return max(size.total / 2.0 for size in sizes if isinstance(size, Size))


def ships(lifts: FloatArray, trials: int, seed: int) -> float:
    """Share of experiments at their planned end that the rule ships, for true lifts by metric."""
    rule, rng = levels(ROLES, alpha=LEVEL, power=0.8), np.random.default_rng(seed)
    units = planned_units(rule)
    spread = STD_DEV / np.sqrt(units)
    shape = (trials, len(ROLES))
    variance = np.full(len(ROLES), spread**2)
    arms = [
        _arm(MEAN * (1.0 + lift) + rng.normal(size=shape) * spread, variance)
        for lift in (np.zeros(len(ROLES)), lifts)
    ]
    contrast = Contrast(arms[0], arms[1])
    found = [
        findings(
            Contrast(contrast.control[:, at], contrast.treatment[:, at]),
            Goal(role, True, MARGIN),
            rule,
        )
        for at, role in enumerate(ROLES)
    ]
    shipped = 0
    for trial in range(trials):
        verdicts = [
            one.verdict(str(at), holds=True, index=(trial,)) for at, one in enumerate(found)
        ]
        decision = decide("treatment", verdicts, Situation(at_end=True))
        shipped += decision.verdict is Verdict.SHIP
    return shipped / trials


def without_success(trials: int) -> float:
    return ships(np.zeros(len(ROLES)), trials, seed=74)


def at_the_margin(trials: int) -> float:
    return ships(np.array([LIFT] * 3 + [-MARGIN, 0.0, 0.0, 0.0]), trials, seed=75)


def as_planned(trials: int) -> float:
    return ships(np.array([LIFT] + [0.0] * (len(ROLES) - 1)), trials, seed=76)


def programme_missed(trials: int) -> float:
    """Share of programmes of thirty experiments whose interval misses what they really gained."""
    rng = np.random.default_rng(77)
    missed = 0
    for _ in range(trials):
        truth = np.where(rng.random(30) < 0.3, rng.normal(2.0, 1.0, 30), 0.0)
        estimates = truth + rng.normal(size=30)
        total = programme(Effects(estimates, np.ones(30), none(estimates)), 1.96).corrected
        missed += not total.low <= truth[estimates > 1.96].sum() <= total.high
    return missed / trials


def segments_called_different(trials: int) -> float:
    value = np.random.default_rng(78).normal(1.0, 0.5, (trials, 12))
    return float(np.mean(heterogeneity(_effects(value)).p_value < LEVEL))


def best_segment(trials: int) -> float:
    """Share of experiments whose shrunken interval of the best-looking segment misses it."""
    rng = np.random.default_rng(79)
    truth = rng.normal(1.0, 0.4, (trials, 12))
    value = rng.normal(truth, 0.5)
    best = np.argmax(value, axis=1)[:, None]
    found = shrink(_effects(value)).interval
    low, real, high = (np.take_along_axis(x, best, 1) for x in (found.low, truth, found.high))
    return float(np.mean((low > real) | (high < real)))


def _effects(value: FloatArray) -> Effects:
    return Effects(value, np.full(value.shape, 0.25), none(value))


def ratio_alarms(trials: int) -> float:
    """Share of correct 90 : 10 splits that the chi-squared test alerts to at any of 28 looks."""
    rng = np.random.default_rng(101)
    first = rng.binomial(1000, 0.9, (trials, 28)).cumsum(axis=1)
    total = 1000.0 * np.arange(1, 29)
    statistic = (first - 0.9 * total) ** 2 / (0.09 * total)
    return float((special.chdtrc(1, statistic) < ALERT_BELOW).any(axis=1).mean())


HALF_REAL = f"{NULLS} of {FAMILY} effects real"
NEARLY = 0.055
"""A level of 5 % that is used up, and the error of the simulation."""
PROMISES = [
    *(
        Promise(7, f"False among rejected, {name}, {HALF_REAL}", 0.0, LEVEL, simulate)
        for name, simulate in (
            ("Benjamini-Hochberg", stepwise(Method.BENJAMINI_HOCHBERG, 0.0)),
            ("Benjamini-Hochberg, correlation 0.5", stepwise(Method.BENJAMINI_HOCHBERG, 0.5)),
            ("Benjamini-Yekutieli, correlation 0.5", stepwise(Method.BENJAMINI_YEKUTIELI, 0.5)),
            ("e-BH stopped at the worst of 20 looks", stopped_evidence),
        )
    ),
    *(
        Promise(7, what, low, high, simulate, cost=4)
        for what, low, high, simulate in (
            (f"Families with a false rejection, Holm, {HALF_REAL}", 0.0, LEVEL, holm),
            ("Journeys of four waves, some interval misses", 0.045, NEARLY, missed_waves),
            ("Shipped although no success metric improves", 0.0, NEARLY, without_success),
            ("Shipped although a guardrail is at its margin", 0.0, NEARLY, at_the_margin),
            ("Shipped when one success metric improves as planned", 0.8, 1.0, as_planned),
            ("Equal segments called different at 5 %", 0.045, NEARLY, segments_called_different),
            ("Interval of the best-looking of 12 segments misses", 0.03, 0.06, best_segment),
            ("Interval of a programme's corrected total misses", 0.0, LEVEL, programme_missed),
        )
    ),
    Promise(10, "Correct 90 : 10 splits alerted, chi-squared, 28 looks", 0.0, 0.01, ratio_alarms),
]
