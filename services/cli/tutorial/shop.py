"""A simulated shop and its experiment. What each variant truly does is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ORDER_SPREAD = 0.6


@dataclass(frozen=True, slots=True)
class Arm:
    """A variant: the probability that a customer orders, and the mean value of an order in EUR."""

    key: str
    order_rate: float
    order_value: float

    @property
    def revenue(self) -> float:
        """The mean revenue of a customer, with or without an order."""
        return self.order_rate * self.order_value


EXPERIMENT = "checkout-button"
CURRENCY = "EUR"
ARMS = (
    Arm("control", 0.100, 40.0),
    Arm("one-click", 0.120, 40.0),
    Arm("short-form", 0.100, 44.0),
)


@dataclass(frozen=True, slots=True)
class Orders:
    """What customers did, in the order of the customers: whether each one ordered, and for how
    much (0 without an order), and how long after the exposure, in seconds.
    """

    ordered: NDArray[np.bool_]
    values: NDArray[np.float64]
    delays_s: NDArray[np.float64]


def simulate_orders(variants: Sequence[str], random: np.random.Generator) -> Orders:
    """Orders of customers by the variant that each one met. Order values are log-normal."""
    arms = {arm.key: arm for arm in ARMS}
    rates = np.array([arms[variant].order_rate for variant in variants])
    means = np.array([arms[variant].order_value for variant in variants])
    ordered = random.random(len(variants)) < rates
    # The mean of exp(N(m, s^2)) is exp(m + s^2 / 2).
    logs = random.normal(np.log(means) - _ORDER_SPREAD**2 / 2, _ORDER_SPREAD)
    values = np.where(ordered, np.round(np.exp(logs), 2), 0.0)
    return Orders(ordered, values, random.uniform(60, 72_000, len(variants)))


def true_lift(metric: str, variant: str) -> float:
    """How much better the variant truly is than the control, as a fraction of the control."""
    arms = {arm.key: arm for arm in ARMS}
    treatment, control = arms[variant], arms[ARMS[0].key]
    if metric == "purchase":
        return treatment.order_rate / control.order_rate - 1
    return treatment.revenue / control.revenue - 1
