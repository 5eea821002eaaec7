"""Versioned resources of every kind, and layers with a kind, a domain and parameters."""

import sqlalchemy as sa
from alembic import op

from shared.state.types import UtcTime, text

revision = "assignment_0002"
down_revision = "assignment_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables, and columns whose defaults keep older layers as they were."""
    op.create_table(
        "assignment_resources",
        sa.Column("project", text(64), primary_key=True),
        sa.Column("kind", text(32), primary_key=True),
        sa.Column("resource_id", text(640), primary_key=True),
        sa.Column("config_version", sa.BigInteger, nullable=False),
        sa.Column("create_time", UtcTime(), nullable=False),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_table(
        "assignment_resource_versions",
        sa.Column("project", text(64), primary_key=True),
        sa.Column("kind", text(32), primary_key=True),
        sa.Column("resource_id", text(640), primary_key=True),
        sa.Column("config_version", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("create_time", UtcTime(), nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
    )
    _extend_layers()


def _extend_layers() -> None:
    op.add_column(
        "assignment_layers",
        sa.Column("kind", text(16), nullable=False, server_default="EXPERIMENT"),
    )
    op.add_column(
        "assignment_layers", sa.Column("domain_id", text(64), nullable=False, server_default="")
    )
    op.add_column(
        "assignment_layers", sa.Column("parameters", sa.Text, nullable=False, server_default="[]")
    )
    op.add_column(
        "assignment_slot_ranges",
        sa.Column("domain_id", text(64), nullable=False, server_default=""),
    )
