"""How long the events of each project are kept."""

import sqlalchemy as sa
from alembic import op

from shared.state.types import UtcTime, text

revision = "retention_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table."""
    op.create_table(
        "retention",
        sa.Column("project", text(64), primary_key=True),
        sa.Column("days", text(1024), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("update_time", UtcTime(), nullable=False),
    )
