"""What looking every day does to each rule of decision, as measured facts to show beside it."""

import enum
from dataclasses import dataclass

import numpy as np


class Rule(enum.Enum):
    """When somebody who looks every day would call an experiment decided."""

    SIGNIFICANT = "significant"
    """The p-value of the test for a single look is below the threshold."""
    CHANCE = "chance"
    """The chance to beat the control is above one minus the threshold, or below the threshold."""
    LOSS = "loss"
    """The expected loss of the treatment is below the threshold, as a share of the control."""


@dataclass(frozen=True, slots=True)
class Peeking:
    """How often a rule decides an A/A test, where there is nothing to decide.

    `prior_std_dev` is that of a normal prior on the lift about zero: infinite for a flat one.
    `one_look` is the share of A/A tests that it decides at the end, `daily_looks` the share that
    it decides at any of 28 daily looks.
    """

    rule: Rule
    threshold: float
    prior_std_dev: float
    one_look: float
    daily_looks: float


LOOKS = 28
"""The scenario of the table: so many looks, one a day,"""
UNITS_A_DAY = 500
"""so many new units a day in each of two arms,"""
RATE = 0.1
"""and this share of them converts in both. Under a flat prior the scenario hardly matters. Under
another more units a day bring the shares of chance nearer to those of the flat one."""

PEEKING = (
    Peeking(Rule.SIGNIFICANT, 0.05, np.inf, 0.050, 0.274),
    Peeking(Rule.CHANCE, 0.05, np.inf, 0.100, 0.460),
    Peeking(Rule.CHANCE, 0.05, 0.3, 0.095, 0.405),
    Peeking(Rule.CHANCE, 0.05, 0.1, 0.078, 0.246),
    Peeking(Rule.CHANCE, 0.05, 0.05, 0.041, 0.095),
    Peeking(Rule.CHANCE, 0.05, 0.03, 0.009, 0.018),
    Peeking(Rule.CHANCE, 0.025, np.inf, 0.050, 0.274),
    Peeking(Rule.CHANCE, 0.025, 0.3, 0.047, 0.230),
    Peeking(Rule.CHANCE, 0.025, 0.1, 0.035, 0.120),
    Peeking(Rule.CHANCE, 0.025, 0.05, 0.014, 0.035),
    Peeking(Rule.CHANCE, 0.025, 0.03, 0.002, 0.004),
    Peeking(Rule.LOSS, 0.0025, np.inf, 0.135, 0.333),
    Peeking(Rule.LOSS, 0.0025, 0.3, 0.135, 0.314),
    Peeking(Rule.LOSS, 0.0025, 0.1, 0.126, 0.263),
    Peeking(Rule.LOSS, 0.0025, 0.05, 0.110, 0.200),
    Peeking(Rule.LOSS, 0.0025, 0.03, 0.085, 0.145),
)
"""Simulated, and repeated by the calibration tests, which fail when a row is wrong. The rule of
chance at 0.025 is that of a 95 % credible interval which excludes zero."""


def peeking_of(rule: Rule, threshold: float, prior_std_dev: float) -> Peeking:
    """The row for a rule under a prior, or the nearest that errs more often: a wider prior."""
    rows = [row for row in PEEKING if row.rule is rule and row.threshold == threshold]
    if not rows:
        known = sorted({row.threshold for row in PEEKING if row.rule is rule})
        raise ValueError(f"the threshold of {rule.value} is {threshold}; known are {known}")
    wide = [row for row in rows if row.prior_std_dev >= prior_std_dev]
    return min(wide, key=lambda row: row.prior_std_dev)
