"""What a finished group-sequential test says of the effect, without the bias of stopping early.

A test stops early when its estimate happens to be large, so the estimate at stopping is too
large on average. Ordering outcomes by stage gives an estimate that is as often too high as too
low, with an interval and a p-value that agree with it.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import elementwise

from touchstone_statistics.boundaries import Ledger, Plan, arrivals, edges
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.crossing import Survivors
from touchstone_statistics.gaps import FloatArray, Gap, GapArray, first_gap
from touchstone_statistics.interval import Interval, Shape, Side
from touchstone_statistics.looks import Studentised, normal_score

REACH = 12.0
"""How many standard errors from the observed difference an end of the interval is sought."""


@dataclass(frozen=True, slots=True, eq=False)
class Stagewise:
    """The analysis at stopping; arrays have the shape of the contrast.

    `difference` is the median-unbiased estimate in units of the metric. The interval excludes
    zero exactly when `p_value < alpha`. The gap is NOT_APPLICABLE where the test goes on.
    """

    difference: FloatArray
    interval: Interval
    p_value: FloatArray
    gap: GapArray


def stagewise(plan: Plan, ledger: Ledger, contrast: Contrast) -> Stagewise:
    """Read contrasts that stopped at the last look of the ledger, at a boundary or at the end.

    Source: Tsiatis, Rosner and Mehta (1984), "Exact confidence intervals following a group
    sequential test"; the ordering of Armitage (1957) puts crossings at earlier looks beyond
    those at later ones and compares z within a look (Jennison and Turnbull 2000, section 8.4).
    Estimand: the difference of means. Assumes what `GroupSequential` does and that no futility
    boundary stopped the test: one that is not binding is left aside.
    """
    if not ledger.looks:
        raise ValueError("the ledger has no look; the analysis at stopping needs at least one")
    tested = Studentised.of(contrast)
    sign = -1.0 if plan.side is Side.LESS else 1.0
    score = sign * normal_score(tested.statistic, tested.dof)
    order = _Order(plan, ledger, arrivals(plan, ledger))
    above, below = order.above(0.0, score), order.below(0.0, score)
    two_sided = plan.side is Side.TWO_SIDED
    tail = plan.alpha / plan.tails
    low = _drift(order, score, tail)
    high = -_drift(order.mirrored(), -score, tail) if two_sided else np.full(score.shape, np.inf)
    scale = sign * tested.std_err * np.sqrt(order.time)
    ends = np.sort(np.stack([low * scale, high * scale]), axis=0)
    return Stagewise(
        difference=_drift(order, score, 0.5) * scale,
        interval=Interval(ends[0], ends[1], np.full(score.shape, Shape.BETWEEN, dtype=np.uint8)),
        p_value=np.minimum(2.0 * np.minimum(above, below), 1.0) if two_sided else above,
        gap=first_gap(tested.gap, _going_on(plan, ledger, score)),
    )


def _going_on(plan: Plan, ledger: Ledger, score: FloatArray) -> GapArray:
    """NOT_APPLICABLE where the last look neither crossed its boundary nor was the end."""
    critical = ledger.looks[-1].critical
    passed = np.abs(score) if plan.side is Side.TWO_SIDED else score
    stopped = ledger.complete | (passed > (np.inf if critical is None else critical))
    return np.where(stopped, Gap.NONE, Gap.NOT_APPLICABLE).astype(np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class _Order:
    """How likely outcomes beyond an observed one are, for any drift of the motion.

    The drift is the z statistic expected at the planned end.
    """

    plan: Plan
    ledger: Ledger
    paths: tuple[Survivors, ...]

    @property
    def time(self) -> float:
        return self.ledger.looks[-1].information / self.plan.planned_information

    def above(self, drift: float | FloatArray, score: FloatArray) -> FloatArray:
        """Chance of an upward crossing before the last look, or of a larger z at it."""
        drift = np.asarray(drift, dtype=np.float64)
        total = self.paths[-1].above(self.time, score * np.sqrt(self.time), drift)
        for look, paths in zip(self.ledger.looks[:-1], self.paths, strict=False):
            time = look.information / self.plan.planned_information
            total = total + paths.above(time, edges(self.plan, look)[1], drift)
        return np.asarray(total)

    def below(self, drift: float | FloatArray, score: FloatArray) -> FloatArray:
        """Chance of a downward crossing before the last look, or of a smaller z at it."""
        mirrored = self.mirrored()
        if self.plan.side is Side.TWO_SIDED:
            return mirrored.above(-np.asarray(drift), -score)
        return mirrored.paths[-1].above(
            self.time, -score * np.sqrt(self.time), -np.asarray(drift, dtype=np.float64)
        )

    def mirrored(self) -> "_Order":
        return _Order(self.plan, self.ledger, tuple(paths.mirrored() for paths in self.paths))


def _drift(order: _Order, score: FloatArray, chance: float) -> FloatArray:
    """The drift under which outcomes at or above the observed one have the given chance."""
    reach = REACH / np.sqrt(order.time)
    naive = score / np.sqrt(order.time)

    def excess(drift: FloatArray, *scores: FloatArray) -> FloatArray:
        return order.above(drift, scores[0]) - chance

    bracket = (np.minimum(naive, 0.0) - reach, np.maximum(naive, 0.0) + reach)
    found = elementwise.find_root(excess, bracket, args=(score,), tolerances={"fatol": 1e-12})
    return np.asarray(found.x)
