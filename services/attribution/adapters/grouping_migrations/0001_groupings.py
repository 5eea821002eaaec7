"""Channel groupings, and every version of them."""

import sqlalchemy as sa
from alembic import op

from shared.state.types import UtcTime, text

revision = "attribution_groupings_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "channel_groupings",
        sa.Column("project", text(64), primary_key=True),
        sa.Column("grouping_id", text(63), primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("first_version", sa.BigInteger, nullable=False),
        sa.Column("create_time", UtcTime(), nullable=False),
        sa.Column("delete_time", UtcTime(), nullable=True),
    )
    op.create_table(
        "channel_grouping_versions",
        sa.Column("project", text(64), primary_key=True),
        sa.Column("grouping_id", text(63), primary_key=True),
        sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("update_time", UtcTime(), nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
    )
