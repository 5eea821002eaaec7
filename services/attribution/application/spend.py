"""Import, list and delete what was paid for channels."""

from dataclasses import dataclass

from services.attribution.domain.economics import Spend, replace_spend
from services.attribution.limits import KEPT_LIMITS, KeptLimits, require_room
from services.attribution.spend_ports import SpendSelection, SpendStore
from shared.errors import Code, DomainError, limit_exceeded

MOST_ROWS = 500_000
"""The most rows of spend that one question reads."""


@dataclass(frozen=True, slots=True)
class ImportSpend:
    """Rows to keep; `refuse` refuses the import where one would change what is there."""

    project: str
    rows: tuple[Spend, ...]
    refuse: bool = False


@dataclass(frozen=True, slots=True)
class Imported:
    """How many rows were new, took the place of others, or were there already."""

    added: int
    replaced: int
    unchanged: int


def import_spend(
    command: ImportSpend, store: SpendStore, limits: KeptLimits = KEPT_LIMITS
) -> Imported:
    """Keep the rows; the same key replaces.

    INVALID_ARGUMENT for two different rows with one key, ALREADY_EXISTS where `refuse` forbids a
    change, RESOURCE_EXHAUSTED where the project would have more rows than it may.
    """
    rows = replace_spend((), command.rows)
    known = {row.key: row for row in store.known(command.project, [row.key for row in rows])}
    changed = [row for row in rows if known.get(row.key) != row]
    replaced = [row for row in changed if row.key in known]
    if replaced and command.refuse:
        raise _there_already(known[replaced[0].key], replaced[0], len(replaced))
    if added := len(changed) - len(replaced):
        require_room("rows of spend", store.count(command.project), added, limits.max_spend_rows)
    store.put(command.project, changed)
    return Imported(len(changed) - len(replaced), len(replaced), len(rows) - len(changed))


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
