"""Suites for the end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.suite import Suite


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """One running suite for every test that does not stop it."""
    running = Suite(tmp_path_factory.mktemp("suite") / "data")
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def module_suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """A running suite for the tests of one module, with nothing of others in it."""
    running = Suite(tmp_path_factory.mktemp("module") / "data")
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture
def own_suite(tmp_path: Path) -> Iterator[Suite]:
    """A running suite that the test may stop and start."""
    running = Suite(tmp_path / "data")
    running.start()
    yield running
    running.stop()
