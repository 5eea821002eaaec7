"""What units were served first, in the state database."""

from collections.abc import Collection, Mapping

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from services.assignment.adapters.tables import METADATA
from services.assignment.domain.sticky import KEY_CHARACTERS, Kept, UnitKey
from services.assignment.serving_ports import Keep, KeptUnits
from shared.state.database import Database
from shared.state.types import UtcTime, text

STICKY = sa.Table(
    "assignment_sticky",
    METADATA,
    sa.Column("project", text(64), primary_key=True),
    sa.Column("unit_key", text(KEY_CHARACTERS), primary_key=True),
    sa.Column("experiment_id", text(64), primary_key=True),
    sa.Column("variant", text(64), nullable=False),
    sa.Column("config_version", sa.BigInteger, nullable=False),
    sa.Column("time", UtcTime(), nullable=False),
    sa.Column("tainted", sa.Boolean, nullable=False),
    sa.Column("belongs_to", text(KEY_CHARACTERS), nullable=False),
)
_TABLE = STICKY.c
_NAMES = ("variant", "config_version", "time", "tainted", "belongs_to")


class SqlStickyStore:
    """StickyStore over the state database; every call is a transaction of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(
        self, project: str, experiments: Collection[str], units: Collection[UnitKey]
    ) -> KeptUnits:
        """See StickyStore."""
        with self._database.read() as connection:
            return _read(connection, project, experiments, units)

    def keep(
        self, project: str, experiments: Collection[str], units: Collection[UnitKey], work: Keep
    ) -> KeptUnits:
        """See StickyStore.

        All that is new is inserted before anything is locked, and both in the order of keys, so
        that two transactions never wait for each other.
        """
        with self._database.begin() as connection:
            found = _read(connection, project, experiments, units)
            _insert(connection, project, found, work(found))
            locked = _read(connection, project, experiments, units, lock=True)
            wanted = work(locked)
            _insert(connection, project, locked, wanted)
            for key in sorted(wanted.keys() & locked.keys()):
                if wanted[key] != locked[key]:
                    _update(connection, project, key, wanted[key])
            return wanted


def _read(
    connection: sa.Connection,
    project: str,
    experiments: Collection[str],
    units: Collection[UnitKey],
    *,
    lock: bool = False,
) -> dict[tuple[str, UnitKey], Kept]:
    found = _rows(connection, project, experiments, units, lock=lock)
    beyond = {one.belongs_to for one in found.values() if one.belongs_to}.difference(units)
    if beyond:
        found |= _rows(connection, project, experiments, beyond, lock=lock)
    return found


def _rows(
    connection: sa.Connection,
    project: str,
    experiments: Collection[str],
    units: Collection[UnitKey],
    *,
    lock: bool,
) -> dict[tuple[str, UnitKey], Kept]:
    query = sa.select(STICKY).where(
        _TABLE.project == project,
        _TABLE.unit_key.in_(sorted(units)),
        _TABLE.experiment_id.in_(sorted(experiments)),
    )
    if lock:
        query = query.order_by(_TABLE.experiment_id, _TABLE.unit_key).with_for_update()
    return {
        (row.experiment_id, row.unit_key): Kept(*(getattr(row, name) for name in _NAMES))
        for row in connection.execute(query)
    }


def _insert(connection: sa.Connection, project: str, found: KeptUnits, wanted: KeptUnits) -> None:
    rows = [
        {"project": project, "experiment_id": key[0], "unit_key": key[1], **_values(wanted[key])}
        for key in sorted(wanted.keys() - found.keys())
    ]
    if rows:
        dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
        # Who comes second finds what the first one kept: it is read back.
        connection.execute(dialect.insert(STICKY).on_conflict_do_nothing(), rows)


def _update(connection: sa.Connection, project: str, key: tuple[str, UnitKey], kept: Kept) -> None:
    connection.execute(
        sa.update(STICKY)
        .where(_TABLE.project == project, _TABLE.experiment_id == key[0], _TABLE.unit_key == key[1])
        .values(_values(kept))
    )


def _values(kept: Kept) -> Mapping[str, object]:
    return {name: getattr(kept, name) for name in _NAMES}
