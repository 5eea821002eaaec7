"""The tables of assignment."""

import sqlalchemy as sa

from shared.state.types import UtcTime, text

METADATA = sa.MetaData()

CONFIG = sa.Table(
    "assignment_config",
    METADATA,
    sa.Column("project", text(64), primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
)

EXPERIMENTS = sa.Table(
    "assignment_experiments",
    METADATA,
    sa.Column("project", text(64), primary_key=True),
    sa.Column("experiment_id", text(64), primary_key=True),
    sa.Column("state", text(16), nullable=False),
    sa.Column("config_version", sa.BigInteger, nullable=False),
    sa.Column("create_time", UtcTime(), nullable=False),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("due_time", UtcTime()),
)

EXPERIMENT_VERSIONS = sa.Table(
    "assignment_experiment_versions",
    METADATA,
    sa.Column("project", text(64), primary_key=True),
    sa.Column("experiment_id", text(64), primary_key=True),
    sa.Column("config_version", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("document", sa.Text, nullable=False),
)

LAYERS = sa.Table(
    "assignment_layers",
    METADATA,
    sa.Column("project", text(64), primary_key=True),
    sa.Column("layer_id", text(64), primary_key=True),
    sa.Column("display_name", sa.Text, nullable=False),
    sa.Column("unit_type", text(32), nullable=False),
    sa.Column("salt", text(128), nullable=False),
    sa.Column("hash_version", text(32), nullable=False),
    sa.Column("config_version", sa.BigInteger, nullable=False),
    sa.Column("create_version", sa.BigInteger, nullable=False),
    sa.Column("create_time", UtcTime(), nullable=False),
    sa.Column("kind", text(16), nullable=False, server_default="EXPERIMENT"),
    sa.Column("domain_id", text(64), nullable=False, server_default=""),
    sa.Column("parameters", sa.Text, nullable=False, server_default="[]"),
)

SLOT_RANGES = sa.Table(
    "assignment_slot_ranges",
    METADATA,
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
    sa.Column("domain_id", text(64), nullable=False, server_default=""),
)

RESOURCES = sa.Table(
    "assignment_resources",
    METADATA,
    sa.Column("project", text(64), primary_key=True),
    sa.Column("kind", text(32), primary_key=True),
    sa.Column("resource_id", text(640), primary_key=True),
    sa.Column("config_version", sa.BigInteger, nullable=False),
    sa.Column("create_time", UtcTime(), nullable=False),
    sa.Column("document", sa.Text, nullable=False),
)

RESOURCE_VERSIONS = sa.Table(
    "assignment_resource_versions",
    METADATA,
    sa.Column("project", text(64), primary_key=True),
    sa.Column("kind", text(32), primary_key=True),
    sa.Column("resource_id", text(640), primary_key=True),
    sa.Column("config_version", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("create_time", UtcTime(), nullable=False),
    sa.Column("deleted", sa.Boolean, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
)
