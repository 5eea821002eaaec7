"""Analysis plans, every version of them, and the looks taken at experiments."""

import sqlalchemy as sa
from alembic import op

from shared.state.types import UtcTime, text

revision = "results_plans_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "analysed_experiments",
        sa.Column("project", text(64), primary_key=True),
        sa.Column("experiment_id", text(63), primary_key=True),
    )
    op.create_table(
        "analysis_plans",
        sa.Column("project", text(64), primary_key=True),
        sa.Column("experiment_id", text(63), primary_key=True),
        sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("create_time", UtcTime(), nullable=False),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_table(
        "looks",
        sa.Column("project", text(64), primary_key=True),
        sa.Column("experiment_id", text(63), primary_key=True),
        sa.Column("metric_id", text(63), primary_key=True),
        sa.Column("variant", text(63), primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("units", sa.Double, nullable=False),
        sa.Column("fraction", sa.Double, nullable=False),
        sa.Column("spent", sa.Double, nullable=False),
        sa.Column("critical", sa.Double, nullable=True),
        sa.Column("p_value", sa.Double, nullable=True),
        sa.Column("seen", sa.Text, nullable=False),
        sa.Column("journal_id", text(64), nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("plan_version", sa.BigInteger, nullable=False),
        sa.Column("create_time", UtcTime(), nullable=False),
    )
