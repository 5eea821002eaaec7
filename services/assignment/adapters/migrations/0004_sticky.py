"""What units were served first."""

import sqlalchemy as sa
from alembic import op

from shared.state.types import UtcTime, text

revision = "assignment_0004"
down_revision = "assignment_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table; its key begins with the unit, of which an erasure takes all at once."""
    op.create_table(
        "assignment_sticky",
        sa.Column("project", text(64), primary_key=True),
        sa.Column("unit_key", text(32), primary_key=True),
        sa.Column("experiment_id", text(64), primary_key=True),
        sa.Column("variant", text(64), nullable=False),
        sa.Column("config_version", sa.BigInteger, nullable=False),
        sa.Column("time", UtcTime(), nullable=False),
        sa.Column("tainted", sa.Boolean, nullable=False),
        sa.Column("belongs_to", text(32), nullable=False),
    )
