"""Brings a part of the state database to the schema that the code expects."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from shared import errors
from shared.state.database import Database

_ENVIRONMENT = Path(__file__).parent / "alembic"
_POSTGRES_LOCK = 0x70_75_63_68


def migrate(database: Database, owner: str, versions: Path) -> None:
    """Runs the migrations in `versions` that the database lacks, all or none.

    Each owner has a version table of its own, so that the parts of one database move
    independently. Processes that start together run them once. Raises FAILED_PRECONDITION when
    the database was written by a newer program.
    """
    config = Config()
    config.set_main_option("script_location", str(_ENVIRONMENT))
    config.set_main_option("version_locations", str(versions))
    config.set_main_option("path_separator", "os")
    config.attributes["version_table"] = f"alembic_version_{owner}"
    try:
        with database.begin() as connection:
            if not database.is_sqlite:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_POSTGRES_LOCK)))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except CommandError as error:
        head = ScriptDirectory.from_config(config).get_current_head()
        raise errors.failed_precondition(
            "NEWER_VERSION",
            f"the {owner} part of the state database was written by a newer Touchstone (this one "
            f"knows schema {head}): {error}; start the newer program",
        ) from error
