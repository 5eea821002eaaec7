"""The two sorted columns of events that journeys are cut from."""

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
from shared.errors import invalid

NO_MATCH = -1
"""The code of what agrees with nothing."""


@dataclass(frozen=True, slots=True)
class Facets:
    """What else is known of touches, a row each, where a definition of journeys asks for it.

    `channels` are the channels that touches came through, whatever is credited, and
    `interactions` what the unit did; the codes point into them. An interaction that was not sent
    is the empty name.
    """

    channels: tuple[str, ...]
    channel_codes: Codes
    interactions: tuple[str, ...]
    interaction_codes: Codes


@dataclass(frozen=True, slots=True)
class Touches:
    """Touchpoints in rows, sorted by unit, then time, then event id.

    `channels` are the names of what is credited, in ascending order, and `codes` point into them.
    `costs` are in the currency of the project; NaN is a cost that is not known. Times are
    microseconds since 1970-01-01 UTC. `matches` are what touches have to have in common with their
    conversion, as codes, where associations are asked for.
    """

    channels: tuple[str, ...]
    units: Integers
    times: Integers
    codes: Codes
    costs: Floats
    facets: Facets | None = None
    matches: Integers | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", frozen_integers(self.units))
        object.__setattr__(self, "times", frozen_integers(self.times))
        object.__setattr__(self, "codes", frozen_codes(self.codes))
        object.__setattr__(self, "costs", frozen_floats(self.costs))
        _require_equal_lengths("touches", self.units, self.times, self.codes, self.costs)
        _require_sorted("touches", self.units, self.times)
        _require_none("touches.costs", self.costs, np.isinf(self.costs))
        if len(self.codes) and not 0 <= self.codes.min() <= self.codes.max() < len(self.channels):
            raise invalid(
                "touches.codes",
                f"{self.codes.min()}..{self.codes.max()}",
                f"positions in the {len(self.channels)} channel names",
            )

    def __len__(self) -> int:
        return len(self.units)


@dataclass(frozen=True, slots=True)
class Conversions:
    """Conversions in rows, sorted by unit, then time, then event id.

    A conversion without a value holds 0. Times are microseconds since 1970-01-01 UTC. `matches`
    are as those of touches.
    """

    units: Integers
    times: Integers
    values: Floats
    matches: Integers | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", frozen_integers(self.units))
        object.__setattr__(self, "times", frozen_integers(self.times))
        object.__setattr__(self, "values", frozen_floats(self.values))
        _require_equal_lengths("conversions", self.units, self.times, self.values)
        _require_sorted("conversions", self.units, self.times)
        _require_none("conversions.values", self.values, ~np.isfinite(self.values))

    def __len__(self) -> int:
        return len(self.units)


@dataclass(frozen=True, slots=True)
class MilestoneEvents:
    """Events on the way to a conversion, sorted by unit, then time, then event id.

    `names` are those asked for, in their order, and `codes` point into them. The units are
    numbered as those of touches and conversions are; other units are left out.
    """

    names: tuple[str, ...]
    units: Integers
    times: Integers
    codes: Codes


NO_MILESTONES = MilestoneEvents((), frozen_integers([]), frozen_integers([]), frozen_codes([]))


def _require_equal_lengths(field: str, *columns: Integers | Codes | Floats) -> None:
    lengths = [len(column) for column in columns]
    if len(set(lengths)) > 1:
        raise invalid(field, lengths, "columns of one length")


def _require_sorted(field: str, units: Integers, times: Integers) -> None:
    same_unit = units[1:] == units[:-1]
    in_order = (units[1:] > units[:-1]) | (same_unit & (times[1:] >= times[:-1]))
    if not in_order.all():
        row = int(np.argmin(in_order)) + 1
        raise invalid(field, f"row {row} before row {row - 1}", "rows sorted by unit, then time")


def _require_none(field: str, values: Floats, infinite: Flags) -> None:
    if infinite.any():
        row = int(np.argmax(infinite))
        raise invalid(field, f"{values[row]} in row {row}", "finite numbers")
