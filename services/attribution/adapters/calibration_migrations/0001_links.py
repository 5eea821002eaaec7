"""Links of channels to experiments."""

import sqlalchemy as sa
from alembic import op

from shared.state.types import UtcTime, text

revision = "attribution_calibration_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table."""
    op.create_table(
        "calibration_links",
        sa.Column("project", text(64), primary_key=True),
        sa.Column("link_id", text(63), primary_key=True),
        sa.Column("create_time", UtcTime(), nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
    )
