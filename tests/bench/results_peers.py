"""Run a peer of the statistics core inside its own environment, and print what it measured.

Reads JSON with `pairs` on standard input: [n, mean, variance] of control and of treatment.
"""

import json
import sys
import time


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


if __name__ == "__main__":
    print(json.dumps(gbstats(json.load(sys.stdin)["pairs"])))
