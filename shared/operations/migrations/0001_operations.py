"""Long-running operations of every service."""

import sqlalchemy as sa
from alembic import op

from shared.state.types import UtcTime, text

revision = "operations_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table."""
    op.create_table(
        "operations",
        sa.Column("project", text(64), primary_key=True),
        sa.Column("operation_id", text(63), primary_key=True),
        sa.Column("kind", text(63), nullable=False),
        sa.Column("request", sa.LargeBinary, nullable=False),
        sa.Column("progress", sa.LargeBinary, nullable=False),
        sa.Column("done", sa.Boolean, nullable=False),
        sa.Column("response", sa.LargeBinary, nullable=True),
        sa.Column("error", sa.LargeBinary, nullable=True),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("not_before", UtcTime(), nullable=False),
        sa.Column("runner", text(32), nullable=False),
        sa.Column("lease_until", UtcTime(), nullable=False),
        sa.Column("create_time", UtcTime(), nullable=False),
        sa.Column("update_time", UtcTime(), nullable=False),
        sa.Column("end_time", UtcTime(), nullable=True),
    )
    op.create_index("operations_by_time", "operations", ["project", "create_time"])
    op.create_index("operations_by_kind", "operations", ["done", "kind", "not_before"])
