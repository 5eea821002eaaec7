"""The additive hazard of touches, fitted by expectation and maximisation.

Source: Zhang, Wei, Ren (2014), "Multi-touch attribution in online advertising with survival
theory", equations 3 to 9. A touch of channel c at t_i adds beta_c omega_c exp(-omega_c (t - t_i))
to the hazard of conversion: beta_c is how much it can bring about in all, omega_c (a day) how fast
that fades. A touch is credited with its part p_i of the hazard at the conversion.

    P(conversion by T) = 1 - exp(-sum of beta (1 - exp(-omega (T - t_i))))
    E: p_i = beta omega exp(-omega (T - t_i)) / hazard at T
    M: beta = sum p / sum (1 - exp(-omega D)); omega = sum p / sum (p D + beta D exp(-omega D))

D is from a touch to the conversion, or to the end of observation. Assumption: touches act
independently and additively, and nothing else converts. Estimand: the part of the fitted hazard;
it is descriptive. Ages are in days, and at least a minute: at age 0 omega would have no bound.
"""

from dataclasses import dataclass

import numpy as np

from services.attribution.domain.arrays import Codes, Floats, Integers
from services.attribution.domain.journeys import DAY_US, Journeys
from shared.errors import invalid

MIN_AGE_DAYS = 1 / 1440
FADING_A_DAY = (1e-4, 1440.0)
MAX_STEPS = 10_000


@dataclass(frozen=True, slots=True)
class Stopping:
    """When to stop: the likelihood gains less than this part of itself, or so many steps."""

    tolerance: float = 1e-7
    steps: int = 500

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 1:
            raise invalid("additive_hazard.tolerance", self.tolerance, "a part between 0 and 1")
        if not 1 <= self.steps <= MAX_STEPS:
            raise invalid("additive_hazard.steps", self.steps, f"1 to {MAX_STEPS}")


@dataclass(frozen=True, slots=True)
class AdditiveHazard:
    """A fitted hazard: `strength` beta (C,), `fading` omega (C,) a day.

    A channel without conversion has strength 0. `converged` says whether the log-likelihood
    stopped to grow within `steps` steps.
    """

    strength: Floats
    fading: Floats
    log_likelihood: float
    steps: int
    converged: bool

    def predict(self, journeys: Journeys, horizon_us: int) -> Floats:
        """Return P(conversion) of each journey until `horizon_us` after its last touch.

        Its own end is not looked at, for that would tell who converted. Yet a conversion prevents
        later touches, so journeys that ended in one are told by fewer touches than they would have
        had, and chances are too low on average: look at their calibration.
        """
        lengths = np.diff(journeys.offsets)
        until = np.repeat(journeys.times[journeys.offsets[1:] - 1], lengths) + horizon_us
        ages = _days(until - journeys.times)
        reached = -np.expm1(-self.fading[journeys.codes] * ages)
        total = np.add.reduceat(self.strength[journeys.codes] * reached, journeys.offsets[:-1])
        chances: Floats = -np.expm1(-total)
        return chances

    def touch_weights(self, journeys: Journeys) -> Floats:
        """Return p_i of each touch of the converting journeys; those of a journey sum to 1.

        Where no channel of a journey has strength (it was fitted to others), touches share equally.
        """
        if not journeys.converting:
            return np.zeros(0)
        codes, offsets = journeys.converting_codes, journeys.converting_offsets
        ages = _observed_days(journeys, 0)[: len(codes)]
        return _parts(self.strength, self.fading, (codes, offsets), ages)[0]


def fit_hazard(
    journeys: Journeys,
    observed_until_us: int,
    stopping: Stopping,
    journey_weights: Floats | None = None,
) -> AdditiveHazard:
    """Fit to all journeys; those without conversion were observed until `observed_until_us`.

    With `journey_weights`, of at least 0, each journey counts so many times.
    """
    cut, channels = int(journeys.offsets[journeys.converting]), len(journeys.channels)
    codes, ages = journeys.codes, _observed_days(journeys, observed_until_us)
    counted = np.ones(len(journeys)) if journey_weights is None else journey_weights
    times = np.repeat(counted, np.diff(journeys.offsets))
    own, rows = codes[:cut], (codes[:cut], journeys.converting_offsets)
    held = np.bincount(own, times[:cut], channels)
    strength = held / np.maximum(np.bincount(codes, times, channels), 1)
    converting = float(times[:cut].sum())
    fading = np.full(channels, converting / (times[:cut] @ ages[:cut]) if converting else 1.0)
    likelihood, step, converged = -np.inf, 0, not converting
    while not converged and step < stopping.steps:
        step += 1
        decay = np.exp(-fading[codes] * ages)
        parts, intensity = _parts(strength, fading, rows, ages[:cut])
        gained = float(intensity @ counted[: journeys.converting])
        now = gained - float(times @ (strength[codes] * (1 - decay)))
        converged = abs(now - likelihood) <= stopping.tolerance * abs(now)
        likelihood = now
        if not converged:
            strength, fading = _maximised(codes, ages, decay, (parts, times), channels)
    return AdditiveHazard(strength, fading, likelihood if converting else 0.0, step, converged)


def _maximised(
    codes: Codes, ages: Floats, decay: Floats, weighed: tuple[Floats, Floats], channels: int
) -> tuple[Floats, Floats]:
    """`weighed` are the parts of the converting touches and how often each touch counts."""
    parts, times = weighed
    own = codes[: len(parts)]
    parts = parts * times[: len(parts)]
    credited = np.bincount(own, parts, channels)
    exposed = np.bincount(codes, times * (1 - decay), channels)
    strength = credited / np.where(exposed > 0, exposed, 1.0)
    aged = np.bincount(own, parts * ages[: len(parts)], channels)
    unspent = strength * np.bincount(codes, times * ages * decay, channels)
    spread = aged + unspent
    fading = np.clip(credited / np.where(spread > 0, spread, 1.0), *FADING_A_DAY)
    return strength.astype(np.float64), fading


def _parts(
    strength: Floats, fading: Floats, rows: tuple[Codes, Integers], ages: Floats
) -> tuple[Floats, Floats]:
    """Return p_i, and the log of the hazard at the conversion of each journey, 0 where none has."""
    codes, offsets = rows
    lengths = np.diff(offsets)
    power = strength * fading
    known = np.log(np.where(power > 0, power, 1.0))
    logs = np.where(power[codes] > 0, known[codes] - fading[codes] * ages, -np.inf)
    # Against the largest of a journey, as old touches alone would underflow to a hazard of 0.
    largest = np.maximum.reduceat(logs, offsets[:-1])
    powerless = np.isneginf(largest)
    shifted = logs - np.repeat(np.where(powerless, 0.0, largest), lengths)
    relative = np.where(np.repeat(powerless, lengths), 1.0, np.exp(shifted))
    totals = np.add.reduceat(relative, offsets[:-1])
    parts: Floats = relative / np.repeat(totals, lengths)
    return parts, np.where(powerless, 0.0, largest + np.log(totals))


def _observed_days(journeys: Journeys, observed_until_us: int) -> Floats:
    ends = np.full(len(journeys), observed_until_us, dtype=np.int64)
    ends[: journeys.converting] = journeys.conversion_times
    return _days(np.repeat(ends, np.diff(journeys.offsets)) - journeys.times)


def _days(spans_us: Integers) -> Floats:
    days: Floats = np.maximum(spans_us / DAY_US, MIN_AGE_DAYS)
    return days
