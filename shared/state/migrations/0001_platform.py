"""Projects, keys, the audit log and answers to repeat."""

import sqlalchemy as sa
from alembic import op

from shared.state.types import UtcTime, text

revision = "platform_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "projects",
        sa.Column("project", text(64), primary_key=True),
        sa.Column("create_time", UtcTime(), nullable=False),
    )
    op.create_table(
        "api_keys",
        sa.Column("key_id", text(32), primary_key=True),
        sa.Column("project", text(64), sa.ForeignKey("projects.project"), nullable=False),
        sa.Column("display_name", text(120), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("roles", text(128), nullable=False),
        sa.Column("create_time", UtcTime(), nullable=False),
        sa.Column("expire_time", UtcTime(), nullable=True),
        sa.Column("revoke_time", UtcTime(), nullable=True),
    )
    op.create_index("api_keys_by_project", "api_keys", ["project", "create_time"])
    op.create_table(
        "audit_entries",
        sa.Column("project", text(64), primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("create_time", UtcTime(), nullable=False),
        sa.Column("actor", text(256), nullable=False),
        sa.Column("method", text(256), nullable=False),
        sa.Column("resource", text(512), nullable=False),
        sa.Column("outcome", sa.SmallInteger, nullable=False),
        sa.Column("detail", text(1024), nullable=False),
        sa.Column("request_id", text(128), nullable=False),
        sa.Column("body_digest", text(64), nullable=False),
        sa.Column("mac_key_id", text(16), nullable=False),
        sa.Column("chain_hash", text(64), nullable=False),
    )
    op.create_table(
        "audit_heads",
        sa.Column("project", text(64), primary_key=True),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("chain_hash", text(64), nullable=False),
    )
    op.create_table(
        "replies",
        sa.Column("project", text(64), primary_key=True),
        sa.Column("method", text(256), primary_key=True),
        sa.Column("request_id", text(128), primary_key=True),
        sa.Column("body_digest", text(64), nullable=False),
        sa.Column("response", sa.LargeBinary, nullable=False),
        sa.Column("create_time", UtcTime(), nullable=False),
    )
    op.create_index("replies_by_time", "replies", ["create_time"])
