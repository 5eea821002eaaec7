"""What referrals brought, by depth of the chain and by referrer, and why invitations failed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from services.attribution.domain.paths.suppression import count_units
from services.attribution.domain.referrals import Campaign, Judged, judge, places

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
    campaign: Campaign, purchases: Mapping[str, Purchases], min_units: int, most: int
) -> ReferralTables:
    """Tabulate what a campaign brought.

    Depths and sizes are in their order; referrers by people whom they brought themselves, then by
    name, the first `most` of them; reasons by invitations, then by name.
    """
    judged = judge(campaign)
    found = places(judged.brought)
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
        by_depth=depth.listed(sorted(depth.names)),
        by_size=size.listed(sorted(size.names)),
        by_referrer=referrers.listed(referrers.by_units(), most),
        failures=_failures(judged, min_units),
    )


def _failures(judged: Judged, min_units: int) -> ReferralTable:
    invitees = [invitee for _, invitee in judged.failed]
    people = _People(invitees, [NOTHING] * len(invitees), min_units)
    table = people.table([reason for reason, _ in judged.failed])
    return table.listed(table.by_invitations())


@dataclass(frozen=True, slots=True)
class _Table:
    """Rows by name, whether each is reported, and what is to be said of the others."""

    names: Mapping[int | str, ReferralRow]
    members: Mapping[int | str, Sequence[int]]
    reported: frozenset[int | str]
    suppressed: ReferralRow | None
    withheld: int
    people: "_People"

    def by_units(self) -> list[int | str]:
        return sorted(self.names, key=lambda name: (-self.names[name].units, str(name)))

    def by_invitations(self) -> list[int | str]:
        return sorted(self.names, key=lambda name: (-self.names[name].invitations, str(name)))

    def listed(self, order: Sequence[int | str], most: int | None = None) -> ReferralTable:
        told = [name for name in order if name in self.reported]
        first, rest = told[:most], told[len(told[:most]) :]
        behind = [row for name in rest for row in self.members[name]]
        return ReferralTable(
            rows=tuple(self.names[name] for name in first),
            others=self.people.row("", behind) if rest else None,
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

    def table(self, names: Sequence[int | str]) -> _Table:
        distinct = sorted(set(names), key=lambda name: (str(type(name)), name))
        place = {name: cell for cell, name in enumerate(distinct)}
        cells = np.array([place[name] for name in names], dtype=np.int64)
        held = count_units(cells, self._codes, len(distinct), self._min_units)
        members: dict[int | str, list[int]] = {name: [] for name in distinct}
        for row, name in enumerate(names):
            members[name].append(row)
        few = [distinct[cell] for cell in np.flatnonzero(held.suppressed).tolist()]
        hidden = [row for name in few for row in members[name]]
        return _Table(
            names={name: self.row(str(name), members[name]) for name in distinct},
            members=members,
            reported=frozenset(distinct[cell] for cell in np.flatnonzero(held.reported).tolist()),
            suppressed=self.row("", hidden) if few and not held.withheld else None,
            withheld=len(few) if held.withheld else 0,
            people=self,
        )

    def row(self, name: str, rows: Sequence[int]) -> ReferralRow:
        return ReferralRow(
            name=name,
            units=len(np.unique(self._codes[rows])),
            conversions=sum(self._bought[row].count for row in rows),
            # Exact before it is rounded, so that no order of rows changes a digit.
            value=math.fsum(self._bought[row].value for row in rows),
            invitations=len(rows),
        )
