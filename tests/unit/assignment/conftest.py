"""The fixture that every test of the domain starts from."""

import pytest

from tests.unit.assignment.making import Make


@pytest.fixture
def make() -> Make:
    return Make()
