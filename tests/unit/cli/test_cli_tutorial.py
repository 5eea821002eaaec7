"""The simulated shop keeps what it promises: its truth is what its draws come from."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from touchstone.results.v1 import metric_pb2, results_pb2

from services.cli.tutorial.report import results_view
from services.cli.tutorial.shop import ARMS, Arm, simulate_orders, true_lift
from services.cli.tutorial.visitors import CHANNELS, simulate_journeys, true_shares

MANY = 200_000


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.key)
def test_orders_have_the_rate_and_the_value_of_their_arm(arm: Arm) -> None:
    rng = np.random.default_rng(7)
    orders = simulate_orders([arm.key] * MANY, rng)
    rate, value = arm.order_rate, arm.order_value
    # Four standard errors: a right simulation fails once in 16,000 seeds.
    assert abs(orders.ordered.mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / MANY)
    paid = orders.values[orders.ordered]
    assert abs(paid.mean() - value) < 4 * paid.std() / np.sqrt(len(paid))
    assert (orders.values[~orders.ordered] == 0).all()


def test_true_lifts() -> None:
    assert true_lift("purchase", "one-click") == pytest.approx(0.2)
    assert true_lift("revenue", "one-click") == pytest.approx(0.2)
    assert true_lift("purchase", "short-form") == 0
    assert true_lift("revenue", "short-form") == pytest.approx(0.1)


def test_same_seed_same_shop() -> None:
    first = simulate_journeys(500, np.random.default_rng(3))
    again = simulate_journeys(500, np.random.default_rng(3))
    assert first[0] == again[0]
    assert (first[1] == again[1]).all()


def test_true_shares_are_what_is_lost_without_a_channel() -> None:
    journeys, signed_up = simulate_journeys(100_000, np.random.default_rng(5))
    # A visitor who meets the channel on the way is lost without it: the removal effect of a chain
    # is the part of conversions whose path holds the channel.
    lost = np.array(
        [
            sum(1 for path, won in zip(journeys, signed_up, strict=True) if won and place in path)
            for place in range(len(CHANNELS))
        ]
    )
    assert true_shares() == pytest.approx(lost / lost.sum(), abs=0.01)
    assert true_shares().sum() == pytest.approx(1)


def test_no_channel_follows_itself() -> None:
    journeys, _ = simulate_journeys(2000, np.random.default_rng(1))
    assert all(a != b for path in journeys for a, b in pairwise(path))
    assert min(map(len, journeys)) >= 1


def test_result_row_says_whether_the_interval_covers_the_truth() -> None:
    comparison = results_pb2.Comparison(
        variant="one-click",
        lift=results_pb2.Estimate(value=0.3),
        lift_interval=results_pb2.Interval(low=0.25, high=0.4, level=0.95),
        p_value=results_pb2.Estimate(value=0.01),
    )
    results = results_pb2.Results(
        arms=[
            results_pb2.ArmSummary(variant="control", control=True),
            results_pb2.ArmSummary(variant="one-click"),
        ],
        metrics=[
            results_pb2.MetricResults(
                metric="projects/p/metrics/purchase",
                kind=metric_pb2.METRIC_KIND_PROPORTION,
                arms=[
                    results_pb2.ArmEstimate(
                        variant="control", mean=results_pb2.Estimate(value=0.1)
                    ),
                    results_pb2.ArmEstimate(
                        variant="one-click", mean=results_pb2.Estimate(value=0.13)
                    ),
                ],
                comparisons=[comparison],
            )
        ],
    )
    (row,) = results_view(results).rows
    assert row[:4] == ("purchase", "one-click", 0.1, 0.13)
    assert row[8] is False
