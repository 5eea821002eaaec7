"""Alpha spending: how much of the error rate may be used up by which share of the information."""

import math
from dataclasses import dataclass
from typing import Protocol

from scipy import special


class Spending(Protocol):
    """A function of the share of information, 0 at 0 and the whole error rate of a tail at 1."""

    def spent(self, tail: float, fraction: float) -> float:
        """Error rate of one tail that may be used up to `fraction` (0 to 1) of the information."""
        ...


@dataclass(frozen=True, slots=True)
class OBrienFleming:
    """Spends next to nothing early, so that the last look is almost a fixed-horizon test.

    Source: Lan and DeMets (1983), "Discrete sequential boundaries for clinical trials", their
    first function 2 - 2 Phi(z / sqrt t), where z is the normal quantile that leaves half of
    the tail above it. It approximates the boundary of O'Brien and Fleming (1979).
    """

    def spent(self, tail: float, fraction: float) -> float:
        if fraction <= 0.0:
            return 0.0
        quantile = -float(special.ndtri(tail / 2.0))
        return 2.0 * float(special.ndtr(-quantile / math.sqrt(fraction)))


@dataclass(frozen=True, slots=True)
class Pocock:
    """Nearly the same critical value at each look: stops early, at a cost in power.

    Source: Lan and DeMets (1983), their second function tail ln(1 + (e - 1) t); approximates
    the boundary of Pocock (1977).
    """

    def spent(self, tail: float, fraction: float) -> float:
        return tail * math.log1p((math.e - 1.0) * fraction)


@dataclass(frozen=True, slots=True)
class Power:
    """tail t^exponent: 1 is near Pocock, 3 near O'Brien and Fleming.

    Source: Kim and DeMets (1987), "Design and analysis of group sequential tests based on the
    type I error spending rate function", equation 2.
    """

    exponent: float = 2.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.exponent) and self.exponent > 0.0):
            raise ValueError(f"exponent is {self.exponent}; it must be finite and above 0")

    def spent(self, tail: float, fraction: float) -> float:
        return tail * float(fraction**self.exponent)


@dataclass(frozen=True, slots=True)
class HwangShihDeCani:
    """tail (1 - e^(-shape t)) / (1 - e^(-shape)): -4 is near O'Brien and Fleming, 1 near Pocock.

    Source: Hwang, Shih and De Cani (1990), "Group sequential designs using a family of type I
    error probability spending functions", equation 2. A shape of 0 spends in proportion to t.
    """

    shape: float = -4.0

    def __post_init__(self) -> None:
        if not -40.0 <= self.shape <= 40.0:
            raise ValueError(f"shape is {self.shape}; it must be from -40 to 40")

    def spent(self, tail: float, fraction: float) -> float:
        if self.shape == 0.0:
            return tail * fraction
        return tail * math.expm1(-self.shape * fraction) / math.expm1(-self.shape)
