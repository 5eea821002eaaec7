"""Totals of fixed journeys are those of the golden file."""

import json

import pytest

from tests.golden.attribution_totals import FILE, compute


def test_totals_are_the_golden_ones() -> None:
    golden = json.loads(FILE.read_text())
    found = compute()

    assert found.keys() == golden.keys()
    for repeats, tables in found.items():
        assert tables.keys() == golden[repeats].keys()
        for name, channels in tables.items():
            for channel, amounts in channels.items():
                # The inverse of a matrix may differ in its last bits between machines.
                expected = pytest.approx(golden[repeats][name][channel], rel=1e-12)
                assert amounts == expected, (repeats, name, channel)
