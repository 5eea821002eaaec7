"""An experiment as it stood at the end of each day."""

import datetime as dt
from dataclasses import dataclass

from services.results.domain.exact import Sums
from services.results.domain.observation import DataCut


@dataclass(frozen=True, slots=True)
class Day:
    """All units that were exposed up to the end of a UTC day, with their events up to then.

    `units` follows the plan; `sums[m]` belongs to measure m and has one slice. It is None for
    measures that do not add up from day to day.
    """

    day: dt.date
    units: tuple[int, ...]
    sums: tuple[Sums | None, ...]


@dataclass(frozen=True, slots=True)
class TimeSeries:
    """Every day from the first exposure to the last exposure or event that counts, without gaps.

    Who counts is what is known now: a unit that was later seen in a second variant, or on which a
    variant was later forced, is in no day.
    """

    days: tuple[Day, ...]
    cut: DataCut
