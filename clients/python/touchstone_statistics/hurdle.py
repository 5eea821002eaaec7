"""Revenue of a unit: whether it buys at all, and how much it then spends."""

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np

from touchstone_statistics.belief import DROP, PITCH, axis
from touchstone_statistics.beta import BetaPosterior
from touchstone_statistics.estimand import Estimate
from touchstone_statistics.gamma import GammaPosterior
from touchstone_statistics.gaps import BoolArray, FloatArray, Gap, GapArray, first_gap
from touchstone_statistics.normal import NormalPosterior, NormalPrior
from touchstone_statistics.wave import ComplexArray, Wave

JEFFREYS = NormalPrior()


@dataclass(frozen=True, slots=True, eq=False)
class HurdlePosterior:
    """Belief about the mean revenue of a unit, p exp(mu + sigma^2 / 2), cell by cell.

    p is the rate of buyers, with a beta posterior; the logarithms of what buyers spend are normal
    with mean mu and variance sigma^2, of which the posterior is normal-inverse-gamma. Estimand: the
    mean of a unit, if amounts are lognormal; where they are not it is a different number from the
    mean that was seen. Source: Aitchison (1955), "On the distribution of a positive random variable
    having a discrete probability mass at the origin"; posterior of both parts as in Gelman et al.
    (2013), sections 2.4 and 3.3. Deterministic: the logarithm is a sum of independent parts, and so
    its characteristic function a product.

    The mean of this posterior is infinite for any number of buyers, because the posterior of a
    variance has a polynomial tail. It is cut where its density is 2e-15 of its peak, and a cell
    that would notice the cut has a gap: too few buyers for so wide a spread of amounts.
    """

    law: Wave
    """The logarithm of the mean."""
    tilted: Wave
    """The same, each value weighed by the mean itself: what partial expectations are made of."""
    mean: FloatArray
    std_dev: FloatArray
    low: FloatArray
    high: FloatArray

    @classmethod
    def of(
        cls,
        buyers: FloatArray,
        units: FloatArray,
        logs: Estimate,
        prior: NormalPrior = JEFFREYS,
    ) -> tuple[Self, GapArray]:
        """Posterior of each cell and why there is none; where there is a gap it means nothing.

        `logs` is the estimate of the mean logarithm of the amount of a buyer, over buyers alone.
        The rate of buyers has the uniform prior.
        """
        rate = BetaPosterior.of(buyers, units)
        amounts, gap = NormalPosterior.of(logs, prior)
        parts = _Parts.of(rate, amounts, prior.units + logs.units)
        few = np.where(parts.cut_is_felt, Gap.TOO_FEW_UNITS, Gap.NONE).astype(np.uint8)
        gap = first_gap(gap, few)
        return cls._of_parts(parts.usable(gap == 0)), gap

    @classmethod
    def _of_parts(cls, parts: "_Parts") -> Self:
        log_mean, log_std_dev = parts.moments(tilt=False)
        tilted_mean, tilted_std_dev = parts.moments(tilt=True)
        low, high = parts.ends()
        # Both series see the mass of the other end of the period only beyond this.
        far = np.maximum(high, tilted_mean + 9.0 * tilted_std_dev) - low
        period = 2.0 * far
        narrow = np.minimum(log_std_dev, tilted_std_dev)
        count = int(np.ceil(np.max(9.0 / narrow * period / (2.0 * np.pi)))) if low.size else 1
        frequency = Wave.frequencies(period, count)
        law = Wave.of(log_mean, log_std_dev, period, parts.transform(frequency, log_mean, False))
        tilted = Wave.of(
            tilted_mean, tilted_std_dev, period, parts.transform(frequency, tilted_mean, True)
        )
        mean, square = parts.power(1), parts.power(2)
        return cls(law, tilted, mean, np.sqrt(np.maximum(square - mean**2, 0.0)), low, high)

    @property
    def spread(self) -> FloatArray:
        return self.law.std_dev

    @property
    def support(self) -> tuple[float, float]:
        return 0.0, np.inf

    @property
    def has_edge(self) -> BoolArray:
        return np.zeros(self.mean.shape, dtype=np.bool_)

    def nodes(self) -> tuple[FloatArray, FloatArray]:
        """The trapezoidal rule over the logarithm."""
        width = self.high - self.low
        count = int(np.ceil(np.max(width / (PITCH * self.law.std_dev)))) + 1 if width.size else 2
        place = self.low[..., None] + width[..., None] * axis(count)
        weight = self.law.density(place)
        return np.exp(place), weight / weight.sum(axis=-1, keepdims=True)

    def split_nodes(self, places: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The nodes as they are, wherever the places: no other of these has an edge."""
        del places
        return self.nodes()

    def below(self, value: FloatArray) -> FloatArray:
        positive = value > 0
        return np.where(positive, self.law.below(_log(value)), 0.0)

    def above(self, value: FloatArray) -> FloatArray:
        positive = value > 0
        return np.where(positive, self.law.above(_log(value)), 1.0)

    def density(self, value: FloatArray) -> FloatArray:
        positive = value > 0
        size = np.where(positive, value, 1.0)
        return np.where(positive, self.law.density(np.log(size)) / size, 0.0)

    def shortfall_kernel(self, value: FloatArray) -> FloatArray:
        place = _log(value)
        held = self.law.below(place) - self.tilted.below(place)
        return np.where(value > 0, np.maximum(self.mean[..., None] * held, 0.0), 0.0)

    def flat(self, shape: tuple[int, ...]) -> Self:
        """Broadcast to `shape` and laid out along one axis."""
        arrays = (np.broadcast_to(getattr(self, name), shape).ravel() for name in _NUMBERS)
        return type(self)(self.law.flat(shape), self.tilted.flat(shape), *arrays)

    def __getitem__(self, index: Any) -> Self:
        """A part of the batch."""
        return type(self)(*(getattr(self, part.name)[index] for part in fields(self)))


_NUMBERS = ("mean", "std_dev", "low", "high")


def _log(value: FloatArray) -> FloatArray:
    return np.asarray(np.log(np.where(value > 0, value, 1.0)))


@dataclass(frozen=True, slots=True, eq=False)
class _Parts:
    """The independent parts of the logarithm as nodes: log p, and the variance of log amounts.

    Given the variance v the mean logarithm is normal about `centre` with variance v / held.
    """

    log_rate: FloatArray
    rate_weight: FloatArray
    variance: FloatArray
    variance_weight: FloatArray
    centre: FloatArray
    held: FloatArray

    @classmethod
    def of(cls, rate: BetaPosterior, amounts: NormalPosterior, held: FloatArray) -> Self:
        held = np.maximum(held, 1.0)
        shape = 0.5 * amounts.dof
        precision, weight = GammaPosterior(shape, amounts.scale**2 * shape * held).nodes()
        points, rate_weight = rate.nodes()
        return cls(np.log(points), rate_weight, 1.0 / precision, weight, amounts.centre, held)

    def usable(self, known: BoolArray) -> Self:
        """Where nothing is known the parts of a cell of which something is, to compute with."""
        parts = (getattr(self, part.name) for part in fields(self))
        safe = []
        for part in parts:
            own = part.shape[known.ndim :]
            row = part[known][0] if known.any() else np.full(own, 1.0 / max(int(np.prod(own)), 1))
            mask = known.reshape(known.shape + (1,) * (part.ndim - known.ndim))
            safe.append(np.where(mask, part, row))
        return type(self)(*safe)

    @property
    def cut_is_felt(self) -> BoolArray:
        """Whether the mean still grows where the posterior of the variance is cut."""
        logs = np.log(np.maximum(self.variance_weight, 1e-300)) + self._lift(2.0)
        top = np.max(logs, axis=-1)
        # Variances fall along the nodes: the first is the largest.
        return np.asarray(logs[..., 0] > top - 0.6 * DROP)

    def _lift(self, power: float) -> FloatArray:
        """Logarithm of E[exp(power (mu + v / 2))] less power times the centre, given a variance."""
        held = self.held[..., None]
        return np.asarray(self.variance * (0.5 * power + 0.5 * power**2 / held))

    def _weights(self, tilt: bool) -> tuple[FloatArray, FloatArray]:
        if not tilt:
            return self.rate_weight, self.variance_weight
        rate = self.rate_weight * np.exp(self.log_rate)
        lift = self._lift(1.0)
        variance = self.variance_weight * np.exp(lift - lift.max(axis=-1, keepdims=True))
        rate = rate / rate.sum(axis=-1, keepdims=True)
        return rate, variance / variance.sum(axis=-1, keepdims=True)

    def power(self, power: int) -> FloatArray:
        """E[mean^power]."""
        rate = np.sum(self.rate_weight * np.exp(power * self.log_rate), axis=-1)
        amount = np.sum(self.variance_weight * np.exp(self._lift(power)), axis=-1)
        return np.asarray(rate * amount * np.exp(power * self.centre))

    def moments(self, tilt: bool) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation of the logarithm."""
        rate_weight, weight = self._weights(tilt)
        pull = 1.0 / self.held[..., None] if tilt else 0.0
        shift = self.variance * (0.5 + pull)
        rate_mean = np.sum(rate_weight * self.log_rate, axis=-1)
        shift_mean = np.sum(weight * shift, axis=-1)
        rate_square = np.sum(rate_weight * (self.log_rate - rate_mean[..., None]) ** 2, axis=-1)
        shift_square = np.sum(weight * (shift - shift_mean[..., None]) ** 2, axis=-1)
        within = np.sum(weight * self.variance, axis=-1) / self.held
        std_dev = np.sqrt(rate_square + shift_square + within)
        return rate_mean + self.centre + shift_mean, std_dev

    def ends(self) -> tuple[FloatArray, FloatArray]:
        """Between which values the logarithm has any mass."""
        reach = np.sqrt(2.0 * DROP * self.variance / self.held[..., None])
        middle = self.centre[..., None] + 0.5 * self.variance
        # A node of little weight needs a shorter reach to fall as far.
        left = np.maximum(1.0 + np.log(self._share()) / DROP, 0.0) ** 0.5
        low = np.min(middle - reach * left, axis=-1) + np.min(self.log_rate, axis=-1)
        high = np.max(middle + reach * left, axis=-1) + np.max(self.log_rate, axis=-1)
        return low, high

    def _share(self) -> FloatArray:
        top = self.variance_weight.max(axis=-1, keepdims=True)
        return np.asarray(np.maximum(self.variance_weight / top, 1e-300))

    def transform(self, frequency: FloatArray, about: FloatArray, tilt: bool) -> ComplexArray:
        """E[exp(-i w (log mean - about))] at each frequency, batch + frequencies."""
        rate_weight, weight = self._weights(tilt)
        pull = 1.0 / self.held[..., None] if tilt else 0.0
        shift = self.variance * (0.5 + pull) + (self.centre - about)[..., None]
        made = np.empty(frequency.shape, dtype=np.complex128)
        for index in range(frequency.shape[-1]):
            turn = frequency[..., index, None]
            damped = -0.5 * turn**2 * self.variance / self.held[..., None] - 1j * turn * shift
            amount = np.sum(weight * np.exp(damped), axis=-1)
            made[..., index] = amount * np.sum(
                rate_weight * np.exp(-1j * turn * self.log_rate), axis=-1
            )
        return made
