"""Schedules of reports, and the reports that each has made."""

import sqlalchemy as sa
from alembic import op

from shared.state.types import UtcTime, text

revision = "attribution_schedules_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "report_schedules",
        sa.Column("project", text(64), primary_key=True),
        sa.Column("schedule_id", text(63), primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("turn", sa.BigInteger, nullable=False),
        sa.Column("create_time", UtcTime(), nullable=False),
        sa.Column("update_time", UtcTime(), nullable=False),
        sa.Column("next_time", UtcTime(), nullable=False),
        sa.Column("paused", sa.Boolean, nullable=False),
        sa.Column("operation_id", text(63), nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.Column("state", sa.LargeBinary, nullable=False),
    )
    op.create_index("report_schedules_by_time", "report_schedules", ["next_time"])
    op.create_table(
        "scheduled_reports",
        sa.Column("project", text(64), primary_key=True),
        sa.Column("report_id", text(63), primary_key=True),
        sa.Column("schedule_id", text(63), nullable=False),
        sa.Column("create_time", UtcTime(), nullable=False),
    )
