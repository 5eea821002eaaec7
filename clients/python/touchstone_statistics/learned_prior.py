"""A prior for a metric that is learned from the project's own finished experiments."""

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from touchstone_statistics.bayes import LiftPrior
from touchstone_statistics.gaps import FloatArray

DEFAULT = LiftPrior()
MIN_EXPERIMENTS = 10
"""With fewer the spread of true lifts is known to within a factor of two at best."""


class Learning(enum.Enum):
    """How the spread of a prior was found."""

    MARGINAL_LIKELIHOOD = "marginal-likelihood"
    """It makes the lifts that were seen most likely (restricted where the mean is estimated)."""
    BOUNDARY_AVOIDING = "boundary-avoiding"
    """The likelihood is highest at no spread at all; the nearest that it does not rule out."""
    FALLBACK = "fallback"
    """There are too few experiments: it is the prior that was given for this case."""


@dataclass(frozen=True, slots=True)
class PastLift:
    """What a finished experiment estimated of the lift of one metric."""

    experiment: str
    lift: float
    std_err: float

    def __post_init__(self) -> None:
        if not np.isfinite(self.lift):
            raise ValueError(f"lift of {self.experiment} is {self.lift}; it must be finite")
        if not 0 < self.std_err < np.inf:
            raise ValueError(
                f"std_err of {self.experiment} is {self.std_err}; it must be finite and above zero"
            )


@dataclass(frozen=True, slots=True)
class LearnedPrior:
    """A prior with its source, to be shown wherever the prior is used.

    `experiments` are those that it was learned from, none for a fallback; `available` says how
    many there were. `moment_std_dev` is the estimate of DerSimonian and Laird of the same spread,
    by other means: where the two are far apart a normal distribution of lifts fits badly.
    """

    prior: LiftPrior
    learning: Learning
    experiments: tuple[str, ...]
    available: int
    moment_std_dev: float


def learn_prior(
    past: Sequence[PastLift],
    fallback: LiftPrior = DEFAULT,
    *,
    estimate_mean: bool = False,
    least: int = MIN_EXPERIMENTS,
) -> LearnedPrior:
    """Normal distribution of the true lifts of one metric over finished experiments.

    Estimand: mean and standard deviation of the true lifts. Assumes that the lifts are draws from
    one normal distribution, that their estimates are nearly normal about them with the given
    standard errors, and that `past` holds all finished experiments: with the winners alone the
    prior would promise more than there is. The mean is 0 unless it is to be estimated: which arm
    is called the control is then of no consequence.

    Source: Robbins (1956), "An empirical Bayes approach to statistics"; marginal likelihood as in
    Gelman et al. (2013), "Bayesian Data Analysis", equation 5.20 without the prior.
    """
    if least < 2:
        raise ValueError(f"least is {least}; a spread needs at least 2 experiments")
    lifts = np.array([each.lift for each in past])
    variances = np.array([each.std_err for each in past]) ** 2
    if len(past) < least:
        moment = moment_std_dev(lifts, variances, estimate_mean) if len(past) > 1 else 0.0
        return LearnedPrior(fallback, Learning.FALLBACK, (), len(past), moment)
    moment = moment_std_dev(lifts, variances, estimate_mean)
    spread, learning = _likely_std_dev(lifts, variances, estimate_mean, moment)
    mean = _pooled(lifts, 1.0 / (variances + spread**2)) if estimate_mean else 0.0
    names = tuple(each.experiment for each in past)
    return LearnedPrior(LiftPrior(mean, spread), learning, names, len(past), moment)


def moment_std_dev(lifts: FloatArray, variances: FloatArray, estimate_mean: bool = True) -> float:
    """Spread of true effects from the excess of their scatter over its expectation.

    Source: DerSimonian and Laird (1986), "Meta-analysis in clinical trials", equation 8:
    tau^2 = max(0, (Q - (k - 1)) / (sum w - sum w^2 / sum w)) with w = 1 / variance. About a known
    mean of zero the same argument gives (Q - k) / sum w.
    """
    weights = 1.0 / variances
    if estimate_mean:
        scatter = np.sum(weights * (lifts - _pooled(lifts, weights)) ** 2) - (lifts.size - 1)
        scale = weights.sum() - np.sum(weights**2) / weights.sum()
    else:
        scatter, scale = np.sum(weights * lifts**2) - lifts.size, weights.sum()
    return float(np.sqrt(max(scatter / scale, 0.0)))


def _likely_std_dev(
    lifts: FloatArray, variances: FloatArray, estimate_mean: bool, start: float
) -> tuple[float, Learning]:
    """The spread at which the (restricted) marginal likelihood is highest."""
    limit = 10.0 * max(start, float(np.sqrt(np.mean(lifts**2) + variances.max())))

    def surprise(spread: float) -> float:
        return -log_likelihood(spread, lifts, variances, estimate_mean)

    best = _lowest(surprise, limit)
    # A minimum at the edge is one that grows when the spread leaves it.
    if best > 1e-4 * np.sqrt(variances.min()) and surprise(best) < surprise(0.0):
        return best, Learning.MARGINAL_LIKELIHOOD
    # Chung et al. (2013), "A nondegenerate penalized likelihood estimator for variance parameters
    # in multilevel models", section 3: a gamma(2) prior on the spread, so log likelihood plus log
    # spread. It moves the estimate about one of its standard errors away from zero.
    near = _lowest(lambda spread: surprise(spread) - np.log(max(spread, 1e-300)), limit)
    return near, Learning.BOUNDARY_AVOIDING


def log_likelihood(
    spread: float, lifts: FloatArray, variances: FloatArray, estimate_mean: bool
) -> float:
    """Logarithm of the marginal likelihood of a spread, up to a constant.

    Normal with variances s^2 + tau^2 about zero, or about the mean that fits best with the
    correction for having fitted it (Patterson and Thompson 1971, restricted likelihood).
    """
    total = variances + spread**2
    mean = _pooled(lifts, 1.0 / total) if estimate_mean else 0.0
    fit = -0.5 * float(np.sum(np.log(total) + (lifts - mean) ** 2 / total))
    return fit - (0.5 * float(np.log(np.sum(1.0 / total))) if estimate_mean else 0.0)


def _lowest(surprise: Callable[[float], float], limit: float) -> float:
    """The lowest point between 0 and `limit`: on a grid first, for there may be several."""
    grid = np.concatenate([[0.0], np.geomspace(1e-5, 1.0, 60)]) * limit
    index = int(np.argmin([surprise(spread) for spread in grid]))
    low, high = grid[max(index - 1, 0)], grid[min(index + 1, grid.size - 1)]
    found = optimize.minimize_scalar(
        surprise, bounds=(low, high), method="bounded", options={"xatol": 1e-10 * limit}
    )
    return float(found.x)


def _pooled(lifts: FloatArray, weights: FloatArray) -> float:
    return float(np.sum(weights * lifts) / np.sum(weights))
