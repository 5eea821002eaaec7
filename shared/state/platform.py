"""The tables that every service shares: projects, keys, the audit log, answers to repeat."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from shared.state.database import Database
from shared.state.migrate import migrate
from shared.state.types import UtcTime, text

metadata = sa.MetaData()

projects = sa.Table(
    "projects",
    metadata,
    sa.Column("project", text(64), primary_key=True),
    sa.Column("create_time", UtcTime(), nullable=False),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("key_id", text(32), primary_key=True),
    sa.Column("project", text(64), sa.ForeignKey("projects.project"), nullable=False),
    sa.Column("display_name", text(120), nullable=False),
    sa.Column("secret_hash", sa.LargeBinary(32), nullable=False),
    sa.Column("roles", text(128), nullable=False),
    sa.Column("create_time", UtcTime(), nullable=False),
    sa.Column("expire_time", UtcTime(), nullable=True),
    sa.Column("revoke_time", UtcTime(), nullable=True),
)

audit_entries = sa.Table(
    "audit_entries",
    metadata,
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

audit_heads = sa.Table(
    "audit_heads",
    metadata,
    sa.Column("project", text(64), primary_key=True),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("chain_hash", text(64), nullable=False),
)

replies = sa.Table(
    "replies",
    metadata,
    sa.Column("project", text(64), primary_key=True),
    sa.Column("method", text(256), primary_key=True),
    sa.Column("request_id", text(128), primary_key=True),
    sa.Column("body_digest", text(64), nullable=False),
    sa.Column("response", sa.LargeBinary, nullable=False),
    sa.Column("create_time", UtcTime(), nullable=False),
)


def migrate_platform(database: Database) -> None:
    """Brings the shared tables to the schema that this program expects."""
    migrate(database, "platform", Path(__file__).parent / "migrations")
