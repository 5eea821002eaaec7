"""What units have brought so far, by the channel that acquired them and by their age."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.attribution.domain.arrays import (
    Codes,
    Flags,
    Floats,
    Integers,
    frozen_codes,
    frozen_floats,
    frozen_integers,
)
from services.attribution.domain.economics import Figure, Undefined
from services.attribution.domain.journeys import DAY_US
from shared.errors import invalid


@dataclass(frozen=True, slots=True, eq=False)
class Cohort:
    """Acquired units: the code of the channel that acquired each, and when, in microseconds."""

    channels: tuple[str, ...]
    codes: Codes
    acquired: Integers

    def __post_init__(self) -> None:
        object.__setattr__(self, "codes", frozen_codes(self.codes))
        object.__setattr__(self, "acquired", frozen_integers(self.acquired))
        if self.codes.shape != self.acquired.shape:
            raise invalid("cohort", self.codes.shape, "one channel and one time a unit")
        if len(self.codes) and not 0 <= self.codes.min() <= self.codes.max() < len(self.channels):
            raise invalid("cohort.codes", int(self.codes.max()), "positions in the channels")

    def __len__(self) -> int:
        return len(self.codes)


@dataclass(frozen=True, slots=True, eq=False)
class Earnings:
    """What units of a cohort brought, in rows: the unit's position, when, how much (margin)."""

    units: Integers
    times: Integers
    amounts: Floats

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", frozen_integers(self.units))
        object.__setattr__(self, "times", frozen_integers(self.times))
        object.__setattr__(self, "amounts", frozen_floats(self.amounts))
        if not self.units.shape == self.times.shape == self.amounts.shape:
            raise invalid("earnings", self.units.shape, "columns of one length")
        if not np.isfinite(self.amounts).all():
            raise invalid("earnings.amounts", "a number that is not finite", "finite amounts")

    def sorted(self) -> "Earnings":
        """By unit, time and amount: sums over these do not depend on the order of arrival."""
        if self._in_order():
            return self
        order = np.lexsort((self.amounts, self.times, self.units))
        return Earnings(self.units[order], self.times[order], self.amounts[order])

    def _in_order(self) -> bool:
        units, times, amounts = np.diff(self.units), np.diff(self.times), np.diff(self.amounts)
        later = (times > 0) | ((times == 0) & (amounts >= 0))
        return bool(((units > 0) | ((units == 0) & later)).all())


@dataclass(frozen=True, slots=True)
class RealisedValue:
    """Mean earnings of a unit through each age, over the units observed for that long.

    `units` counts these for each age. NOT_OBSERVED where there is none; a standard error is known
    from two units on.
    """

    channel: str
    ages_days: tuple[int, ...]
    units: tuple[int, ...]
    mean: tuple[Figure, ...]
    std_err: tuple[Figure, ...]


def realised_value(
    cohort: Cohort, earnings: Earnings, ages_days: Sequence[int], watermark_us: int
) -> tuple[RealisedValue, ...]:
    """Return realised lifetime value by channel and age, in the order of the channels.

    Earnings at t count at an age of d days when acquired <= t < acquired + d days. Only units whose
    whole first d days lie before the watermark count, so that young units do not pull it down; at
    two ages the mean is then of different units, and may fall.
    """
    if list(ages_days) != sorted(set(ages_days)) or not ages_days or ages_days[0] < 1:
        raise invalid("ages", list(ages_days), "ascending numbers of days above 0")
    rows = earnings.sorted()
    since = rows.times - cohort.acquired[rows.units]
    by_age = [_through(cohort, rows, since, days * DAY_US, watermark_us) for days in ages_days]
    return tuple(
        RealisedValue(
            channel=channel,
            ages_days=tuple(ages_days),
            units=tuple(counts[code] for counts, _, _ in by_age),
            mean=tuple(means[code] for _, means, _ in by_age),
            std_err=tuple(errors[code] for _, _, errors in by_age),
        )
        for code, channel in enumerate(cohort.channels)
    )


def _through(
    cohort: Cohort, rows: Earnings, since: Integers, age_us: int, watermark_us: int
) -> tuple[list[int], list[Figure], list[Figure]]:
    counted = (since >= 0) & (since < age_us)
    sums = np.bincount(rows.units[counted], rows.amounts[counted], minlength=len(cohort))
    seen = cohort.acquired + age_us <= watermark_us
    return means_by_channel(cohort, sums.astype(np.float64), seen)


def means_by_channel(
    cohort: Cohort, values: Floats, seen: Flags
) -> tuple[list[int], list[Figure], list[Figure]]:
    """Units, mean and standard error by channel over the units that are seen."""
    size, codes = len(cohort.channels), cohort.codes[seen]
    counts = np.bincount(codes, minlength=size)
    mean = np.bincount(codes, values[seen], minlength=size) / np.maximum(counts, 1)
    squares = np.bincount(codes, (values[seen] - mean[codes]) ** 2, minlength=size)
    error = np.sqrt(squares / np.maximum(counts - 1, 1) / np.maximum(counts, 1))
    missing = Undefined.NOT_OBSERVED
    return (
        counts.tolist(),
        [m if n else missing for m, n in zip(mean.tolist(), counts.tolist(), strict=True)],
        [e if n > 1 else missing for e, n in zip(error.tolist(), counts.tolist(), strict=True)],
    )
