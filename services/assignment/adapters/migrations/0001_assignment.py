"""Experiments with their versions, layers and slot ledgers."""

import sqlalchemy as sa
from alembic import op

from shared.state.types import UtcTime, text

revision = "assignment_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "assignment_config",
        sa.Column("project", text(64), primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "assignment_experiments",
        sa.Column("project", text(64), primary_key=True),
        sa.Column("experiment_id", text(64), primary_key=True),
        sa.Column("state", text(16), nullable=False),
        sa.Column("config_version", sa.BigInteger, nullable=False),
        sa.Column("create_time", UtcTime(), nullable=False),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_index(
        "assignment_experiments_by_time",
        "assignment_experiments",
        ["project", "create_time", "experiment_id"],
    )
    op.create_table(
        "assignment_experiment_versions",
        sa.Column("project", text(64), primary_key=True),
        sa.Column("experiment_id", text(64), primary_key=True),
        sa.Column("config_version", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("document", sa.Text, nullable=False),
    )
    _create_layers()


def _create_layers() -> None:
    op.create_table(
        "assignment_layers",
        sa.Column("project", text(64), primary_key=True),
        sa.Column("layer_id", text(64), primary_key=True),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("unit_type", text(32), nullable=False),
        sa.Column("salt", text(128), nullable=False),
        sa.Column("hash_version", text(32), nullable=False),
        sa.Column("config_version", sa.BigInteger, nullable=False),
        sa.Column("create_version", sa.BigInteger, nullable=False),
        sa.Column("create_time", UtcTime(), nullable=False),
    )
    op.create_table(
        "assignment_slot_ranges",
        sa.Column("project", text(64), primary_key=True),
        sa.Column("layer_id", text(64), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("first_slot", sa.Integer, nullable=False),
        sa.Column("end_slot", sa.Integer, nullable=False),
        sa.Column("experiment_id", text(64), nullable=False),
        sa.Column("since_version", sa.BigInteger, nullable=False),
        sa.Column("release_version", sa.BigInteger),
        sa.Column("release_time", UtcTime()),
        sa.Column("reusable_time", UtcTime()),
    )
