"""Half of the error rate to stop early on, half for a fixed test at the planned end."""

from dataclasses import dataclass, replace

import numpy as np

from touchstone_statistics.anytime import Anytime
from touchstone_statistics.contrast import Contrast
from touchstone_statistics.gaps import BoolArray, FloatArray
from touchstone_statistics.inference import Fixed, Reading
from touchstone_statistics.interval import Interval, Side


@dataclass(frozen=True, slots=True)
class Hybrid:
    """A confidence sequence until `planned_units` were seen in both arms, then a fixed test.

    Each has half of alpha, so that together they err at most as often as alpha says, by
    Bonferroni's inequality. With `monitored` the running test is one-sided: LESS stops only for
    degradations of a metric that should rise, at a quarter of alpha (half of one tail).

    Estimand: the difference of means. Assumes what `Anytime` and `Fixed` do. The fixed test is
    one look: the reading of record is the first with `planned_units`. `alpha` and
    `tuned_level` are those of `Anytime`.
    """

    planned_units: float
    alpha: float | FloatArray = 0.05
    side: Side = Side.TWO_SIDED
    monitored: Side | None = None
    tuned_level: float | None = None

    def __post_init__(self) -> None:
        if not (np.isfinite(self.planned_units) and self.planned_units > 0.0):
            raise ValueError(
                f"planned_units is {self.planned_units}; it must be finite and above 0"
            )
        if self.monitored is not None and self.side is not Side.TWO_SIDED:
            raise ValueError(
                f"monitored is {self.monitored} and side {self.side}; a one-sided test monitors "
                "its own side, so leave monitored out"
            )
        if self.monitored is Side.TWO_SIDED:
            raise ValueError(f"monitored is {self.monitored}; it must be GREATER, LESS or None")
        # Both refuse levels that make no sense, by name.
        Anytime(self.planned_units, self.alpha, self.side, self.tuned_level)

    def read(self, contrast: Contrast) -> Reading:
        """The interval of the phase that each contrast is in; p-values are for alpha as a whole.

        Source: the alpha split of Eppo's "sequential hybrid" analysis method (2024); the
        sequence and the test are those of Waudby-Smith et al. (2021) and Welch (1947).
        """
        units = contrast.control.units + contrast.treatment.units
        ended = np.broadcast_to(units >= self.planned_units, contrast.difference.shape)
        if not ended.any():
            return replace(self._running(contrast), log_e=None)
        return _either(ended, self._fixed(contrast), self._running(contrast))

    def _running(self, contrast: Contrast) -> Reading:
        share = 2.0 if self.monitored is None else 4.0
        side = self.side if self.monitored is None else self.monitored
        tuned = None if self.tuned_level is None else self.tuned_level / share
        reading = Anytime(self.planned_units, np.divide(self.alpha, share), side, tuned)
        return _for_all_of(reading.read(contrast), share)

    def _fixed(self, contrast: Contrast) -> Reading:
        return _for_all_of(Fixed(np.divide(self.alpha, 2.0), self.side).read(contrast), 2.0)


def _for_all_of(reading: Reading, share: float) -> Reading:
    """The reading with its p-value on the scale of alpha as a whole (Bonferroni)."""
    return replace(reading, p_value=np.minimum(share * reading.p_value, 1.0))


def _either(chosen: BoolArray, first: Reading, second: Reading) -> Reading:
    """Element by element the first reading where chosen, else the second.

    There is no e-value: the fixed test at the end has none that holds at every look.
    """
    critical = None
    if first.critical is not None and second.critical is not None:
        critical = np.where(chosen, first.critical, second.critical)
    return Reading(
        statistic=first.statistic,
        dof=first.dof,
        p_value=np.where(chosen, first.p_value, second.p_value),
        difference=_one_of(chosen, first.difference, second.difference),
        lift=_one_of(chosen, first.lift, second.lift),
        gap=first.gap,
        lift_gap=first.lift_gap,
        critical=critical,
    )


def _one_of(chosen: BoolArray, first: Interval, second: Interval) -> Interval:
    return Interval(
        np.where(chosen, first.low, second.low),
        np.where(chosen, first.high, second.high),
        np.where(chosen, first.shape, second.shape).astype(np.uint8),
    )
