"""Reports, and their paths."""

import sqlalchemy as sa
from alembic import op

from shared.state.types import UtcTime, text

revision = "attribution_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table."""
    op.create_table(
        "attribution_reports",
        sa.Column("project", text(64), primary_key=True),
        sa.Column("report_id", text(63), primary_key=True),
        sa.Column("create_time", UtcTime(), nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.Column("paths", sa.LargeBinary, nullable=False),
    )
    op.create_index(
        "attribution_reports_by_time", "attribution_reports", ["project", "create_time"]
    )
