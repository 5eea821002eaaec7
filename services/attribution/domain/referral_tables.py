"""What referrals brought, by depth of the chain and by referrer, and why invitations failed."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.attribution.domain.paths.suppression import count_units
from services.attribution.domain.referrals import Judged

MAX_REFERRERS = 1_000


@dataclass(frozen=True, slots=True)
class Purchases:
    """What users bought: how often, and its value, from their registration on."""

    count: int
    value: float


NOTHING = Purchases(0, 0.0)


@dataclass(frozen=True, slots=True)
class ReferralRow:
    """People in a cell of a table, what they bought, or how many invitations stand behind them."""

    name: str
    units: int
    conversions: int = 0
    value: float = 0.0
    invitations: int = 0


@dataclass(frozen=True, slots=True)
class ReferralTable:
    """Rows in order, the sum of the reported ones behind the last, and of those with few units.

    The sums are None where there are none; `withheld` counts rows of which nothing is said.
    """

    rows: tuple[ReferralRow, ...]
    others: ReferralRow | None
    suppressed: ReferralRow | None
    withheld: int


@dataclass(frozen=True, slots=True)
class ReferralTables:
    """By depth in the chain, by size of the chain, by referrer, and by reason of failure."""

    by_depth: ReferralTable
    by_size: ReferralTable
    by_referrer: ReferralTable
    failures: ReferralTable


def referral_tables(
    judged: Judged, purchases: Mapping[str, Purchases], min_units: int, most: int
) -> ReferralTables:
    """Tabulate what a campaign brought.

    Depths and sizes are in their order; referrers by people whom they brought themselves, then by
    name, the first `most` of them; reasons by invitations, then by name.
    """
    found = judged.places
    members = [*judged.brought]
    sizes: dict[str, int] = {}
    for place in found.values():
        sizes[place.start] = sizes.get(place.start, 0) + 1
    bought = [purchases.get(unit, NOTHING) for unit in members]
    people = _People(members, bought, min_units)
    depth = people.table([found[unit].depth for unit in members])
    size = people.table([sizes[found[unit].start] for unit in members])
    referrers = people.table([judged.brought[unit] for unit in members])
    return ReferralTables(
        by_depth=depth.listed(lambda row: int(row.name)),
        by_size=size.listed(lambda row: int(row.name)),
        by_referrer=referrers.listed(lambda row: (-row.units, row.name), most),
        failures=_failures(judged, min_units),
    )


def _failures(judged: Judged, min_units: int) -> ReferralTable:
    invitees = [invitee for _, invitee in judged.failed]
    people = _People(invitees, [NOTHING] * len(invitees), min_units)
    table = people.table([reason for reason, _ in judged.failed])
    return table.listed(lambda row: (-row.invitations, row.name))


@dataclass(frozen=True, slots=True)
class _Table:
    """The reported rows and the people in each, and what is to be said of the others."""

    rows: Sequence[tuple[ReferralRow, Sequence[int]]]
    suppressed: ReferralRow | None
    withheld: int
    people: "_People"

    def listed(self, order: Callable[[ReferralRow], Any], most: int | None = None) -> ReferralTable:
        """The first rows in an order, and the others together."""
        ranked = sorted(self.rows, key=lambda each: order(each[0]))
        shown = ranked[:most]
        behind = [row for _, members in ranked[len(shown) :] for row in members]
        return ReferralTable(
            rows=tuple(row for row, _ in shown),
            others=self.people.row("", behind) if behind else None,
            suppressed=self.suppressed,
            withheld=self.withheld,
        )


class _People:
    """Rows of one person each, who may stand in several, and what the person bought."""

    def __init__(self, units: Sequence[str], bought: Sequence[Purchases], min_units: int) -> None:
        place = {unit: code for code, unit in enumerate(sorted(set(units)))}
        self._codes = np.array([place[unit] for unit in units], dtype=np.int64)
        self._bought = bought
        self._min_units = min_units

    def table(self, names: Sequence[int] | Sequence[str]) -> _Table:
        """Group the rows by name."""
        distinct, cells = np.unique(np.array(names, dtype=object), return_inverse=True)
        held = count_units(cells, self._codes, len(distinct), self._min_units)
        members = np.split(
            np.argsort(cells, kind="stable"), np.cumsum(np.bincount(cells, minlength=1))[:-1]
        )
        hidden = np.flatnonzero(held.suppressed[cells]).tolist() if len(cells) else []
        return _Table(
            rows=[
                (self.row(str(distinct[cell]), members[cell].tolist()), members[cell].tolist())
                for cell in np.flatnonzero(held.reported).tolist()
            ],
            suppressed=self.row("", hidden) if hidden and not held.withheld else None,
            withheld=int(held.suppressed.sum()) if held.withheld else 0,
            people=self,
        )

    def row(self, name: str, rows: Sequence[int]) -> ReferralRow:
        """What these rows hold together."""
        return ReferralRow(
            name=name,
            units=len(np.unique(self._codes[rows])),
            conversions=sum(self._bought[row].count for row in rows),
            # Exact before it is rounded, so that no order of rows changes a digit.
            value=math.fsum(self._bought[row].value for row in rows),
            invitations=len(rows),
        )
