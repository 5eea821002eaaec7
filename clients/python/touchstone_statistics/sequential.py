"""Inference at the looks of a group-sequential plan: intervals and p-values valid at each."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from touchstone_statistics.boundaries import Ledger, Plan
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.curve import boundary_curve
from touchstone_statistics.gaps import FloatArray
from touchstone_statistics.inference import Reading
from touchstone_statistics.interval import Side
from touchstone_statistics.looks import Studentised, Threshold, normal_score, read_at
from touchstone_statistics.student import upper_quantile


@dataclass(frozen=True, slots=True)
class GroupSequential:
    """A look of a plan with a boundary for each look; the last one in the ledger is read.

    `ledger` is that of all contrasts, or a tuple with one for each entry of their first axis
    (metrics whose information grows at different rates). `alpha` may be a level other than that
    of the plan, one for each comparison, as a correction for many comparisons leaves it; None
    is the level of the plan.

    Estimand: the difference of means. Assumes independent increments, thus units that enter
    once and for all, and a difference that is nearly normal at each look. Times of looks must
    not depend on results. The contrast must be the one at that look: data that came after it
    have to wait for the next look.
    """

    plan: Plan
    ledger: Ledger | tuple[Ledger, ...]
    alpha: FloatArray | None = None

    def __post_init__(self) -> None:
        if self.alpha is not None and not np.all((self.alpha > 0.0) & (self.alpha <= 0.5)):
            raise ValueError(f"alpha is {self.alpha}; it must be above 0 and at most 0.5")

    def read(self, contrast: Contrast) -> Reading:
        """Repeated confidence intervals and p-values.

        Source: Jennison and Turnbull (1989), "Interim analyses: the repeated confidence
        interval approach", sections 2 and 3: the interval reaches as many standard errors as
        the critical value of the look, and the p-value is the smallest level whose own
        boundary the look would have crossed. Small samples follow the significance-level
        approach of Jennison and Turnbull (2000), section 11.5: the normal critical value is
        replaced by the t quantile of the same tail probability.
        """
        tested = Studentised.of(contrast)
        statistic = tested.statistic
        scores = _toward(self.plan.side, normal_score(statistic, tested.dof))
        level = self.plan.alpha if self.alpha is None else self.alpha
        levels = np.broadcast_to(level, statistic.shape)
        critical, p_value = np.empty(statistic.shape), np.empty(statistic.shape)
        for part, ledger in _parts(self.ledger, statistic.shape):
            curve = boundary_curve(self.plan, ledger)
            critical[part] = curve.critical_at(levels[part])
            p_value[part] = curve.p_value(scores[part])
        quantile = upper_quantile(tested.dof, special.ndtr(-critical))
        # Of a tail too thin for few degrees of freedom scipy returns infinity of either sign.
        reach = np.where(np.isfinite(quantile), quantile, np.inf)
        return read_at(contrast, tested, Threshold(reach, p_value, levels, self.plan.side))


def _toward(side: Side, statistic: FloatArray) -> FloatArray:
    """The statistic in the direction that counts as evidence."""
    if side is Side.TWO_SIDED:
        return np.abs(statistic)
    return statistic if side is Side.GREATER else -statistic


def _parts(
    ledgers: Ledger | tuple[Ledger, ...], shape: tuple[int, ...]
) -> list[tuple[Any, Ledger]]:
    """Which part of the contrasts each different ledger serves."""
    if isinstance(ledgers, Ledger):
        return [(..., ledgers)]
    if not shape or len(ledgers) != shape[0]:
        raise ValueError(
            f"there are {len(ledgers)} ledgers for contrasts of shape {shape}; give one ledger "
            "or one for each entry of the first axis"
        )
    places: dict[Ledger, list[int]] = {}
    for place, ledger in enumerate(ledgers):
        places.setdefault(ledger, []).append(place)
    return [(np.array(part), ledger) for ledger, part in places.items()]
