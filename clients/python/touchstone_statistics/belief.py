"""What a posterior of one quantity must answer so that two of them can be compared exactly."""

import dataclasses
from typing import Any, Protocol, Self

import numpy as np
from scipy import special

from touchstone_statistics.gaps import BoolArray, FloatArray

# A density is followed until it has fallen by this many powers of e, to 2e-15 of its peak.
DROP = 34.0
# Nodes stand this share of the standard deviation apart, and never further than the distance at
# which the logistic function, whose poles are at plus and minus i pi, is still resolved.
PITCH = 0.45
WIDEST_STEP = 0.35
# Below this shape the edge of a density is felt by nodes that know nothing of it.
SMOOTH_SHAPE = 30.0
PANEL_NODES, PANEL_WEIGHTS = np.polynomial.legendre.leggauss(40)


class Belief(Protocol):
    """A posterior distribution of one quantity in each cell of a batch.

    `value` has the batch shape and one more axis, of nodes; so have the answers.
    """

    @property
    def mean(self) -> FloatArray: ...

    @property
    def std_dev(self) -> FloatArray: ...

    @property
    def spread(self) -> FloatArray:
        """Width on the scale on which the nodes are even; of use only to compare widths."""
        ...

    @property
    def support(self) -> tuple[float, float]:
        """Between which values the density is above zero."""
        ...

    @property
    def has_edge(self) -> BoolArray:
        """Whether the density is not smooth at the ends of its support, cell by cell."""
        ...

    def nodes(self) -> tuple[FloatArray, FloatArray]:
        """Values and weights (batch + nodes) that integrate a smooth function; weights sum to 1."""
        ...

    def split_nodes(self, places: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Likewise, for a function that is smooth but at some places (batch + places)."""
        ...

    def below(self, value: FloatArray) -> FloatArray:
        """Probability that the quantity is at most `value`."""
        ...

    def above(self, value: FloatArray) -> FloatArray:
        """Probability that it exceeds `value`, computed without one minus the other."""
        ...

    def density(self, value: FloatArray) -> FloatArray: ...

    def shortfall_kernel(self, value: FloatArray) -> FloatArray:
        """Integral of (mean - x) times the density over all x up to `value`; never negative.

        With it E[(value - X)+] = (value - mean) P(X <= value) + kernel, and
        E[(X - value)+] = (mean - value) P(X > value) + kernel.
        """
        ...

    def flat(self, shape: tuple[int, ...]) -> Self:
        """Broadcast to `shape` and laid out along one axis."""
        ...

    def __getitem__(self, index: Any) -> Self: ...


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Beliefs whose fields are arrays of the same batch shape, some with an axis of their own."""

    def flat(self, shape: tuple[int, ...]) -> Self:
        """Broadcast to `shape` and laid out along one axis."""
        parts = self._parts()
        own = parts[0].ndim
        laid = (
            np.broadcast_to(part, shape + part.shape[own:]).reshape(-1, *part.shape[own:])
            for part in parts
        )
        return type(self)(*laid)

    def __getitem__(self, index: Any) -> Self:
        """A part of the batch."""
        return type(self)(*(np.asarray(part[index]) for part in self._parts()))

    def _parts(self) -> tuple[FloatArray, ...]:
        return tuple(np.asarray(getattr(self, part.name)) for part in dataclasses.fields(self))


def axis(count: int) -> FloatArray:
    """Evenly spaced places from 0 to 1."""
    return np.linspace(0.0, 1.0, count)


def enough_nodes(width: FloatArray, std_dev: FloatArray) -> int:
    """How many nodes resolve the hardest cell of a batch."""
    if width.size == 0:
        return 2
    return int(np.ceil(np.max(width / np.minimum(PITCH * std_dev, WIDEST_STEP)))) + 1


def panels(edges: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Gauss-Legendre nodes between ascending edges (batch + edges), and their weights."""
    half = 0.5 * np.diff(edges)[..., None]
    nodes = edges[..., :-1, None] + half + half * PANEL_NODES
    shape = (*nodes.shape[:-2], -1)
    return nodes.reshape(shape), np.asarray((half * PANEL_WEIGHTS).reshape(shape))


def edges_of(low: FloatArray, high: FloatArray, places: FloatArray) -> FloatArray:
    """Ends of panels from `low` below a mode at zero to `high` above it.

    Some are at the given places, some about the mode, so that a long tail leaves nodes for it.
    """
    about = np.stack([0.25 * low, np.zeros_like(low), 0.25 * high], axis=-1)
    inside = np.clip(places, low[..., None], high[..., None])
    ends = (low[..., None], inside, about, high[..., None])
    return np.sort(np.concatenate(ends, axis=-1), axis=-1)


class Fall(Protocol):
    """How far a log density has fallen from its peak at a distance from it, and its slope."""

    def __call__(self, distance: FloatArray) -> tuple[FloatArray, FloatArray]: ...


def reach(fall: Fall, start: FloatArray) -> FloatArray:
    """Distance at which a concave log density has fallen by `DROP`; `start` sets the side.

    Newton's method on a convex function: after the first step it approaches from outside.
    """
    distance = start
    for _ in range(40):
        fallen, slope = fall(distance)
        step = (fallen - DROP) / slope
        distance = distance - step
        if np.all(np.abs(step) <= 1e-3 * np.abs(distance)):
            break
    return distance


def stirling_rest(shape: FloatArray) -> FloatArray:
    """What Stirling's formula leaves: log Gamma(x) - (x - 1/2) log x + x - log(2 pi) / 2.

    By its series (Abramowitz and Stegun 1964, 6.1.40) for large x. In densities of large shapes the
    rest is all that remains of the log gammas: their large parts cancel on paper, and would cost
    digits in floating point.
    """
    small = np.minimum(shape, 20.0)
    exact = special.gammaln(small) - (small - 0.5) * np.log(small) + small
    exact = exact - 0.5 * np.log(2.0 * np.pi)
    z = 1.0 / np.maximum(shape, 20.0)
    series = z * (1 / 12 - z**2 * (1 / 360 - z**2 * (1 / 1260 - z**2 / 1680)))
    return np.asarray(np.where(shape < 20.0, exact, series))
