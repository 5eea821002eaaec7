"""How many rows a project had at the cuts at which results were read."""

import sqlalchemy as sa
from alembic import op

from shared.state.types import text

revision = "results_plans_0002"
down_revision = "results_plans_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table."""
    op.create_table(
        "result_cuts",
        sa.Column("project", text(64), primary_key=True),
        sa.Column("journal_id", text(64), primary_key=True),
        sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("exposures", sa.BigInteger, nullable=False),
        sa.Column("conversions", sa.BigInteger, nullable=False),
    )
