"""Alembic's entry point: runs on the connection and the version table that `migrate` hands over."""

from alembic import context

_attributes = context.config.attributes
context.configure(
    connection=_attributes["connection"],
    version_table=_attributes["version_table"],
    transactional_ddl=True,
)
context.run_migrations()
