"""What was paid for channels, by day."""

import sqlalchemy as sa
from alembic import op

from shared.state.types import text

revision = "attribution_spend_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table. Its key is in the order in which spend is listed."""
    op.create_table(
        "channel_spend",
        sa.Column("project", text(64), primary_key=True),
        sa.Column("channel", text(128), primary_key=True),
        sa.Column("campaign", text(128), primary_key=True),
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("source", text(128), primary_key=True),
        sa.Column("amount", sa.Double, nullable=False),
        sa.Column("currency", text(3), nullable=False),
    )
    op.create_index("channel_spend_by_source", "channel_spend", ["project", "source", "day"])
