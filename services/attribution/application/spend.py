"""Import, list and delete what was paid for channels."""

import datetime as dt
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from services.attribution.domain.economics import Spend, SpendKey, replace_spend
from services.attribution.limits import KEPT_LIMITS, KeptLimits, require_room
from services.attribution.spend_ports import SpendSelection, SpendStore
from shared.errors import Code, DomainError, limit_exceeded

MOST_ROWS = 500_000
"""The most rows of spend that one question reads."""


class Existing(Enum):
    """What an import does to what is there.

    REPLACE: a row with a known key takes its place. REFUSE: the import is refused where one would
    change. REPLACE_DAYS: as REPLACE, and what the sources of the import told of its days before
    and do not tell now is deleted, as a campaign that has another name since.
    """

    REPLACE = "replace"
    REFUSE = "refuse"
    REPLACE_DAYS = "replace_days"


@dataclass(frozen=True, slots=True)
class ImportSpend:
    """Rows to keep, and what becomes of those that are there."""

    project: str
    rows: tuple[Spend, ...]
    existing: Existing = Existing.REPLACE


@dataclass(frozen=True, slots=True)
class Imported:
    """How many rows were new, took the place of others, were there already, or went."""

    added: int
    replaced: int
    unchanged: int
    deleted: int = 0


def import_spend(
    command: ImportSpend, store: SpendStore, limits: KeptLimits = KEPT_LIMITS
) -> Imported:
    """Keep the rows; the same key replaces.

    INVALID_ARGUMENT for two different rows with one key, ALREADY_EXISTS where changes are refused,
    RESOURCE_EXHAUSTED where the project would have more rows than it may.
    """
    rows = replace_spend((), command.rows)
    known = {row.key: row for row in store.known(command.project, [row.key for row in rows])}
    changed = [row for row in rows if known.get(row.key) != row]
    replaced = [row for row in changed if row.key in known]
    if replaced and command.existing is Existing.REFUSE:
        raise _there_already(known[replaced[0].key], replaced[0], len(replaced))
    if command.existing is Existing.REPLACE_DAYS:
        gone = _told_before(command.project, rows, store)
        store.remove(command.project, gone)
    else:
        gone = []
    if added := len(changed) - len(replaced):
        require_room("rows of spend", store.count(command.project), added, limits.max_spend_rows)
    store.put(command.project, changed)
    return Imported(added, len(replaced), len(rows) - len(changed), len(gone))


def _told_before(project: str, rows: Sequence[Spend], store: SpendStore) -> list[SpendKey]:
    """What the sources of the rows told of the same days, and the rows do not."""
    told = {row.key for row in rows}
    days: dict[str, set[dt.date]] = defaultdict(set)
    for row in rows:
        days[row.key.source].add(row.key.day)
    return [
        row.key
        for source, own in sorted(days.items())
        for row in read_spend(SpendSelection(project, source, "", min(own), max(own)), store)
        if row.key.day in own and row.key not in told
    ]


def read_spend(selection: SpendSelection, store: SpendStore) -> tuple[Spend, ...]:
    """All rows of a selection, by channel, campaign, day and source."""
    rows = store.page(selection, None, MOST_ROWS + 1)
    if len(rows) > MOST_ROWS:
        raise limit_exceeded("rows of spend", len(rows), MOST_ROWS)
    return tuple(rows)


def _there_already(old: Spend, new: Spend, count: int) -> DomainError:
    key = old.key
    return DomainError(
        Code.ALREADY_EXISTS,
        "RESOURCE_EXISTS",
        f"{count} rows of spend are there with other amounts, the first of {key.source} for "
        f"{key.channel}, {key.campaign or 'no campaign'}, {key.day}: {old.amount:.10g} "
        f"{old.currency}, not {new.amount:.10g} {new.currency}; replace them, or delete them first",
    )
