"""Identity policies, every version that ever was."""

import sqlalchemy as sa
from alembic import op

from shared.state.types import UtcTime, text

revision = "identity_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table."""
    op.create_table(
        "identity_policies",
        sa.Column("project", text(64), primary_key=True),
        sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("create_time", UtcTime(), nullable=False),
        sa.Column("document", sa.Text, nullable=False),
    )
