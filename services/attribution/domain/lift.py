"""What an experiment or a holdout says of a channel, set against what attribution credits it."""

from dataclasses import dataclass

import numpy as np
from scipy import special
from touchstone_statistics.interval import Fraction, Shape, Side, fieller

from services.attribution.domain.arrays import Floats
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
    (the ratio of two differences is that of Wald 1940). Both count conversions of the same units:
    `covariance` is that of the incremental conversions of the cell and `attributed`. A `std_err` of
    0 takes the credit as it is.
    """

    difference: Estimate
    attributed: Estimate
    covariance: float = 0.0

    def incremental(self, units: int) -> Estimate:
        """Return what the channel caused among `units` exposed units."""
        return self.difference.times(units)


@dataclass(frozen=True, slots=True)
class Applied:
    """To which credit kappa of a test is applied.

    `share` is the credit of the tested cell over that of the report, above 0; `contained` says that
    the report holds the tested cell. The default is that of a report that is far larger than the
    test and shares nothing with it.
    """

    share: float = 0.0
    contained: bool = False


ELSEWHERE = Applied()


@dataclass(frozen=True, slots=True)
class LiftTest:
    """One experiment or holdout on a target: `tested` by it, and `credited` by attribution.

    `caution` is how many times as wide as that of one look the interval is that holds whenever one
    looks, infinite where it has no ends. Fieller's interval of kappa heeds it. The standard error
    is that of the data: what is believed after them does not depend on when one would have stopped.
    """

    experiment: str
    target: Target
    tested: Cell
    credited: Cell
    outcome: Outcome
    applied: Applied = ELSEWHERE
    caution: float = 1.0

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

    The standard error is that of the delta method for incremental i over attributed a, as far as
    the credit that kappa is applied to shares its error (see `credit_variance`):
    var = (s_i^2 + credit_variance) / a^2.
    """
    outcome = test.outcome
    attributed, incremental = outcome.attributed, test.incremental
    if not test.comparable:
        return Undefined.NOT_OBSERVED
    if attributed.value <= 0:
        return Undefined.ZERO_DENOMINATOR
    kappa = incremental.value / attributed.value
    of_credit = credit_variance(kappa, attributed.std_err, outcome.covariance, test.applied)
    std_err = np.sqrt(incremental.std_err**2 + of_credit) / attributed.value
    if not std_err > 0:
        return Undefined.NOT_OBSERVED
    low, high = None, None
    if np.isfinite(test.caution):
        reach = critical(alpha) * test.caution
        low, high = _fieller(incremental, attributed, outcome.covariance, reach)
    return Measured((test.experiment,), Estimate(kappa, float(std_err)), low, high)


def _fieller(
    incremental: Estimate, attributed: Estimate, covariance: float, reach: float
) -> tuple[float | None, float | None]:
    """Fieller's interval of the ratio; no ends where the denominator may be zero."""
    fraction = Fraction(
        np.array(incremental.value),
        np.array(attributed.value),
        np.array(incremental.std_err**2),
        np.array(attributed.std_err**2),
        np.array(covariance),
    )
    found = fieller(fraction, np.array(reach), Side.TWO_SIDED)
    if found.shape != Shape.BETWEEN:
        return None, None
    return float(found.low), float(found.high)


def credit_variance(kappa: float, std_err: float, covariance: float, applied: Applied) -> float:
    """Return what the error of credit adds to the variance of incremental conversions.

    Incremental conversions of a report are i / a * r for a credit r of the report. With f = a / r,
    variances of a and r in proportion to their size, and c the covariance of i and a:

    * where the report and the test share nothing: kappa^2 s_a^2 (1 + f) - 2 kappa c;
    * where the report holds the tested cell, whose error is then in r and in a and goes out of the
      ratio as far as they are the same: (1 - f) (kappa^2 s_a^2 - 2 kappa c).

    A partial overlap lies between. What would make an interval narrower than that of the lift
    alone is not counted. Delta method, as in Deng, Knoblich and Lu (2018), "Applying the delta
    method in metric analytics", equation 3.
    """
    own, shared = (kappa * std_err) ** 2, 2.0 * kappa * covariance
    if applied.contained:
        return max((1.0 - min(applied.share, 1.0)) * (own - shared), 0.0)
    return max(own * (1.0 + applied.share) - shared, 0.0)


@dataclass(frozen=True, slots=True)
class CreditError:
    """The variance of the credit of some units, and its covariance with what they converted."""

    variance: float
    covariance: float

    def times(self, factor: float) -> "CreditError":
        """Return that of `factor` times both."""
        return CreditError(self.variance * factor**2, self.covariance * factor**2)

    def plus(self, other: "CreditError") -> "CreditError":
        """Return that of the difference, or of the sum, with other units."""
        return CreditError(self.variance + other.variance, self.covariance + other.covariance)


def credit_error(credit: Floats, outcome: Floats, units: int) -> CreditError:
    """Return the error of the sum of credit over `units` independent units.

    `credit` and `outcome` have an entry a unit that did anything; the others have 0 of both.
    """
    total = float(credit.sum())
    variance = float(credit @ credit) - total**2 / units
    covariance = float(credit @ outcome) - total * float(outcome.sum()) / units
    return CreditError(max(variance, 0.0), covariance)


def critical(alpha: float) -> float:
    """Return the standard normal deviate that a two-sided interval reaches to."""
    return float(-special.ndtri(alpha / 2.0))
