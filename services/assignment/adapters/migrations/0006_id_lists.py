"""The contents of audiences by list, and the uploads that become one."""

import sqlalchemy as sa
from alembic import op

from shared.state.types import UtcTime, text

revision = "assignment_0006"
down_revision = "assignment_0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "assignment_id_lists",
        sa.Column("project", text(64), primary_key=True),
        sa.Column("digest", text(64), primary_key=True),
        sa.Column("chunk", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("fingerprints", sa.LargeBinary, nullable=False),
    )
    op.create_index("assignment_id_lists_by_digest", "assignment_id_lists", ["digest", "project"])
    op.create_table(
        "assignment_upload_parts",
        sa.Column("project", text(64), primary_key=True),
        sa.Column("audience_id", text(64), primary_key=True),
        sa.Column("upload_id", text(64), primary_key=True),
        sa.Column("part", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("create_time", UtcTime(), nullable=False),
        sa.Column("ids", sa.Integer, nullable=False),
        sa.Column("fingerprints", sa.LargeBinary, nullable=False),
    )
    op.create_index("assignment_upload_parts_by_time", "assignment_upload_parts", ["create_time"])
