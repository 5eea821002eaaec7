"""Paths of a Brownian motion that is looked at now and then, until they cross a boundary.

A z statistic times the square root of its share of the information moves, over looks, like a
Brownian motion; so the error rate of any stopping rule is the chance of such a path to cross.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from touchstone_statistics.gaps import FloatArray

REACH = 9.0
"""Standard deviations kept on either side; beyond them lies a share of 2e-19."""
STEP = 3.0
"""Width of a panel in standard deviations of the sharper of the two steps that it joins."""
NODES, WEIGHTS = np.polynomial.legendre.leggauss(8)
ROUNDS = 60


@dataclass(frozen=True, slots=True, eq=False)
class Survivors:
    """Where the paths stand that have crossed nothing so far, without drift.

    `mass` is the probability at each of `position`, which rises: quadrature weight times density.
    Its sum is the chance to have crossed nothing. `time` is the share of the information.
    """

    time: float
    position: FloatArray
    mass: FloatArray

    def drifting(self, drift: float | FloatArray) -> FloatArray:
        """The mass when the motion has `drift` a unit of time; drift + positions.

        The density changes by the likelihood ratio exp(drift y - drift^2 t / 2) of Cameron and
        Martin (1944): so one integration serves every drift.
        """
        drift = np.asarray(drift, dtype=np.float64)[..., None]
        return np.asarray(
            self.mass * np.exp(drift * self.position - 0.5 * drift**2 * self.time), np.float64
        )

    def above(
        self, time: float, bound: float | FloatArray, drift: float | FloatArray = 0.0
    ) -> FloatArray:
        """Chance to have crossed nothing so far and to stand above `bound` at `time`."""
        spread = np.sqrt(time - self.time)
        drift = np.asarray(drift, dtype=np.float64)
        ahead = self.position + (drift * (time - self.time))[..., None]
        chance = special.ndtr((ahead - np.asarray(bound)[..., None]) / spread)
        return np.asarray((self.drifting(drift) * chance).sum(axis=-1))

    def below(
        self, time: float, bound: float | FloatArray, drift: float | FloatArray = 0.0
    ) -> FloatArray:
        """Chance to have crossed nothing so far and to stand below `bound` at `time`."""
        return self.mirrored().above(time, -np.asarray(bound), -np.asarray(drift))

    def mirrored(self) -> "Survivors":
        return Survivors(self.time, -self.position[::-1], self.mass[::-1])


def start() -> Survivors:
    """All paths at zero, before any data."""
    return Survivors(0.0, np.zeros(1), np.ones(1))


def step(paths: Survivors, time: float, low: float, high: float, sharpness: float) -> Survivors:
    """The paths that stand between `low` and `high` at the look at `time`.

    Source: Armitage, McPherson and Rowe (1969), "Repeated significance tests on accumulating
    data", equation 2.2: each density is the last one convolved with a normal step. Integrated
    by composite Gauss-Legendre quadrature (Davis and Rabinowitz 1984, section 2.7) in panels
    that follow the sharper of the step that leads here and of `sharpness`, the standard
    deviation of the step that will lead away.
    """
    spread = np.sqrt(time - paths.time)
    reach = REACH * np.sqrt(time)
    low, high = max(low, -reach), min(high, reach)
    if high <= low:
        return Survivors(time, np.empty(0), np.empty(0))
    panels = max(int(np.ceil((high - low) / (STEP * min(spread, sharpness)))), 1)
    half = (high - low) / (2.0 * panels)
    centres = low + half * (2.0 * np.arange(panels) + 1.0)
    position = (centres[:, None] + half * NODES).ravel()
    weights = np.tile(half * WEIGHTS, panels) / (spread * np.sqrt(2.0 * np.pi))
    kernel = np.exp(-0.5 * ((position[:, None] - paths.position) / spread) ** 2)
    return Survivors(time, position, weights * (kernel @ paths.mass))


def bound_above(paths: Survivors, time: float, chance: float, drift: float = 0.0) -> float:
    """The bound that a path first crosses upwards at `time` with probability `chance`.

    Newton's method on the logarithm of that probability, which is concave in the bound: from a
    bound that is too high it falls towards the root without passing it. `chance` must be above
    1e-100 and below the chance of the paths to have crossed nothing so far.
    """
    spread = math.sqrt(time - paths.time)
    mass = paths.drifting(drift)
    ahead = paths.position + drift * (time - paths.time)
    # Too high for a motion that nothing has stopped; and, if lower: too high because at most half
    # of the chance stands above `top`, and the rest would have to come from there or below.
    top = float(ahead[::-1][np.argmax(mass[::-1].cumsum() > 0.5 * chance)])
    bound = min(
        drift * time - math.sqrt(time) * float(special.ndtri(chance)),
        top - spread * float(special.ndtri(0.5 * chance)),
    )
    for _ in range(ROUNDS):
        scaled = (ahead - bound) / spread
        reached = float(mass @ special.ndtr(scaled))
        density = float(mass @ np.exp(-0.5 * scaled**2)) / (spread * math.sqrt(2.0 * math.pi))
        move = math.log(reached / chance) * reached / density
        bound += move
        if abs(move) < 1e-12 * math.sqrt(time):
            break
    return bound


def bound_below(paths: Survivors, time: float, chance: float, drift: float = 0.0) -> float:
    """The bound that a path first crosses downwards at `time` with probability `chance`."""
    return -bound_above(paths.mirrored(), time, chance, -drift)
