"""Priors learned from looks at the planned ends of other experiments."""

import datetime as dt

import numpy as np
import pytest
from touchstone_statistics.bayes import LiftPrior
from touchstone_statistics.boundaries import Look as Boundary

from services.results.domain.look import Cut, Look, LookKey, Seen, Side
from services.results.domain.reading.beliefs import Prior
from services.results.domain.reading.learning import learned

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
DEFAULT = Prior(LiftPrior(0.0, 0.3), "the default")


def finished(number: int, lift: float, control: float = 0.1) -> Look:
    """An end whose lift has a standard error of about one per cent."""
    spread = (0.007 * control) ** 2
    return Look(
        key=LookKey("p", f"e{number}", "m", "t"),
        number=3,
        boundary=Boundary(1000.0, 1.0, 0.05, 2.0),
        p_value=0.5,
        seen=Seen(
            Side(control, spread, 500.0, 0, 0, 499.0),
            Side(control * (1 + lift), spread, 500.0, 0, 0, 499.0),
        ),
        cut=Cut("journal", number),
        plan_version=1,
        create_time=NOW,
    )


def test_the_spread_of_past_lifts_becomes_the_prior() -> None:
    lifts = np.random.default_rng(2).normal(0.0, 0.05, 80)
    found = learned([finished(i, lift) for i, lift in enumerate(lifts)], "now", DEFAULT)["m"]
    assert found.lift.std_dev == pytest.approx(0.05, abs=0.01)
    assert found.lift.mean == 0.0
    assert "80 lifts of this metric in 80 finished experiments" in found.source


def test_a_metric_whose_mean_is_negative_counts_its_size() -> None:
    lifts = np.random.default_rng(2).normal(0.0, 0.05, 80)
    past = [finished(i, lift, control=-0.1) for i, lift in enumerate(lifts)]
    found = learned(past, "now", DEFAULT)["m"]
    assert found.lift.std_dev == pytest.approx(0.05, abs=0.01)


def test_few_experiments_and_the_experiment_itself_teach_nothing() -> None:
    assert learned([finished(i, 0.01 * i) for i in range(5)], "now", DEFAULT) == {}
    own = [finished(0, 0.01) for _ in range(50)]
    assert learned(own, "e0", DEFAULT) == {}
