"""A treatment against the control when each has a posterior of its own, exactly by quadrature."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

import numpy as np
from scipy import special

from touchstone_statistics.belief import Belief
from touchstone_statistics.gaps import BoolArray, FloatArray
from touchstone_statistics.interval import Interval

B = TypeVar("B", bound=Belief)
MAX_STEPS = 60


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """A treatment against the control, one number a pair.

    `probability_to_beat` and `expected_loss` follow the direction of the metric. The loss is what
    choosing the treatment is expected to cost, in units of the metric; `loss_of_control` is
    what keeping the control is expected to cost. Never NaN: a belief always has a spread.
    """

    probability_to_beat: FloatArray
    expected_loss: FloatArray
    loss_of_control: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class _Side(Generic[B]):
    """Pairs of one kind: whose control is the narrower belief, or whose treatment is.

    The integral is taken over the narrower belief, so that the distribution function of the other
    is smooth at the distance of the nodes. Where the other has an edge that is not smooth (few
    units converted) the nodes end on either side of the place where it is met.
    """

    cells: BoolArray
    over_control: bool
    split: bool
    narrow: B
    other: B
    points: FloatArray
    weights: FloatArray

    @classmethod
    def of(cls, cells: BoolArray, over_control: bool, split: bool, pair: tuple[B, B]) -> Self:
        narrow, other = (belief[cells] for belief in pair)
        return cls(cells, over_control, split, narrow, other, *narrow.nodes())

    def tail(self, factor: FloatArray, shift: FloatArray, upper: bool) -> FloatArray:
        """P(treatment > factor * control + shift), or the chance of the opposite."""
        _, weights, moved = self._moved(factor, shift)
        chance = self.other.above if upper == self.over_control else self.other.below
        return np.asarray((weights * chance(moved)).sum(axis=-1))

    def slope(self, factor: FloatArray, shift: FloatArray, by_factor: bool) -> FloatArray:
        """Derivative of the lower tail by the shift or by the logarithm of the factor."""
        points, weights, moved = self._moved(factor, shift)
        density = self.other.density(moved)
        if by_factor:
            density = density * (factor[self.cells, None] * points if self.over_control else moved)
        elif not self.over_control:
            density = density / factor[self.cells, None]
        return np.asarray((weights * density).sum(axis=-1))

    def _moved(
        self, factor: FloatArray, shift: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Nodes, weights and the value of the other belief that the event compares with each."""
        scale, move = factor[self.cells, None], shift[self.cells, None]
        points, weights = self.points, self.weights
        if self.split:
            edges = np.asarray(self.other.support)
            met = (edges - move) / scale if self.over_control else edges * scale + move
            points, weights = self.narrow.split_nodes(met)
        moved = scale * points + move if self.over_control else (points - move) / scale
        return points, weights, moved

    def excesses(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """P(other > narrow), P(other < narrow), E[(other - narrow)+] and E[(narrow - other)+]."""
        below, above = self.other.below(self.points), self.other.above(self.points)
        beyond = self.points - self.other.mean[:, None]
        kernel = self.other.shortfall_kernel(self.points)
        over, under = kernel - beyond * above, kernel + beyond * below
        parts = (above, below, np.maximum(over, 0.0), np.maximum(under, 0.0))
        above, below, over, under = (np.sum(self.weights * part, axis=-1) for part in parts)
        return above, below, over, under


@dataclass(frozen=True, slots=True, eq=False)
class Quadrature(Generic[B]):
    """Every pair on the side where its integral is well behaved; answers are laid out flat."""

    size: int
    sides: tuple[_Side[B], ...]

    @classmethod
    def of(cls, control_is_narrow: BoolArray, control: B, treatment: B) -> Self:
        sides = []
        for over_control, pair in ((True, (control, treatment)), (False, (treatment, control))):
            for split in (False, True):
                cells = (control_is_narrow == over_control) & (pair[1].has_edge == split)
                if cells.any():
                    sides.append(_Side.of(cells, over_control, split, pair))
        return cls(control_is_narrow.size, tuple(sides))

    def tail(self, factor: FloatArray, shift: FloatArray, upper: bool) -> FloatArray:
        """P(treatment > factor * control + shift), or the chance of the opposite."""
        return self._joined([side.tail(factor, shift, upper) for side in self.sides])

    def slope(self, factor: FloatArray, shift: FloatArray, by_factor: bool) -> FloatArray:
        """Density of the difference at `shift`, or of the log ratio at log `factor`."""
        return self._joined([side.slope(factor, shift, by_factor) for side in self.sides])

    def compare(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """P(T > C), P(T < C), E[(T - C)+] and E[(C - T)+]."""
        found = []
        for side in self.sides:
            above, below, over, under = side.excesses()
            mine, swapped = (above, below, over, under), (below, above, under, over)
            found.append(mine if side.over_control else swapped)
        higher, lower, gain, loss = (self._joined([f[i] for f in found]) for i in range(4))
        return higher, lower, gain, loss

    def _joined(self, parts: list[FloatArray]) -> FloatArray:
        joined = np.empty(self.size)
        for side, part in zip(self.sides, parts, strict=True):
            joined[side.cells] = part
        return joined


@dataclass(frozen=True, slots=True, eq=False)
class Pairs(Generic[B]):
    """Independent beliefs about control and treatment, pair by pair, ready to be compared.

    Batch axes broadcast: the control of a metric may stand against several treatments at once.
    Which belief is the narrower depends on whether they are compared, subtracted or divided.
    """

    shape: tuple[int, ...]
    control: B
    treatment: B
    chances: Quadrature[B]
    differences: Quadrature[B]
    ratios: Quadrature[B]

    @classmethod
    def of(cls, control: B, treatment: B) -> Self:
        """Pairs of `control` with `treatment`; the batch shapes broadcast."""
        shape = np.broadcast_shapes(control.mean.shape, treatment.mean.shape)
        held, tried = control.flat(shape), treatment.flat(shape)
        narrower = [
            held.spread <= tried.spread,
            held.std_dev <= tried.std_dev,
            held.std_dev * np.abs(tried.mean) <= tried.std_dev * np.abs(held.mean),
        ]
        made: dict[bytes, Quadrature[B]] = {}
        for cells in narrower:
            if cells.tobytes() not in made:
                made[cells.tobytes()] = Quadrature.of(cells, held, tried)
        return cls(shape, held, tried, *(made[cells.tobytes()] for cells in narrower))

    def compare(self, increase_is_better: bool = True) -> Comparison:
        """Probability to beat and both expected losses, from one pass over the nodes.

        Probability: the density of one belief times the distribution function of the other.
        Loss: E[(C - T)+], by the partial expectation of the one at each value of the other.
        """
        higher, lower, gain, loss = self.chances.compare()
        if not increase_is_better:
            higher, gain, loss = lower, loss, gain
        parts = (part.reshape(self.shape) for part in (higher, loss, gain))
        return Comparison(*parts)


Tail = Callable[[FloatArray, bool], tuple[FloatArray, FloatArray]]


@dataclass(frozen=True, slots=True, eq=False)
class Margin:
    """One way in which a treatment differs, as a distribution on a line.

    `tail` gives the mass of the lower or upper tail and the density, `centre` and `scale` roughly
    where the mass is.
    """

    tail: Tail
    centre: FloatArray
    scale: FloatArray


def difference_of(pairs: Pairs[B]) -> Margin:
    """Treatment minus control."""
    ones = np.ones_like(pairs.control.mean)

    def tail(at: FloatArray, upper: bool) -> tuple[FloatArray, FloatArray]:
        found = pairs.differences
        return found.tail(ones, at, upper), found.slope(ones, at, by_factor=False)

    scale = np.hypot(pairs.treatment.std_dev, pairs.control.std_dev)
    return Margin(tail, pairs.treatment.mean - pairs.control.mean, scale)


def log_ratio_of(pairs: Pairs[B]) -> Margin:
    """Logarithm of treatment over control, for quantities above zero."""
    held, tried = pairs.control, pairs.treatment
    # Only a start: a mean that is not above zero is taken as half a standard deviation.
    means = [np.maximum(part.mean, 0.5 * part.std_dev) for part in (held, tried)]
    zeros = np.zeros_like(held.mean)

    def tail(at: FloatArray, upper: bool) -> tuple[FloatArray, FloatArray]:
        found, factor = pairs.ratios, np.exp(at)
        return found.tail(factor, zeros, upper), found.slope(factor, zeros, by_factor=True)

    scale = np.hypot(tried.std_dev / means[1], held.std_dev / means[0])
    return Margin(tail, np.log(means[1]) - np.log(means[0]), scale)


def credible_difference(pairs: Pairs[B], alpha: float = 0.05) -> Interval:
    """Equal-tailed set that holds treatment minus control with mass `1 - alpha`."""
    check_level(alpha)
    return interval_of(equal_tails(difference_of(pairs), alpha), pairs.shape)


def credible_lift(pairs: Pairs[B], alpha: float = 0.05) -> Interval:
    """Equal-tailed set of treatment over control minus 1, for quantities above zero.

    It excludes zero exactly when the set of the difference does: both ask P(T <= C).
    """
    check_level(alpha)
    ends = equal_tails(log_ratio_of(pairs), alpha)
    return interval_of([np.expm1(end) for end in ends], pairs.shape)


def equal_tails(margin: Margin, alpha: float) -> list[FloatArray]:
    """The ends beyond each of which half of `alpha` lies."""
    parts = margin.tail, margin.centre, margin.scale
    return [quantile(*parts, alpha / 2, upper) for upper in (False, True)]


def within_difference(pairs: Pairs[B], low: float, high: float) -> FloatArray:
    """Probability that treatment minus control lies between `low` and `high`.

    The mass in a region of practical equivalence: Kruschke (2018), "Rejecting or accepting
    parameter values in Bayesian estimation".
    """
    _check_region(low, high)
    ones = np.ones_like(pairs.control.mean)
    found = pairs.differences
    tails = [found.tail(ones, end * ones, upper) for end in (low, high) for upper in (False, True)]
    return _between(*tails).reshape(pairs.shape)


def within_lift(pairs: Pairs[B], low: float, high: float) -> FloatArray:
    """Probability that the lift lies between `low` and `high`, for quantities above zero."""
    _check_region(low, high)
    if low <= -1:
        raise ValueError(f"low is {low}; a region of lifts begins above -1")
    zeros = np.zeros_like(pairs.control.mean)
    found = pairs.ratios
    ends = (zeros + 1.0 + low, zeros + 1.0 + high)
    tails = [found.tail(end, zeros, upper) for end in ends for upper in (False, True)]
    return _between(*tails).reshape(pairs.shape)


def _between(
    under: FloatArray, beyond: FloatArray, upto: FloatArray, over: FloatArray
) -> FloatArray:
    """The mass between two bounds, from the mass below and above the low and the high one."""
    # Each way keeps the digits of a small part: of the tails here, of the inside there.
    like = np.where(upto < beyond, upto - under, beyond - over)
    inside = np.where(under + over < 0.5, 1.0 - under - over, like)
    return np.clip(inside, 0.0, 1.0)


def quantile(
    tail: Tail,
    centre: FloatArray,
    scale: FloatArray,
    mass: float | FloatArray,
    upper: bool,
) -> FloatArray:
    """Where the tail of a nearly normal distribution holds `mass`.

    `tail` gives the mass of the wanted tail and the density. Newton's method on the normal score
    of the mass, which is nearly a straight line; kept inside a shrinking bracket.
    """
    sign = -1.0 if upper else 1.0
    wanted = np.asarray(special.ndtri(mass))
    at = centre + sign * wanted * scale
    low, high = np.full_like(at, -np.inf), np.full_like(at, np.inf)
    for _ in range(MAX_STEPS):
        found, density = tail(at, upper)
        score = special.ndtri(np.clip(found, 0.0, 1.0))
        too_high = (score > wanted) != upper
        low, high = np.where(too_high, low, at), np.where(too_high, at, high)
        steep = density * np.sqrt(2.0 * np.pi) * np.exp(0.5 * np.minimum(score**2, 1000.0))
        usable = np.isfinite(score) & (steep > 0)
        step = sign * (wanted - np.where(usable, score, 0.0)) / np.where(usable, steep, 1.0)
        away = np.where(too_high, -4.0, 4.0) * scale
        step = np.where(usable & (np.abs(step) < np.abs(away)), step, away)
        moved = at + step
        outside = (moved <= low) | (moved >= high)
        moved = np.where(outside & np.isfinite(low + high), 0.5 * (low + high), moved)
        done = np.abs(moved - at) <= 1e-10 * scale
        at = np.where(score == wanted, at, moved)
        if np.all(done | (score == wanted)):
            break
    return at


def interval_of(ends: list[FloatArray], shape: tuple[int, ...]) -> Interval:
    low, high = (end.reshape(shape) for end in ends)
    return Interval(low, high, np.zeros(shape, dtype=np.uint8))


def check_level(alpha: float) -> None:
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha is {alpha}; it must be above 0 and below 1")


def _check_region(low: float, high: float) -> None:
    if not low < high:
        raise ValueError(f"the region is {low} to {high}; low must be below high")
