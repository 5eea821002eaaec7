"""Forget what the state database holds of one unit."""

import sqlalchemy as sa
from touchstone_assignment.bucketing import unit_bytes

from services.assignment.adapters.resource_documents import FORCED
from services.assignment.adapters.sql_sticky import STICKY
from services.assignment.adapters.tables import RESOURCE_VERSIONS, RESOURCES
from services.assignment.domain.forced import forced_unit
from services.assignment.domain.sticky import unit_key
from services.assignment.ports import Forgotten

_KEPT = STICKY.c


def forget_unit(connection: sa.Connection, project: str, unit_type: str, unit_id: str) -> Forgotten:
    """See Configuration."""
    key = unit_key(unit_type, unit_bytes(unit_id))
    # Of a device that belonged to it nothing is told any more but what it was served itself.
    connection.execute(
        sa.update(STICKY)
        .where(_KEPT.project == project, _KEPT.belongs_to == key)
        .values(belongs_to="")
    )
    kept = connection.execute(
        sa.delete(STICKY).where(_KEPT.project == project, _KEPT.unit_key == key)
    )
    forced = _forced_of(connection, project, unit_type, unit_id)
    for table in (RESOURCES, RESOURCE_VERSIONS):
        connection.execute(
            sa.delete(table).where(
                table.c.project == project,
                table.c.kind == FORCED.kind,
                table.c.resource_id.in_(forced),
            )
        )
    return Forgotten(kept.rowcount, len(forced))


def _forced_of(connection: sa.Connection, project: str, unit_type: str, unit_id: str) -> list[str]:
    """The ids of the unit's forced variants, of whatever version."""
    table = RESOURCE_VERSIONS.c
    found = connection.scalars(
        sa.select(table.resource_id)
        .where(
            table.project == project,
            table.kind == FORCED.kind,
            table.resource_id.endswith(f"/{unit_type}/{unit_id}", autoescape=True),
        )
        .distinct()
    )
    # The id of another unit may end like that, too.
    return [one for one in found if forced_unit(one) == (unit_type, unit_id)]
