"""What an experiment or a holdout says of a channel, set against what attribution credits it."""

from dataclasses import dataclass

import numpy as np
from scipy import special
from touchstone_statistics.interval import Fraction, Shape, Side, fieller

from services.attribution.domain.economics import Undefined
from shared.errors import invalid


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its standard error, in the same units."""

    value: float
    std_err: float

    def __post_init__(self) -> None:
        if not np.isfinite(self.value):
            raise invalid("estimate.value", self.value, "a finite number")
        if not 0 <= self.std_err < np.inf:
            raise invalid("estimate.std_err", self.std_err, "a finite number of at least 0")

    def times(self, factor: float) -> "Estimate":
        """Return the estimate of `factor` times the quantity."""
        return Estimate(self.value * factor, self.std_err * abs(factor))


@dataclass(frozen=True, slots=True)
class Target:
    """What is calibrated: a channel, or one campaign of it."""

    channel: str
    campaign: str = ""

    def __post_init__(self) -> None:
        if not self.channel:
            raise invalid("target.channel", self.channel, "the name of a channel")

    def sort_key(self) -> tuple[str, str]:
        return (self.channel, self.campaign)


@dataclass(frozen=True, slots=True)
class Cell:
    """Which units in which time: [start_us, end_us) in microseconds since 1970-01-01 UTC."""

    start_us: int
    end_us: int
    units: int

    def __post_init__(self) -> None:
        if not self.start_us < self.end_us:
            raise invalid("cell", f"{self.start_us}..{self.end_us}", "a start before its end")
        if self.units < 1:
            raise invalid("cell.units", self.units, "at least 1")

    def shared_us(self, other: "Cell") -> int:
        """Return how long both last together, in microseconds."""
        return max(min(self.end_us, other.end_us) - max(self.start_us, other.start_us), 0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One outcome (conversions, or value) of a test: its effect and the credit beside it.

    `difference` is what one exposed unit converted more than a held-out one, from the experiment's
    reading; `attributed` what the model credits to the target over the exposed units of the cell,
    less what it credits to it over as many held-out units: touches from before the exposure, and
    those of a channel that was not switched off completely, are no part of the difference either
    (the ratio of two differences is that of Wald 1940). The two are taken as independent; a
    `std_err` of 0 takes the credit as it is.
    """

    difference: Estimate
    attributed: Estimate

    def incremental(self, units: int) -> Estimate:
        """Return what the channel caused among `units` exposed units."""
        return self.difference.times(units)


@dataclass(frozen=True, slots=True)
class LiftTest:
    """One experiment or holdout on a target: `tested` by it, and `credited` by attribution."""

    experiment: str
    target: Target
    tested: Cell
    credited: Cell
    outcome: Outcome

    def __post_init__(self) -> None:
        if not self.experiment:
            raise invalid("lift_test.experiment", self.experiment, "the name of an experiment")

    @property
    def comparable(self) -> bool:
        """Whether test and credit share time; without any the ratio means nothing."""
        return self.tested.shared_us(self.credited) > 0

    @property
    def incremental(self) -> Estimate:
        """What the target caused among the exposed units of the test."""
        return self.outcome.incremental(self.tested.units)


@dataclass(frozen=True, slots=True)
class Measured:
    """Kappa of one test, or of tests that share time and are not independent.

    `low` and `high` are Fieller's interval; None is an end without bound, which is so where the
    attributed number is not distinguishable from zero.
    """

    experiments: tuple[str, ...]
    kappa: Estimate
    low: float | None
    high: float | None


def measure(test: LiftTest, alpha: float = 0.05) -> Measured | Undefined:
    """Return kappa of one test; undefined where nothing was attributed or no time is shared.

    The standard error is that of the delta method: var = (s_i^2 + kappa^2 s_a^2) / a^2 for
    incremental i and attributed a.
    """
    attributed = test.outcome.attributed
    if not test.comparable:
        return Undefined.NOT_OBSERVED
    if attributed.value <= 0:
        return Undefined.ZERO_DENOMINATOR
    incremental = test.incremental
    kappa = incremental.value / attributed.value
    std_err = np.hypot(incremental.std_err, kappa * attributed.std_err) / attributed.value
    if not std_err > 0:
        return Undefined.NOT_OBSERVED
    interval = fieller(
        Fraction(
            np.array(incremental.value),
            np.array(attributed.value),
            np.array(incremental.std_err**2),
            np.array(attributed.std_err**2),
            np.array(0.0),
        ),
        np.array(critical(alpha)),
        Side.TWO_SIDED,
    )
    bounded = interval.shape == Shape.BETWEEN
    return Measured(
        experiments=(test.experiment,),
        kappa=Estimate(kappa, float(std_err)),
        low=float(interval.low) if bounded else None,
        high=float(interval.high) if bounded else None,
    )


def critical(alpha: float) -> float:
    """Return the standard normal deviate that a two-sided interval reaches to."""
    return float(-special.ndtri(alpha / 2.0))
