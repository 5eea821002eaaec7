"""How many units and days an experiment needs, and what it can find with those it has.

Every question is the inversion of one function, the power of a contrast under a design; so a
mean, a proportion, a ratio, a covariate-adjusted or clustered metric, a margin and a rule of
looks are planned by the same few lines that analyse them.
"""

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import optimize, special

from touchstone_statistics.detection import AtHorizon, PlannedTest, Rule
from touchstone_statistics.estimand import Estimate
from touchstone_statistics.gaps import Gap
from touchstone_statistics.interval import Side

MOST_UNITS = 1e15
MOST_DAYS = 100_000


class Obstacle(enum.Enum):
    """Why no number of units, no effect or no day answers the question."""

    NO_EFFECT = "no-effect"
    """The true difference is that of the null hypothesis, lies on its other side, or is so near to
    it that not even 1e15 units would tell."""
    NO_VARIANCE = "no-variance"
    """The metric did not vary: there is no noise to plan against."""
    NO_LEVEL = "no-level"
    """The difference is outside of what the metric can take, such as a rate above 1."""
    TOO_FEW_UNITS = "too-few-units"
    """No difference that the metric can take is large enough for so few units."""
    CONTROL_TOO_VAGUE = "control-too-vague"
    """The control mean is not clearly different from zero: no lift can be told from another."""
    NO_TRAFFIC = "no-traffic"
    """The units needed do not arrive, however long one waits."""


@dataclass(frozen=True, slots=True)
class NotReachable:
    """A question of planning that has no answer, with the reason."""

    obstacle: Obstacle


@dataclass(frozen=True, slots=True)
class History:
    """What is known of a metric before the experiment, or so far.

    `variance` is of one unit: for a ratio that of the delta method, which is the sampling
    variance of an estimate times its units. `r_squared` is the share that covariates explain
    (CUPED), `design_effect` the factor by which clusters inflate the variance: for clusters of
    m units 1 + (m - 1) icc (Kish 1965, "Survey sampling"). A `binary` metric is a
    rate; its variance under an effect is that of the changed rate. `units_per_day` are the new
    units of each day; its last entry goes on for ever.
    """

    mean: float
    variance: float
    units_per_day: tuple[float, ...] = ()
    r_squared: float = 0.0
    design_effect: float = 1.0
    binary: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and math.isfinite(self.variance) and self.variance >= 0):
            raise ValueError(
                f"mean is {self.mean} and variance {self.variance}; both must be finite and the "
                "variance not negative"
            )
        if not (0.0 <= self.r_squared < 1.0 and self.design_effect > 0.0):
            raise ValueError(
                f"r_squared is {self.r_squared} and design_effect {self.design_effect}; the "
                "former must be at least 0 and below 1, the latter above 0"
            )
        if self.binary and not 0.0 <= self.mean <= 1.0:
            raise ValueError(f"mean is {self.mean}; that of a binary metric is from 0 to 1")
        if any(not (math.isfinite(day) and day >= 0.0) for day in self.units_per_day):
            raise ValueError(f"units_per_day are {self.units_per_day}; none may be negative")

    @classmethod
    def of_rate(cls, rate: float, units_per_day: tuple[float, ...] = ()) -> "History":
        """A binary metric: its variance follows from its rate."""
        return cls(rate, rate * (1.0 - rate), units_per_day, binary=True)

    @classmethod
    def of_estimate(cls, arm: Estimate, units_per_day: tuple[float, ...] = ()) -> "History":
        """One arm of an analysis, with all that its variance holds: ratio, CUPED, clusters."""
        if arm.spread_gap != Gap.NONE:
            gap = Gap(int(arm.spread_gap))
            raise ValueError(f"the estimate has no variance ({gap.name}); it must have one")
        return cls(float(arm.value), float(arm.variance * arm.units), units_per_day)

    def difference_of(self, lift: float) -> float:
        """The difference of means that is `lift` (0.05 is five per cent) of the mean's size."""
        return lift * abs(self.mean)

    def unit_variance(self, difference: float) -> float | None:
        """Variance of a unit once the mean has moved; None if the metric cannot move so far."""
        factor = (1.0 - self.r_squared) * self.design_effect
        if not self.binary:
            return self.variance * factor
        rate = self.mean + difference
        return rate * (1.0 - rate) * factor if 0.0 <= rate <= 1.0 else None


@dataclass(frozen=True, slots=True)
class Design:
    """How the experiment is split and read.

    `weights` are those of the arms, the control first. `comparisons` share `alpha` equally
    (Bonferroni; each treatment and each primary metric is one). `null_lift` is that of
    `Contrast`: with Side.GREATER, -0.02 plans a test of non-inferiority with a margin of 2 %.
    """

    weights: tuple[float, ...] = (1.0, 1.0)
    alpha: float = 0.05
    power: float = 0.8
    side: Side = Side.TWO_SIDED
    comparisons: int = 1
    null_lift: float = 0.0
    rule: Rule = field(default_factory=AtHorizon)

    def __post_init__(self) -> None:
        if len(self.weights) < 2 or any(not (math.isfinite(w) and w > 0) for w in self.weights):
            raise ValueError(f"weights are {self.weights}; two or more must be above zero")
        if not (0.0 < self.alpha <= 0.5 and self.alpha < self.power < 1.0):
            raise ValueError(
                f"alpha is {self.alpha} and power {self.power}; alpha must be above 0 and at "
                "most 0.5, power above alpha and below 1"
            )
        if self.comparisons < 1:
            raise ValueError(f"comparisons is {self.comparisons}; it must be at least 1")
        if not self.null_lift > -1.0:
            raise ValueError(f"null_lift is {self.null_lift}; it must be above -1")

    @property
    def level(self) -> float:
        """Level of each comparison."""
        return self.alpha / self.comparisons

    @property
    def smallest(self) -> int:
        """The treatment of least weight: the others need fewer units."""
        return 1 + int(np.argmin(self.weights[1:]))

    def units_of(self, total: float) -> tuple[float, ...]:
        """Units of each arm out of those of all arms."""
        return tuple(total * weight / sum(self.weights) for weight in self.weights)


@dataclass(frozen=True, slots=True)
class Size:
    """Units that an experiment needs: of each arm, control first, and the power they give."""

    units: tuple[int, ...]
    power: float

    @property
    def total(self) -> int:
        return sum(self.units)


@dataclass(frozen=True, slots=True)
class Detectable:
    """The least true difference that is found with the planned power; as a lift, if the mean is
    not zero.
    """

    difference: float
    lift: float | None


def power(history: History, difference: float, total: float, design: Design) -> float:
    """Chance to reject for the treatment of least weight, with `total` units in all arms.

    Estimand: mT - c mC, c = 1 + null lift, when mT = mC + difference. Its variance is
    sT^2 / nT + c^2 sC^2 / nC, as in the analysis, so relative margins are exact. Assumes nearly
    normal means and that variances are known from history. 0.0 where an arm has less than two
    units or the metric cannot move by `difference`.
    """
    units = design.units_of(total)
    control, treated = units[0], units[design.smallest]
    base, moved = history.unit_variance(0.0), history.unit_variance(difference)
    if base is None or moved is None or min(control, treated) < 2.0:
        return 0.0
    factor = _control_factor(history, design)
    parts = moved / treated, factor**2 * base / control
    variance = sum(parts)
    shift = difference - _null(history, design)
    if design.side is Side.LESS:
        shift = -shift
    if variance <= 0.0:
        return 1.0 if shift > 0.0 or (design.side is Side.TWO_SIDED and shift != 0.0) else 0.0
    share = parts[0] / variance
    dof = 1.0 / (share**2 / (treated - 1.0) + (1.0 - share) ** 2 / (control - 1.0))
    test = PlannedTest(design.level, design.side, dof, total)
    return design.rule.power(shift / math.sqrt(variance), test)


def _null(history: History, design: Design) -> float:
    """The difference of means under the null hypothesis."""
    return design.null_lift * abs(history.mean)


def _control_factor(history: History, design: Design) -> float:
    """What the control mean is multiplied by in the contrast, as in `Contrast`."""
    return 1.0 + math.copysign(design.null_lift, history.mean * design.null_lift)


def sample_size(history: History, difference: float, design: Design) -> Size | NotReachable:
    """The fewest units with which `difference` is found with the planned power.

    Solves power = target; for the fixed horizon and many units that is the basic equation of
    Lachin (1981), n = (z_alpha + z_beta)^2 times the variance over the squared difference.
    """
    obstacle = _obstacle(history, difference, design)
    if obstacle is not None:
        return NotReachable(obstacle)

    def excess(log_total: float) -> float:
        return power(history, difference, math.exp(log_total), design) - design.power

    weights = [design.weights[0], design.weights[design.smallest]]
    least = math.log(2.0 * sum(design.weights) / min(weights) * (1.0 + 1e-12))
    most = math.log(MOST_UNITS)
    if excess(least) >= 0.0:
        root = least
    elif excess(most) < 0.0:
        return NotReachable(Obstacle.NO_EFFECT)
    else:
        root = float(optimize.brentq(excess, least, most, xtol=1e-13))
    units = tuple(math.ceil(part - 1e-6) for part in design.units_of(math.exp(root)))
    return Size(units, power(history, difference, math.exp(root), design))


def _obstacle(history: History, difference: float, design: Design) -> Obstacle | None:
    moved = history.unit_variance(difference)
    if moved is None:
        return Obstacle.NO_LEVEL
    shift = difference - _null(history, design)
    toward = {Side.TWO_SIDED: abs(shift), Side.GREATER: shift, Side.LESS: -shift}[design.side]
    if toward <= 0.0:
        return Obstacle.NO_EFFECT
    return Obstacle.NO_VARIANCE if moved + (history.unit_variance(0.0) or 0.0) <= 0.0 else None


def detectable(history: History, total: float, design: Design) -> Detectable | NotReachable:
    """The least true difference that `total` units find with the planned power (the MDE).

    A two-sided test is asked for a rise; with Side.LESS the difference is negative.
    """
    if history.unit_variance(0.0) == 0.0 and not history.binary:
        return NotReachable(Obstacle.NO_VARIANCE)
    sign = -1.0 if design.side is Side.LESS else 1.0
    null = _null(history, design)
    room = math.inf
    if history.binary:
        room = max(sign * ((1.0 if sign > 0 else 0.0) - history.mean - null), 0.0)

    def excess(size: float) -> float:
        return power(history, null + sign * size, total, design) - design.power

    root = _first_crossing(excess, _scale(history, total), room)
    if root is None:
        return NotReachable(Obstacle.TOO_FEW_UNITS)
    found = null + sign * root
    return Detectable(found, found / abs(history.mean) if history.mean != 0.0 else None)


def smallest_margin(history: History, total: float, design: Design) -> float | NotReachable:
    """The least relative margin for which non-inferiority is shown when arms are truly equal.

    A metric that should rise is tested with Side.GREATER, one that should fall with Side.LESS.
    """
    if history.mean == 0.0:
        return NotReachable(Obstacle.CONTROL_TOO_VAGUE)
    if design.side is Side.TWO_SIDED:
        raise ValueError("side is two-sided; a margin has one: it must be greater or less")
    sign, room = (-1.0, 1.0 - 1e-12) if design.side is Side.GREATER else (1.0, 1e6)

    def excess(margin: float) -> float:
        margined = replace(design, null_lift=sign * margin)
        return power(history, 0.0, total, margined) - design.power

    root = _first_crossing(excess, _scale(history, total) / abs(history.mean), room)
    return NotReachable(Obstacle.TOO_FEW_UNITS) if root is None else root


def detectable_by_delta_method(
    history: History, total: float, design: Design
) -> float | NotReachable:
    """The least lift whose own delta-method interval is expected to exclude zero.

    The test of equal means, which the rest of this module plans for, finds smaller rises; this
    is for an analysis that reads the lift by its standard error. Solves, with u the control
    mean and k the sum of the two normal quantiles, r^2 u^2 = k^2 s^2 (1/nT + (1 + r)^2 / nC), a
    quadratic in r that has a root only while nC > k^2 s^2 / u^2: until then the control mean is
    not clearly different from zero.
    """
    units = design.units_of(total)
    tails = 2.0 if design.side is Side.TWO_SIDED else 1.0
    k = -float(special.ndtri(design.level / tails)) + float(special.ndtri(design.power))
    base = history.unit_variance(0.0) or 0.0
    if history.mean == 0.0 or base * k**2 >= units[0] * history.mean**2:
        return NotReachable(Obstacle.CONTROL_TOO_VAGUE)
    control = k**2 * base / (units[0] * history.mean**2)
    treated = k**2 * base / (units[design.smallest] * history.mean**2)
    root = math.sqrt(control**2 + (1.0 - control) * (control + treated))
    return (control + root) / (1.0 - control)


def _scale(history: History, total: float) -> float:
    variance = history.unit_variance(0.0) or history.design_effect / max(total, 1.0)
    return math.sqrt(variance / max(total, 1.0))


def _first_crossing(excess: Callable[[float], float], start: float, room: float) -> float | None:
    """The smallest size at which a function that starts negative reaches zero, up to `room`."""
    high = min(start, room)
    low = 0.0
    while excess(high) < 0.0:
        if high >= room or high > 1e9 * start:
            return None
        low, high = high, min(2.0 * high, room)
    return float(optimize.brentq(excess, low, high, xtol=1e-12 * high, rtol=1e-12))


@dataclass(frozen=True, slots=True)
class Running:
    """Days until `total` units have come; `days` counts from now and is 0 when they are there."""

    days: int
    total: int


def running_time(history: History, difference: float, design: Design) -> Running | NotReachable:
    """Days that a new experiment has to run to find `difference`."""
    return days_left(history, difference, design, 0.0)


def days_left(
    history: History, difference: float, design: Design, units_so_far: float
) -> Running | NotReachable:
    """Days that a running experiment still needs.

    `history` holds the variance as observed so far and the units of the coming days. It does
    not look at the observed effect, only at the difference that was planned for: extending an
    experiment until the effect is significant would be peeking, while re-estimating the
    variance keeps the level nearly unchanged (Wittes and Brittain 1990, "The role of internal
    pilot studies"; Friede and Kieser 2006).
    """
    size = sample_size(history, difference, design)
    if isinstance(size, NotReachable):
        return size
    missing = size.total - units_so_far
    if missing <= 0:
        return Running(0, size.total)
    arrived = np.cumsum(history.units_per_day)
    if arrived.size and arrived[-1] >= missing:
        return Running(int(np.searchsorted(arrived, missing)) + 1, size.total)
    daily = history.units_per_day[-1] if arrived.size else 0.0
    if daily <= 0.0:
        return NotReachable(Obstacle.NO_TRAFFIC)
    days = arrived.size + math.ceil((missing - arrived[-1]) / daily)
    if days > MOST_DAYS:
        return NotReachable(Obstacle.NO_TRAFFIC)
    return Running(days, size.total)
