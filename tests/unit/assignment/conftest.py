"""The fixtures that tests of the domain and of the use cases start from."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.assignment.adapters.sql import migrate_assignment
from shared.state.database import Database
from tests.unit.assignment.making import Make
from tests.unit.assignment.storing import Stored


@pytest.fixture
def make() -> Make:
    return Make()


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Stored]:
    database = Database.open(f"sqlite:///{tmp_path / 'state.db'}")
    migrate_assignment(database)
    yield Stored(database)
    database.close()
