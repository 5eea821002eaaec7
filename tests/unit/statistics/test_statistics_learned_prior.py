"""Priors learned from finished experiments: published example, statsmodels and simulation."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects
from touchstone_statistics.bayes import LiftPrior
from touchstone_statistics.learned_prior import (
    Learning,
    PastLift,
    learn_prior,
    log_likelihood,
    moment_std_dev,
)

# Tuberculosis with and without the BCG vaccine in 13 trials: cases and others in both groups.
# Colditz et al. (1994), "Efficacy of BCG vaccine in the prevention of tuberculosis".
BCG = np.array(
    [
        [4, 119, 11, 128],
        [6, 300, 29, 274],
        [3, 228, 11, 209],
        [62, 13536, 248, 12619],
        [33, 5036, 47, 5761],
        [180, 1361, 372, 1079],
        [8, 2537, 10, 619],
        [505, 87886, 499, 87892],
        [29, 7470, 45, 7232],
        [17, 1699, 65, 1600],
        [186, 50448, 141, 27197],
        [5, 2493, 3, 2338],
        [27, 16886, 29, 17825],
    ],
    dtype=float,
)


def bcg() -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of the relative risk and their variances."""
    treated, control = BCG[:, 0] + BCG[:, 1], BCG[:, 2] + BCG[:, 3]
    effect = np.log(BCG[:, 0] / treated) - np.log(BCG[:, 2] / control)
    return effect, 1 / BCG[:, 0] - 1 / treated + 1 / BCG[:, 2] - 1 / control


def past(lifts: np.ndarray, variances: np.ndarray) -> list[PastLift]:
    pairs = zip(lifts, variances, strict=True)
    return [PastLift(f"e{i}", float(d), float(v) ** 0.5) for i, (d, v) in enumerate(pairs)]


def test_the_published_spread_of_the_bcg_trials() -> None:
    """Viechtbauer (2010), "Conducting meta-analyses in R with the metafor package", section 3.

    DerSimonian and Laird: tau^2 = 0.3088. Restricted likelihood: 0.3132, mean -0.7145.
    """
    lifts, variances = bcg()
    assert moment_std_dev(lifts, variances) ** 2 == pytest.approx(0.3088, abs=5e-5)
    learned = learn_prior(past(lifts, variances), estimate_mean=True)
    assert learned.learning is Learning.MARGINAL_LIKELIHOOD
    assert learned.prior.std_dev**2 == pytest.approx(0.3132, abs=5e-5)
    assert learned.prior.mean == pytest.approx(-0.7145, abs=5e-5)
    assert learned.experiments == tuple(f"e{i}" for i in range(13))


def test_the_moment_estimate_is_that_of_statsmodels() -> None:
    rng = np.random.default_rng(3)
    variances = rng.uniform(0.01, 0.2, 25)
    lifts = rng.normal(0.1, 0.3, 25) + rng.normal(0, np.sqrt(variances))
    reference = combine_effects(lifts, variances, method_re="dl")
    assert moment_std_dev(lifts, variances) ** 2 == pytest.approx(reference.tau2, rel=1e-12)


def test_a_spread_about_zero_is_found_again() -> None:
    rng = np.random.default_rng(8)
    found = []
    for _ in range(200):
        variances = rng.uniform(0.01, 0.05, 40) ** 2
        lifts = rng.normal(0, 0.04, 40) + rng.normal(0, np.sqrt(variances))
        learned = learn_prior(past(lifts, variances))
        assert learned.prior.mean == 0.0
        found.append((learned.prior.std_dev**2, learned.moment_std_dev**2))
    # Four standard errors of the mean of 200 estimates.
    for estimates in np.transpose(found):
        room = 4 * estimates.std() / 200**0.5
        assert estimates.mean() == pytest.approx(0.04**2, abs=room)


def test_the_likelihood_is_that_of_the_normal_and_highest_at_the_estimate() -> None:
    lifts, variances = bcg()
    expected = float(np.sum(stats.norm.logpdf(lifts, 0, np.sqrt(variances + 0.5**2))))
    constant = -0.5 * lifts.size * np.log(2 * np.pi)
    assert log_likelihood(0.5, lifts, variances, False) + constant == pytest.approx(expected)
    best = learn_prior(past(lifts, variances)).prior.std_dev
    top = log_likelihood(best, lifts, variances, False)
    assert top >= max(log_likelihood(best * f, lifts, variances, False) for f in (0.99, 1.01))


@pytest.mark.parametrize("estimate_mean", [True, False])
def test_experiments_that_all_agree_do_not_make_a_prior_of_no_width(estimate_mean: bool) -> None:
    lifts, variances = np.tile([0.001, -0.001], 10), np.full(20, 0.02**2)
    learned = learn_prior(past(lifts, variances), estimate_mean=estimate_mean)
    assert learned.learning is Learning.BOUNDARY_AVOIDING
    assert learned.moment_std_dev == 0.0
    assert 0.002 < learned.prior.std_dev < 0.02


def test_too_few_experiments_fall_back_and_say_so() -> None:
    lifts, variances = bcg()
    given = LiftPrior(0.0, 0.12)
    learned = learn_prior(past(lifts[:9], variances[:9]), given)
    assert learned.prior is given
    assert (learned.learning, learned.experiments) == (Learning.FALLBACK, ())
    assert learned.available == 9
    assert learn_prior([], given).prior is given
    assert learn_prior(past(lifts[:9], variances[:9]), given, least=9).available == 9


def test_senseless_lifts_are_refused() -> None:
    with pytest.raises(ValueError, match="lift of a is inf"):
        PastLift("a", float("inf"), 1.0)
    with pytest.raises(ValueError, match=r"std_err of b is 0\.0"):
        PastLift("b", 0.1, 0.0)
    with pytest.raises(ValueError, match="least is 1"):
        learn_prior([], least=1)
