"""The test of salts: the same buckets as deciding, sound p-values, and power against collisions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, chisquare, kstest
from touchstone_assignment.bucketing import HashVersion, bucketer, unit_bytes

from services.assignment.domain.salt_checks import (
    ALPHA,
    UNITS,
    Salt,
    cells,
    dependent_on,
    independence,
    uniformity,
    unit_ids,
)

V2, V3 = HashVersion.FLAGD_V2, HashVersion.FLAGD_V3


@given(
    salt=st.from_regex(r"[A-Za-z0-9._/-]{1,128}", fullmatch=True),
    version=st.sampled_from(HashVersion),
    width=st.integers(1, 10_000),
)
@settings(max_examples=100, deadline=None)
def test_cells_are_the_buckets_that_decide(salt: str, version: HashVersion, width: int) -> None:
    bucket = bucketer(version, salt, width)
    expected = [bucket(unit_bytes(unit)) for unit in unit_ids(50)]
    assert cells(Salt(salt, version), 50, width).tolist() == expected


def test_the_statistics_are_those_of_an_independent_library() -> None:
    first, second = cells(Salt("layer/a", V2)), cells(Salt("layer/b", V3))
    table = np.zeros((20, 20))
    np.add.at(table, (first, second), 1)
    reference = chi2_contingency(table, correction=False)
    found = independence(first, second)
    assert found.statistic == pytest.approx(reference.statistic)
    assert found.p_value == pytest.approx(reference.pvalue)
    even = chisquare(np.bincount(first, minlength=20))
    assert uniformity(first).statistic == pytest.approx(even.statistic)
    assert uniformity(first).p_value == pytest.approx(even.pvalue)


def test_p_values_of_good_salts_are_uniform() -> None:
    """400 pairs of salts as the service makes them, under both hashes, against U(0, 1)."""
    made = [cells(Salt(f"layer/{number}", (V2, V3)[number % 2])) for number in range(800)]
    pairs = zip(made[::2], made[1::2], strict=True)
    assert kstest([independence(*pair).p_value for pair in pairs], "uniform").pvalue > 0.001
    assert kstest([uniformity(found).p_value for found in made], "uniform").pvalue > 0.001


def test_a_partly_shared_cut_is_seen() -> None:
    """A twentieth of the units that get the same cell twice is far beyond chance."""
    first, other = cells(Salt("layer/a", V2)), cells(Salt("layer/b", V2))
    mixed = np.where(np.arange(UNITS) % 20 == 0, first, other)
    assert independence(first, mixed).p_value < ALPHA
    assert independence(first, other).p_value > ALPHA


def test_an_empty_cell_takes_no_part() -> None:
    constant = np.zeros(UNITS, dtype=np.int64)
    assert independence(constant, cells(Salt("layer/a", V2))).statistic == 0
    assert uniformity(constant).p_value == 0


def test_the_salt_that_collides_is_named() -> None:
    others = [Salt(f"layer/{number}", V2) for number in range(20)]
    assert dependent_on(Salt("layer/new", V2), others) is None
    assert dependent_on(Salt("layer/7", V3), others) == others[7]
