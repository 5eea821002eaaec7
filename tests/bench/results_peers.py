"""Run a peer of the statistics core inside its own environment, and print what it measured.

Reads JSON on standard input: `pairs` of [n, mean, variance] of control and of treatment, or
`adjusted` pairs of [n, mean, variance, mean, variance and covariance of a covariate].
"""

import json
import sys
import time
from typing import Any


def gbstats(pairs: list[list[list[float]]]) -> dict[str, float]:
    """GrowthBook's two-sided test of the relative difference, one comparison at a time."""
    from gbstats.frequentist.tests import FrequentistConfig, TwoSidedTTest  # type: ignore[import-not-found]
    from gbstats.models.statistics import SampleMeanStatistic  # type: ignore[import-not-found]

    def statistic(n: float, mean: float, variance: float) -> SampleMeanStatistic:
        squares = variance * (n - 1) + n * mean**2
        return SampleMeanStatistic(n=int(n), sum=n * mean, sum_squares=squares)

    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        for control, treatment in pairs:
            config = FrequentistConfig(difference_type="relative")
            TwoSidedTTest(statistic(*control), statistic(*treatment), config).compute_result()
        best = min(best, time.perf_counter() - start)
    return {"seconds": best}


def gbstats_methods(pairs: list[list[list[float]]]) -> dict[str, float]:
    """Its three readings of a comparison with a covariate, one comparison at a time: the test of
    the relative difference, the sequential one, and the Bayesian effect.
    """
    from gbstats.bayesian.tests import EffectBayesianABTest, EffectBayesianConfig  # type: ignore[import-not-found]
    from gbstats.frequentist.tests import (
        FrequentistConfig,
        SequentialConfig,
        SequentialTwoSidedTTest,
        TwoSidedTTest,
    )
    from gbstats.models.statistics import compute_theta

    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        for control, treatment in pairs:
            arms = (_adjusted(*control), _adjusted(*treatment))
            for arm in arms:
                arm.theta = compute_theta(*arms)
            TwoSidedTTest(*arms, FrequentistConfig(difference_type="relative")).compute_result()
            sequential = SequentialConfig(difference_type="relative")
            SequentialTwoSidedTTest(*arms, sequential).compute_result()
            belief = EffectBayesianConfig(difference_type="relative")
            EffectBayesianABTest(*arms, belief).compute_result()
        best = min(best, time.perf_counter() - start)
    return {"seconds": best}


def _adjusted(
    n: float, mean: float, variance: float, before: float, spread: float, shared: float
) -> Any:
    from gbstats.models.statistics import (
        RegressionAdjustedStatistic,
        SampleMeanStatistic,
    )

    def statistic(centre: float, size: float) -> Any:
        squares = size * (n - 1) + n * centre**2
        return SampleMeanStatistic(n=int(n), sum=n * centre, sum_squares=squares)

    return RegressionAdjustedStatistic(
        n=int(n),
        post_statistic=statistic(mean, variance),
        pre_statistic=statistic(before, spread),
        post_pre_sum_of_products=shared * (n - 1) + n * mean * before,
        theta=0.0,
    )


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    if "adjusted" in asked:
        print(json.dumps(gbstats_methods(asked["adjusted"])))
    else:
        print(json.dumps(gbstats(asked["pairs"])))
