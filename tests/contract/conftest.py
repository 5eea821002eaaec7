"""Every contract suite of the state runs over every database that is supported."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from shared.state.database import Database
from shared.testing.postgres import PostgresServer, postgres_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One real server for the whole run."""
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request, tmp_path) -> Iterator[str]:
    """The URL of a database of its own, empty."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'state.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with server.fresh_database(f"test_{secrets.token_hex(6)}") as url:
        yield url


@pytest.fixture
def database(database_url) -> Iterator[Database]:
    """An open, empty database."""
    found = Database.open(database_url)
    yield found
    found.close()
