"""What a group-sequential plan is worth: power, early stopping and information needed."""

from dataclasses import dataclass

import numpy as np
from scipy import optimize

from touchstone_statistics.boundaries import Ledger, Plan, advance, arrivals, edges
from touchstone_statistics.gaps import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Operating:
    """Chances of each outcome under one true effect, one entry a look.

    `rejected` is the chance to reject in favour of the effect at that look, `futile` to stop for
    futility there. `expected_information` is what a test uses on average that stops as soon as
    a boundary is crossed, in the measure of the plan.
    """

    rejected: FloatArray
    futile: FloatArray
    expected_information: float

    @property
    def power(self) -> float:
        """Chance to reject in favour of the effect at any look."""
        return float(self.rejected.sum())


def planned(plan: Plan, fractions: FloatArray) -> Ledger:
    """The ledger of looks at given shares of the planned information, the last one 1."""
    ledger = Ledger()
    for fraction in fractions:
        ledger = advance(plan, ledger, float(fraction) * plan.planned_information)
    return ledger


def operating(plan: Plan, ledger: Ledger, drift: float, futility: bool = False) -> Operating:
    """How the test behaves when z is expected to be `drift` at the planned end.

    A positive drift is in the direction of the test. Source: Jennison and Turnbull (2000),
    sections 19.2 and 19.3, by the likelihood ratio of the drift. With `futility` the test stops
    at that boundary too.
    """
    rejected, futile, information = [], [], 0.0
    for look, paths in zip(ledger.looks, arrivals(plan, ledger, futility=futility), strict=True):
        time = look.information / plan.planned_information
        low, high = edges(plan, look, futility)
        upper = float(paths.above(time, high, drift))
        lower = float(paths.below(time, low, drift))
        last = look is ledger.looks[-1]
        stopped = float(paths.drifting(drift).sum()) if last else upper + lower
        rejected.append(upper)
        futile.append(lower if futility and look.futility is not None else 0.0)
        information += stopped * look.information
    return Operating(np.array(rejected), np.array(futile), information)


def drift_for_power(plan: Plan, ledger: Ledger, power: float) -> float:
    """The drift at which the test of these looks has the given power.

    Its square over that of a fixed test, (z_alpha + z_power)^2, is how many times more units
    the sequential test needs at most (Jennison and Turnbull 2000, section 2.4).
    """
    if not plan.alpha < power < 1.0:
        raise ValueError(f"power is {power}; it must be above alpha ({plan.alpha}) and below 1")
    found = optimize.brentq(
        lambda drift: operating(plan, ledger, drift).power - power, 0.0, 40.0, xtol=1e-10
    )
    return float(found)
