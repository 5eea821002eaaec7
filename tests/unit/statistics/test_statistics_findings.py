"""The tests behind a decision, for both directions and any inference."""

import numpy as np
import pytest
from scipy import stats
from touchstone_statistics.anytime import Anytime
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.decide import Situation, Verdict, decide, levels
from touchstone_statistics.estimand import Estimate
from touchstone_statistics.family import Role
from touchstone_statistics.findings import Findings, Goal, Reader, findings
from touchstone_statistics.gaps import Gap
from touchstone_statistics.inference import Fixed
from touchstone_statistics.interval import Side

LEVELS = levels([Role.PRIMARY, Role.GUARDRAIL])


def contrast_of(*differences: float, std_err: float = 1.0) -> Contrast:
    """Treatments that differ from a control of mean 100 by so much, in units of a metric."""
    d = np.array(differences)
    none, half = np.zeros(d.shape, dtype=np.uint8), np.full(d.shape, std_err**2 / 2)
    units = np.full(d.shape, 1e6)
    control = Estimate(np.full(d.shape, 100.0), half, units, none, none)
    return Contrast(control, Estimate(100.0 + d, half, units, none, none))


def test_a_metric_that_should_rise() -> None:
    ours = findings(contrast_of(3.0, 0.0, -3.0), Goal(Role.GUARDRAIL, margin=0.02), LEVELS)
    assert ours.superior.tolist() == [True, False, False]
    assert ours.non_inferior.tolist() == [True, True, False]
    assert ours.deteriorated.tolist() == [False, False, True]
    np.testing.assert_allclose(ours.better, stats.norm.sf([3.0, 0.0, -3.0]), rtol=1e-3)
    # mT - 0.98 mC is 2 above its null; its variance counts the control mean times 0.98.
    z = 2.0 / np.sqrt(0.5 * (1 + 0.98**2))
    assert ours.not_worse[1] == pytest.approx(stats.norm.sf(z), rel=1e-4)


def test_a_metric_that_should_fall_is_the_mirror_image() -> None:
    up = findings(contrast_of(3.0, 0.5, -3.0), Goal(Role.PRIMARY), LEVELS)
    down = findings(contrast_of(-3.0, -0.5, 3.0), Goal(Role.PRIMARY, False), LEVELS)
    for name in ("better", "worse", "not_worse"):
        np.testing.assert_allclose(getattr(up, name), getattr(down, name), rtol=1e-9)
    assert up.superior.tolist() == down.superior.tolist() == [True, False, False]


def test_a_test_without_data_says_so_and_shows_no_number() -> None:
    contrast = contrast_of(3.0, std_err=0.0)
    ours = findings(contrast, Goal(Role.PRIMARY), LEVELS)
    verdict = ours.verdict("orders", holds=True, index=(0,))
    assert verdict.gap is Gap.ZERO_VARIANCE
    assert not verdict.superior
    assert verdict.numbers == ()


def anytime(alpha: float, side: Side) -> Anytime:
    return Anytime(2e6, alpha, side)


def read(difference: float, goal: Goal, reader: Reader = Fixed) -> Findings:
    return findings(contrast_of(difference), goal, LEVELS, reader)


def test_an_anytime_inference_may_ship_before_the_end_and_a_fixed_one_may_not() -> None:
    success, guardrail = Goal(Role.PRIMARY), Goal(Role.GUARDRAIL, margin=0.05)
    sure = [
        read(5.0, success, anytime).verdict("orders", True, index=(0,)),
        read(0.0, guardrail, anytime).verdict("latency", True, index=(0,)),
    ]
    decision = decide("blue", sure, Situation(at_end=False))
    assert decision.verdict is Verdict.SHIP
    numbers = dict(decision.reasons[0].numbers)
    assert numbers["lift"] == pytest.approx(0.05)
    assert numbers["p_superior"] < 0.05
    fixed = [read(5.0, success).verdict("orders", False, index=(0,))]
    assert decide("blue", fixed, Situation(at_end=False)).verdict is Verdict.KEEP_RUNNING


def test_an_anytime_inference_asks_for_more_than_a_fixed_one() -> None:
    goal = Goal(Role.PRIMARY)
    assert read(2.2, goal).superior[0]
    assert not read(2.2, goal, anytime).superior[0]
