"""The best of several independent beliefs against exact sums, scipy's quad and two arms."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats
from touchstone_statistics.beta import BetaPosterior
from touchstone_statistics.estimand import Estimate
from touchstone_statistics.gamma import GammaPosterior
from touchstone_statistics.normal import NormalPosterior
from touchstone_statistics.ranking import best_of
from touchstone_statistics.versus import Pairs


@pytest.mark.parametrize(
    ("converted", "units"),
    [
        ([3, 5, 4], [40, 41, 39]),
        ([0, 1, 500], [10, 9, 9_000]),
        ([100, 110, 95, 120], [1_000, 1_010, 990, 1_005]),
        ([3, 10_000, 12], [30, 100_000, 100]),
    ],
)
@pytest.mark.parametrize("increase", [True, False])
def test_the_best_rate_matches_adaptive_quadrature(
    converted: list[int], units: list[int], increase: bool
) -> None:
    arms = BetaPosterior.of(converted, units)
    ours = best_of(arms, increase)
    laws = [stats.beta(a, b) for a, b in zip(arms.successes, arms.failures, strict=True)]
    shares = (1e-14, 1e-6, 1e-2, 0.2, 0.5, 0.8, 0.99, 1 - 1e-6)
    marks = sorted({p.ppf(q) for p in laws for q in shares} | {0.0, 1.0})
    for arm, mine in enumerate(laws):
        rivals = laws[:arm] + laws[arm + 1 :]

        def integrand(x: float, p: Any = mine, rest: list[Any] = rivals) -> float:
            tails = [r.cdf(x) if increase else r.sf(x) for r in rest]
            return float(p.pdf(x) * np.prod(tails))

        expected = sum(
            integrate.quad(integrand, *ends, epsabs=1e-13)[0] for ends in pairwise(marks)
        )
        assert ours[arm] == pytest.approx(expected, abs=1e-8)


def test_the_best_of_two_is_the_chance_to_beat() -> None:
    arms = GammaPosterior.of([[12, 20], [400, 380]], [[10.0, 11.0], [90.0, 91.0]])
    beat = Pairs.of(arms[:, 0], arms[:, 1]).compare().probability_to_beat
    assert best_of(arms)[:, 1] == pytest.approx(beat, abs=1e-10)


@pytest.mark.parametrize("variances", [(0.1, 0.12, 0.11), (1.0, 1e-4, 0.1)])
def test_the_best_of_t_distributions_matches_a_simulation(
    variances: tuple[float, float, float],
) -> None:
    none = np.zeros(3, dtype=np.uint8)
    mean, units = np.array([1.0, 1.2, 1.1]), np.array([6.0, 8.0, 40.0])
    arms, _ = NormalPosterior.of(Estimate(mean, np.array(variances), units, none, none))
    rng = np.random.default_rng(4)
    draws = mean + np.sqrt(variances) * rng.standard_t(units - 1, (400_000, 3))
    share = np.bincount(np.argmax(draws, axis=1), minlength=3) / len(draws)
    assert best_of(arms) == pytest.approx(share, abs=0.004)


def test_one_arm_is_the_best_and_equal_arms_are_equally_good() -> None:
    assert best_of(BetaPosterior.of([[3], [4]], [[9], [9]])).tolist() == [[1.0], [1.0]]
    assert best_of(BetaPosterior.of([7] * 5, [50] * 5)) == pytest.approx([0.2] * 5, abs=1e-12)
