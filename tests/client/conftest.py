"""A real events service."""

from __future__ import annotations

import pytest

from tests.client.rig import KeyedService


@pytest.fixture
def service(tmp_path):
    """An events service that is not started yet, with a key: `service.key`."""
    process = KeyedService(tmp_path / "service")
    yield process
    process.kill()
