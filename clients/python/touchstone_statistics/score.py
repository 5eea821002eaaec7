"""The score statistic of two proportions and the intervals that invert it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import elementwise

from touchstone_statistics.cells import Cells
from touchstone_statistics.gaps import FloatArray, quotient
from touchstone_statistics.interval import Interval


def deviation(cells: Cells, factor: FloatArray, difference: FloatArray) -> FloatArray:
    """Standard errors by which the rates miss pT = factor * pC + difference.

    The errors are those under the hypothesis, at the rates that fit it best: Miettinen and
    Nurminen (1985), equations 8 and 9, with their factor N / (N - 1). Zero where nothing could
    differ, infinite where the hypothesis cannot produce what was seen.
    """
    control, treatment = cells.rates
    under = restricted(cells, factor, difference)
    moved = np.clip(factor * under + difference, 0.0, 1.0)
    total = cells.control_units + cells.units
    spread = factor**2 * under * (1.0 - under) / np.maximum(cells.control_units, 1.0)
    spread = spread + moved * (1.0 - moved) / np.maximum(cells.units, 1.0)
    spread = spread * total / np.maximum(total - 1.0, 1.0)
    apart = treatment - factor * control - difference
    apart = np.where(np.abs(apart) < 1e-15 * (1.0 + factor), 0.0, apart)
    far = np.where(apart == 0.0, 0.0, np.copysign(np.inf, apart))
    return quotient(apart, np.sqrt(spread), far)


def restricted(cells: Cells, factor: FloatArray, difference: FloatArray) -> FloatArray:
    """The most likely control rate p when the treatment's is factor * p + difference.

    Legend: x, n control counts; y, m treatment counts; f factor; d difference. The derivative
    of the log likelihood is a cubic, whose middle root is the rate (Miettinen and Nurminen 1985,
    appendix I, generalised to a factor); with d = 0 it is a quadratic.
    """
    x, n, y, m = cells.control_converted, cells.control_units, cells.converted, cells.units
    straight = difference == 0.0
    f, d = np.where(straight, 1.0, factor), difference
    N = np.maximum(n + m, 1.0)
    b = n + y + factor * (m + x)
    root = np.sqrt(np.maximum(b**2 - 4.0 * N * factor * (x + y), 0.0))
    quadratic = quotient(2.0 * (x + y), b + root, 0.0)
    L3 = N * f**2
    L2 = -(x * f**2 + n * f * (1 - 2 * d) + f * (y - m * d) + m * f**2)
    L1 = x * f * (1 - 2 * d) - n * d * (1 - d) + f * (y - m * d)
    L0 = x * d * (1 - d)
    third = L2 / (3.0 * L3)
    q = third**3 - L1 * L2 / (6.0 * L3**2) + L0 / (2.0 * L3)
    r = np.copysign(np.sqrt(np.maximum(third**2 - L1 / (3.0 * L3), 0.0)), q)
    angle = np.arccos(np.clip(quotient(q, r**3, 1.0), -1.0, 1.0))
    cubic = 2.0 * r * np.cos((np.pi + angle) / 3.0) - third
    low, high = np.maximum(0.0, -d / f), np.minimum(1.0, (1.0 - d) / f)
    p = np.clip(cubic, low, np.maximum(low, high))
    # One step of Newton's method on the cubic as a product, where the cosine lost digits.
    w = f * p + d
    G = (x - n * p) * w * (1 - w) + f * (y - m * w) * p * (1 - p)
    slope = (x - n * p) * f * (1 - 2 * w) - n * w * (1 - w)
    slope = slope + f * ((y - m * w) * (1 - 2 * p) - f * m * p * (1 - p))
    p = np.clip(p - np.where(slope < 0.0, quotient(G, slope, 0.0), 0.0), low, np.maximum(low, high))
    return np.where(straight, quadratic, p)


def _share_deviation(cells: Cells, share: FloatArray) -> FloatArray:
    """`deviation` for no difference and a factor of share / (1 - share), which may be infinite."""
    x, n, y, m = cells.control_converted, cells.control_units, cells.converted, cells.units
    rest, N = 1.0 - share, np.maximum(n + m, 1.0)
    control, treatment = cells.rates
    b = rest * (n + y) + share * (m + x)
    root = np.sqrt(np.maximum(b**2 - 4.0 * N * share * rest * (x + y), 0.0))
    unit = quotient(2.0 * (x + y), b + root, 0.0)
    p, moved = np.clip(rest * unit, 0.0, 1.0), np.clip(share * unit, 0.0, 1.0)
    spread = share**2 * p * (1.0 - p) / np.maximum(n, 1.0)
    spread = spread + rest**2 * moved * (1.0 - moved) / np.maximum(m, 1.0)
    apart = rest * treatment - share * control
    apart = np.where(np.abs(apart) < 1e-15, 0.0, apart)
    far = np.where(apart == 0.0, 0.0, np.copysign(np.inf, apart))
    return quotient(apart, np.sqrt(spread * N / np.maximum(N - 1.0, 1.0)), far)


def difference_interval(cells: Cells, factor: FloatArray, critical: FloatArray) -> Interval:
    """All d for which pT = factor * pC + d is less than `critical` standard errors away."""
    control, treatment = cells.rates
    middle, one = treatment - factor * control, np.ones_like(control)
    bound = _Bound(cells, critical, lambda part, place, f: deviation(part, f, place), factor)
    low, high = bound.edge(-factor, middle, 1.0), bound.edge(one, middle, -1.0)
    return Interval(low, high, np.zeros(low.shape, dtype=np.uint8))


def ratio_interval(cells: Cells, critical: FloatArray) -> Interval:
    """All ratios pT / pC less than `critical` standard errors away: from 0 up to infinity.

    Source: Koopman (1984), "Confidence intervals for the ratio of two binomial proportions", with
    the factor of Miettinen and Nurminen (1985), equation 10. The search runs over the share
    ratio / (1 + ratio).
    """
    control, treatment = cells.rates
    middle, one = quotient(treatment, treatment + control, 0.5), np.ones_like(control)
    bound = _Bound(cells, critical, lambda part, place, _: _share_deviation(part, place), one)
    low, high = bound.edge(0.0 * one, middle, 1.0), bound.edge(one, middle, -1.0)
    low = np.where(cells.converted == 0, 0.0, low)
    high = np.where(cells.control_converted == 0, 1.0, high)
    shape = np.zeros(low.shape, dtype=np.uint8)
    return Interval(low / (1.0 - low), quotient(high, 1.0 - high, np.inf), shape)


@dataclass(frozen=True, slots=True, eq=False)
class _Bound:
    """The search for the places that are exactly `critical` standard errors away.

    `deviation(cells, place, extra)` falls from `outside` to `inside` in the direction of `sign`.
    """

    cells: Cells
    critical: FloatArray
    deviation: Callable[[Cells, FloatArray, FloatArray], FloatArray]
    extra: FloatArray

    def edge(self, outside: FloatArray, inside: FloatArray, sign: float) -> FloatArray:
        """One end; `outside` itself where even that is not excluded.

        Chandrupatla (1997), "A new hybrid quadratic/bisection algorithm", element by element.
        """
        arguments = (*self.cells.counts, self.critical, self.extra)

        def excess(place: FloatArray, *given: FloatArray) -> FloatArray:
            *counts, critical, extra = given
            value = sign * self.deviation(Cells(*counts), place, extra) - critical
            # Bounded, since the deviation may be infinite.
            finite = np.where(np.isinf(value), 0.0, value)
            return np.where(np.isinf(value), np.sign(value), finite / (1.0 + np.abs(finite)))

        found = outside.astype(np.float64)
        open_ = excess(found, *arguments) > 0.0
        if open_.any():
            given = tuple(np.asarray(argument)[open_] for argument in arguments)
            search = elementwise.find_root(
                excess,
                (found[open_], inside[open_]),
                args=given,
                tolerances={"xatol": 1e-13, "xrtol": 1e-10, "fatol": 0.0, "frtol": 0.0},
            )
            found[open_] = search.x
        return found
