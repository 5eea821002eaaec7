"""How often a unit will buy again: the BG/NBD model of Fader, Hardie and Lee (2005).

While active a unit buys at random at its own rate; after any purchase it stops for good with its
own probability. Rates are gamma distributed over units and probabilities beta distributed,
independently of each other. Units whose stopping does not follow a purchase (an account that is
closed) or whose rate changes with the season are outside of the model.
"""

from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from services.attribution.domain.arrays import Floats, Integers, frozen_floats
from services.attribution.domain.economics import Undefined
from shared.errors import invalid

MIN_REPEATING_UNITS = 30
EDGE = 9.0
STARTS = ((-1.0, -1.0, 0.0, 1.0), (1.0, 1.0, -1.0, 1.0))


@dataclass(frozen=True, slots=True, eq=False)
class BuyingHistory:
    """By unit, each of shape (units,): repeat purchases, age at the last one, age now.

    `repeats` counts purchases after the first, `last` is the time from the first to the last of
    them (0 without a repeat) and `age` that from the first to now. Any unit of time, days here.
    """

    repeats: Floats
    last: Floats
    age: Floats

    def __post_init__(self) -> None:
        for name in ("repeats", "last", "age"):
            object.__setattr__(self, name, frozen_floats(getattr(self, name)))
        if not self.repeats.shape == self.last.shape == self.age.shape:
            raise invalid("history", self.repeats.shape, "columns of one length")
        ordered = (self.last >= 0) & (self.last <= self.age) & np.isfinite(self.age)
        if not (ordered & ((self.repeats > 0) | (self.last == 0)) & (self.repeats >= 0)).all():
            raise invalid("history", "an impossible row", "0 <= last <= age, 0 without a repeat")

    def __len__(self) -> int:
        return len(self.repeats)

    def distinct(self) -> tuple["BuyingHistory", Integers, Integers]:
        """Return the distinct histories in order, where each unit's is, and how often each is."""
        rows = np.stack([self.repeats, self.last, self.age], axis=1)
        found, place, counts = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
        return BuyingHistory(*found.T), place.reshape(-1), counts


@dataclass(frozen=True, slots=True)
class PurchaseModel:
    """A fitted BG/NBD: the paper's r and alpha of the rates, a and b of stopping.

    `log_likelihood` is that of the data, `steepness` the largest slope left by the search for each
    unit, near 0 at a maximum. `at_edge` says that a parameter ran off to where it makes no more
    difference (units that hardly differ, or none that stops): predictions hold, it means nothing.
    """

    rate_shape: float
    rate_scale: float
    stop_a: float
    stop_b: float
    log_likelihood: float
    units: int
    steepness: float
    at_edge: bool

    @property
    def parameters(self) -> Floats:
        """r, alpha, a, b."""
        return np.array([self.rate_shape, self.rate_scale, self.stop_a, self.stop_b])


def fit_purchases(history: BuyingHistory) -> PurchaseModel | Undefined:
    """Fit by maximum likelihood (equation 6), from two starts, with exact slopes.

    Equal rows are gathered and sorted first, so that the order of units changes nothing.
    NOT_IDENTIFIED with fewer than 30 units that bought again.
    """
    if np.count_nonzero(history.repeats) < MIN_REPEATING_UNITS:
        return Undefined.NOT_IDENTIFIED
    distinct, _, counts = history.distinct()
    scale = float(distinct.age.max())
    x, last, age = distinct.repeats, distinct.last / scale, distinct.age / scale
    weights = counts / len(history)

    def surprise(logs: Floats) -> tuple[float, Floats]:
        parameters = np.exp(logs)
        each, slopes = log_likelihood(parameters, x, last, age)
        return -float(weights @ each), -(slopes @ weights) * parameters

    found = [
        optimize.minimize(
            surprise,
            np.array(start),
            jac=True,
            method="L-BFGS-B",
            bounds=[(-EDGE, EDGE)] * 4,
            options={"maxiter": 2000, "ftol": 1e-15, "gtol": 1e-10},
        )
        for start in STARTS
    ]
    best = min(found, key=lambda result: float(result.fun))
    r, alpha, a, b = np.exp(best.x).tolist()
    inner = np.abs(best.x) < EDGE - 1e-3
    # The likelihood of counts is invariant to the scale of time but for its density in x.
    total = -float(best.fun) * len(history) - float(history.repeats.sum()) * float(np.log(scale))
    return PurchaseModel(
        rate_shape=r,
        rate_scale=alpha * scale,
        stop_a=a,
        stop_b=b,
        log_likelihood=total,
        units=len(history),
        steepness=float(np.abs(np.asarray(best.jac)[inner]).max(initial=0.0)),
        at_edge=not bool(inner.all()),
    )


def log_likelihood(
    parameters: Floats, x: Floats, last: Floats, age: Floats
) -> tuple[Floats, Floats]:
    """Log likelihood of each unit and its slopes by r, alpha, a, b (rows), of shape (4, units).

    Source: Fader, Hardie and Lee (2005), "Counting your customers the easy way", equation 6:
    L = B(a, b+x)/B(a, b) G(r+x) alpha^r / (G(r) (alpha+T)^(r+x))
      + [x > 0] B(a+1, b+x-1)/B(a, b) G(r+x) alpha^r / (G(r) (alpha+t_x)^(r+x)),
    here with B(a+1, b+x-1)/B(a, b+x) = a/(b+x-1) taken out.
    """
    r, alpha, a, b = parameters
    repeated = x > 0
    # Few counts are distinct, and special functions are most of the work.
    counts, at = np.unique(x, return_inverse=True)
    before = np.where(repeated, b + x - 1.0, 1.0)
    active = -(r + x) * np.log(alpha + age)
    stopped = np.where(
        repeated, np.log(a) - np.log(before) - (r + x) * np.log(alpha + last), -np.inf
    )
    either = np.logaddexp(active, stopped)
    gone = np.exp(stopped - either)
    here = np.exp(active - either)
    known = special.gammaln(r + counts) - special.gammaln(r) + r * np.log(alpha)
    each = (known + special.betaln(a, b + counts) - special.betaln(a, b))[at] + either
    by_r = (special.digamma(r + counts) - special.digamma(r))[at] + np.log(alpha)
    by_r = by_r - here * np.log(alpha + age) - gone * np.log(alpha + last)
    by_alpha = r / alpha - (r + x) * (here / (alpha + age) + gone / (alpha + last))
    both = (special.digamma(a + b) - special.digamma(a + b + counts))[at]
    by_b = both + (special.digamma(b + counts) - special.digamma(b))[at] - gone / before
    return each, np.stack([by_r, by_alpha, both + gone / a, by_b])


def probability_active(parameters: Floats, history: BuyingHistory) -> Floats:
    """Return the probability that each unit has not stopped.

    Source: Fader and Hardie (2008), "Computing P(alive) using the BG/NBD model". A unit without a
    repeat is active for sure: stopping follows a repeat purchase.
    """
    r, alpha, a, b = parameters
    x = history.repeats
    before = np.where(x > 0, b + x - 1.0, 1.0)
    log_odds = np.log(a) - np.log(before)
    log_odds = log_odds + (r + x) * (np.log(alpha + history.age) - np.log(alpha + history.last))
    return np.where(x > 0, special.expit(-log_odds), 1.0)


def expected_purchases(parameters: Floats, history: BuyingHistory, horizon: float) -> Floats:
    """Return how often each unit is expected to buy in the next `horizon`, given what it did.

    Source: Fader, Hardie and Lee (2005), equation 10. By Euler's transformation its
    (1-z)^(r+x) 2F1(r+x, b+x; a+b+x-1; z) is (1-z)^(a-1) 2F1(a+b-1-r, a-1; a+b+x-1; z) with
    z = t/(alpha+T+t), which does not overflow for units with many purchases. For a large a it
    does, and the first form serves.
    """
    if not (np.isfinite(horizon) and horizon >= 0):
        raise invalid("horizon", horizon, "a finite duration of at least 0")
    r, alpha, a, b = parameters
    # The formula is 0/0 at a = 1 and smooth around it.
    if abs(a - 1.0) < 1e-6:
        a = 1.0 + 1e-6
    x = history.repeats
    z = horizon / (alpha + history.age + horizon)
    while_active = (a + b + x - 1.0) / (a - 1.0) * (1.0 - _left(r, a, b, x, z))
    active = probability_active(parameters, history)
    expected: Floats = np.maximum(while_active, 0.0) * active
    return expected


def _left(r: float, a: float, b: float, x: Floats, z: Floats) -> Floats:
    """The hypergeometric term of equation 10 in the form that is finite, letters as there."""
    with np.errstate(over="ignore", invalid="ignore"):
        left = (1.0 - z) ** (a - 1.0) * special.hyp2f1(a + b - 1.0 - r, a - 1.0, a + b + x - 1.0, z)
        lost = ~np.isfinite(left)
        if lost.any():
            some, far = x[lost], z[lost]
            left[lost] = (1.0 - far) ** (r + some) * special.hyp2f1(
                r + some, b + some, a + b + some - 1.0, far
            )
    # Both overflow only where a and x are large and next to nothing is left.
    return np.where(np.isfinite(left), left, 0.0)
