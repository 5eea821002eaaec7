"""When the units that channels acquired had earned what they cost.

A unit is acquired by the touches of its first conversion, by each channel as much as a model
credits it, so that a model that shares out credit shares out later earnings as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from services.attribution.domain.arrays import Codes, Floats, Integers
from services.attribution.domain.economics import (
    Figure,
    Payback,
    Undefined,
    cost_per,
    payback,
)
from services.attribution.domain.journeys import DAY_US
from services.attribution.domain.lifetime import Earnings
from shared.errors import invalid

MOST_DAYS = 3_660


@dataclass(frozen=True, slots=True, eq=False)
class AcquiredUnits:
    """Units in rows: when each was acquired (microseconds), and by which touches.

    Unit u was acquired by the touches offsets[u]:offsets[u + 1], whose channels are `codes`; a unit
    without touches has none of them.
    """

    channels: tuple[str, ...]
    acquired: Integers
    offsets: Integers
    codes: Codes

    def __post_init__(self) -> None:
        if len(self.offsets) != len(self.acquired) + 1 or self.offsets[-1] != len(self.codes):
            raise invalid("acquired", len(self.offsets), "one row of touches a unit")

    def __len__(self) -> int:
        return len(self.acquired)


@dataclass(frozen=True, slots=True)
class CohortPayback:
    """Payback of one channel; `units` is the sum of the weights by which it acquired units."""

    channel: str
    payback: Payback
    units: float
    cost_per_unit: Figure


def cohort_payback(
    units: AcquiredUnits,
    weights: Floats,
    earnings: Earnings,
    costs: Mapping[str, Figure],
    observed_until_us: int,
) -> tuple[CohortPayback, ...]:
    """Return the payback of every channel in `costs`, in the order of names.

    `weights` are of the touches of `units`, `earnings` margins of these units before
    `observed_until_us`. A channel is observed through age d when all of its units were; its margin
    at age d holds what they earned up to the d-th day after the one they were acquired on.
    """
    rows = earnings.sorted()
    ages = (rows.times - units.acquired[rows.units]) // DAY_US
    counted = (ages >= 0) & (rows.times < observed_until_us)
    margins = _Margins(units, weights, rows.units[counted], ages[counted], rows.amounts[counted])
    codes = {channel: code for code, channel in enumerate(units.channels)}
    return tuple(
        _of_channel(channel, costs[channel], codes.get(channel), margins, observed_until_us)
        for channel in sorted(costs)
    )


class _Margins:
    """What units earned at which age, shared out over the touches that acquired them."""

    def __init__(
        self, units: AcquiredUnits, weights: Floats, of: Integers, ages: Integers, amounts: Floats
    ) -> None:
        lengths = np.diff(units.offsets)
        begin, count = units.offsets[of], lengths[of]
        within = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
        touches = np.repeat(begin, count) + within
        self._codes = units.codes[touches]
        self._ages = np.repeat(ages, count)
        self._amounts = weights[touches] * np.repeat(amounts, count)
        self._owner = np.repeat(np.arange(len(units)), lengths)
        self._units, self._weights = units, weights

    def acquired(self, code: int) -> tuple[float, int | None]:
        """Units that the channel acquired, and when the last of them was."""
        mine = (self._units.codes == code) & (self._weights != 0)
        if not mine.any():
            return 0.0, None
        return float(self._weights[mine].sum()), int(self._units.acquired[self._owner[mine]].max())

    def through(self, code: int, days: int) -> list[float]:
        """Margin earned through each age from 0 to `days` - 1."""
        mine = (self._codes == code) & (self._ages < days)
        daily = np.bincount(self._ages[mine], self._amounts[mine], minlength=days)
        earned: list[float] = np.cumsum(daily)[:days].tolist()
        return earned


def _of_channel(
    channel: str, cost: Figure, code: int | None, margins: _Margins, observed_until_us: int
) -> CohortPayback:
    units, last = (0.0, None) if code is None else margins.acquired(code)
    series: Sequence[Figure] = ()
    if code is not None and last is not None:
        days = min(max((observed_until_us - last) // DAY_US, 0), MOST_DAYS)
        series = margins.through(code, days) if days else ()
    return CohortPayback(
        channel, payback(series, cost), units, cost_per(cost, units, Undefined.NO_CONVERSIONS)
    )
