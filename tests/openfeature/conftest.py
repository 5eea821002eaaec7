"""A running service with experiments of every kind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.openfeature.running import Running
from tests.openfeature.world import make_world


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One process for every test that changes nothing and stops nothing."""
    found = Running(tmp_path_factory.mktemp("openfeature"))
    found.process.start()
    with found.service() as service:
        make_world(service)
    yield found
    assert found.process.terminate() == 0


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A process of the test's own, without any experiment."""
    found = Running(tmp_path_factory.mktemp("own"))
    found.process.start()
    yield found
    found.process.terminate()
