"""How much a unit spends at a purchase: the Gamma-Gamma model of Fader and Hardie (2013).

Each purchase of a unit is gamma distributed about its own mean, and those means are inverse gamma
distributed over units. It assumes that how much is spent does not depend on how often: the
correlation of the two is reported, so that a reader can see whether it holds.
"""

from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from services.attribution.domain.arrays import Floats
from services.attribution.domain.economics import Undefined
from services.attribution.domain.purchases import MIN_REPEATING_UNITS
from shared.errors import invalid

EDGE = 9.0
STARTS = ((0.0, 0.0, 0.0), (1.5, 1.0, 1.0))


@dataclass(frozen=True, slots=True)
class SpendingModel:
    """A fitted Gamma-Gamma: the paper's p, q and gamma.

    `population_mean` is the mean spend of a unit about which nothing is known; undefined where the
    fitted q is at most 1, for then it has none. `correlation` is that of count and mean spend.
    """

    purchase_shape: float
    unit_shape: float
    unit_scale: float
    log_likelihood: float
    units: int
    population_mean: float | Undefined
    correlation: float
    at_edge: bool

    @property
    def parameters(self) -> Floats:
        """p, q, gamma."""
        return np.array([self.purchase_shape, self.unit_shape, self.unit_scale])


def fit_spending(purchases: Floats, mean_spend: Floats) -> SpendingModel | Undefined:
    """Fit by maximum likelihood to units with at least one purchase and a mean spend above 0.

    Both are of shape (units,). Other units are left out. NOT_IDENTIFIED with fewer than 30.
    """
    if purchases.shape != mean_spend.shape:
        raise invalid("spending", mean_spend.shape, "one mean spend a unit")
    kept = (purchases > 0) & (mean_spend > 0) & np.isfinite(mean_spend)
    x, m = purchases[kept], mean_spend[kept]
    if len(x) < MIN_REPEATING_UNITS:
        return Undefined.NOT_IDENTIFIED
    order = np.lexsort((m, x))
    x, m = x[order], m[order]
    scale = float(np.median(m))

    def surprise(logs: Floats) -> tuple[float, Floats]:
        return _surprise(logs, x, m / scale)

    found = [
        optimize.minimize(
            surprise,
            np.array(start),
            jac=True,
            method="L-BFGS-B",
            bounds=[(-EDGE, EDGE)] * 3,
            options={"maxiter": 2000, "ftol": 1e-15, "gtol": 1e-10},
        )
        for start in STARTS
    ]
    best = min(found, key=lambda result: float(result.fun))
    p, q, gamma = np.exp(best.x).tolist()
    varied = x.std() > 0 and m.std() > 0
    return SpendingModel(
        purchase_shape=p,
        unit_shape=q,
        unit_scale=gamma * scale,
        log_likelihood=-float(best.fun) * len(x) - len(x) * float(np.log(scale)),
        units=len(x),
        population_mean=p * gamma * scale / (q - 1.0) if q > 1.0 else Undefined.NOT_IDENTIFIED,
        correlation=float(np.corrcoef(x, m)[0, 1]) if varied else 0.0,
        at_edge=bool((np.abs(best.x) > EDGE - 1e-3).any()),
    )


def _surprise(logs: Floats, x: Floats, m: Floats) -> tuple[float, Floats]:
    """Mean of minus the log likelihood and its slopes by the logarithms of p, q and gamma.

    Source: Fader and Hardie (2013), "The Gamma-Gamma model of monetary value", equation 1a:
    f(m | x) = G(px+q)/(G(px) G(q)) gamma^q m^(px-1) x^(px) / (gamma + x m)^(px+q).
    """
    p, q, gamma = np.exp(logs)
    total = gamma + x * m
    # Few counts are distinct, and special functions are most of the work.
    counts, at = np.unique(x, return_inverse=True)
    each = (special.gammaln(p * counts + q) - special.gammaln(p * counts))[at]
    each = (
        each
        - special.gammaln(q)
        + q * np.log(gamma)
        + (p * x - 1.0) * np.log(m)
        + p * x * np.log(x)
    )
    each = each - (p * x + q) * np.log(total)
    shared = special.digamma(p * counts + q)
    by_p = x * ((shared - special.digamma(p * counts))[at] + np.log(m) + np.log(x) - np.log(total))
    by_q = shared[at] - special.digamma(q) + np.log(gamma) - np.log(total)
    by_gamma = q / gamma - (p * x + q) / total
    slopes = np.array([by_p.mean() * p, by_q.mean() * q, by_gamma.mean() * gamma])
    return -float(each.mean()), -slopes


def expected_spend(model: SpendingModel, purchases: Floats, mean_spend: Floats) -> Floats:
    """Return the mean spend expected of each unit at a purchase, given what it spent.

    Source: Fader and Hardie (2013), equation 5: (gamma + x m) p / (p x + q - 1), a mean of the
    population and of the unit weighted by how much is known. For units without a purchase it is
    the population's; NaN where that is undefined, which the caller must say.
    """
    p, q, gamma = model.parameters
    known = purchases > 0
    divisor = p * purchases + q - 1.0
    usable = divisor > 0
    spent = np.where(known, purchases * mean_spend, 0.0)
    return np.where(usable, (gamma + spent) * p / np.where(usable, divisor, 1.0), np.nan)
