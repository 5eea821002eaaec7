"""Definitions as documents, which hold what kinds have that no column was made for.

What was stored before stays in its columns, and is read from there.
"""

import sqlalchemy as sa
from alembic import op

revision = "results_0002"
down_revision = "results_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column."""
    op.add_column("metric_versions", sa.Column("document", sa.Text, nullable=True))
