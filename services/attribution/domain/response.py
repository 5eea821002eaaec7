"""How what a channel brings grows with what is spent on it: concave curves, given or fitted."""

from dataclasses import dataclass
from enum import Enum

import numpy as np
from scipy import optimize

from services.attribution.domain.arrays import Floats
from services.attribution.domain.economics import Undefined
from shared.errors import invalid

MIN_PERIODS = 5
LARGEST_LOG = 700.0
GRID = np.geomspace(1e-3, 1e3, 121)


@dataclass(frozen=True, slots=True)
class LogResponse:
    """scale * log(1 + spend / half): each further spend brings less, without a ceiling.

    At a spend of `half` the marginal response is half of that of the first unit of money.
    """

    scale: float
    half: float

    def __post_init__(self) -> None:
        _require("response.scale", self.scale, zero=True)
        _require("response.half", self.half, zero=False)

    def value(self, spend: float) -> float:
        return float(self.scale * np.log1p(spend / self.half))

    def marginal(self, spend: float) -> float:
        """Return what one more unit of money brings at this spend."""
        return self.scale / (self.half + spend)

    def spend_at(self, marginal: float) -> float:
        """Return the spend at which the marginal response has fallen to this; 0 at the least."""
        return max(self.scale / marginal - self.half, 0.0)

    def times(self, factor: float) -> "LogResponse":
        """Return the curve corrected by kappa; where nothing is caused there is no response."""
        return LogResponse(self.scale * max(factor, 0.0), self.half)


@dataclass(frozen=True, slots=True)
class PowerResponse:
    """scale * spend^exponent with an exponent between 0 and 1, the elasticity of response."""

    scale: float
    exponent: float

    def __post_init__(self) -> None:
        _require("response.scale", self.scale, zero=True)
        if not 0 < self.exponent < 1:
            raise invalid("response.exponent", self.exponent, "a number between 0 and 1")

    def value(self, spend: float) -> float:
        return float(self.scale * spend**self.exponent)

    def marginal(self, spend: float) -> float:
        """Return what one more unit of money brings; without bound at a spend of 0."""
        if self.scale == 0:
            return 0.0
        return (
            float(self.scale * self.exponent * spend ** (self.exponent - 1.0)) if spend else np.inf
        )

    def spend_at(self, marginal: float) -> float:
        """Return the spend at which the marginal response has fallen to this."""
        ratio = self.scale * self.exponent / marginal
        if ratio <= 0:
            return 0.0
        return float(np.exp(min(np.log(ratio) / (1.0 - self.exponent), LARGEST_LOG)))

    def times(self, factor: float) -> "PowerResponse":
        """Return the curve corrected by kappa; where nothing is caused there is no response."""
        return PowerResponse(self.scale * max(factor, 0.0), self.exponent)


Response = LogResponse | PowerResponse


def _require(field: str, value: float, *, zero: bool) -> None:
    if not (np.isfinite(value) and (value > 0 or (zero and value == 0))):
        raise invalid(field, value, "a finite number of at least 0" if zero else "above 0")


class FitConcern(Enum):
    """Why a fitted curve should not be trusted far."""

    NO_SATURATION = "no_saturation"
    AT_ONCE_SATURATED = "at_once_saturated"
    POOR_FIT = "poor_fit"


@dataclass(frozen=True, slots=True)
class FittedResponse:
    """A curve by least squares and how well it fits.

    `std_errs` are of scale and half, None where the curve is at the edge of what the spends can
    tell. `lowest` and `highest` are the spends seen: beyond them the curve is extrapolation. Their
    mean is `mean`.
    """

    curve: LogResponse
    std_errs: tuple[float, float] | None
    r_squared: float
    periods: int
    lowest: float
    highest: float
    mean: float
    concerns: tuple[FitConcern, ...]


def fit_response(spends: Floats, responses: Floats) -> FittedResponse | Undefined:
    """Fit a LogResponse to spend and response by period (both of shape (periods,)).

    Least squares with the scale in closed form for each half, and the half by a search over three
    decades on either side of the mean spend (variable projection, Golub and Pereyra 1973). Assumes
    that a period's response comes from its own spend. Spend that followed demand looks more
    effective than it was: a curve is observational until kappa of an experiment corrects it.
    NOT_IDENTIFIED with fewer than five periods, or spends of fewer than two sizes above 0.
    """
    if spends.shape != responses.shape or spends.ndim != 1:
        raise invalid("history", f"{spends.shape} and {responses.shape}", "one pair a period")
    if not (np.isfinite(spends).all() and np.isfinite(responses).all() and (spends >= 0).all()):
        raise invalid("history", "a number that is not finite or negative spend", "finite numbers")
    order = np.lexsort((responses, spends))
    x, y = spends[order], responses[order]
    if len(x) < MIN_PERIODS or len(np.unique(x[x > 0])) < 2 or not (y > 0).any():
        return Undefined.NOT_IDENTIFIED
    grid = GRID * float(x.mean())
    best = int(np.argmin([_misfit(half, x, y) for half in np.log(grid)]))
    inside = 0 < best < len(grid) - 1
    half = float(grid[best])
    if inside:
        found = optimize.minimize_scalar(
            lambda log_half: _misfit(log_half, x, y),
            bounds=(np.log(grid[best - 1]), np.log(grid[best + 1])),
            method="bounded",
            options={"xatol": 1e-10},
        )
        half = float(np.exp(found.x))
    curve = LogResponse(_scale(half, x, y), half)
    return _described(curve, x, y, best, inside)


def _described(curve: LogResponse, x: Floats, y: Floats, best: int, inside: bool) -> FittedResponse:
    residual = y - curve.scale * np.log1p(x / curve.half)
    around_mean = float(np.sum((y - y.mean()) ** 2))
    r_squared = 1.0 - float(residual @ residual) / around_mean if around_mean > 0 else 0.0
    concerns = []
    if not inside:
        edge = FitConcern.NO_SATURATION if best else FitConcern.AT_ONCE_SATURATED
        concerns.append(edge)
    if r_squared < 0.5:
        concerns.append(FitConcern.POOR_FIT)
    return FittedResponse(
        curve=curve,
        std_errs=_std_errs(curve, x, residual) if inside else None,
        r_squared=r_squared,
        periods=len(x),
        lowest=float(x.min()),
        highest=float(x.max()),
        mean=float(x.mean()),
        concerns=tuple(concerns),
    )


def _scale(half: float, x: Floats, y: Floats) -> float:
    basis = np.log1p(x / half)
    return max(float(basis @ y / (basis @ basis)), 0.0)


def _misfit(log_half: float, x: Floats, y: Floats) -> float:
    half = float(np.exp(log_half))
    residual = y - _scale(half, x, y) * np.log1p(x / half)
    return float(residual @ residual)


def _std_errs(curve: LogResponse, x: Floats, residual: Floats) -> tuple[float, float] | None:
    """Standard errors of scale and half from the linearised curve (Seber and Wild 1989, 2.1)."""
    slopes = np.stack(
        [np.log1p(x / curve.half), -curve.scale * x / (curve.half * (curve.half + x))], axis=1
    )
    # In units of each parameter, so that the matrix is not ill-conditioned by money's own.
    sizes = np.sqrt((slopes**2).sum(axis=0))
    if not (sizes > 0).all():
        return None
    scaled = slopes / sizes
    information = scaled.T @ scaled
    if np.linalg.cond(information) > 1e12:
        return None
    noise = float(residual @ residual) / (len(x) - 2)
    errors = np.sqrt(noise * np.diag(np.linalg.inv(information))) / sizes
    return float(errors[0]), float(errors[1])
