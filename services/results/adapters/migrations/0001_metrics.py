"""Metrics, and the definition of every version they ever had."""

import sqlalchemy as sa
from alembic import op

from shared.state.types import UtcTime, text

revision = "results_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "metrics",
        sa.Column("project", text(64), primary_key=True),
        sa.Column("metric_id", text(63), primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("create_time", UtcTime(), nullable=False),
        sa.Column("update_time", UtcTime(), nullable=False),
        sa.Column("archive_time", UtcTime(), nullable=True),
    )
    op.create_table(
        "metric_versions",
        sa.Column("project", text(64), primary_key=True),
        sa.Column("metric_id", text(63), primary_key=True),
        sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("kind", text(16), nullable=False),
        sa.Column("event_name", text(63), nullable=False),
        sa.Column("window_us", sa.BigInteger, nullable=True),
        sa.Column("direction", text(16), nullable=False),
        sa.Column("role", text(16), nullable=False),
        sa.Column("display_name", text(200), nullable=False),
        sa.Column("description", text(4000), nullable=False),
        sa.Column("currency", text(3), nullable=False),
    )
